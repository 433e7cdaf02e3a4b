"""The report: what all its forms say, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import click
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.clients import OURS
from benchmarks.report import targets
from benchmarks.report.figures import Results
from benchmarks.report.sections import Section, Table, build
from benchmarks.report.tables import markdown

TEMPLATES = Path(__file__).parent / "templates"
LEGEND = (
    "Medians (lowest to highest run); ratios are of runs made one after the other, round by round. "
    "A target is met by its median."
)


def publish(path: Path) -> tuple[Results, list[Section]]:
    """Write ``report.html`` and the plots beside a results' file, and show the targets."""
    results = Results.load(path)
    sections = build(results)
    plots = path.parent / "plots"
    write_plots(sections, plots)
    report = path.parent / "report.html"
    report.write_text(render(results, sections))
    click.echo(markdown(targets.HEAD, (row.cells for row in targets.rows(results))))
    click.echo(f"report: {report}")
    return results, sections


def write_plots(sections: list[Section], folder: Path) -> None:
    """Write the PNGs, in place of earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for section in sections:
        for name, png in section.plots.items():
            (folder / f"{name}.png").write_bytes(png)


def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["base64"] = lambda data: base64.b64encode(data).decode()
    made.filters["grid"] = lambda table: markdown(table.head, table.rows)
    made.tests["ours"] = lambda row: any(cell.startswith(OURS) for cell in row[:2])  # a variant, and a client
    return made


def context(results: Results, sections: list[Section]) -> dict[str, Any]:
    """What is said, whatever the form."""
    rounds = max((run.number for run in results.runs), default=0)
    met = [row.met for row in targets.rows(results)]
    setting = results.setting
    return {
        "summary": f"{setting.get('date', 'No date')}: rdknotify {setting.get('revision', '')}, "
        f"{rounds} {'round' if rounds == 1 else 'rounds'}; of {len(met)} targets {met.count('yes')} were met, "
        f"{met.count('no')} were not, {met.count('not measured')} were not measured.",
        "legend": LEGEND,
        "targets": Table(targets.HEAD, [row.cells for row in targets.rows(results)]),
        "sections": sections,
        "setting": Table(("", ""), [(name, str(value)) for name, value in setting.items()]),
    }


def render(results: Results, sections: list[Section]) -> str:
    page = environment().get_template("page.html.j2")
    marks = ("yes", "no", "not measured")
    return page.render(context(results, sections), marks=marks)
