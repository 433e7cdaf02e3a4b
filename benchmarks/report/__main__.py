"""``python -m benchmarks.report``: the report of a benchmark again, and the documentation's pages from it."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.report import markdown
from benchmarks.report.page import publish
from benchmarks.setting import BUILD


@click.command()
@click.argument("path", metavar="[RESULTS.JSON]", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--docs", is_flag=True, help="Write docs/benchmarks.md and docs/scaling.md as well.")
def main(path: Path | None, docs: bool) -> None:
    """Write report.html and the plots beside the results; show the targets."""
    results, sections = publish(path or BUILD / "latest" / "results.json")
    if docs:
        for page in markdown.write(results, sections):
            click.echo(f"wrote {page}")


if __name__ == "__main__":
    main()
