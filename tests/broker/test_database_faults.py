"""Databases in trouble under a persister on real Kafka: nothing lost, nothing twice, always a member of its group."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.database import ask
from support.figures import Figures
from support.main_job import Kafka, Sender
from support.postgres import query
from support.storing import INTERVAL, LONG, Trouble, fill, small_disk
from support.waiting import until

from rdknotify import PostgresSink, SQLiteSink
from rdknotify.envelope import decode
from rdknotify.sinks import NOTIFICATION
from rdknotify.testing import LocalPostgres

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

Make = Callable[..., Trouble]
SLOW = 1.25 * INTERVAL
"""Seconds that one transaction takes, while a member may take ``INTERVAL`` between two polls."""


@pytest.fixture
def make(kafka: Kafka, sender: Sender, topic: str, group: str, tmp_path: Path) -> Iterator[Make]:
    """``make(sink, ask)``: a persister that is ended with the test."""
    made: list[Trouble] = []

    def make(sink: Any, ask: Any, **options: Any) -> Trouble:
        made.append(Trouble(kafka, sender, topic, group, sink, ask, tmp_path / "dead.jsonl", **options))
        return made[-1]

    yield make
    for trouble in made:
        trouble.persister.stop()


@pytest.fixture
def postgres_sink(dsn: str, make: Make) -> Callable[..., Trouble]:
    def made(timeout: float = 10.0, **options: Any) -> Trouble:
        return make(PostgresSink(dsn, timeout=timeout), partial(query, dsn), **options)

    return made


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process's transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def test_a_postgres_whose_transactions_take_longer_than_the_poll_interval(
    postgres_sink: Callable[..., Trouble], dsn: str, figure: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = postgres_sink()
    with trouble.persister:
        trouble.joined()
        query(dsn, f"CREATE TABLE pace AS SELECT {SLOW} AS seconds")
        body = "BEGIN PERFORM pg_sleep((SELECT seconds FROM pace)); RETURN NULL; END"
        query(dsn, f"CREATE FUNCTION slow() RETURNS trigger AS $${body}$$ LANGUAGE plpgsql")
        query(dsn, "CREATE TRIGGER slow AFTER INSERT ON notifications EXECUTE FUNCTION slow()")
        trouble.sender.send(500)
        until(lambda: trouble.persister.counts.stored, timeout=LONG)
        query(dsn, "UPDATE pace SET seconds = 1.5")  # and now many of them, in sum longer
        trouble.sender.send(2000)
        trouble.drained()
        assert trouble.persister.counts.retries == 0
    what = "slow PostgreSQL"
    figure("P", f"{what}: longest transaction", max(trouble.sink.store_times), "s", at_least=INTERVAL)
    figure("P", f"{what}: all transactions", sum(trouble.sink.store_times), "s", at_least=2 * INTERVAL)
    trouble.judge(figure, what, caplog.text)


def test_a_postgres_that_is_down_for_a_while(
    postgres_sink: Callable[..., Trouble],
    postgres: LocalPostgres,
    figure: Figures,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trouble = postgres_sink(timeout=2.0)
    down = 20.0
    with trouble.persister:
        trouble.joined()
        with trouble.sender.sending(12_000, rate=1_000):  # before, in and after the outage
            until(lambda: trouble.persister.counts.stored > 1_000, timeout=LONG)
            postgres.kill()
            time.sleep(down)
            postgres.start()
            before, begun = trouble.persister.counts.stored, time.monotonic()
            until(lambda: trouble.persister.counts.stored > before, timeout=LONG)
            progress = time.monotonic() - begun
        trouble.drained()
    what = f"PostgreSQL killed, {down:g} s down"
    figure("P", f"{what}: tries meanwhile", trouble.persister.counts.retries, at_least=3)
    figure("P", f"{what}: first row after it is up", progress, "s", at_most=15)
    trouble.judge(figure, what, caplog.text)


def test_a_postgres_that_stands_still(
    postgres_sink: Callable[..., Trouble],
    postgres: LocalPostgres,
    figure: Figures,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trouble = postgres_sink(timeout=1.0)
    still = 12.0
    with trouble.persister:
        trouble.joined()
        with trouble.sender.sending(6_000, rate=1_000):
            until(lambda: trouble.persister.counts.stored > 1_000, timeout=LONG)
            postgres.pause()
            time.sleep(still)
            postgres.resume()
            before, begun = trouble.persister.counts.stored, time.monotonic()
            until(lambda: trouble.persister.counts.stored > before, timeout=LONG)
            progress = time.monotonic() - begun
        trouble.drained()
    what = f"PostgreSQL stopped for {still:g} s"
    figure("P", f"{what}: tries meanwhile", trouble.persister.counts.retries, at_least=1)
    figure("P", f"{what}: first row after it goes on", progress, "s", at_most=15)
    trouble.judge(figure, what, caplog.text)


@pytest.mark.parametrize("timeout", [2.0, 30.0], ids=["given up and tried again", "waited for"])
def test_an_sqlite_that_is_locked_by_another_process(
    make: Make, tmp_path: Path, figure: Figures, caplog: pytest.LogCaptureFixture, timeout: float
) -> None:
    path = tmp_path / "rows.db"
    trouble = make(SQLiteSink(path, timeout=timeout), partial(ask, path))
    with trouble.persister:
        trouble.joined()
        with locked(path):
            trouble.sender.send(3000)
            time.sleep(SLOW)
        trouble.drained()
    what = f"SQLite locked for {SLOW:g} s, timeout={timeout:g}"
    longest = max(trouble.sink.store_times)
    if timeout > SLOW:
        figure("P", f"{what}: longest transaction", longest, "s", at_least=INTERVAL)
    else:
        figure("P", f"{what}: tries meanwhile", trouble.persister.counts.retries, at_least=1)
    trouble.judge(figure, what, caplog.text)


def test_an_sqlite_whose_disk_is_full(
    make: Make, tmp_path: Path, figure: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", megabytes=64) as disk:
        path = disk / "rows.db"
        trouble = make(SQLiteSink(path), partial(ask, path))
        fill_and_free(trouble, disk)
        trouble.judge(figure, "SQLite, disk full", caplog.text)


def test_a_postgres_whose_disk_is_full(
    make: Make, postgres: LocalPostgres, tmp_path: Path, figure: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = postgres.create_database()
    name = dsn.rpartition("/")[2]
    with small_disk(postgres.folder / f"disk-{name}", megabytes=64) as disk:
        query(postgres.dsn, f"CREATE TABLESPACE small LOCATION '{disk}'", autocommit=True)
        query(postgres.dsn, f"ALTER DATABASE {name} SET default_tablespace = small")
        try:
            trouble = make(PostgresSink(dsn), partial(query, dsn))
            fill_and_free(trouble, disk)
            trouble.judge(figure, "PostgreSQL, disk full", caplog.text)
        finally:
            query(postgres.dsn, f"DROP DATABASE {name} WITH (FORCE)", autocommit=True)
            query(postgres.dsn, "DROP TABLESPACE small", autocommit=True)


def fill_and_free(trouble: Trouble, disk: Path) -> None:
    """What the disk has room for is stored, then nothing; with room again all the rest."""
    with trouble.persister:
        trouble.joined()
        filler = fill(disk, left=4)
        trouble.sender.send(5000)
        until(lambda: len(trouble.sink.errors) >= 3, timeout=LONG)
        assert 0 < trouble.persister.counts.stored < 5000
        filler.unlink()
        trouble.drained()
    assert all("free some space" in error for error in trouble.sink.errors), trouble.sink.errors


def test_a_deadlock_with_another_session(
    postgres_sink: Callable[..., Trouble], dsn: str, figure: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = postgres_sink(max_wait=1.5)  # time to get in between
    with trouble.persister, psycopg.connect(dsn) as other:
        trouble.joined()
        trouble.sender.send(400)
        trouble.drained()  # the offsets are there
        other.execute("SET deadlock_timeout = '1min'")  # it is the persister that finds out, and gives way
        trouble.sender.send(400)
        twin = trouble.sender.sent[-1]
        other.execute("INSERT INTO notifications VALUES (%s, NULL, NULL, NULL, NULL, NULL, 'x', 0, 0)", (twin,))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        until(lambda: query(dsn, waiting) == [(1,)], timeout=LONG)
        other.execute("SELECT * FROM notifications_offsets FOR UPDATE")  # for which the persister has to go
        other.rollback()
        trouble.drained()
    found = sum("deadlock detected" in error for error in trouble.sink.errors)
    figure("P", "deadlock in PostgreSQL: transactions rolled back", found, at_least=1)
    trouble.judge(figure, "deadlock in PostgreSQL", caplog.text)


BAD = (0, 500, 501)


def test_rows_that_a_constraint_in_postgres_forbids(
    postgres_sink: Callable[..., Trouble], dsn: str, figure: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = postgres_sink(batch_size=1000)
    make_tables(trouble)
    trouble.sender.send(1000)
    query(dsn, f"ALTER TABLE notifications ADD CONSTRAINT mine CHECK (message_id NOT IN {bad_ids(trouble)})")
    find_the_bad(trouble)
    assert all('violates check constraint "mine"' in entry["reason"] for entry in trouble.dead())
    trouble.judge(figure, "PostgreSQL, 3 of 1,000 rows against a constraint", caplog.text, dead=3)


def test_rows_that_a_constraint_in_sqlite_forbids(
    make: Make, tmp_path: Path, figure: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rows.db"
    trouble = make(SQLiteSink(path), partial(ask, path), batch_size=1000)
    make_tables(trouble)
    trouble.sender.send(1000)
    ((made,),) = ask(path, "SELECT sql FROM sqlite_master WHERE name = 'notifications'")
    ask(path, "DROP TABLE notifications")
    ask(path, f"{made[:-1]}, CONSTRAINT mine CHECK (message_id NOT IN {bad_ids(trouble)}))")
    find_the_bad(trouble)
    assert all("CHECK constraint failed: mine" in entry["reason"] for entry in trouble.dead())
    trouble.judge(figure, "SQLite, 3 of 1,000 rows against a constraint", caplog.text, dead=3)


def make_tables(trouble: Trouble) -> None:
    trouble.sink.open(NOTIFICATION)
    trouble.sink.close()


def bad_ids(trouble: Trouble) -> tuple[str, ...]:
    return tuple(trouble.sender.sent[number] for number in BAD)


def find_the_bad(trouble: Trouble) -> None:
    with trouble.persister:
        trouble.joined()
        trouble.drained()
    assert sorted(decode(entry["value"]).message_id for entry in trouble.dead()) == sorted(bad_ids(trouble))
