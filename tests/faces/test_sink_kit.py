"""The test kit for sinks bites: each rule is broken by a sink that is otherwise good, and its check fails."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.database import ask

from rdknotify.errors import RdNotifyError
from rdknotify.sinks import OffsetsBehind, RowRefused, Span, TopicReplaced
from rdknotify.sinks.schema import Schema
from rdknotify.sinks.sqlite import SQLiteSink
from rdknotify.testing.sinks import SinkContract
from rdknotify.topics import TopicPartition

Rows = Sequence[tuple[Any, ...]]
Spans = Mapping[TopicPartition, Span]


class RowsFirst(SQLiteSink):
    """Two transactions."""

    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        new = super().store(group, rows, {})
        time.sleep(0.03)
        super().store(group, [], spans)
        return new


class OffsetsFirst(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        super().store(group, [], spans)
        return super().store(group, rows, {})


class NoRowsAlone(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        return super().store(group, rows, spans) if spans else 0


class NoOffsetsAlone(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        return super().store(group, rows, spans) if rows else 0


class OneGroup(SQLiteSink):
    def restore(self, group: str, partitions: Any) -> Mapping[TopicPartition, int]:
        return super().restore("g", partitions)

    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        return super().store("g", rows, spans)


class TellsTooMuch(SQLiteSink):
    def restore(self, group: str, partitions: Any) -> Mapping[TopicPartition, int]:
        with self._turn():
            return {TopicPartition(*key): held.next for key, held in self._held(self._current(), group).items()}


class CountsAll(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        super().store(group, rows, spans)
        return len(rows)


class StoresTheGoodOnes(SQLiteSink):
    """A row that does not fit is left out, in silence."""

    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        try:
            return super().store(group, rows, spans)
        except RowRefused:
            return super().store(group, [row for row in rows if row[0] != "x"], spans)


class StoresBeforeItRefuses(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        try:
            return super().store(group, rows, spans)
        except RowRefused:
            super().store(group, rows[:1], {})
            raise


class CommitsWhatItHas(SQLiteSink):
    """An interruption in the middle of a transaction commits the first half."""

    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        taken = []
        try:
            taken += [*rows]
        except KeyboardInterrupt:
            for number in range(len(rows) // 2):
                super().store(group, [rows[number]], {})
            raise
        return super().store(group, taken, spans)


class StaysInItsTransaction(SQLiteSink):
    @contextmanager
    def _transaction(self, database: sqlite3.Connection) -> Any:
        database.execute("BEGIN IMMEDIATE")
        yield database
        database.execute("COMMIT")


class Replaces(SQLiteSink):
    """The later twin is kept."""

    def _prepare(self, database: sqlite3.Connection, schema: Schema) -> None:
        super()._prepare(database, schema)
        self._insert = self._insert.replace("INTO", "OR REPLACE INTO").replace("ON CONFLICT DO NOTHING", "")


class TakesTwins(SQLiteSink):
    """No uniqueness."""

    def _prepare(self, database: sqlite3.Connection, schema: Schema) -> None:
        names = ", ".join(f'"{column.name}"' for column in schema.columns)
        database.execute(f"CREATE TABLE IF NOT EXISTS {self.table} ({names})")
        super()._prepare(database, Schema(schema.own, schema.fill))


class NoneIsAnId(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        return super().store(group, [("None" if row[0] is None else row[0], *row[1:]) for row in rows], spans)


class OffsetsGoBack(SQLiteSink):
    @contextmanager
    def _transaction(self, database: sqlite3.Connection) -> Any:
        with super()._transaction(database):
            yield Forgetful(database)


@dataclass
class Forgetful:
    database: sqlite3.Connection

    def execute(self, *arguments: Any) -> Any:
        return self.database.execute(*arguments)

    def executemany(self, statement: str, rows: Any) -> Any:
        backwards = statement.replace("max(next_offset, excluded.next_offset)", "excluded.next_offset")
        return self.database.executemany(backwards, rows)


class SeesNothingBehind(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        return super().store(group, rows, {key: span._replace(expected=None) for key, span in spans.items()})


class SeesItTooLate(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        try:
            return super().store(group, rows, spans)
        except (OffsetsBehind, TopicReplaced):
            super().store(group, rows, {})
            raise


class NamesTooMany(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        try:
            return super().store(group, rows, spans)
        except OffsetsBehind as error:
            raise OffsetsBehind(list(spans), error.text) from error


class KnowsNoTopics(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        return super().store(group, rows, {key: span._replace(topic_id=None) for key, span in spans.items()})


class ForgetsTopics(SQLiteSink):
    """A span without an id takes it away."""

    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        new = super().store(group, rows, spans)
        silent = [key[1:] for key, span in spans.items() if span.topic_id is None]
        with self._turn():
            self._current().executemany(f"UPDATE {self.table}_offsets SET topic_id = NULL WHERE partition = ?", silent)
        return new


class ClosesForAll(SQLiteSink):
    def close(self) -> None:
        self._users = 0
        super().close()


class OpensOnce(SQLiteSink):
    opened = False

    def open(self, schema: Schema) -> None:
        assert not self.opened
        self.opened = True
        super().open(schema)


class OfOneThread(SQLiteSink):
    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None)


class Impatient(SQLiteSink):
    """Fails where another process is in its transaction."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, timeout=0)

    @contextmanager
    def _transaction(self, database: sqlite3.Connection) -> Any:
        with super()._transaction(database):
            time.sleep(0.01)
            yield database


