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

_GAP = 2
_READABLE = 16
"""Characters below which text is better left out than folded."""


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


def table(titles: Sequence[str], rows: Sequence[Sequence[Any]], spare: Sequence[str] = ()) -> Table:
    """The same for the eye. Where the terminal is too narrow, ``spare`` columns are left out, the first one first."""
    columns = [_Column(title, [row[number] for row in rows]) for number, title in enumerate(titles)]
    for title in spare:
        if sum(column.narrowest + _GAP for column in columns) - _GAP <= output.out.width:
            break
        columns = [column for column in columns if column.title != title]
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        # A number that is cut or folded would be another one.
        made.add_column(
            column.title, justify="right" if column.numeric else "left", overflow="fold", no_wrap=column.numeric
        )
    for number in range(len(rows)):
        made.add_row(*(column.cells[number] for column in columns))
    return made


class _Column:
    def __init__(self, title: str, fields: Sequence[Any]) -> None:
        self.title = title
        self.numeric = any(isinstance(field, (int, float)) for field in fields)
        self.cells = [field if isinstance(field, Text) else _cell(field, ",") for field in fields]
        widest = max(map(len, [title, *self.cells]))
        self.narrowest = widest if self.numeric else min(widest, _READABLE)


def _cell(field: Any, separator: str) -> str:
    if field is None:
        return "-"
    if isinstance(field, int):
        return f"{field:{separator}}"
    if isinstance(field, float):
        return f"{field:{separator}.1f}"
    return printable(str(field))
