"""Rows under titles: a table on a terminal, lines with tabs in a pipe, the titles first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from rdknotify.cli import output
from rdknotify.cli.show import printable

__all__ = ["print_lines", "print_rows", "table"]


def print_rows(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """None is a dash; numbers stand on the right."""
    if output.out.is_terminal:
        output.out.print(table(titles, list(rows)))
        return
    print_lines([titles, *rows])


def print_lines(rows: Iterable[Sequence[Any]]) -> None:
    """For pipes."""
    for row in rows:
        click.echo("\t".join(_cell(field, "") for field in row))


def table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """The same for the eye."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for number, title in enumerate(titles):
        numeric = any(isinstance(row[number], (int, float)) for row in rows)
        made.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(field if isinstance(field, Text) else _cell(field, ",") for field in row))
    return made


def _cell(field: Any, separator: str) -> str:
    if field is None:
        return "-"
    if isinstance(field, int):
        return f"{field:{separator}}"
    if isinstance(field, float):
        return f"{field:{separator}.1f}"
    return printable(str(field))
