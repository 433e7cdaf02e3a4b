"""Rights that are taken away while somebody works: nothing is lost or doubled, it is told, and it goes on."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.bulks import joined, settle
from support.endpoints import SOON, Endpoint
from support.rights import Rights
from support.waiting import until

from rdknotify import (
    AuthorizationError,
    Consumer,
    Delivery,
    Listener,
    Notifier,
    Persister,
    Producer,
    SQLiteSink,
)
from rdknotify.testing import LocalKafka
from rdknotify.topics import retry_topic

BULK = 1000
PROMPT = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 300}
"""A member that may not be one hears of it within three seconds."""


@pytest.fixture
def rights(kafka_secure: LocalKafka) -> Iterator[Rights]:
    """Bob's, who has none at first."""
    rights = Rights(kafka_secure.bootstrap_servers, "bob")
    yield rights
    rights.take_all()


@pytest.fixture
def bob(kafka_secure: LocalKafka) -> dict[str, Any]:
    return {
        "url": kafka_secure.security.url("SASL_SSL", "bob"),
        "sasl_mechanism": "SCRAM-SHA-256",
        "ssl_cafile": str(kafka_secure.security.ca.file),
    }


# -- sending ----------------------------------------------------------------------------------------


def test_taken_away_in_the_middle_of_a_bulk(kafka_secure, rights, bob, topic, figure):
    probe = f"{topic}-probe"
    for name in (topic, probe):
        kafka_secure.create_topic(name, 2)
    rights.give(topic=topic, operations=["WRITE"])
    values: list[bytes] = []
    with Producer(linger=0.002, **bob) as producer:

        def send() -> Delivery:
            more = [b"%06d" % number + b"." * 200 for number in range(len(values), len(values) + BULK)]
            values.extend(more)
            return producer.send_batch(topic, more)

        deliveries = [send()]
        deliveries[0].result(SOON)  # to get a producer's id takes the same right
        deliveries += [send() for _ in range(10)]
        taking = threading.Thread(target=rights.take, kwargs={"topic": topic, "operations": ["WRITE"]})
        taking.start()
        while deliveries[-5].result(SOON).delivered:  # others are on their way meanwhile
            deliveries.append(send())
        taking.join()
        report = joined([delivery.result(SOON) for delivery in deliveries])
        for name in (topic, probe):  # the one that is given first is there when the second is
            rights.give(topic=name, operations=["WRITE"])
        until(lambda: producer.send_batch(probe, [b""]).result(SOON).delivered, "bob may write again", SOON)

        settle(figure, "B", "authorization revoked", producer, kafka_secure, topic, values, report)

    assert 0 < report.delivered < report.total, "the right went too early to show anything"
    assert {failure.error.name for failure in report.failures} == {"TOPIC_AUTHORIZATION_FAILED"}


# -- reading ----------------------------------------------------------------------------------------


@pytest.fixture
def notifier(kafka_secure: LocalKafka, topic: str) -> Iterator[Notifier]:
    """Sends to one partition of ``<topic>.info``, and may always do so."""
    kafka_secure.create_topic(f"{topic}.info", 1)
    with Notifier(kafka_secure.url, "n", topics=[topic]) as notifier:
        yield notifier


def send(notifier: Notifier, first: int, count: int = 100) -> list[str]:
    numbers = [str(number) for number in range(first, first + count)]
    notifier.notify_batch("info", [(number, {}) for number in numbers]).result(SOON).raise_for_failures()
    return numbers


def told(caplog: pytest.LogCaptureFixture, what: str) -> str:
    """The error in which a service tells of a right that it lost."""

    def errors() -> list[str]:
        return [record.message for record in caplog.records if record.levelno == logging.ERROR]

    until(lambda: any(what in text for text in errors()), f"{what} is told", SOON)
    return next(text for text in errors() if what in text)


RIGHTS = ["topic", "group"]


def named(right: str, topic: str, group: str) -> dict[str, Any]:
    return {"topic": f"{topic}.info", "operations": ["READ"]} if right == "topic" else {"group": group}


