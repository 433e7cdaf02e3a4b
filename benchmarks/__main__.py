"""``python -m benchmarks``: rdknotify beside the limit in C and its peers, on a real broker, in alternating runs."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks import measures
from benchmarks.harness import FULL, QUICK, Failed, Stage
from benchmarks.machine import describe
from benchmarks.report.page import publish
from benchmarks.setting import BUILD
from rdknotify.testing import LocalKafka, RunningKafka


@click.command()
@click.option("--kafka", "address", help="host:port of a running broker; otherwise one is started.")
@click.option("--quick", is_flag=True, help="Every measure once, with few records: shows that all works.")
@click.option("--only", default=",".join(measures.MODULES), show_default=True, help="Measures, with commas.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=BUILD / "latest",
    help="Folder for the results and the report.",
)
def main(address: str | None, quick: bool, only: str, output: Path) -> None:
    """Measure, and write results.json, report.html and plots."""
    names = only.split(",")
    if unknown := set(names) - set(measures.MODULES):
        raise click.BadParameter(f"--only: {', '.join(unknown)}: expected {', '.join(measures.MODULES)}")
    output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with ExitStack() as stack:
        kafka = stack.enter_context(RunningKafka(address) if address else LocalKafka())
        stage = stack.enter_context(closing(Stage(kafka, QUICK if quick else FULL)))
        setting = describe()
        try:
            for name in names:
                started = time.monotonic()
                measures.load(name)(stage)
                click.echo(f"{name}: {time.monotonic() - started:.0f} s", err=True)
        except Failed as failure:
            sys.exit(f"benchmark failed: {failure}")
        finally:
            setting["minutes"] = round((time.monotonic() - began) / 60, 1)
            results = {"setting": setting, "runs": [asdict(run) for run in stage.runs]}
            (output / "results.json").write_text(json.dumps(results, indent=1))
    publish(output / "results.json")


if __name__ == "__main__":
    main()
