"""``python -m benchmarks.oslo``: both drivers on a real broker, in alternating runs, each in a process of its own.

Beside them, where CPU matters, the same path through oslo.messaging over a driver that does nothing. Every run counts
what arrived; rates are of that. A loss of the existing driver is a figure, a loss of ours ends the program in error.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import click
from confluent_kafka import Consumer, TopicPartition

from benchmarks.clients.base import Figures
from benchmarks.harness import on_log
from benchmarks.oslo import report
from benchmarks.oslo.client import COUNTED, PAYLOAD
from benchmarks.oslo.report import BASE, NULL, Runs
from benchmarks.setting import PARTITIONS, ROOT
from rdknotify import Notifier, Producer
from rdknotify.testing import LocalKafka, RunningKafka
from rdknotify.testing.cluster import KafkaCluster

SCHEMES = (BASE, "rdkafka")
RUN_TIMEOUT = 600.0
TICK, TICKS, WARMING = 0.02, 500, 50
"""Seconds between two notifications of the idle latency; how many count; how many before them do not."""
PROFILED = 20_000

Measure = Callable[[str], Figures]


class Stage:
    """A broker and a backlog that every listening run takes again, in a group of its own."""

    def __init__(self, kafka: KafkaCluster, records: int, backlog: int) -> None:
        self._kafka = kafka
        self._records = records
        self._count = backlog
        self._backlog: str | None = None
        self._admin = Producer(kafka.url)
        self.measures: dict[str, tuple[str, Measure]] = {
            "send": (f"`Notifier.info`, {records:,}", self.send),
            "single": (f"single listener, 64 threads, {backlog:,} waiting", self.listen),
            "single-1": (f"single listener, 1 thread, {backlog:,} waiting", partial(self.listen, threads=1)),
            "batch": (f"batch listener of 500, {backlog:,} waiting", partial(self.listen, batch=500)),
            "green": (f"`Notifier.info`, eventlet, {records:,}", partial(self.send, green=1)),
            "latency": (f"idle, one every {TICK * 1000:.0f} ms", self.delays),
        }
        self.profiles: dict[str, Measure] = {
            "sending": partial(self.send, count=PROFILED, profile=1),
            "single listener, 1 thread": partial(self.listen, threads=1, count=PROFILED, profile=1),
            "batch listener of 500": partial(self.listen, batch=500, count=PROFILED, profile=1),
        }

    def send(self, scheme: str, count: int | None = None, **words: object) -> Figures:
        """Send to a new topic, and count what is on the log then."""
        count = count or self._records
        topic = self._topic()
        figures = self._client("send", scheme, topic, count, **words)
        figures["arrived"] = count if scheme == NULL else on_log(f"{topic}.info", self._kafka.bootstrap_servers)
        figures["records"] = figures["arrived"]
        self._admin.delete_topics([f"{topic}.info"])
        return figures

    def listen(self, scheme: str, count: int | None = None, **words: object) -> Figures:
        """Take the backlog from its beginning."""
        topic = self._backlog = self._backlog or self._written()
        return self._client("listen", scheme, topic, count or self._count, pool=self._group(topic), **words)

    def delays(self, scheme: str) -> Figures:
        """The time from just before ``info()`` in one process to the endpoint's entry in another."""
        topic = self._topic()
        words = self._words("listen", scheme, topic, 1 + WARMING + TICKS, pool=self._group(topic), told=1)
        with _started(words) as listener:
            _expect(listener, "listening")
            with Notifier(self._kafka.url, publisher_id="probe", topics=[topic]) as probe:
                probe.info({}, "probe", {"sent": 0})
            _expect(listener, "ready")
            self._client("send", scheme, topic, WARMING + TICKS, every=TICK)
            figures = _figures(listener)
        figures["delays"] = figures["delays"][WARMING:]
        self._admin.delete_topics([f"{topic}.info"])
        return figures

    def close(self) -> None:
        self._admin.close()

    def _client(self, role: str, scheme: str, topic: str, count: int, **words: object) -> Figures:
        with _started(self._words(role, scheme, topic, count, **words)) as client:
            return _figures(client)

    def _words(self, role: str, scheme: str, topic: str, count: int, **words: object) -> list[str]:
        options = [f"{name}={value}" for name, value in words.items()]
        return [role, scheme, self._kafka.bootstrap_servers, topic, str(count), *options]

    def _topic(self) -> str:
        """A topic for oslo.messaging: to Kafka it has the priority in its name."""
        topic = f"benchmark-{uuid.uuid4().hex[:8]}"
        self._kafka.create_topic(f"{topic}.info", PARTITIONS)
        return topic

    def _written(self) -> str:
        """A topic that the existing driver has written the backlog to."""
        topic = self._topic()
        self._client("send", BASE, topic, self._count)
        stored = on_log(f"{topic}.info", self._kafka.bootstrap_servers)
        if stored != self._count:
            sys.exit(f"{stored} records of the backlog are on the log, {self._count} were sent")
        return topic

    def _group(self, topic: str) -> str:
        """A group that is at the beginning: by itself the existing driver would begin at the end."""
        group = uuid.uuid4().hex
        consumer = Consumer({"bootstrap.servers": self._kafka.bootstrap_servers, "group.id": group})
        beginning = [TopicPartition(f"{topic}.info", partition, 0) for partition in range(PARTITIONS)]
        consumer.commit(offsets=beginning, asynchronous=False)
        consumer.close()
        return group


