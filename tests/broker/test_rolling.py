"""Every node of a cluster restarted in its turn, under load."""

from __future__ import annotations

from pathlib import Path

from support.figures import Figures

from reliability.results import Report
from reliability.rolling import restart


def test_no_error_reaches_an_application(kafka3, topic: str, tmp_path: Path, figure: Figures) -> None:
    report = Report("rolling", "", "")
    restart(report, kafka3, tmp_path, topic, rounds=1)
    missed = [f"{each.what}: {each.seen}" for each in report.figures if not each.met]
    print(*missed, sep="\n")
    figure("rolling", "in the tests, one round: targets that were missed", len(missed), at_most=0)
