"""Fixtures of the tests on a real PostgreSQL, and what is in one of its databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rdknotify.testing import LocalPostgres, LocalPostgresError


@pytest.fixture(scope="session")
def postgres_session() -> Iterator[LocalPostgres]:
    """The server behind ``postgres``, started when the first test wants it."""
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'rdknotify[postgres]'", exc_type=ImportError)
    server = LocalPostgres()
    try:
        server.start()
    except LocalPostgresError as error:
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_session: LocalPostgres) -> LocalPostgres:
    """A real server, up; shared by all tests, which may kill it."""
    postgres_session.start()
    return postgres_session


@pytest.fixture
def dsn(postgres: LocalPostgres) -> str:
    """An empty database of that server."""
    return postgres.create_database()


def query(dsn: str, sql: str, autocommit: bool = False) -> list[tuple[Any, ...]]:
    """Run one statement over a connection of its own; returns its rows."""
    import psycopg

    with psycopg.connect(dsn, autocommit=autocommit) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []
