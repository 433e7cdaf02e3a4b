"""docs/reliability.md: a line for every experiment, misses marked, and commands that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from reliability import page
from reliability.results import Report

ROOT = Path(__file__).parents[2]
THIS = "tests/faces/test_reliability_page.py::test_what_tests_and_runs_have_seen_is_shown"
SETTING = {"date": "2026-11-21", "revision": "abc", "processor": "a processor", "cpus": 2, "load": "0.1"}


def lines(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:2] == "| "]


def test_every_experiment_of_the_list_has_a_line(tmp_path: Path) -> None:
    named = {line[0] for line in lines(page.render({}, {}))}
    assert {f"F{number}" for number in range(1, 23)} | {
        "B",
        "P",
        "S",
        "chaos",
        "endurance",
        "stress",
        "rolling",
        "threads",
    } <= named
    assert "0 figures" in page.render(*page.load(tmp_path))


def test_what_tests_and_runs_have_seen_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reliability.results.BUILD", tmp_path)
    figure: Any = {"value": 4.1, "unit": "s", "at_most": 5, "at_least": None, "test": f"{THIS}[a|b]"}
    late, gone = {**figure, "value": 7000.0}, {**figure, "test": "tests/x.py::test_that_was_renamed"}
    named = {"longest wait": figure, "longest wait again": late, "of old": gone}
    (tmp_path / "tests.json").write_text(json.dumps({"F2": named}))
    report = Report("stress", "too much of it", "make stress SECONDS=9", setting=dict(SETTING))
    report.figure("lost", 0, at_most=0)
    report.figure("gained an hour", 1.25, "MB", at_least=0, at_most=2, error=0.5)
    assert report.publish() == 0
    text = page.render(*page.load(tmp_path))
    table = lines(text)
    assert "4 figures, of which 1 missed its target; 28 of 30 experiments were not measured." in text
    first = next(number for number, line in enumerate(table) if line[0] == "F2")
    assert table[first][2:] == ["longest wait", "at most 5", "4.1 s", rf"`pytest {THIS}[a\|b]`"]
    assert table[first + 1][:5] == ["", "", "longest wait again", "at most 5", "7,000 s, **missed**"]
    assert ["stress", "too much of it", "lost", "exactly 0", "0", "`make stress SECONDS=9`"] in table
    assert ["", "", "gained an hour", "at least 0, at most 2", "1.25 ± 0.5 MB", ""] in table
    assert ["stress", "0 s", "2026-11-21", "abc", "a processor", "2", "0.1"] in table


def test_a_missed_target_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reliability.results.BUILD", tmp_path)
    report = Report("stress", "", "", setting=dict(SETTING))
    assert report.publish() == 1, "nothing was measured"
    report.figure("lost", 1, at_most=0)
    assert report.publish() == 1


@pytest.mark.skipif(not page.PAGE.exists(), reason="not made yet: make reliability-docs")
def test_the_commands_that_the_page_names_exist() -> None:
    text = page.PAGE.read_text()
    for path, function in set(re.findall(r"`pytest (\S+?)::(\w+)", text)):
        assert page.exists(f"{path}::{function}"), path
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
