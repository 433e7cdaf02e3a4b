"""Our two sinks keep to the contract of all, and do alike what is not in it: errors, forks, tables of others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sinks import SCHEMA, T0, T1, Database, postgres_database, rows, sqlite_database

from rdknotify import Sink
from rdknotify.errors import ClosedError
from rdknotify.sinks import OffsetsBehind, RowRefused, SinkError, Span, TopicReplaced
from rdknotify.sinks.schema import Column, Schema
from rdknotify.testing.sinks import SinkContract


class TestSQLiteSink(SinkContract):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Database:
        return sqlite_database(tmp_path / "rows.db")


class TestPostgresSink(SinkContract):
    @pytest.fixture
    def database(self, dsn: str) -> Database:
        return postgres_database(dsn)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return sqlite_database(tmp_path / "rows.db")
    return postgres_database(request.getfixturevalue("dsn"))


@pytest.fixture
def sink(database: Database) -> Iterator[Sink]:
    sink = database.sink(timeout=0.3)
    sink.open(SCHEMA)
    yield sink
    sink.close()


def test_what_is_not_as_it_was_is_told_with_offsets_and_remedy(sink: Sink, database: Database) -> None:
    sink.store("g", rows(0, 10), {T0: Span(None, 10, "old")})
    database.does("UPDATE notifications_offsets SET next_offset = 4")  # as one restored from a backup
    with pytest.raises(OffsetsBehind, match="t-0 it holds offset 4, but 10 was stored"):
        sink.store("g", rows(10, 12) + rows(0, 1, 1), {T0: Span(10, 12), T1: Span(None, 1)})
    with pytest.raises(TopicReplaced, match=r"topic t was deleted and made anew.*id old, now it is new.*another table"):
        sink.store("g", rows(4, 5), {T0: Span(4, 5, "new")})
    database.does("DELETE FROM notifications_offsets")
    with pytest.raises(OffsetsBehind, match="holds offset None"):
        sink.store("g", rows(10, 12), {T0: Span(10, 12)})


def test_a_refusal_names_the_database(sink: Sink, database: Database) -> None:
    with pytest.raises(RowRefused, match=database.named):
        sink.store("g", [("x", 2**70, "t", 0, 3)], {T0: Span(None, 4)})


def test_a_table_of_another_shape_is_refused(sink: Sink, database: Database) -> None:
    other = database.sink()
    with pytest.raises(SinkError, match=r"has the columns id, size, topic, partition, offset, but the schema needs x"):
        other.open(Schema(own=(Column("x", "text"),), fill=lambda record: ()))


def test_it_says_when_it_is_used_closed(database: Database) -> None:
    sink = database.sink()
    with pytest.raises(ClosedError, match="not open"):
        sink.restore("g", [T0])
    sink.open(SCHEMA)
    sink.close()
    with pytest.raises(ClosedError, match="not open"):
        sink.store("g", rows(0, 1), {T0: Span(None, 1)})


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_it_says_when_it_is_used_in_a_fork(sink: Sink, database: Database) -> None:
    child = os.fork()
    if child == 0:
        try:
            sink.restore("g", [T0])
        except ClosedError as error:
            sink.close()
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sink.store("g", rows(0, 2), {T0: Span(None, 2)}) == 2  # the parent's connection is as it was
