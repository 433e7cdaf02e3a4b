"""What is PostgresSink's own: columns, locks, limits, lost connections. What all sinks promise is in test_sinks.py."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest
from support.postgres import query
from support.sinks import SCHEMA, T0, T1, rows
from support.waiting import until

from rdknotify import PostgresSink
from rdknotify.errors import ConfigError
from rdknotify.sinks import RowRefused, SinkError, Span
from rdknotify.sinks.schema import Column, Schema
from rdknotify.testing import LocalPostgres

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

KINDS = ("text", "integer", "real", "blob", "json", "timestamp")
EVERY_KIND = Schema(own=[Column(kind, kind) for kind in KINDS], fill=lambda record: (), message_id="text")
GOOD = ("id", 2**63 - 1, 1.5, b"\x00\xff", '{"a": [1, null]}', "2026-01-02 03:04:05.678901")


@pytest.fixture
def sink(dsn: str) -> Iterator[PostgresSink]:
    sink = PostgresSink(dsn, timeout=0.5)
    sink.open(SCHEMA)
    yield sink
    sink.close()


@contextmanager
def raising(dsn: str, state: str) -> Iterator[None]:
    """As if the server met this error whenever rows are inserted."""
    body = f"BEGIN RAISE 'no' USING ERRCODE = '{state}'; END"
    query(dsn, f"CREATE FUNCTION fail() RETURNS trigger AS $${body}$$ LANGUAGE plpgsql")
    query(dsn, "CREATE TRIGGER fail BEFORE INSERT ON notifications EXECUTE FUNCTION fail()")
    yield
    query(dsn, "DROP FUNCTION fail CASCADE")


def backend(sink: PostgresSink) -> int:
    assert sink._connection is not None
    return sink._connection.info.backend_pid


def ids(dsn: str) -> list[str]:
    return [row[0] for row in query(dsn, 'SELECT id FROM notifications ORDER BY partition, "offset"')]


def test_columns_have_postgres_types_and_a_time_is_utc(dsn: str) -> None:
    query(dsn, f"ALTER DATABASE {dsn.rpartition('/')[2]} SET timezone = 'Asia/Tokyo'")
    query(dsn, "CREATE SCHEMA own")
    sink = PostgresSink(dsn, "own.Rows")
    sink.open(EVERY_KIND)
    assert sink.store("g", [(*GOOD, "t", 0, 0), (*[None] * 6, "t", 0, 1)], {T0: Span(None, 2)}) == 2
    sink.close()
    found = query(dsn, 'SELECT * FROM own."Rows" ORDER BY "offset"')
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    assert found == [(*GOOD[:4], {"a": [1, None]}, moment, "t", 0, 0), (*[None] * 6, "t", 0, 1)]
    columns = "SELECT data_type FROM information_schema.columns WHERE table_name = 'Rows' ORDER BY ordinal_position"
    origin = ["text", "bigint", "bigint"]
    own = ["text", "bigint", "double precision", "bytea", "jsonb", "timestamp with time zone"]
    assert [name for (name,) in query(dsn, columns)] == own + origin
    assert query(dsn, 'SELECT * FROM own."Rows_offsets"') == [("g", "t", 0, 2, None)]


BAD = [
    ("text", "a\0b"),
    ("text", "\ud800"),
    ("text", 5),
    ("text", "".join(uuid.uuid4().hex for _ in range(200))),  # too long for the index of message ids
    ("integer", 2**63),
    ("integer", 1.5),
    ("real", "1"),
    ("real", 10**400),
    ("blob", "text"),
    ("json", '"\\u0000"'),
    ("json", '"\0"'),
    ("json", "{"),
    ("json", "NaN"),
    ("json", 5),
    ("json", "[" * 100_000 + "]" * 100_000),
    ("timestamp", "yesterday at noon"),
    ("timestamp", "2026-13-01"),
    ("timestamp", 5.5),
]


@pytest.mark.parametrize(("kind", "bad"), BAD, ids=lambda value: str(value).encode("ascii", "replace").decode()[:12])
def test_a_value_that_does_not_fit_its_column_is_refused(dsn: str, kind: str, bad: Any) -> None:
    sink = PostgresSink(dsn)
    sink.open(EVERY_KIND)
    row = [*GOOD, "t", 0, 1]
    row[KINDS.index(kind)] = bad
    first = backend(sink)
    with pytest.raises(RowRefused, match=r"host=127\.0\.0\.1"):
        sink.store("g", [(*[None] * 6, "t", 0, 0), tuple(row)], {T0: Span(None, 2)})
    assert query(dsn, "SELECT * FROM notifications") == query(dsn, "SELECT * FROM notifications_offsets") == []
    assert sink.store("g", [(*GOOD, "t", 0, 0)], {T0: Span(None, 1)}) == 1
    assert backend(sink) == first  # a thousand of them need no thousand connections
    sink.close()


def test_what_a_table_of_the_users_own_forbids_is_refused_without_showing_the_row(sink: PostgresSink, dsn: str) -> None:
    query(dsn, "ALTER TABLE notifications ADD CHECK (size < 10)")
    with pytest.raises(RowRefused, match="violates check constraint") as caught:
        sink.store("g", [("secret", 11, "t", 0, 0)], {})
    assert "secret" not in str(caught.value)


def test_a_successor_waits_for_the_transaction_of_the_member_before(sink: PostgresSink, dsn: str) -> None:
    sink.store("g", rows(0, 10), {T0: Span(None, 10)})
    stored: list[int] = []
    with psycopg.connect(dsn) as stale:
        stale.execute("UPDATE notifications_offsets SET next_offset = 20")
        for row in rows(10, 20):
            stale.execute("INSERT INTO notifications VALUES (%s, %s, %s, %s, %s)", row)
        late = threading.Thread(target=lambda: stored.append(sink.store("g", rows(10, 15), {T0: Span(10, 15)})))
        late.start()
        until(lambda: query(dsn, "SELECT 1 FROM pg_locks WHERE NOT granted"))
        assert not stored
    late.join()
    assert stored == [0]
    assert sink.restore("g", [T0]) == {T0: 20}
    assert ids(dsn) == [f"0-{offset}" for offset in range(20)]


def test_a_lock_that_is_held_is_reported_within_the_timeout(sink: PostgresSink, dsn: str) -> None:
    sink.store("g", [], {T0: Span(None, 1)})
    with psycopg.connect(dsn) as holder:
        holder.execute("SELECT * FROM notifications_offsets FOR UPDATE")
        begun = time.monotonic()
        with pytest.raises(SinkError, match="lock timeout; another session held it"):
            sink.store("g", rows(1, 2), {T0: Span(1, 2)})
        assert time.monotonic() - begun < 2
    assert sink.store("g", rows(1, 2), {T0: Span(1, 2)}) == 1


def test_a_member_stopped_in_a_transaction_does_not_hold_up_its_successor(sink: PostgresSink, dsn: str) -> None:
    successor = PostgresSink(dsn, timeout=5)
    successor.open(SCHEMA)
    session, tables = sink._connection, sink._tables
    assert session is not None and tables is not None
    tables.lock(session, "g", [T0])
    assert successor.store("g", rows(0, 5), {T0: Span(None, 5)}) == 5
    with pytest.raises(SinkError, match="idle-in-transaction"):  # awake again, it cannot commit after its successor
        sink.store("g", rows(0, 3), {T0: Span(None, 3)})
    assert sink.restore("g", [T0]) == {T0: 5}
    successor.close()


def test_members_that_store_the_same_partitions_do_not_block_each_other_for_ever(dsn: str) -> None:
    def work(keys: list[Any]) -> None:
        sink = PostgresSink(dsn)
        sink.open(SCHEMA)
        for number in range(1, 100):
            sink.store(f"g{number % 7}", [], {key: Span(None, number) for key in keys})
        done.append(1)
        sink.close()

    done: list[int] = []
    workers = [threading.Thread(target=work, args=(keys,)) for keys in ([T0, T1], [T1, T0], [T1])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(done) == 3


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("40P01", "tried again"),
        ("40001", "tried again"),
        ("53100", "free some space"),
        ("25006", "connect to the primary"),
    ],
)
def test_what_the_server_cannot_do_now_is_told_with_a_remedy(
    sink: PostgresSink, dsn: str, state: str, remedy: str
) -> None:
    with raising(dsn, state), pytest.raises(SinkError, match=f"no; .*{remedy}") as caught:
        sink.store("g", rows(0, 3), {T0: Span(None, 3)})
    assert not isinstance(caught.value, RowRefused)
    assert sink.restore("g", [T0]) == {}
    assert sink.store("g", rows(0, 3), {T0: Span(None, 3)}) == 3


def test_a_connection_that_was_ended_is_made_anew(sink: PostgresSink, dsn: str) -> None:
    sink.store("g", rows(0, 3), {T0: Span(None, 3)})
    query(dsn, f"SELECT pg_terminate_backend({backend(sink)})")
    with pytest.raises(SinkError, match=r"host=127\.0\.0\.1"):
        sink.store("g", rows(3, 5), {T0: Span(3, 5)})
    assert sink.store("g", rows(3, 5), {T0: Span(3, 5)}) == 2


def test_a_server_that_crashed_keeps_what_was_stored(sink: PostgresSink, dsn: str, postgres: LocalPostgres) -> None:
    sink.store("g", rows(0, 3), {T0: Span(None, 3)})
    postgres.kill()
    for _ in range(2):
        with pytest.raises(SinkError, match=r"; (wait until it is up|check that the server runs)"):
            sink.store("g", rows(3, 5), {T0: Span(3, 5)})
    postgres.start()
    assert sink.restore("g", [T0]) == {T0: 3}
    assert sink.store("g", rows(3, 5), {T0: Span(3, 5)}) == 2
    assert ids(dsn) == [f"0-{offset}" for offset in range(5)]


def test_a_server_that_is_silent_is_given_up(sink: PostgresSink, dsn: str) -> None:
    silent = backend(sink)
    os.kill(silent, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(SinkError, match="does not answer"):
            sink.store("g", rows(0, 2), {T0: Span(None, 2)})
        assert time.monotonic() - begun < 5
        assert sink.store("g", rows(0, 2), {T0: Span(None, 2)}) == 2  # over a new connection
    finally:
        os.kill(silent, signal.SIGCONT)
    assert ids(dsn) == ["0-0", "0-1"]


def test_no_error_shows_the_password(dsn: str) -> None:
    wrong = PostgresSink(re.sub(r":\w+@", ":open-sesame@", dsn))
    with pytest.raises(SinkError, match=r"password authentication failed.*; check that.*user and password") as caught:
        wrong.open(SCHEMA)
    assert "open-sesame" not in str(caught.value) + repr(wrong)
    for bad in ("postgresql://u:open@sesame@h/d", "host=h password='open-sesame", "postgresql://u:p@h/d?open-sesame=1"):
        with pytest.raises(ConfigError, match="no connection string") as refused:
            PostgresSink(bad)
        assert "sesame" not in str(refused.value)


def test_what_is_wrong_with_the_arguments_is_said_at_once() -> None:
    for table in ("a b", "a.b.c", ".a", 'a"', "x" * 56, ""):
        with pytest.raises(ConfigError, match="table="):
            PostgresSink("dbname=x", table)
    with pytest.raises(ConfigError, match="timeout=0"):
        PostgresSink("dbname=x", timeout=0)


def test_a_server_that_is_not_there_is_told_within_the_timeout(postgres: LocalPostgres) -> None:
    absent = PostgresSink("postgresql://127.0.0.1:1/x", timeout=1)
    begun = time.monotonic()
    with pytest.raises(SinkError, match=r"host=127\.0\.0\.1 port=1 dbname=x: .*refused.*; check that the server runs"):
        absent.open(SCHEMA)
    assert time.monotonic() - begun < 5


def test_without_psycopg_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("psycopg", "rdknotify.sinks.pg"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delattr("rdknotify.sinks.pgsession", raising=False)
    monkeypatch.delattr("rdknotify.sinks.pgtables", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'rdknotify\[postgres\]'"):
        PostgresSink("dbname=x")


def test_a_table_that_would_take_rows_twice_is_refused(dsn: str) -> None:
    query(dsn, 'CREATE TABLE notifications (id text, size int, topic text, partition int, "offset" bigint)')
    sink = PostgresSink(dsn)
    for columns in ('"topic", "partition", "offset"', '"id"'):
        with pytest.raises(SinkError, match=re.escape(f'ALTER TABLE "notifications" ADD UNIQUE ({columns})')):
            sink.open(SCHEMA)
        query(dsn, f"ALTER TABLE notifications ADD UNIQUE ({columns})")
    sink.open(SCHEMA)
    assert sink.store("g", rows(0, 2) + rows(0, 2), {T0: Span(None, 2)}) == 2
    sink.close()


def test_tables_that_are_there_need_no_right_to_create(sink: PostgresSink, dsn: str) -> None:
    database = dsn.rpartition("/")[2]
    query(dsn, f"CREATE ROLE writer_{database} LOGIN PASSWORD 'pw'")
    query(dsn, f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO writer_{database}")
    limited = PostgresSink(re.sub(r"//\w+:\w+@", f"//writer_{database}:pw@", dsn))
    limited.open(SCHEMA)
    assert limited.store("g", rows(0, 2), {T0: Span(None, 2)}) == 2
    limited.close()
    other = PostgresSink(re.sub(r"//\w+:\w+@", f"//writer_{database}:pw@", dsn), "others")
    with pytest.raises(SinkError, match=r"permission denied.*; grant the right"):
        other.open(SCHEMA)
