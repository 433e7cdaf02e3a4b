"""Draws the dashboard with real data: ``python examples/observability/render.py docs/images/observability.png``.

A Kafka is started, notifications are sent, listened to and stored, some of them in ways that fail, and the broker is
away for some seconds. A Prometheus scrapes all that; each panel of dashboard.json is asked for over its HTTP API, drawn
by matplotlib, and a headless Chromium takes the picture of the page. Grafana itself has no part in it.

Needs the programs ``prometheus`` and ``chromium`` (Debian's packages), Java, and the packages of ``rdknotify[dev]``.
"""

from __future__ import annotations

import html
import io
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib
import yaml
from matplotlib.ticker import EngFormatter, PercentFormatter

import rdknotify
from rdknotify import prometheus
from rdknotify.testing import LocalKafka
from rdknotify.testing.data import nova_notifications

matplotlib.use("svg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).parent
BEFORE, OUTAGE, AFTER = 60, 8, 45
"""Seconds before the broker is away, without it, and with it again."""
SCRAPES = 2
WINDOW = "12s"
"""What Grafana makes of ``$__rate_interval``: four scrapes, and a little more."""
PORT = 9494
WIDTH, HEIGHT = 1600, 1440
STYLE = """
body { margin: 0; padding: 14px; background: #f4f5f5; font: 13px sans-serif; color: #24292e }
h1 { font-size: 19px; margin: 2px 4px 10px } h2 { font-size: 14px; grid-column: span 24; margin: 8px 4px 0 }
main { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px }
figure { margin: 0; background: white; border: 1px solid #d8d9da; border-radius: 3px; padding: 8px }
figcaption { font-weight: bold; margin-bottom: 2px } svg { width: 100%; height: auto; display: block }
"""


class Endpoint:
    """Handles what is not too odd."""

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> Any:
        if payload["number"] % 500 == 0:
            return rdknotify.NotificationResult.REQUEUE
        return rdknotify.NotificationResult.HANDLED


def send(url: str, ended: threading.Event) -> None:
    """Notifications at a rate that goes up and down; now and then one too large, and one that is none."""
    nova = [(notification["event_type"], notification["payload"]) for notification in nova_notifications()]
    config = {"client.id": "nova"}
    with rdknotify.Notifier(url, publisher_id="nova", topics=["notifications"], config=config, linger=0.01,
                            statistics_interval=SCRAPES, delivery_timeout=6) as notifier, \
            rdknotify.Producer(url, config={"client.id": "odd"}, statistics_interval=SCRAPES) as odd:  # fmt: skip
        number = 0
        while not ended.wait(0.1):
            for event_type, payload in nova[: 40 + number % 100]:
                number += 1
                notifier.info({}, event_type, {**payload, "number": number})
            if number % 7 == 0:
                odd.send("notifications.info", b"not a notification")
                odd.send_batch("notifications.info", [b"v" * 2_000_000])
        with suppress(rdknotify.RdNotifyError):
            notifier.flush(10)


@contextmanager
def scraping(folder: Path) -> Iterator[str]:
    """A Prometheus; gives the address of its API."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{SCRAPES}s", "evaluation_interval": f"{SCRAPES}s"}
    config["rule_files"] = [str(FOLDER / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{PORT}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{PORT + 1}"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{PORT + 1}/api/v1"
    finally:
        process.terminate()
        process.wait(30)


def persister(url: str, folder: Path, options: dict[str, Any]) -> rdknotify.Persister:
    """Started on entry, as all that are entered here."""
    sink = rdknotify.SQLiteSink(folder / "rows.db", table="notifications")
    topics = ["notifications.info"]
    return rdknotify.Persister(url, topics, group="storing", sink=sink, dead_letter=True, **options)


def ask(api: str, path: str, **parameters: Any) -> Any:
    with urllib.request.urlopen(f"{api}/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
        return json.load(answer)["data"]


def draw(api: str, panel: dict[str, Any], begun: float, ended: float) -> str:
    """The panel as an SVG."""
    width, height = panel["gridPos"]["w"] / 24 * 15, 2.6
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", WINDOW)
        for series in ask(api, "query_range", query=expression, start=begun, end=ended, step=SCRAPES)["result"]:
            label = target["legendFormat"]
            for name, value in series["metric"].items():
                label = label.replace("{{%s}}" % name, value)  # noqa: UP031
            points = [(float(when) - begun, float(value)) for when, value in series["values"]]
            axes.plot(*zip(*points, strict=True), linewidth=1.3, label=label)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_major_formatter(PercentFormatter(1) if unit == "percentunit" else EngFormatter(
        {"s": "s", "ops": "/s"}.get(unit, ""), sep=" " if unit == "s" else ""))  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, ended - begun)
    axes.xaxis.set_major_formatter("{x:.0f} s")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        figure.legend(
            loc="outside lower left", ncols=1 if width < 5 and len(axes.lines) < 5 else 3, fontsize=7, frameon=False
        )
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center")
    text = io.StringIO()
    figure.savefig(text, format="svg")
    plt.close(figure)
    return text.getvalue().partition("<svg")[2].join(("<svg", ""))


def page(api: str, begun: float, ended: float) -> str:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    parts = []
    for panel in dashboard["panels"]:
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f"<h2>{title}</h2>")
        else:
            place = f"grid-column: span {panel['gridPos']['w']}"
            parts.append(f'<figure style="{place}"><figcaption>{title}</figcaption>'
                         f"{draw(api, panel, begun, ended)}</figure>")  # fmt: skip
    head = f"<meta charset=utf-8><style>{STYLE}</style><h1>{html.escape(dashboard['title'])}</h1>"
    return f"<!doctype html>{head}<main>{''.join(parts)}</main>"


def photograph(text: str, folder: Path, to: Path) -> None:
    (folder / "page.html").write_text(text)
    shot = folder / "page.png"
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--user-data-dir={folder}/chromium", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}",
         (folder / "page.html").as_uri()],
        check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.copyfile(shot, to)


def main(to: Path) -> None:
    logging.getLogger("rdknotify").addHandler(logging.NullHandler())
    folder = Path(tempfile.mkdtemp(prefix="rdknotify-observability-"))
    ended = threading.Event()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(prometheus.serve(PORT))
        kafka = stack.enter_context(LocalKafka())
        api = stack.enter_context(scraping(folder))
        sender = threading.Thread(target=send, args=(kafka.url, ended))
        sender.start()
        stack.callback(sender.join)
        stack.callback(ended.set)
        options = {"statistics_interval": SCRAPES, "config": {"client.id": "billing"}}
        stack.enter_context(persister(kafka.url, folder, options))
        stack.enter_context(
            rdknotify.Listener(
                kafka.url, ["notifications"], [Endpoint()], pool="handling", settle="after", retry_delay=1, **options
            )
        )
        begun = time.time()
        time.sleep(BEFORE / 2)
        stack.enter_context(persister(kafka.url, folder, options))  # a second member
        time.sleep(BEFORE / 2)
        kafka.stop()
        time.sleep(OUTAGE)
        kafka.restart()
        time.sleep(AFTER)
        firing = ask(api, "query", query='ALERTS{alertstate="firing"}')["result"]
        print("firing:", sorted({alert["metric"]["alertname"] for alert in firing}))
        photograph(page(api, begun, time.time()), folder, to)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
