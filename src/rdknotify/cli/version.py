"""``rdknotify version``."""

from __future__ import annotations

import json

import click

from rdknotify import __version__, about

__all__ = ["command"]


@click.command("version")
@click.option("--verbose", is_flag=True, help="Also what it was built with and runs on.")
@click.option("--json", "as_json", is_flag=True, help="All of that, for a program.")
def command(verbose: bool, as_json: bool) -> None:
    """Print the version."""
    if as_json:
        click.echo(json.dumps(about.facts(), indent=2))
        return
    click.echo(f"rdknotify {__version__}")
    if verbose:
        click.echo("\n".join(about.lines()))
