"""``rdknotify demo``: the main job, shown and checked."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from rdknotify.cli import output

__all__ = ["command"]


@click.command("demo")
@click.option(
    "--url", "--kafka", metavar="URL", help="A broker's transport URL or host:port; without, the embedded broker."
)
@click.option("--count", type=click.IntRange(min=1), default=100_000, show_default=True, help="Notifications to send.")
@click.option(
    "--keep", type=click.Path(dir_okay=False, path_type=Path), help="Keep the database here; it must not exist yet."
)
@click.option("--verbose", is_flag=True, help="Show the library's log too.")
@click.pass_context
def command(context: click.Context, url: str | None, count: int, keep: Path | None, verbose: bool) -> None:
    """Send notifications through Kafka into SQLite, and check that each is there exactly once.

    The exit status is 0 only if the database holds exactly what was sent.
    """
    from rdknotify.cli import main_job

    output.show_log(logging.INFO if verbose else None)
    context.exit(main_job.run(None if url == "mock:" else url, count, keep, output.out))
