"""``rdknotify lag``: how far consumer groups have got, and whether they catch up."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import click

from rdknotify.admin import Admin, Group
from rdknotify.cli import columns, output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.durations import DURATION, in_words
from rdknotify.cli.lagging import GroupLag, Pace, Paces
from rdknotify.cli.output import Exit
from rdknotify.client import deadline_after, remaining
from rdknotify.errors import AuthenticationError, AuthorizationError, ClosedError, ConfigError, KafkaError

__all__ = ["command"]

_TIMEOUT = 8.0
"""Seconds that one look may take."""
_TITLES = ("group", "state", "topic", "partition", "committed", "end", "lag", "member")
_PACE_TITLES = ("grows/s", "commits/s", "done in")
_SPARE = ("committed", "end", "commits/s", "grows/s", "member")
"""What a narrow terminal does without, in this order."""


@click.command("lag")
@click.argument("groups", nargs=-1, metavar="[GROUP]...")
@connected
@click.option("--topic", "topics", multiple=True, help="Only this topic, whether or not the group reads it; "
              "may be repeated.")  # fmt: skip
@click.option("--watch", is_flag=True, help="Look again and again, and tell how fast topics grow and groups commit.")
@click.option("--every", type=DURATION, default="2s", show_default=True, help="How often --watch looks.")
@click.option("--fail-above", type=click.IntRange(min=0), metavar="N",
              help="Exit with 3 if a group's lag is above N records.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, for each group.")
@click.pass_context
def command(
    context: click.Context,
    /,
    connection: Connection,
    groups: tuple[str, ...],
    topics: tuple[str, ...],
    watch: bool,
    every: float,
    fail_above: int | None,
    as_json: bool,
) -> None:
    """Show the lag of consumer groups: all of them, or those that are named.

    The lag of a partition is the number of records that its group has not committed yet. Without a committed offset it
    is not known (-); --fail-above then counts every record that the partition holds.

    \b
    rdknotify lag billing --watch
    rdknotify lag --fail-above 10000 || alert
    """
    if every <= 0:
        raise click.UsageError("--every: a time above 0 is needed")
    with Admin(connection.url, **connection.arguments("admin")) as admin:
        question = _Question(admin, groups, topics)
        show: _Show = _Json() if as_json else _Table() if output.out.is_terminal else _Lines()
        found = _watch(question, show, every) if watch else _once(question, show)
    context.exit(_status(found, question.missing, fail_above))


class _Question:
    """What is asked about which groups."""

    def __init__(self, admin: Admin, groups: Sequence[str], topics: Sequence[str]) -> None:
        self._admin, self._groups, self._topics = admin, list(dict.fromkeys(groups)), list(topics) or None
        self.missing: list[str] = []
        """Groups of which nothing can be told."""

    def look(self) -> list[GroupLag]:
        """One answer each. Raises KafkaError."""
        deadline = deadline_after(_TIMEOUT)
        try:
            listed = {group.name for group in self._admin.groups(remaining(deadline))}
        except KafkaError as error:
            if error.name != "_UNSUPPORTED_FEATURE":
                raise
            return self._offsets_only(deadline)
        names = self._groups or sorted(listed)
        described = self._admin.describe_groups(names, remaining(deadline))
        self.missing = [name for name in self._groups if name not in listed and _is_no_group(described[name])]
        for name in self.missing:
            described.pop(name)
        self._tell_missing(listed)
        found = []
        for name, group in described.items():
            found += self._lag(name, group, self._topics, deadline)
        return found

    def _lag(self, name: str, group: Group | KafkaError, topics: list[str] | None, deadline: float) -> list[GroupLag]:
        """None where a right is missing: that hides no other group."""
        try:
            if isinstance(group, KafkaError):
                raise group
            return [GroupLag(group, self._admin.lag(name, topics, remaining(deadline), group))]
        except AuthorizationError as error:
            self.missing.append(name)
            output.tell(f"group {name!r}: {error}")
            return []

    def _offsets_only(self, deadline: float) -> list[GroupLag]:
        """What the embedded broker knows, which does not list its groups."""
        if not self._groups:
            raise ConfigError("this broker cannot list its consumer groups, as the embedded one: name a group")
        topics = self._topics or list(self._admin.topics(timeout=remaining(deadline)))
        self.missing = []
        found = []
        for name in self._groups:
            for lag in self._lag(name, Group(name, "Unknown", "", "", None, ()), topics, deadline):
                read = {each.topic for each in lag.partitions if each.committed is not None}
                shown = [each for each in lag.partitions if each.topic in read]
                found.append(GroupLag(lag.group, shown if read and not self._topics else lag.partitions))
        return found

    def _tell_missing(self, listed: set[str]) -> None:
        for name in self.missing:
            close = get_close_matches(name, listed, n=1)
            hint = f"did you mean {close[0]}?" if close else "`rdknotify lag` lists those that are there"
            output.tell(f"there is no consumer group {name!r}, or it is a share group: {hint}")


def _is_no_group(group: Group | KafkaError) -> bool:
    return group.name == "GROUP_ID_NOT_FOUND" if isinstance(group, KafkaError) else group.state == "Dead"


def _status(found: Sequence[GroupLag], missing: Sequence[str], fail_above: int | None) -> Exit:
    late = [group for group in found if fail_above is not None and group.at_most > fail_above]
    for group in late:
        output.tell(f"group {group.name!r}: its lag is {group.at_most:,}, above {fail_above:,}", "red")
    if missing and not found:
        return Exit.FAILED
    failed = any(partition.error for group in found for partition in group.partitions)
    return Exit.PARTLY if late or missing or failed else Exit.DONE


def _once(question: _Question, show: _Show) -> list[GroupLag]:
    found = question.look()
    if not found and not question.missing:
        output.tell("there are no consumer groups, or this user may not see them (DESCRIBE on the groups)")
    show(found, None)
    return found


def _watch(question: _Question, show: _Show, every: float) -> list[GroupLag]:
    """Look until Ctrl-C; what a broker does not tell now, it may tell the next time."""
    paces, first = Paces(), True
    with show:
        while True:
            try:
                found = question.look()
                paces.note(found)
                show(found, paces)
                if first and question.missing and not found:
                    return found
            except (AuthenticationError, ClosedError):
                raise
            except KafkaError as error:
                if first:
                    raise
                show.fail(error)
            first = False
            time.sleep(every)


class _Show:
    """Prints answers; ``paces`` where they are looked at again and again."""

    def __call__(self, found: Sequence[GroupLag], paces: Paces | None) -> None:
        raise NotImplementedError

    def fail(self, error: KafkaError) -> None:
        output.tell(f"no answer, looking again: {error}", "yellow")

    def __enter__(self) -> _Show:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _Json(_Show):
    def __call__(self, found: Sequence[GroupLag], paces: Paces | None) -> None:
        for group in found:
            click.echo(json.dumps(group.facts(paces)))


class _Lines(_Show):
    """For pipes: titles once, then a line for each partition."""

    _begun = False

    def __call__(self, found: Sequence[GroupLag], paces: Paces | None) -> None:
        rows = [row for group in found for row in _rows(group, paces, named=True)]
        if rows and not self._begun:
            self._begun = True
            rows.insert(0, _TITLES + (_PACE_TITLES if paces else ()))
        columns.print_lines(rows)


class _Table(_Show):
    """For the eye; while watching, in its place."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(console=output.out, auto_refresh=False, vertical_overflow="ellipsis")
        self._shown: Any = ""

    def __enter__(self) -> _Show:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, found: Sequence[GroupLag], paces: Paces | None) -> None:
        from rich.console import Group as Stack

        self._shown = Stack(*(part for group in found for part in self._parts(group, paces)))
        if paces is None:
            output.out.print(self._shown)
        else:
            self._live.update(self._shown, refresh=True)

    def fail(self, error: KafkaError) -> None:
        from rich.console import Group as Stack
        from rich.text import Text

        self._live.update(Stack(self._shown, Text(f"no answer, looking again: {error}", "yellow")), refresh=True)

    def _parts(self, group: GroupLag, paces: Paces | None) -> list[Any]:
        from rich.text import Text

        head = Text(group.name, "bold")
        head.append(f"  {group.summary()}", "default")
        if not group.partitions:
            return [head, ""]
        titles = _TITLES[2:] + (_PACE_TITLES if paces else ())
        rows = _rows(group, paces, named=False)
        return [head, columns.table(titles, rows, _SPARE), ""]


def _rows(group: GroupLag, paces: Paces | None, named: bool) -> list[tuple[Any, ...]]:
    front = (group.name, group.group.state) if named else ()
    rows = [
        (*front, each.topic, each.partition, each.committed, each.end, each.lag, group.reader(each))
        + (_pace(paces.of(group, each)) if paces else ())
        for each in group.partitions
    ]
    if named:
        return rows or [(*front, *[None] * (len(_TITLES) - 2 + (len(_PACE_TITLES) if paces else 0)))]
    total = ("total", "", "", "", group.lag, group.remark(), *(_pace(paces.of(group)) if paces else ()))
    return [*rows, total] if len(rows) > 1 else rows


def _pace(pace: Pace | None) -> tuple[Any, ...]:
    if pace is None:
        return (None, None, None)
    return pace.grows, pace.commits, "never" if pace.left is None else in_words(pace.left) if pace.left else "now"