class FewKinds(SQLiteSink):
    def store(self, group: str, rows: Rows, spans: Spans) -> int:
        if any(isinstance(value, float) for row in rows for value in row):
            raise RowRefused("no floats")
        return super().store(group, rows, spans)


BROKEN = {
    RowsFirst: ["a_reader_sees_rows_and_offsets_change_together", "a_killed_process_leaves_rows_and_offsets_in_step"],
    OffsetsFirst: ["an_interruption_stores_nothing", "a_value_that_does_not_fit_stores_nothing"],
    NoRowsAlone: ["rows_without_offsets_and_offsets_without_rows"],
    NoOffsetsAlone: ["rows_without_offsets_and_offsets_without_rows"],
    OneGroup: ["restore_tells_of_this_group_and_these_partitions_only"],
    TellsTooMuch: ["restore_tells_of_this_group_and_these_partitions_only"],
    CountsAll: ["rows_that_are_there_are_left_out", "a_message_id_is_stored_once_wherever_its_twin_was_read"],
    StoresTheGoodOnes: ["a_value_that_does_not_fit_stores_nothing"],
    StoresBeforeItRefuses: ["a_value_that_does_not_fit_stores_nothing"],
    CommitsWhatItHas: ["an_interruption_stores_nothing"],
    StaysInItsTransaction: ["an_interruption_stores_nothing", "a_value_that_does_not_fit_stores_nothing"],
    Replaces: ["a_message_id_is_stored_once_wherever_its_twin_was_read", "rows_that_are_there_are_left_out"],
    TakesTwins: [
        "rows_that_are_there_are_left_out",
        "a_message_id_is_stored_once_wherever_its_twin_was_read",
        "a_member_that_lost_its_partition_spoils_nothing",
        "two_members_that_store_the_same_at_once_spoil_nothing",
    ],
    NoneIsAnId: ["a_message_id_is_stored_once_wherever_its_twin_was_read"],
    OffsetsGoBack: ["offsets_never_go_back", "a_member_that_lost_its_partition_spoils_nothing"],
    SeesNothingBehind: ["a_database_that_went_back_is_noticed_and_left_alone"],
    SeesItTooLate: [
        "a_database_that_went_back_is_noticed_and_left_alone",
        "a_topic_that_was_made_anew_is_noticed_and_left_alone",
    ],
    NamesTooMany: ["a_database_that_went_back_is_noticed_and_left_alone"],
    KnowsNoTopics: ["a_topic_that_was_made_anew_is_noticed_and_left_alone"],
    ForgetsTopics: ["a_topic_that_was_made_anew_is_noticed_and_left_alone"],
    ClosesForAll: ["it_is_open_until_its_last_user_closes_it"],
    OpensOnce: ["it_is_opened_again_after_a_close", "it_is_open_until_its_last_user_closes_it"],
    OfOneThread: ["several_threads_share_one_sink"],
    Impatient: ["several_processes_write_one_database"],
    FewKinds: ["every_kind_of_column_takes_its_limits_and_nothing"],
}
"""What is broken, and the checks that see it."""


@dataclass
class Database:
    path: Path
    kind: type[SQLiteSink]

    def sink(self) -> SQLiteSink:
        return self.kind(self.path)

    def rows(self) -> list[tuple[Any, ...]]:
        return ask(self.path, 'SELECT id, size, topic, partition, "offset" FROM notifications')


@pytest.mark.parametrize(
    ("kind", "check"),
    [pytest.param(kind, check, id=f"{kind.__name__}-{check}") for kind, checks in BROKEN.items() for check in checks],
)
def test_a_broken_rule_is_seen(kind: type[SQLiteSink], check: str, tmp_path: Path) -> None:
    run = getattr(SinkContract(), f"test_{check}")
    with pytest.raises((AssertionError, RdNotifyError, pytest.fail.Exception)):
        run(Database(tmp_path / "rows.db", kind))


def test_every_check_has_a_sink_that_fails_it() -> None:
    checks = {name.removeprefix("test_") for name in vars(SinkContract) if name.startswith("test_")}
    failed = {check for checks in BROKEN.values() for check in checks}
    assert checks - failed == {"rows_and_offsets_are_there_after_a_new_start"}
