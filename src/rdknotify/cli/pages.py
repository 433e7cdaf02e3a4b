"""The manual of the command line, from what ``--help`` says: as a page of roff and as a page of Markdown.

``python -m rdknotify.cli.pages`` prints ``docs/command-line.md``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import click

from rdknotify import __version__
from rdknotify.cli import commands, output

__all__ = ["markdown", "roff"]


class _Text(NamedTuple):
    text: str
    verbatim: bool


@dataclass(frozen=True)
class _Page:
    """A command, as both kinds of pages show it."""

    name: str
    synopsis: str
    texts: list[_Text]
    options: list[tuple[str, str]]
    after: list[_Text]


def _pages() -> Iterator[_Page]:
    """All commands, each group's before the next."""
    yield from _of(commands, click.Context(commands, info_name="rdknotify", max_content_width=110))


def _of(command: click.Command, context: click.Context) -> Iterator[_Page]:
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    yield _Page(
        context.command_path,
        " ".join([context.command_path, *command.collect_usage_pieces(context)]),
        list(_texts(command.help)),
        [record for record in records if record is not None and record[1] and "--help" not in record[0]],
        list(_texts(command.epilog)),
    )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _of(inner, click.Context(inner, context, info_name=name, max_content_width=110))


def _texts(text: str | None) -> Iterator[_Text]:
    """Paragraphs; those that click is told to leave as they are, by ``\\b``, are verbatim."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text or "")):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        if not lines:
            continue
        if lines[0].strip() == "\b":
            yield from _verbatim(lines[1:])
        else:
            yield _Text(" ".join(line.strip() for line in lines), False)


def _verbatim(lines: list[str]) -> Iterator[_Text]:
    """In such a paragraph too, a line without an example in it is a sentence."""
    for sentence, group in groupby(lines, lambda line: bool(re.match(r"[A-Z][a-z].*[.:]$", line))):
        yield _Text((" " if sentence else "\n").join(group), not sentence)


def markdown() -> Iterator[str]:
    """The page of the manual, line by line."""
    yield from ("# Command line", "")
    yield "<!-- Made from what --help says: `python -m rdknotify.cli.pages > docs/command-line.md` -->"
    yield ""
    yield "`pip install 'rdknotify[cli]'` installs the command `rdknotify`. `rdknotify man | man -l -` shows this page,"
    yield "`rdknotify completion bash` (or `zsh`, `fish`) prints what makes the shell complete it."
    yield ""
    yield f"Exit status: {output.exit_statuses()}."
    for page in list(_pages())[1:]:
        yield from ("", f"## {page.name}", "", "```text", page.synopsis, "```")
        yield from _markdown_texts(page.texts)
        if page.options:
            yield from ("", "| option | what |", "| --- | --- |")
            for option, text in page.options:
                yield f"| `{_cell(option)}` | {_cell(_plain(text))} |"
        yield from _markdown_texts(page.after)


def _markdown_texts(texts: list[_Text]) -> Iterator[str]:
    for text, verbatim in texts:
        yield from ("", "```text", text, "```") if verbatim else ("", _plain(text))


def _plain(text: str) -> str:
    """Text in which nothing is Markdown by accident."""
    return re.sub(r"([*_<>\[\]])", r"\\\1", re.sub(r"\s+", " ", text))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def roff() -> Iterator[str]:
    """The page for ``man``, line by line."""
    top, *rest = _pages()
    yield f'.TH RDKNOTIFY 1 "" "rdknotify {__version__}" "User Commands"'
    yield from (".SH NAME", "rdknotify \\- notifications through Apache Kafka")
    yield from (".SH SYNOPSIS", f".B {_escaped(top.synopsis)}")
    yield ".SH DESCRIPTION"
    yield from _roff_texts(top.texts)
    yield ".SH COMMANDS"
    for page in rest:
        yield f".SS {_escaped(page.synopsis.removeprefix('rdknotify '))}"
        yield from _roff_texts(page.texts)
        for option, text in page.options:
            yield from (".TP", f".B {_escaped(option)}", _escaped(re.sub(r"\s+", " ", text)))
        yield from _roff_texts(page.after)
    yield from (".SH EXIT STATUS", _escaped(output.exit_statuses()))


def _roff_texts(texts: list[_Text]) -> Iterator[str]:
    for text, verbatim in texts:
        yield ".PP"
        if verbatim:
            yield ".nf"
        yield from map(_escaped, text.split("\n"))
        if verbatim:
            yield ".fi"


def _escaped(line: str) -> str:
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    print(*markdown(), sep="\n")
