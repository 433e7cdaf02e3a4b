"""What is SQLiteSink's own: its file, its lock, its errors. What all sinks promise is in test_sinks.py."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sinks import SCHEMA, T0, rows

from rdknotify.errors import ConfigError
from rdknotify.sinks import SinkError, Span
from rdknotify.sinks.sqlite import SQLiteSink


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


@pytest.fixture
def sink(path: Path) -> Iterator[SQLiteSink]:
    sink = SQLiteSink(path, timeout=0.3)
    sink.open(SCHEMA)
    yield sink
    sink.close()


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
