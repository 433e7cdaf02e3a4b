"""How dead letters look: a table or lines, a letter whole, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rdknotify.cli import output
from rdknotify.cli.dead_letter.letters import Letter, facts
from rdknotify.cli.forms import to_json
from rdknotify.provenance import HeaderList

__all__ = ["list_letters", "show_letter"]

_ENVELOPE = "oslo.message"


def list_letters(letters: Sequence[Letter], everything: bool, as_json: bool) -> None:
    """A table on a terminal; lines with tabs in a pipe."""
    if as_json:
        for letter in letters:
            click.echo(json.dumps(facts(letter)))
        return
    if not output.out.is_terminal:
        for letter in letters:
            click.echo("\t".join(field.replace("\t", " ").replace("\n", " ") for field in _row(letter, everything)))
    elif letters:
        output.out.print(_table(letters))


def _table(letters: Sequence[Letter]) -> Table:
    """Names of topics and groups are long, and reasons longer: they stand below each other."""
    table = Table(box=None, pad_edge=False)
    table.add_column("number", no_wrap=True)
    table.add_column("when", no_wrap=True)
    table.add_column("came from, by group, reason", overflow="fold", ratio=1)
    for letter in letters:
        done = f", {letter.done}" if letter.done else ""
        group = f" by {letter.origin.group}" if letter.origin.group else ""
        origin = Text(f"{letter.came_from or 'unknown'}{group}{done}\n")
        table.add_row(letter.number, _moment(letter)[:19], origin.append(letter.reason, style="yellow"))
    return table


def show_letter(letter: Letter, as_json: bool) -> None:
    """All of it."""
    if as_json:
        content = {
            "key": to_json(letter.key),
            "headers": [[name, to_json(value)] for name, value in letter.own_headers],
            "value": to_json(letter.value),
        }
        click.echo(json.dumps({**facts(letter), **content}))
        return
    fields = {
        "number": letter.number + (f" ({letter.done})" if letter.done else ""),
        "when": _moment(letter),
        "came from": letter.came_from or "unknown",
        "group": letter.origin.group or "unknown",
        "attempts": str(letter.origin.attempts) if letter.origin.attempts else "",
        "reason": letter.reason,
        "key": _text(letter.key),
        "headers": _headers(letter.own_headers),
    }
    for name, text in fields.items():
        if text:
            output.out.print(f"[bold]{name:10}[/] {escape(text)}", highlight=False)
    output.out.print("[bold]value[/]")
    _value(letter)
    output.out.print()


def _row(letter: Letter, everything: bool) -> list[str]:
    row = [letter.number, _moment(letter), letter.came_from, letter.origin.group or ""]
    return [*row, *([letter.done] if everything else []), letter.reason]


def _moment(letter: Letter) -> str:
    return letter.when.astimezone().isoformat(sep=" ", timespec="seconds") if letter.when else ""


def _text(data: bytes | None) -> str:
    """As text, and where it is none as Python writes bytes."""
    if data is None:
        return ""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return repr(data)


def _headers(headers: HeaderList) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in headers)


def _value(letter: Letter) -> None:
    if letter.value is None:
        output.out.print("none" if letter.has_its_value else "not kept, it was too large")
        return
    parsed = _opened(letter.value)
    if parsed is None:
        output.out.print(Text(_text(letter.value)))
    elif output.out.is_terminal:
        output.out.print_json(data=parsed)
    else:
        click.echo(json.dumps(parsed, indent=2, ensure_ascii=False))


def _opened(value: bytes) -> Any:
    """What JSON it is, an envelope's message opened as well; None: it is none."""
    try:
        parsed = json.loads(value)
        if isinstance(parsed, dict) and isinstance(inner := parsed.get(_ENVELOPE), str):
            parsed = {**parsed, _ENVELOPE: json.loads(inner)}
    except (ValueError, RecursionError):
        return None
    return parsed
