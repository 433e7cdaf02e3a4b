"""The table of events that are logged: what is told is in it, and docs/logging.md is of it."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdknotify import logged

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "rdknotify"


GROUPS = {"consumer.py", "member.py", "share.py"}
"""Modules that tell by methods which a base class has."""


def tellings() -> Iterator[ast.Call]:
    """Every call in the package that tells an event."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        if "from rdknotify.logged import" in text or path.name in GROUPS:
            for node in ast.walk(ast.parse(text)):
                name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
                if isinstance(node, ast.Call) and name in ("tell", "_tell", "_tell_partitions"):
                    yield node


def words_of(call: ast.Call) -> set[str]:
    """Constants among the first two arguments, one of which may be the event's name."""
    nodes = [node for argument in call.args[:2] for node in ast.walk(argument)]
    constants = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {value for value in constants if re.fullmatch(r"[a-z][a-z_]+", value)}


def test_every_event_that_is_told_is_in_the_table_and_every_one_of_the_table_is_told() -> None:
    told = {event for call in tellings() for event in words_of(call)}
    source = (PACKAGE / "events.py").read_text()  # where it stands in a variable
    told |= {event for event in logged.EVENTS if f'"{event}"' in source}
    assert told == set(logged.EVENTS)


def test_fields_are_of_the_table() -> None:
    given = {
        keyword.arg
        for call in tellings()
        for keyword in call.keywords
        if keyword.arg not in (None, "level", "exc_info")
    }
    assert given <= set(logged.FIELDS)
    assert {field for told in logged.EVENTS.values() for field in told.fields} | {"event"} == set(logged.FIELDS)


def test_no_field_clashes_with_what_a_log_record_has() -> None:
    own = vars(logging.LogRecord("n", 10, "p", 1, "m", (), None))
    assert not {logged.PREFIX + field for field in logged.FIELDS} & {*own, "message", "asctime"}


def test_the_page_has_the_tables() -> None:
    page = (ROOT / "docs" / "logging.md").read_text()
    tables = "\n".join(logged.markdown())
    assert all(table in page for table in tables.split("\n\n")), "python -m rdknotify.logged prints them"


def test_partitions_are_listed_to_a_bound() -> None:
    fields = logged.listed([("t", number) for number in range(1000)])
    assert fields["count"] == 1000
    assert fields["partitions"] == [f"t-{number}" for number in range(logged.LISTED)]


def test_the_same_trouble_is_told_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    seldom = logged.Seldom()
    assert [seldom.may("a"), seldom.may("a"), seldom.may("b")] == [True, False, True]
    clock[0] += logged.REPEAT_INTERVAL
    assert [seldom.may("a"), seldom.may("a")] == [True, False]


def test_nothing_is_made_for_a_level_that_nobody_wants() -> None:
    class Unwanted:
        def __str__(self) -> str:
            raise AssertionError("it was formatted")

    log = logging.getLogger("rdknotify.unwanted")
    log.setLevel(logging.CRITICAL)
    logged.tell(log, "retrying", "%s", Unwanted(), group="g")
