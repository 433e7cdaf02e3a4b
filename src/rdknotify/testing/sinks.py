"""What every sink has to keep to, as tests for pytest: subclass :class:`SinkContract` and give it your database.

::

    from rdknotify.testing.sinks import SinkContract

    class TestMySink(SinkContract):
        @pytest.fixture
        def database(self, tmp_path):
            return MyDatabase(tmp_path)  # see SinkDatabase
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from typing import Any, ClassVar, Protocol, get_args

import pytest

from rdknotify.sinks import OffsetsBehind, RowRefused, Sink, Span, TopicReplaced
from rdknotify.sinks.schema import Column, Kind, Schema
from rdknotify.topics import TopicPartition

__all__ = ["SCHEMA", "T0", "T1", "SinkContract", "SinkDatabase", "rows"]

SCHEMA = Schema(own=(Column("id", "text"), Column("size", "integer")), fill=lambda record: (), message_id="id")
"""Of the rows that the checks store."""
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)

KINDS: tuple[Kind, ...] = get_args(Kind)
EVERY_KIND = Schema(own=[Column(kind, kind) for kind in KINDS], fill=lambda record: (), message_id="text")
LIMITS: tuple[tuple[Any, ...], ...] = (
    ("naïve ✓", 2**63 - 1, 1.5, b"\x00\xff", '{"a": [1, null, "é"]}', "2026-01-02 03:04:05.678901"),
    ("", -(2**63), -1e300, b"", "null", "1999-12-31T23:59:59"),
)
WAIT = 60.0
"""Seconds after which a writer counts as stuck."""

Row = tuple[Any, ...]


class SinkDatabase(Protocol):
    """An empty database of one test. It is pickled for the checks with several processes."""

    def sink(self) -> Sink:
        """A new sink for this database and one table of it, not open."""

    def rows(self) -> Collection[Sequence[Any]]:
        """What is in that table now: id, size, topic, partition and offset of each row, in any order."""


def rows(start: int, stop: int, partition: int = 0) -> list[Row]:
    """Rows of topic ``t`` as :data:`SCHEMA` has them: from one offset up to, not including, another."""
    return [(f"{partition}-{offset}", offset * 2, "t", partition, offset) for offset in range(start, stop)]


class SinkContract:
    """The checks. Each says in its failure which rule of :class:`~rdknotify.sinks.Sink` was broken."""

    refused: ClassVar[Sequence[Any]] = (2**70, object(), "\ud800")
    """Values that cannot be stored in a column of whole numbers."""
    several_processes: ClassVar[bool] = True
    """False for a database that only one process can use: the checks with several are skipped."""

    @pytest.fixture
    def database(self) -> SinkDatabase:
        raise NotImplementedError(f"{type(self).__name__} needs a fixture 'database' that returns a SinkDatabase")

    # -- rows and offsets together ---------------------------------------------------------------------------

    def test_rows_and_offsets_are_there_after_a_new_start(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            assert not sink.restore("g", [T0, T1]), "an empty database holds offsets"
            new = sink.store("g", rows(0, 5) + rows(0, 2, 1), {T0: Span(None, 5), T1: Span(None, 2)})
            assert new == 7, f"store() of 7 new rows returned {new}"
            assert_rows(database, rows(0, 5) + rows(0, 2, 1))
        with opened(database) as sink:
            assert_held(sink, {T0: 5, T1: 2})
            assert_rows(database, rows(0, 5) + rows(0, 2, 1))

    def test_restore_tells_of_this_group_and_these_partitions_only(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            sink.store("g", rows(0, 5), {T0: Span(None, 5), T1: Span(None, 2)})
            sink.store("other", [], {T0: Span(None, 3)})
            assert_held(sink, {T0: 5}, [T0])
            assert_held(sink, {T0: 3}, [T0, T1], group="other")
            assert_held(sink, {}, [T0, T1], group="third")

    def test_rows_without_offsets_and_offsets_without_rows(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            assert sink.store("g", rows(0, 5), {}) == 5, "rows are stored without offsets while the bad ones are sought"
            assert_held(sink, {})
            assert sink.store("g", [], {T0: Span(None, 5)}) == 0, "offsets are stored alone after poison"
            assert_held(sink, {T0: 5})
            assert_rows(database, rows(0, 5))

    def test_every_kind_of_column_takes_its_limits_and_nothing(self, database: SinkDatabase) -> None:
        filled = [(*values, "t", 0, offset) for offset, values in enumerate(LIMITS)]
        empty: Row = (*[None] * len(KINDS), "t", 0, len(filled))
        with opened(database, EVERY_KIND) as sink:
            new = sink.store("g", [*filled, empty], {T0: Span(None, 3)})
            assert new == 3, f"of three rows with all kinds of columns {new} were stored"

    # -- a failure leaves nothing ----------------------------------------------------------------------------

    def test_a_value_that_does_not_fit_stores_nothing(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            for bad in self.refused:
                with pytest.raises(RowRefused):
                    sink.store("g", [*rows(0, 3), ("x", bad, "t", 0, 3)], {T0: Span(None, 4)})
                assert_rows(database, [], "after RowRefused")
                assert_held(sink, {})
            assert sink.store("g", rows(0, 3), {T0: Span(None, 3)}) == 3, "the sink was of no use after RowRefused"

    def test_an_interruption_stores_nothing(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            sink.store("g", rows(0, 5), {T0: Span(None, 5)})
            with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever the sink makes of it
                sink.store("g", Interrupted(rows(5, 15)), {T0: Span(5, 15)})
            assert_rows(database, rows(0, 5), "after a store that was interrupted")
            assert_held(sink, {T0: 5})
            assert sink.store("g", rows(5, 15), {T0: Span(5, 15)}) == 10, "the sink was of no use after an interruption"
            assert_rows(database, rows(0, 15))

    def test_a_killed_process_leaves_rows_and_offsets_in_step(self, database: SinkDatabase) -> None:
        self._needs_processes()
        context = multiprocessing.get_context("spawn")
        for _ in range(3):
            writer = context.Process(target=write_on, args=(database,))
            with opened(database) as sink:
                before = sink.restore("g", [T0]).get(T0, 0)
                writer.start()
                wait_for(lambda: sink.restore("g", [T0]).get(T0, 0) > before + 20, writer.is_alive)  # noqa: B023
                writer.kill()
                writer.join(WAIT)
            with opened(database) as sink:
                assert_rows(database, rows(0, sink.restore("g", [T0])[T0]), "after a writer was killed")

    def test_a_reader_sees_rows_and_offsets_change_together(self, database: SinkDatabase) -> None:
        with opened(database) as sink, opened(database) as reader:
            writer = threading.Thread(target=write, args=(sink, 0, 300))
            writer.start()
            try:
                while writer.is_alive():
                    before = reader.restore("g", [T0]).get(T0, 0)
                    seen = len(database.rows())
                    after = reader.restore("g", [T0]).get(T0, 0)
                    assert before <= seen <= after, f"{seen} rows were there between the offsets {before} and {after}"
            finally:
                writer.join(WAIT)

    # -- once, whoever writes --------------------------------------------------------------------------------

    def test_rows_that_are_there_are_left_out(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            sink.store("g", rows(0, 10), {T0: Span(None, 10)})
            new = sink.store("g", rows(4, 12), {T0: Span(4, 12)})
            assert new == 2, f"store() with 2 new rows among 8 returned {new}"
            other_ids = [(None, 0, "t", 0, offset) for offset in range(3)]
            assert sink.store("other", other_ids, {T0: Span(None, 3)}) == 0, "a row's origin is unique in any group"
            assert_rows(database, rows(0, 12))

    def test_a_message_id_is_stored_once_wherever_its_twin_was_read(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            first: list[Row] = [("same", 1, "t", 0, 7), (None, 2, "t", 0, 8), (None, 2, "t", 0, 9)]
            twin: Row = ("same", 3, "t", 1, 3)
            new = sink.store("g", [*first, twin], {T0: Span(None, 10), T1: Span(None, 4)})
            assert new == 3, f"of four rows, two with the same message id and two without one, {new} were new"
            assert_rows(database, first, "the twin came later")
            assert sink.store("g", [("same", 4, "t", 1, 4)], {T1: Span(4, 5)}) == 0, "a twin came in a later store"
            assert_held(sink, {T0: 10, T1: 5})
            assert_rows(database, first)

    def test_offsets_never_go_back(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            sink.store("g", rows(0, 12), {T0: Span(None, 12)})
            sink.store("g", rows(2, 6), {T0: Span(2, 6), T1: Span(None, 4)})
            assert_held(sink, {T0: 12, T1: 4})

    def test_a_member_that_lost_its_partition_spoils_nothing(self, database: SinkDatabase) -> None:
        with opened(database) as lost, opened(database) as successor:
            lost.store("g", rows(0, 10), {T0: Span(None, 10)})
            successor.store("g", rows(10, 30), {T0: Span(10, 30)})
            assert lost.store("g", rows(10, 20), {T0: Span(10, 20)}) == 0, "a late member stored what was there"
            assert_held(lost, {T0: 30})
            assert_rows(database, rows(0, 30))

    def test_two_members_that_store_the_same_at_once_spoil_nothing(self, database: SinkDatabase) -> None:
        def work(order: list[TopicPartition], size: int) -> Callable[[Sink], None]:
            def store(sink: Sink) -> None:
                for start in range(0, 240, size):
                    both = [row for key in order for row in rows(start, start + size, key.partition)]
                    sink.store("g", both, {key: Span(start or None, start + size) for key in order})

            return store

        with opened(database) as one, opened(database) as other:
            together([(one, work([T0, T1], 8)), (other, work([T1, T0], 12))])
            assert_held(one, {T0: 240, T1: 240})
        assert_rows(database, rows(0, 240) + rows(0, 240, 1))

    def test_several_threads_share_one_sink(self, database: SinkDatabase) -> None:
        def work(partition: int) -> Callable[[Sink], None]:
            return lambda sink: use(sink, partition)

        sink = database.sink()
        together([(sink, work(partition)) for partition in range(3)])
        assert_rows(database, [row for partition in range(3) for row in rows(0, 200, partition)])

    def test_several_processes_write_one_database(self, database: SinkDatabase) -> None:
        self._needs_processes()
        context = multiprocessing.get_context("spawn")
        start = context.Barrier(3)
        writers = [context.Process(target=use_anew, args=(database, partition, start)) for partition in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(WAIT)
            assert writer.exitcode == 0, "a process that wrote beside others failed, or hung"
        assert_rows(database, [row for partition in range(3) for row in rows(0, 200, partition)])

    # -- a database, or a topic, that is not what it was -----------------------------------------------------

    def test_a_database_that_went_back_is_noticed_and_left_alone(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            sink.store("g", rows(0, 4), {T0: Span(None, 4)})
            for partition, held in ((T0, {T0: 4}), (T1, {T0: 4})):
                spans = {key: Span(10 if key == partition else None, 12) for key in (T0, T1)}
                with pytest.raises(OffsetsBehind) as caught:
                    sink.store("g", rows(10, 12) + rows(10, 12, 1), spans)
                assert list(caught.value.partitions) == [partition], "OffsetsBehind names the partitions behind"
                assert_rows(database, rows(0, 4), "after OffsetsBehind")
                assert_held(sink, held)

    def test_a_topic_that_was_made_anew_is_noticed_and_left_alone(self, database: SinkDatabase) -> None:
        with opened(database) as sink:
            sink.store("g", rows(0, 2), {T0: Span(None, 2)})
            sink.store("g", rows(2, 4), {T0: Span(2, 4, "first")})
            sink.store("g", rows(4, 6), {T0: Span(4, 6)})  # which does not tell, and forgets nothing
            with pytest.raises(TopicReplaced):
                sink.store("g", rows(6, 8) + rows(0, 1, 1), {T0: Span(6, 8, "second"), T1: Span(None, 1)})
            assert_rows(database, rows(0, 6), "after TopicReplaced")
            assert_held(sink, {T0: 6})
            assert sink.store("g", rows(6, 8), {T0: Span(6, 8, "first")}) == 2, "the topic that was there before"
            assert sink.store("other", [], {T0: Span(None, 8, "second")}) == 0, "another group knows nothing of it"

    # -- open and close --------------------------------------------------------------------------------------

    def test_it_is_opened_again_after_a_close(self, database: SinkDatabase) -> None:
        sink = database.sink()
        for number in range(3):
            sink.open(SCHEMA)
            sink.store("g", rows(number, number + 1), {T0: Span(number or None, number + 1)})
            sink.close()
            sink.close()
        assert_rows(database, rows(0, 3))

    def test_it_is_open_until_its_last_user_closes_it(self, database: SinkDatabase) -> None:
        sink = database.sink()
        with pytest.raises(Exception):  # noqa: B017, PT011 - each sink has its own
            sink.restore("g", [T0])
        sink.open(SCHEMA)
        sink.open(SCHEMA)
        sink.close()
        assert sink.store("g", rows(0, 2), {T0: Span(None, 2)}) == 2, "one of two users has closed it"
        sink.close()
        with pytest.raises(Exception):  # noqa: B017, PT011
            sink.store("g", rows(2, 3), {T0: Span(2, 3)})
        assert_rows(database, rows(0, 2))

    def _needs_processes(self) -> None:
        if not self.several_processes:
            pytest.skip("the database is of one process only")


class Interrupted(list[Row]):
    """Rows of which only some can be read: as if the process had been interrupted in the middle of a store."""

    def __iter__(self) -> Iterator[Row]:
        half = len(self) // 2
        yield from self[:half]
        raise KeyboardInterrupt

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and index >= len(self) // 2:
            raise KeyboardInterrupt
        return super().__getitem__(index)


@contextmanager
def opened(database: SinkDatabase, schema: Schema = SCHEMA) -> Iterator[Sink]:
    sink = database.sink()
    sink.open(schema)
    try:
        yield sink
    finally:
        sink.close()


def assert_rows(database: SinkDatabase, expected: Sequence[Row], when: str = "") -> None:
    def order(row: Row) -> tuple[Any, ...]:
        return row[-3:]

    found = sorted((tuple(row) for row in database.rows()), key=order)
    wanted = sorted(expected, key=order)
    twice = len(found) - len(set(found))
    missing, surplus = [row for row in wanted if row not in found], [row for row in found if row not in wanted]
    assert found == wanted, f"rows {when}: {twice} twice, missing {missing[:5]}, not expected {surplus[:5]}"


def assert_held(
    sink: Sink, expected: Mapping[TopicPartition, int], asked: Sequence[TopicPartition] = (T0, T1), group: str = "g"
) -> None:
    held = dict(sink.restore(group, asked))
    assert held == expected, f"of {group} the sink holds {held}, not {expected}"


def write(sink: Sink, start: int, stop: int, partition: int = 0, size: int = 5) -> None:
    key = TopicPartition("t", partition)
    for offset in range(start, stop, size):
        sink.store("g", rows(offset, offset + size, partition), {key: Span(offset or None, offset + size)})


def use(sink: Sink, partition: int) -> None:
    sink.open(SCHEMA)
    try:
        write(sink, 0, 200, partition, size=10)
    finally:
        sink.close()


def use_anew(database: SinkDatabase, partition: int, start: Barrier) -> None:
    """In a process of its own."""
    start.wait(WAIT)
    use(database.sink(), partition)


def write_on(database: SinkDatabase) -> None:
    """In a process of its own, until it is killed."""
    with opened(database) as sink:
        start = sink.restore("g", [T0]).get(T0, 0)
        write(sink, start, start + 1_000_000)


def together(work: Sequence[tuple[Sink, Callable[[Sink], None]]]) -> None:
    """Do all of it at once, each in a thread of its own; raises the first that failed."""
    failures: list[BaseException] = []

    def run(sink: Sink, job: Callable[[Sink], None]) -> None:
        try:
            job(sink)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive(), f"stores at the same time were not done after {WAIT:g} s: they block each other"
    if failures:
        raise AssertionError(f"stores at the same time failed: {failures[0]}") from failures[0]


def wait_for(condition: Callable[[], bool], alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert alive(), "the process that writes has failed: see its output"
        assert time.monotonic() < deadline, "the process that writes does not come on"
        time.sleep(0.005)