@contextmanager
def _started(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A client; one that is still there at the end, or takes too long, is killed."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "benchmarks.oslo.client", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        timer = threading.Timer(RUN_TIMEOUT, client.kill)
        timer.start()
        try:
            yield client
        finally:
            timer.cancel()
            client.kill()


def _figures(client: subprocess.Popen[str]) -> Figures:
    out, said = client.communicate()
    if client.returncode:
        sys.exit(f"{client.args!r} ended with status {client.returncode}:\n{said[-2000:]}")
    figures: Figures = json.loads(out.splitlines()[-1])
    return figures


def _expect(client: subprocess.Popen[str], word: str) -> None:
    assert client.stdout
    if client.stdout.readline().strip() != word:
        _figures(client)
        sys.exit(f"{client.args!r} did not say that it is {word}")


def alternate(measure: Measure, schemes: list[str], runs: int, name: str) -> Runs:
    """Every scheme in turn, round by round; the first round warms all up and is not counted."""
    made: Runs = defaultdict(list)
    for number in range(runs + 1):
        for scheme in schemes:
            figures = measure(scheme)
            if number:
                made[scheme].append(figures)
            done = f"{figures['arrived']:,} of {figures['sent']:,} in {figures['seconds']:.2f} s"
            click.echo(f"{name} {number} of {runs} {scheme}: {done}, load {os.getloadavg()[0]:.1f}", err=True)
    return made


def setting(brokers: str) -> dict[str, object]:
    """What the figures hang on."""
    packages = ("oslo.messaging", "confluent-kafka", "eventlet", "orjson")
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "revision": said.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "brokers": brokers,
        "payload": len(json.dumps(PAYLOAD)),
        **{name: version(name) for name in packages},
    }


def spoiled(measures: dict[str, Runs]) -> list[str]:
    """What went wrong with a driver of which nothing may be lost."""
    return [
        f"{name}: {scheme} lost or doubled: {report.losses(made)}"
        for name, runs in measures.items()
        for scheme, made in runs.items()
        if scheme not in (BASE, NULL) and any(run["sent"] != run["arrived"] or run.get("twice") for run in made)
    ]


@click.command()
@click.option("--kafka", "address", help="host:port of a running broker; otherwise one is started.")
@click.option("--schemes", default=",".join(SCHEMES), show_default=True, help="Drivers, with commas.")
@click.option("--measures", default="all", show_default=True, help="Of those in the tables and `profile`, with commas.")
@click.option("--runs", default=5, show_default=True, help="Counted runs of each driver.")
@click.option("--records", default=100_000, show_default=True, help="Notifications of a sending run.")
@click.option("--backlog", default=50_000, show_default=True, help="Notifications of a listening run.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="A file for every run's figures.")
def main(
    address: str | None, schemes: str, measures: str, runs: int, records: int, backlog: int, output: Path | None
) -> None:
    """Compare the existing driver kafka:// with rdkafka:// through oslo.messaging."""
    with ExitStack() as stack:
        kafka = stack.enter_context(RunningKafka(address) if address else LocalKafka())
        stage = Stage(kafka, records, max(backlog, PROFILED))
        stack.callback(stage.close)
        about = setting(kafka.bootstrap_servers)
        drivers = schemes.split(",")
        names = [*stage.measures, "profile"] if measures == "all" else measures.split(",")
        if unknown := set(names) - {*stage.measures, "profile"}:
            raise click.BadParameter(f"{', '.join(unknown)}: expected {', '.join(stage.measures)} or profile")
        made: dict[str, Runs] = {}
        for name in [name for name in stage.measures if name in names]:
            shown = drivers if name in ("green", "latency") else [*drivers, NULL]
            made[name] = alternate(stage.measures[name][1], shown, runs, name)
        profiled = {}
        if "profile" in names:
            profiled = {
                title: {scheme: [measure(scheme)] for scheme in drivers} for title, measure in stage.profiles.items()
            }
    show(about, {stage.measures[name][0]: runs for name, runs in made.items()}, profiled)
    if output:
        output.write_text(json.dumps({"setting": about, "measures": made, "profiles": profiled}, indent=1))
    if wrong := spoiled(made):
        sys.exit("\n".join(wrong))


def show(about: dict[str, object], measures: dict[str, Runs], profiled: dict[str, Runs]) -> None:
    """The tables, and what they leave unsaid."""
    click.echo(", ".join(f"{name} {value}" for name, value in about.items()))
    timed = {title: runs for title, runs in measures.items() if not title.startswith("idle")}
    if timed:
        click.echo(report.speeds(timed))
        click.echo(
            "\nMedians (lowest to highest). Sending: until `cleanup()` has flushed. "
            f"Listening: the first {COUNTED:.0%}, from the first call of the endpoint;\n"
            "its CPU is of all of them and of `start()`. "
            f"`{NULL}` is oslo.messaging over a driver that does nothing; what is beyond it is the driver's,\n"
            "less what the driver spares oslo.messaging, as when a worker gets its next message without its executor."
        )
        click.echo(report.until_last(timed))
    for title, runs in measures.items():
        if title not in timed:
            click.echo(report.delays(title, runs))
    if profiled:
        click.echo(report.profiles(profiled))
        click.echo("\nShares of the CPU of Python's threads under cProfile; C functions count for their callers.")


if __name__ == "__main__":
    main()
