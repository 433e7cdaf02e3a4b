"""``rdknotify man``."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("man")
@click.option("--markdown", is_flag=True, help="As a page of Markdown.")
def command(markdown: bool) -> None:
    """Print the manual page: rdknotify man | man -l -"""
    from rdknotify.cli import pages

    click.echo("\n".join(pages.markdown() if markdown else pages.roff()))