@pytest.mark.parametrize("right", RIGHTS)
def test_a_consumer_raises_it_and_goes_on_afterwards(right, notifier, rights, bob, topic, group, figure):
    rights.give(**named("topic", topic, group))
    rights.give(**named("group", topic, group))
    values: list[bytes | None] = []
    with Consumer(topics=[f"{topic}.info"], group=group, config=PROMPT, **bob) as consumer:

        def commit_one() -> bool:
            batch = consumer.poll(timeout=0.1)
            if batch:
                batch.commit()
                values.extend(batch.values())
            return bool(batch)

        def refused() -> AuthorizationError | None:
            try:
                commit_one()
            except AuthorizationError as error:
                return error
            return None

        send(notifier, 0)
        until(commit_one, "the first come", SOON)
        rights.take(**named(right, topic, group))
        error = until(refused, "it is told", SOON)
        rights.give(**named(right, topic, group))
        send(notifier, 100)
        given = time.monotonic()

        def all_came() -> bool:
            refused()
            return len(values) >= 200

        until(all_came, "all came", 2 * SOON)
        took = time.monotonic() - given

    assert error.name == f"{right.upper()}_AUTHORIZATION_FAILED"
    figure("S", f"consumer that lost its {right}: records not read and committed once", wrong(values), at_most=0)
    figure("S", f"consumer that lost its {right}: until all is read, when it is back", took, "s", at_most=15)


def wrong(values: list[bytes | None]) -> int:
    """How many of two hundred different ones are missing or there again."""
    return 200 - len(set(values)) + len(values) - len(set(values))


@pytest.mark.parametrize(("settle", "right"), [("before", "topic"), ("before", "group"), ("after", "group")])
def test_a_listener_keeps_its_records_and_goes_on(settle, right, notifier, rights, bob, topic, group, caplog, figure):
    rights.give(**named("topic", topic, group))
    rights.give(**named("group", topic, group))
    rights.give(topic=retry_topic(f"{topic}.info", group))
    endpoint = Endpoint()
    seen: Counter[str] = Counter()
    with Listener(topics=[topic], endpoints=[endpoint], pool=group, settle=settle, config=PROMPT, **bob) as listener:
        send(notifier, 0)
        seen.update(endpoint.seen(100))
        rights.take(**named(right, topic, group))
        send(notifier, 100)
        text = told(caplog, f"{right.upper()}_AUTHORIZATION_FAILED")
        assert not listener.wait(0.5), "it has ended"
        rights.give(**named(right, topic, group))

        while len(seen) < 200:
            seen.update(endpoint.seen(1))

    seen.update(call[2] for call in endpoint.calls.queue)
    assert "READ" in text and (right == "group" or topic in text)
    figure("S", f"listener, {settle}, that lost its {right}: lost", 200 - len(seen), at_most=0)
    if settle == "before":
        figure("S", f"listener, {settle}, that lost its {right}: seen twice", seen.total() - len(seen), at_most=0)


@pytest.mark.parametrize("right", RIGHTS)
def test_a_persister_stores_each_once(right, notifier, rights, bob, topic, group, tmp_path, caplog, figure):
    rights.give(**named("topic", topic, group))
    rights.give(**named("group", topic, group))
    sink = SQLiteSink(tmp_path / "db")
    with Persister(topics=[f"{topic}.info"], group=group, sink=sink, max_wait=0.1, config=PROMPT, **bob) as persister:
        send(notifier, 0)
        until(lambda: persister.counts.stored >= 100, "the first are stored", SOON)
        rights.take(**named(right, topic, group))
        send(notifier, 100)
        told(caplog, "Fetch from broker" if right == "topic" else "JoinGroup failed")
        assert not persister.wait(0.5), "it has ended"
        rights.give(**named(right, topic, group))

        until(lambda: persister.counts.stored >= 200, "all are stored", 2 * SOON)

    with closing(sqlite3.connect(tmp_path / "db")) as database:
        found = [row[0] for row in database.execute("SELECT event_type FROM notifications")]
    figure("S", f"persister that lost its {right}: records not stored once", wrong(found), at_most=0)


def test_what_was_never_allowed_ends_a_service(notifier, rights, bob, topic, group):
    rights.give(**named("topic", topic, group))
    listener = Listener(topics=[topic], endpoints=[Endpoint()], pool=group, config=PROMPT, **bob)
    listener.start()

    with pytest.raises(AuthorizationError, match="consumer group"):
        listener.wait(10)


def test_a_member_by_the_newer_protocol_ends_and_leaves_its_records(notifier, rights, bob, topic, group):
    rights.give(**named("topic", topic, group))
    rights.give(**named("group", topic, group))
    options = {"topics": [topic], "pool": group, "group_protocol": "consumer", **bob}
    endpoint = Endpoint()
    listener = Listener(endpoints=[endpoint], **options)
    listener.start()
    send(notifier, 0)
    seen = endpoint.seen(100)
    rights.take(**named("group", topic, group))
    with pytest.raises(AuthorizationError, match="group"):
        listener.wait(SOON)
    send(notifier, 100)
    rights.give(**named("group", topic, group))

    with Listener(endpoints=[endpoint], **options):
        seen += endpoint.seen(100)

    assert wrong(seen) == 0
