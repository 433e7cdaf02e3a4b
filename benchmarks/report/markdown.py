"""The pages of the documentation that are made of results: ``benchmarks.md`` with its images, ``scaling.md``."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.report import scaling
from benchmarks.report.figures import MISSING, Results
from benchmarks.report.page import context, environment, write_plots
from benchmarks.report.sections import REBALANCE, Section
from benchmarks.setting import ROOT
from rdknotify.envelope import encode_new
from rdknotify.testing.data import nova_notifications

DOCS = ROOT / "docs"
IMAGES = Path("images") / "benchmarks"


def write(results: Results, sections: list[Section], docs: Path = DOCS) -> list[Path]:
    """Write the pages and images, in place of the earlier ones; returns the pages."""
    write_plots(sections, docs / IMAGES)
    pages = {"benchmarks.md": context(results, sections), "scaling.md": _scaling(results, sections)}
    for name, values in pages.items():
        (docs / name).write_text(environment().get_template(f"{name}.j2").render(values))
    return [docs / name for name in pages]


def _scaling(results: Results, sections: list[Section]) -> dict[str, Any]:
    bytes_of_nova = [
        len(encode_new("compute.node1", nova["event_type"], "INFO", nova["payload"])[1])
        for nova in nova_notifications()
    ]
    return {
        "setting": dict.fromkeys(("date", "revision", "cpus", "processor"), MISSING) | dict(results.setting),
        "rebalance": next((section for section in sections if section.title == REBALANCE.title), None),
        "multiple": scaling.partitions,
        **scaling.context(results, statistics.mean(bytes_of_nova)),
    }
