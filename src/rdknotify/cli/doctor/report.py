"""Findings as a table for people, as lines for pipes, as JSON for programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import groupby

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rdknotify.cli.doctor.finding import Finding, State

__all__ = ["as_json", "as_lines", "as_table", "verdict"]

_LOOKS = {
    State.OK: ("ok", "green"),
    State.WARNING: ("note", "yellow"),
    State.TROUBLE: ("TROUBLE", "bold red"),
    State.SKIPPED: ("-", "dim"),
}
_NARROW = 60


def as_table(findings: Sequence[Finding], console: Console) -> None:
    """One block a subject; the next step stands below what it is for."""
    width = shutil.get_terminal_size((100, 25)).columns
    for subject, group in groupby(findings, key=lambda finding: finding.subject):
        console.print(Text(subject, style="bold"))
        table = Table(box=None, show_header=False, pad_edge=False, width=max(_NARROW, width))
        table.add_column(width=9, no_wrap=True)
        table.add_column(width=12, no_wrap=True)
        table.add_column(overflow="fold", ratio=1)
        for finding in group:
            word, style = _LOOKS[finding.state]
            text = Text(finding.text)
            if finding.advice:
                text.append(f"\nnext: {finding.advice}", style="cyan")
            table.add_row(Text(f"  {word}", style=style), finding.check, text)
        console.print(table)


def as_lines(findings: Sequence[Finding]) -> None:
    """State, subject, check, text and next step, between them tabs."""
    for finding in findings:
        fields = (finding.state.value, finding.subject, finding.check, finding.text, finding.advice)
        click.echo("\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields))


def as_json(findings: Sequence[Finding]) -> None:
    """One object."""
    click.echo(json.dumps({"ok": _well(findings), "findings": [finding.as_json() for finding in findings]}, indent=2))


def verdict(findings: Sequence[Finding]) -> str:
    """The closing line."""
    troubles = sum(finding.state is State.TROUBLE for finding in findings)
    notes = sum(finding.state is State.WARNING for finding in findings)
    noted = f", {notes} to take note of" if notes else ""
    if not troubles:
        return f"all is well{noted}"
    found = "1 trouble found" if troubles == 1 else f"{troubles} troubles found"
    return f"{found}{noted}" + (": begin with the first, others may follow from it" if troubles > 1 else "")


def _well(findings: Sequence[Finding]) -> bool:
    return all(finding.state is not State.TROUBLE for finding in findings)
