"""Passwords and tokens change while clients work: nothing is lost, nothing is doubled, no error reaches anybody."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.endpoints import SOON
from support.rights import Rights
from support.waiting import until

from rdknotify import AuthenticationError, Consumer, Notifier, Persister, Producer, SQLiteSink
from rdknotify.oauth import OAuthToken
from rdknotify.testing import LocalKafka
from rdknotify.testing.security import REAUTHENTICATE_MS, USERS

SESSION = REAUTHENTICATE_MS / 1000
"""Seconds after which a connection has to authenticate again."""
USER = "carol"
NEW = "another-pw"
TOKEN_LIFETIME = 8.0
"""Seconds. librdkafka wants a new one after 80 % of it, and brokers no second authentication within a second."""


@pytest.fixture
def rights(kafka_secure: LocalKafka, topic: str, group: str) -> Iterator[Rights]:
    rights = Rights(kafka_secure.bootstrap_servers, USER)
    kafka_secure.create_topic(topic, 1)
    rights.give(topic=topic)
    rights.give(group=group)
    yield rights
    rights.take_all()
    rights.password(USERS[USER])


class Flow:
    """A producer that sends a number every few milliseconds, and a consumer of them, each in a thread of its own."""

    def __init__(self, topic: str, group: str, **options: Any) -> None:
        self.producer = Producer(**options)
        self.consumer = Consumer(topics=[topic], group=group, **options)
        self._topic = topic
        self.sent = 0
        self.read: Counter[bytes | None] = Counter()
        self.refusals: list[AuthenticationError] = []
        self.raised: list[BaseException] = []
        self._deliveries: list[Any] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._send, self._read)]

    def __enter__(self) -> Flow:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self.producer.close()
        self.consumer.close()

    def end(self) -> None:
        """Stop sending, and wait until everything has been read."""
        self._ending.set()
        self._threads[0].join()
        for delivery in self._deliveries:
            delivery.result(SOON).raise_for_failures()
        self._threads[1].join()

    def wrong(self) -> int:
        """How many were not read exactly once."""
        return sum(self.read[b"%d" % number] != 1 for number in range(self.sent))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # told to the test
            self.raised.append(error)

    def _send(self) -> None:
        while not self._ending.wait(0.005):
            self._deliveries.append(self.producer.send_batch(self._topic, [b"%d" % self.sent]))
            self.sent += 1

    def _read(self) -> None:
        deadline = None
        while not (self._ending.is_set() and self.read.total() >= self.sent):
            batch = self.consumer.poll(timeout=0.1)
            if batch:
                self.read.update(batch.values())
                try:
                    batch.commit()
                except AuthenticationError as error:  # the next commit covers it
                    self.refusals.append(error)
            if self._ending.is_set():
                deadline = deadline or time.monotonic() + SOON
                assert time.monotonic() < deadline, f"{self.read.total()} of {self.sent} were read"


def refused(client: Any) -> bool:
    return any(trouble.name == "_AUTHENTICATION" for trouble in client.events.troubles)


@pytest.fixture
def options(kafka_secure: LocalKafka) -> dict[str, Any]:
    security = kafka_secure.security
    return {"ssl_cafile": str(security.ca.file), "url": security.url("REAUTH"), "sasl_mechanism": "SCRAM-SHA-512"}


def test_clients_that_are_told_of_a_new_password_in_time(kafka_secure, options, rights, topic, group, figure):
    options["url"] = kafka_secure.security.url("REAUTH", USER)
    with Flow(topic, group, **options) as flow, Producer(**options) as untold:
        until(lambda: flow.read, "the first are read", SOON)
        rights.password(NEW)
        flow.producer.set_credentials(USER, NEW)
        flow.consumer.set_credentials(USER, NEW)
        until(lambda: refused(untold), "who was told nothing is refused", SOON)
        time.sleep(SESSION)  # and everybody authenticates once more
        flow.end()

    assert flow.raised == flow.refusals == []
    assert not refused(flow.producer) and not refused(flow.consumer)
    figure("S", "password changed, clients told in time: records not read once", flow.wrong(), at_most=0)


def written(folder: Path, password: str) -> Path:
    file = folder / "credentials"
    file.write_text(f"username={USER}\npassword={password}\n")
    return file


def test_clients_that_read_a_new_password_after_they_were_refused(options, rights, topic, group, tmp_path, figure):
    options |= {"credentials_file": str(written(tmp_path, USERS[USER])), "security_protocol": "SASL_SSL"}
    with Flow(topic, group, **options) as flow:
        until(lambda: flow.read, "the first are read", SOON)
        rights.password(NEW)
        until(lambda: refused(flow.producer) and refused(flow.consumer), "the old password is refused", SOON)
        at_change = flow.sent
        written(tmp_path, NEW)
        until(lambda: flow.read[b"%d" % at_change], "what was sent meanwhile is read", SOON)
        time.sleep(SESSION)
        flow.end()

    assert flow.raised == []
    figure("S", "password changed, file follows after a refusal: records not read once", flow.wrong(), at_most=0)


def test_a_notifier_and_a_persister_outlive_a_refusal(
    kafka_secure, options, rights, topic, group, tmp_path, caplog, figure
):
    kafka_secure.create_topic(f"{topic}.info", 1)
    rights.give(topic=f"{topic}.info")
    options |= {"credentials_file": str(written(tmp_path, USERS[USER])), "security_protocol": "SASL_SSL"}
    sink = SQLiteSink(tmp_path / "db")
    with (
        Notifier(publisher_id="n", topics=[topic], **options) as notifier,
        Persister(topics=[f"{topic}.info"], group=group, sink=sink, max_wait=0.1, **options) as persister,
    ):
        notifier.info({}, "0", {})
        until(lambda: persister.counts.stored, "the first is stored", SOON)
        rights.password(NEW)
        until(lambda: caplog.text.count("_AUTHENTICATION") >= 2, "both are refused", SOON)
        for number in range(1, 100):
            notifier.info({}, str(number), {})
        written(tmp_path, NEW)
        until(lambda: persister.counts.stored == 100, "all are stored", SOON)

    with closing(sqlite3.connect(tmp_path / "db")) as database:
        found = Counter(row[0] for row in database.execute("SELECT event_type FROM notifications"))
    wrong = sum(found[str(number)] != 1 for number in range(100))
    figure("S", "password changed under a notifier and a persister: not stored once", wrong, at_most=0)


def test_tokens_that_expire_are_renewed(kafka_secure, options, rights, topic, group, figure):
    issued = []

    def token() -> OAuthToken:
        issued.append(kafka_secure.security.signed_token(USER, TOKEN_LIFETIME))
        return OAuthToken(issued[-1], time.time() + TOKEN_LIFETIME, USER)

    options |= {"url": kafka_secure.security.url("OIDC"), "sasl_mechanism": "OAUTHBEARER", "oauth_token": token}
    with Flow(topic, group, security_protocol="SASL_SSL", **options) as flow:
        until(lambda: len(issued) >= 6, "each client has had three tokens", 2 * SOON)
        flow.end()

    assert flow.raised == flow.refusals == []
    assert not refused(flow.producer) and not refused(flow.consumer)
    figure("S", f"tokens of {TOKEN_LIFETIME:g} seconds renewed: records not read once", flow.wrong(), at_most=0)
