"""The pages of the documentation that are made of results: ``docs/benchmarks.md`` with its images."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report.figures import Results
from benchmarks.report.page import context, environment, write_plots
from benchmarks.report.sections import Section
from benchmarks.setting import ROOT

DOCS = ROOT / "docs"
IMAGES = Path("images") / "benchmarks"


def write(results: Results, sections: list[Section], docs: Path = DOCS) -> list[Path]:
    """Write the pages and images, in place of the earlier ones; returns the pages."""
    write_plots(sections, docs / IMAGES)
    page = docs / "benchmarks.md"
    page.write_text(environment().get_template("benchmarks.md.j2").render(context(results, sections)))
    return [page]
