"""The dashboard, the alert rules and the page about them speak of metrics and labels that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rdknotify.metrics import METRICS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "observability"
BY_PROMETHEUS = {"job", "instance"}
"""The labels that Prometheus adds to what it scrapes."""


def known() -> dict[str, set[str]]:
    """The labels of each series, by its name."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        labels = {*metric.labels, *BY_PROMETHEUS}
        if metric.kind == "histogram":
            found |= {f"{metric.name}_bucket": {*labels, "le"}}
            found |= {f"{metric.name}_{part}": labels for part in ("count", "sum")}
        else:
            found[metric.name] = labels
    return found


def panels() -> list[dict]:
    return [panel for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def wrong(expression: str, shown: str = "") -> set[str]:
    """The metrics and labels in an expression, and the labels in a text about its result, that do not exist."""
    names = set(re.findall(r"\brdknotify_\w+", expression))
    assert names, f"no metric in {expression}"
    series = known()
    allowed = set.intersection(*(series.get(name, set()) for name in names))
    grouped = [set(re.split(r"[,\s]+", by)) for by in re.findall(r"\bby \(([^)]*)\)", expression)]
    picked = set(re.findall(r"(\w+)\s*[=!]~?\s*\"", expression))
    text = set(re.findall(r"{{\s*(?:\$labels\.)?(\w+)\s*}}", shown))
    # What is grouped by in the end is all that a text may show.
    left = set.intersection(*grouped) if grouped else allowed
    return (names - set(series)) | ((set().union(*grouped) | picked) - allowed) | (text - left)


@pytest.mark.parametrize(("expression", "legend"), list(targets()))
def test_a_panel_asks_for_what_there_is(expression: str, legend: str) -> None:
    assert wrong(expression, legend) == set()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is_and_says_what_to_do(rule: dict) -> None:
    texts = rule["annotations"]
    assert wrong(rule["expr"], texts["summary"] + texts["action"]) == set()
    assert texts["summary"] and texts["action"] and rule["labels"]["severity"] in ("critical", "warning", "info")
    assert f"`{rule['alert']}`" in (ROOT / "docs" / "metrics.md").read_text()


def test_a_wrong_name_would_be_seen() -> None:
    assert wrong("rate(rdknotify_records_send_total[5m])") == {"rdknotify_records_send_total"}
    assert wrong("sum by (topic) (rdknotify_records_in_flight)") == {"topic"}
    assert wrong('rdknotify_lag_records{groop="g"}') == {"groop"}
    assert wrong("sum by (client) (rdknotify_records_sent_total)", "{{topic}}") == {"topic"}
    assert wrong("sum by (client, topic) (rdknotify_records_sent_total)", "{{topic}}") == set()


def test_panels_stand_beside_each_other() -> None:
    cells = [
        (x, y)
        for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing: install Debian's package prometheus")
@pytest.mark.parametrize(
    "command", ["check rules alerts.yml", "test rules alerts.test.yml", "check config prometheus.yml"]
)
def test_promtool_agrees(command: str) -> None:
    done = subprocess.run(["promtool", *command.split()], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
