"""``rdknotify dead-letter``: what could not be handled: list it, look at it, send it again, discard it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import click

from rdknotify.cli import output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.dead_letter.letters import DISCARDED, Letter, Place, Selection
from rdknotify.cli.interrupts import Interrupts
from rdknotify.cli.output import Exit
from rdknotify.errors import ConfigError

__all__ = ["command"]

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group("dead-letter")
def command() -> None:
    """List dead letters, show them, send them again after a fix, or discard them.

    A dead letter is a record that a listener or persister could not handle, with the reason and its origin in its
    headers. They lie in a topic (--topic) or a file (--file). What was sent again or discarded is not listed again: a
    topic remembers that by a consumer group, and by a small record without a value for what is taken out of turn.
    """


def _placed(function: _F) -> _F:
    """The options that say which letters."""
    for option in (
        click.option("--group", metavar="NAME", help="Which group remembers what is done.  [default: by topic]"),
        click.option("--reason", metavar="REGEX", help="Those whose reason matches."),
        click.option("--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file."),
        click.option("--topic", metavar="NAME", help="A dead letter topic; needed if there are several."),
        functools.partial(connected, unless="path"),
    ):
        function = option(function)
    return function


def _chosen(function: _F) -> _F:
    """The same, and which of them to deal with."""
    for option in (
        click.argument("numbers", nargs=-1),
        click.option("--all", "every", is_flag=True, help="All that are not done with."),
    ):
        function = option(function)
    return _placed(function)


# _placed comes first in each: what it wraps gets the connection.
@command.command("list")
@_placed
@click.option("--all", "everything", is_flag=True, help="Also those that are done with.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def list_letters(
    connection: Connection | None,
    topic: str | None,
    path: Path | None,
    group: str | None,
    reason: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """List them: number, when, origin, group, reason."""
    from rdknotify.cli.dead_letter import shown

    with _place(connection, topic, path, group, everything) as place:
        letters = Selection(reason=reason).chosen(place.letters())
        shown.list_letters(letters, everything, as_json)
        _tell_count(place, letters, "dead letter")


@command.command("show")
@_chosen
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def show(
    connection: Connection | None,
    numbers: tuple[str, ...],
    topic: str | None,
    path: Path | None,
    group: str | None,
    reason: str | None,
    every: bool,
    as_json: bool,
) -> None:
    """Show some, or all, with value, key and headers. NUMBERS as in the list, a range as 0-12..0-20."""
    from rdknotify.cli.dead_letter import shown

    with _place(connection, topic, path, group, everything=True) as place:
        letters = Selection(numbers, reason).chosen(place.letters())
        if not numbers:  # what is done with is shown where it is named
            letters = [letter for letter in letters if not letter.done]
        for letter in letters:
            shown.show_letter(letter, as_json)


@command.command("send-again")
@_chosen
@click.option("--to", metavar="TOPIC", help="Send them there.  [default: where each came from]")
@click.option("--fix", metavar="COMMAND", help="A shell command that gets the value, and prints what is to be sent.")
@click.option("--edit", is_flag=True, help="Edit each value in $EDITOR before it is sent.")
@click.pass_context
def send_again(
    context: click.Context,
    connection: Connection | None,
    numbers: tuple[str, ...],
    topic: str | None,
    path: Path | None,
    group: str | None,
    reason: str | None,
    every: bool,
    to: str | None,
    fix: str | None,
    edit: bool,
) -> None:
    """Send some again, or all: a letter is done with when the broker has confirmed it.

    Value, key and headers are those that the record had. After a crash in between, a letter may be sent twice.

    \b
    rdknotify dead-letter send-again 0-12 0-15
    rdknotify dead-letter send-again --reason 'not JSON' --fix 'sed s/NaN/null/g'
    """
    from rdknotify.cli.dead_letter import again

    if connection is None:
        raise click.UsageError("sending again needs a broker: give --url kafka://host:9092, or set RDKNOTIFY_URL")
    if fix and edit:
        raise click.UsageError("give --fix or --edit, not both")
    change = again.by_command(fix) if fix else again.by_editor if edit else again.unchanged
    with _place(connection, topic, path, group) as place:
        letters = _select(place, numbers, reason, every)
        with Interrupts() as interrupts:
            # With an editor in between each is remembered at once.
            tally = again.send_again(
                place, letters, connection, to, change, lambda: interrupts, chunk=1 if edit else again.CHUNK
            )
    for letter, why in tally.failures[:20]:
        output.tell(f"{letter.number} not sent: {why}", "red")
    if len(tally.failures) > 20:
        output.tell(f"... and {len(tally.failures) - 20:,} more", "red")
    left = len(letters) - tally.sent
    output.tell(f"{tally.sent:,} sent again" + (f", {left:,} left as they were" if left else ""))
    _tell_further(place)
    context.exit(interrupts.status or (Exit.DONE if not left else Exit.PARTLY if tally.sent else Exit.FAILED))


@command.command("discard")
@_chosen
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(
    connection: Connection | None,
    numbers: tuple[str, ...],
    topic: str | None,
    path: Path | None,
    group: str | None,
    reason: str | None,
    every: bool,
    yes: bool,
) -> None:
    """Have done with some, or all: they are not listed again. Nothing is deleted: `list --all` has them."""
    with _place(connection, topic, path, group) as place:
        letters = _select(place, numbers, reason, every)
        if letters and not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("discard asks first, and nobody can answer here: give --yes")
            click.confirm(f"Discard {_count(letters, 'dead letter')} of {place.name}?", abort=True, err=True)
        place.mark(letters, DISCARDED)
        output.tell(f"{_count(letters, 'dead letter')} discarded")
        _tell_further(place)


# -- which ---------------------------------------------------------------------------------------------------


def _place(
    connection: Connection | None,
    topic: str | None,
    path: Path | None,
    group: str | None,
    everything: bool = False,
) -> AbstractContextManager[Place]:
    """Where they lie. Raises UsageError and ConfigError."""
    if path is not None:
        if topic is not None:
            raise click.UsageError("give --topic or --file, not both")
        from rdknotify.cli.dead_letter.file import FilePlace

        return FilePlace(path, everything)
    assert connection is not None
    from rdknotify.cli.dead_letter import samples
    from rdknotify.cli.dead_letter.topic import TopicPlace

    if connection.cluster is not None:
        samples.fill(connection)
    name = topic or _only_topic(connection)
    return TopicPlace(connection, name, group or f"rdknotify-dead-letter.{name}", everything)


def _only_topic(connection: Connection) -> str:
    """The cluster's one dead letter topic, by how they are named."""
    from rdknotify.producer import Producer

    with Producer(connection.url, **connection.arguments("producer")) as producer:
        found: list[str] = [name for name in producer.metadata()["topics"] if name.endswith("dead-letter")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"there are several dead letter topics: give --topic, one of {', '.join(sorted(found))}")
    raise ConfigError(
        "no topic is there whose name ends in dead-letter: give --topic NAME (the listener's or persister's "
        "dead_letter), or --file FILE"
    )


def _select(place: Place, numbers: Sequence[str], reason: str | None, every: bool) -> list[Letter]:
    if not (numbers or reason is not None or every):
        raise click.UsageError("say which: numbers as `dead-letter list` shows them, --reason REGEX, or --all")
    return Selection(numbers, reason).chosen(place.letters())


def _tell_count(place: Place, letters: Sequence[Letter], noun: str) -> None:
    output.tell(f"{_count(letters, noun)} in {place.name}")
    _tell_further(place)


def _tell_further(place: Place) -> None:
    if place.further:
        output.tell(f"{place.further:,} further ones were not read: do it again when these are done with", "yellow")


def _count(letters: Sequence[Letter], noun: str) -> str:
    return f"{len(letters):,} {noun}" + ("s" if len(letters) != 1 else "")
