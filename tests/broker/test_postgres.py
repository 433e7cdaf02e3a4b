"""The main job into a real PostgreSQL: every notification is there once, though members are killed and stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
from support.main_job import Kafka, Sender, Workers, until
from support.postgres import query

from rdknotify.testing import LocalPostgres
from rdknotify.testing.data import nova_notifications

SESSION = {"session.timeout.ms": 6000}
"""The dead are missed soon."""


@pytest.fixture
def workers(kafka: Kafka, topic: str, group: str, dsn: str) -> Iterator[Workers]:
    workers = Workers(kafka, topic, group, dsn)
    yield workers
    workers.end()


def rows(dsn: str) -> int:
    """How many are stored; 0 while nobody has made the table."""
    (made,) = query(dsn, "SELECT to_regclass('notifications') IS NOT NULL")[0]
    return int(query(dsn, "SELECT count(*) FROM notifications")[0][0]) if made else 0


def exactly(dsn: str, sent: list[str]) -> bool:
    """Whether the database holds each of these ids once, and no other, and knows how far it is."""
    found = [row[0] for row in query(dsn, "SELECT message_id FROM notifications")]
    (offsets,) = query(dsn, "SELECT sum(next_offset) FROM notifications_offsets")[0]
    return sorted(found) == sorted(sent) and offsets == len(sent)


def test_a_member_is_killed_in_the_middle_and_every_notification_is_stored_once(
    dsn: str, sender: Sender, workers: Workers
) -> None:
    with sender.sending(30_000, rate=4_000) as sending:
        victim = workers.start(**SESSION)
        until(lambda: rows(dsn) > 1_000)
        heir = workers.start(**SESSION)
        until(lambda: rows(dsn) > 8_000)
        victim.kill()
        assert sending.is_alive(), "all was sent before the kill: the test shows less than it says"
    until(lambda: rows(dsn) >= 30_000)
    assert 1_000 < workers.leave(heir)["stored"] < 29_500, "one of them did all the work"
    assert exactly(dsn, sender.sent)
    expected = {(one["event_type"], json.dumps(one["payload"], sort_keys=True)) for one in nova_notifications()}
    stored = query(dsn, "SELECT DISTINCT event_type, payload FROM notifications")
    assert {(event_type, json.dumps(payload, sort_keys=True)) for event_type, payload in stored} == expected


def test_a_member_that_wakes_up_late_spoils_nothing(dsn: str, sender: Sender, workers: Workers) -> None:
    with sender.sending(30_000, rate=3_000):
        sleeper = workers.start(**SESSION)
        until(lambda: rows(dsn) > 3_000)
        os.kill(sleeper.pid, signal.SIGSTOP)  # wherever it is: the server ends a transaction that stands still
        frozen = rows(dsn)
        heir = workers.start(**SESSION)
        until(lambda: rows(dsn) > frozen + 3_000, timeout=45)
        os.kill(sleeper.pid, signal.SIGCONT)
    until(lambda: rows(dsn) >= 30_000)
    workers.leave(heir)
    workers.leave(sleeper)
    assert exactly(dsn, sender.sent)


def test_a_database_that_crashes_is_waited_for(
    dsn: str, postgres: LocalPostgres, sender: Sender, workers: Workers
) -> None:
    with sender.sending(20_000, rate=4_000):
        members = [workers.start(), workers.start()]
        until(lambda: rows(dsn) > 4_000)
        postgres.kill()
        postgres.start()
    until(lambda: rows(dsn) >= 20_000)
    for member in members:
        workers.leave(member)
    assert exactly(dsn, sender.sent)
