"""What every sink promises, on each: rows and offsets together or not at all, every row once, whoever writes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.database import ask
from support.postgres import query
from support.sinks import SCHEMA, T0, T1, rows

from rdknotify import PostgresSink, Sink, SQLiteSink
from rdknotify.errors import ClosedError
from rdknotify.sinks import OffsetsBehind, RowRefused, SinkError, Span
from rdknotify.sinks.schema import Column, Schema
from rdknotify.topics import TopicPartition


@dataclass
class Database:
    """One kind of database: how to make a sink for it, and how to ask it something."""

    where: Any
    named: str
    make: Callable[..., SQLiteSink | PostgresSink]
    ask: Callable[[Any, str], list[tuple[Any, ...]]]

    def sink(self, **options: Any) -> SQLiteSink | PostgresSink:
        return self.make(self.where, **options)

    def does(self, sql: str) -> list[tuple[Any, ...]]:
        return self.ask(self.where, sql)

    def content(self) -> list[tuple[Any, ...]]:
        return self.does('SELECT id, size, topic, partition, "offset" FROM notifications ORDER BY 4, 5')


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        path = tmp_path / "rows.db"
        return Database(path, str(path), SQLiteSink, ask)
    return Database(request.getfixturevalue("dsn"), "host=127.0.0.1 port=", PostgresSink, query)


@pytest.fixture
def sink(database: Database) -> Iterator[Sink]:
    sink = database.sink(timeout=0.3)
    sink.open(SCHEMA)
    yield sink
    sink.close()


def test_rows_and_offsets_are_there_after_a_new_start(sink: Sink, database: Database) -> None:
    assert sink.restore("g", [T0, T1]) == {}
    assert sink.store("g", rows(0, 5) + rows(0, 2, 1), {T0: Span(None, 5), T1: Span(None, 2)}) == 7
    sink.close()
    again = database.sink()
    again.open(SCHEMA)
    assert again.restore("g", [T0, T1, TopicPartition("t", 2)]) == {T0: 5, T1: 2}
    assert again.restore("other", [T0]) == {}
    assert database.content() == rows(0, 5) + rows(0, 2, 1)
    again.close()


def test_rows_seen_before_are_left_out_and_offsets_never_go_back(sink: Sink, database: Database) -> None:
    sink.store("g", rows(0, 10), {T0: Span(None, 10)})
    assert sink.store("g", rows(4, 12), {T0: Span(4, 12)}) == 2
    assert sink.store("g", rows(2, 6), {T0: Span(2, 6)}) == 0
    assert sink.restore("g", [T0]) == {T0: 12}
    assert database.content() == rows(0, 12)


def test_a_message_id_is_stored_once_wherever_its_twin_was_read(sink: Sink, database: Database) -> None:
    twins = [("same", 1, "t", 0, 7), ("same", 1, "t", 1, 3), (None, 2, "t", 0, 8), (None, 2, "t", 0, 9)]
    assert sink.store("g", twins, {T0: Span(None, 10), T1: Span(None, 4)}) == 3
    assert [row[0] for row in database.content()] == ["same", None, None]


def test_a_member_that_lost_its_partition_spoils_nothing(sink: Sink, database: Database) -> None:
    sink.store("g", rows(0, 10), {T0: Span(None, 10)})
    successor = database.sink()
    successor.open(SCHEMA)
    successor.store("g", rows(10, 30), {T0: Span(10, 30)})
    assert sink.store("g", rows(10, 20), {T0: Span(10, 20)}) == 0  # late: it had read these too
    assert sink.restore("g", [T0]) == {T0: 30}
    assert database.content() == rows(0, 30)
    successor.close()


def test_a_database_that_went_back_is_noticed_and_left_alone(sink: Sink, database: Database) -> None:
    sink.store("g", rows(0, 10), {T0: Span(None, 10)})
    database.does('DELETE FROM notifications WHERE "offset" >= 4')
    database.does("UPDATE notifications_offsets SET next_offset = 4")
    with pytest.raises(OffsetsBehind, match="t-0 it holds offset 4, but 10 was stored") as caught:
        sink.store("g", rows(10, 12) + rows(0, 1, 1), {T0: Span(10, 12), T1: Span(None, 1)})
    assert caught.value.partitions == [T0]
    assert database.content() == rows(0, 4)
    database.does("DELETE FROM notifications_offsets")
    with pytest.raises(OffsetsBehind, match="holds offset None"):
        sink.store("g", rows(10, 12), {T0: Span(10, 12)})


@pytest.mark.parametrize("bad", [2**70, object(), "\ud800"])
def test_a_value_that_does_not_fit_is_named_and_nothing_is_stored(sink: Sink, database: Database, bad: object) -> None:
    with pytest.raises(RowRefused, match=database.named):
        sink.store("g", [*rows(0, 3), ("x", bad, "t", 0, 3)], {T0: Span(None, 4)})
    assert database.content() == []
    assert sink.restore("g", [T0]) == {}
    assert sink.store("g", rows(0, 3), {T0: Span(None, 3)}) == 3


def test_a_table_of_another_shape_is_refused(sink: Sink, database: Database) -> None:
    other = database.sink()
    with pytest.raises(SinkError, match=r"has the columns id, size, topic, partition, offset, but the schema needs x"):
        other.open(Schema(own=(Column("x", "text"),), fill=lambda record: ()))


def test_it_says_when_it_is_used_closed(database: Database) -> None:
    sink = database.sink()
    with pytest.raises(ClosedError, match="not open"):
        sink.restore("g", [T0])
    sink.open(SCHEMA)
    sink.open(SCHEMA)
    sink.close()
    assert sink.restore("g", [T0]) == {}  # its second user still has it
    sink.close()
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


def _store_many(sink: Sink, partition: int) -> None:
    sink.open(SCHEMA)
    for start in range(0, 400, 10):
        key = TopicPartition("t", partition)
        sink.store("g", rows(start, start + 10, partition), {key: Span(start or None, start + 10)})
    sink.close()


def _in_a_process(make: Callable[[Any], Sink], where: Any, partition: int) -> None:
    _store_many(make(where), partition)


def test_several_processes_write_one_database(database: Database) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = [(database.make, database.where, partition) for partition in range(3)]
    writers = [context.Process(target=_in_a_process, args=each) for each in arguments]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert len(database.content()) == 1200


def test_several_threads_share_one_sink(database: Database) -> None:
    sink = database.sink()
    writers = [threading.Thread(target=_store_many, args=(sink, partition)) for partition in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(database.content()) == 1200
    with pytest.raises(ClosedError, match="not open"):
        sink.restore("g", [T0])
