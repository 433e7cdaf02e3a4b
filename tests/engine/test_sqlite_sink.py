"""SQLiteSink alone: rows and offsets together or not at all, every row once, whoever writes."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.database import ask

from rdknotify.errors import ClosedError, ConfigError
from rdknotify.sinks import OffsetsBehind, RowRefused, SinkError, Span
from rdknotify.sinks.schema import Column, Schema
from rdknotify.sinks.sqlite import SQLiteSink
from rdknotify.topics import TopicPartition

SCHEMA = Schema(own=(Column("id", "text"), Column("size", "integer")), fill=lambda record: (), message_id="id")
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def rows(start: int, stop: int, partition: int = 0) -> list[tuple[object, ...]]:
    return [(f"{partition}-{offset}", offset * 2, "t", partition, offset) for offset in range(start, stop)]


def content(path: Path) -> list[tuple[object, ...]]:
    return ask(path, 'SELECT id, size, topic, partition, "offset" FROM notifications ORDER BY 4, 5')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


@pytest.fixture
def sink(path: Path) -> Iterator[SQLiteSink]:
    sink = SQLiteSink(path, timeout=0.3)
    sink.open(SCHEMA)
    yield sink
    sink.close()


def test_rows_and_offsets_are_there_after_a_new_start(sink: SQLiteSink, path: Path) -> None:
    assert sink.restore("g", [T0, T1]) == {}
    assert sink.store("g", rows(0, 5) + rows(0, 2, 1), {T0: Span(None, 5), T1: Span(None, 2)}) == 7
    sink.close()
    again = SQLiteSink(path)
    again.open(SCHEMA)
    assert again.restore("g", [T0, T1, TopicPartition("t", 2)]) == {T0: 5, T1: 2}
    assert again.restore("other", [T0]) == {}
    assert content(path) == rows(0, 5) + rows(0, 2, 1)
    again.close()


def test_rows_seen_before_are_left_out_and_offsets_never_go_back(sink: SQLiteSink, path: Path) -> None:
    sink.store("g", rows(0, 10), {T0: Span(None, 10)})
    assert sink.store("g", rows(4, 12), {T0: Span(4, 12)}) == 2
    assert sink.store("g", rows(2, 6), {T0: Span(2, 6)}) == 0
    assert sink.restore("g", [T0]) == {T0: 12}
    assert content(path) == rows(0, 12)


def test_a_message_id_is_stored_once_wherever_its_twin_was_read(sink: SQLiteSink, path: Path) -> None:
    twins = [("same", 1, "t", 0, 7), ("same", 1, "t", 1, 3), (None, 2, "t", 0, 8), (None, 2, "t", 0, 9)]
    assert sink.store("g", twins, {T0: Span(None, 10), T1: Span(None, 4)}) == 3
    assert [row[0] for row in content(path)] == ["same", None, None]


def test_a_member_that_lost_its_partition_spoils_nothing(sink: SQLiteSink, path: Path) -> None:
    sink.store("g", rows(0, 10), {T0: Span(None, 10)})
    successor = SQLiteSink(path)
    successor.open(SCHEMA)
    successor.store("g", rows(10, 30), {T0: Span(10, 30)})
    assert sink.store("g", rows(10, 20), {T0: Span(10, 20)}) == 0  # late: it had read these too
    assert sink.restore("g", [T0]) == {T0: 30}
    assert content(path) == rows(0, 30)
    successor.close()


def test_a_database_that_went_back_is_noticed_and_left_alone(sink: SQLiteSink, path: Path) -> None:
    sink.store("g", rows(0, 10), {T0: Span(None, 10)})
    ask(path, 'DELETE FROM notifications WHERE "offset" >= 4')
    ask(path, "UPDATE notifications_offsets SET next_offset = 4")
    with pytest.raises(OffsetsBehind, match="t-0 it holds offset 4, but 10 was stored") as caught:
        sink.store("g", rows(10, 12) + rows(0, 1, 1), {T0: Span(10, 12), T1: Span(None, 1)})
    assert caught.value.partitions == [T0]
    assert content(path) == rows(0, 4)
    ask(path, "DELETE FROM notifications_offsets")
    with pytest.raises(OffsetsBehind, match="holds offset None"):
        sink.store("g", rows(10, 12), {T0: Span(10, 12)})


@pytest.mark.parametrize("bad", [2**70, object(), "\ud800"])
def test_a_value_that_does_not_fit_is_named_and_nothing_is_stored(sink: SQLiteSink, path: Path, bad: object) -> None:
    with pytest.raises(RowRefused, match=str(path)):
        sink.store("g", [*rows(0, 3), ("x", bad, "t", 0, 3)], {T0: Span(None, 4)})
    assert content(path) == []
    assert sink.restore("g", [T0]) == {}
    assert sink.store("g", rows(0, 3), {T0: Span(None, 3)}) == 3


def test_a_locked_database_is_reported_within_the_timeout(sink: SQLiteSink, path: Path) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    with pytest.raises(SinkError, match="locked; another process"):
        sink.store("g", rows(0, 1), {T0: Span(None, 1)})
    assert time.monotonic() - begun < 2
    holder.execute("ROLLBACK")
    holder.close()
    assert sink.store("g", rows(0, 1), {T0: Span(None, 1)}) == 1


def test_a_full_disk_is_reported_and_rolls_back(sink: SQLiteSink, path: Path) -> None:
    sink.store("g", rows(0, 2), {T0: Span(None, 2)})
    assert sink._connection is not None
    pages = sink._connection.execute("PRAGMA page_count").fetchone()[0]
    sink._connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite sees of a disk without room
    with pytest.raises(SinkError, match="full; free some space"):
        sink.store("g", [("x" * 100_000, 1, "t", 0, 2)], {T0: Span(2, 3)})
    sink._connection.execute("PRAGMA max_page_count = 1000000")
    assert sink.restore("g", [T0]) == {T0: 2}
    assert sink.store("g", rows(2, 3), {T0: Span(2, 3)}) == 1


def test_what_is_wrong_with_the_path_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere does not exist; make it first"):
        SQLiteSink(tmp_path / "nowhere" / "rows.db")
    with pytest.raises(ConfigError, match="is a folder"):
        SQLiteSink(tmp_path)
    with pytest.raises(ConfigError, match="table='a b'"):
        SQLiteSink(tmp_path / "rows.db", table="a b")
    other = tmp_path / "text.db"
    other.write_text("not a database at all" * 100)
    with pytest.raises(SinkError, match="not a database; give another path"):
        SQLiteSink(other).open(SCHEMA)


def test_a_table_of_another_shape_is_refused(sink: SQLiteSink, path: Path) -> None:
    other = SQLiteSink(path)
    with pytest.raises(SinkError, match=r"has the columns id, size, topic, partition, offset, but the schema needs x"):
        other.open(Schema(own=(Column("x", "text"),), fill=lambda record: ()))


def test_it_says_when_it_is_used_closed(path: Path) -> None:
    sink = SQLiteSink(path)
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
def test_it_says_when_it_is_used_in_a_fork(sink: SQLiteSink) -> None:
    child = os.fork()
    if child == 0:
        try:
            sink.restore("g", [T0])
        except ClosedError as error:
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _store_many(path: Path, partition: int) -> None:
    sink = SQLiteSink(path)
    sink.open(SCHEMA)
    for start in range(0, 400, 10):
        part = [(f"{partition}-{offset}", 0, "t", partition, offset) for offset in range(start, start + 10)]
        sink.store("g", part, {TopicPartition("t", partition): Span(start or None, start + 10)})
    sink.close()


def test_several_processes_write_one_file(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_store_many, args=(path, partition)) for partition in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert len(content(path)) == 1200
