"""One record, there and back: how long that takes, and whether the clocks agree."""

from __future__ import annotations

import time
import uuid
import warnings

from rdknotify.admin import Admin
from rdknotify.cli.connection import Connection
from rdknotify.cli.doctor.finding import Deadline, Finding, State
from rdknotify.errors import KafkaError, RdNotifyError
from rdknotify.producer import Producer
from rdknotify.tail import Tail

__all__ = ["not_measured", "write"]

_now = time.time
_SOME, _MUCH = 2.0, 60.0
"""Seconds that clocks may be apart until it is worth a word, and until it is trouble."""


def not_measured() -> Finding:
    return Finding(
        "clocks", "skew", State.SKIPPED,
        "not measured: Kafka tells its time only in records; --write TOPIC sends one to a topic with "
        "message.timestamp.type=LogAppendTime",
    )  # fmt: skip


def write(client: Admin, connection: Connection, topic: str, deadline: Deadline) -> list[Finding]:
    """Send a record and read it back; the broker's time is in it if the topic keeps that."""
    subject, mark = f"topic {topic}", f"rdknotify doctor {uuid.uuid4().hex}".encode()
    begun = sent = 0.0
    if _is_missing(client, topic, deadline):  # else the broker might make it
        return [Finding(
            subject, "record", State.TROUBLE, "there is no such topic",
            f"make it: rdknotify topics create {topic} --config message.timestamp.type=LogAppendTime",
        )]  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are findings already
            times = connection.arguments("producer", connect_timeout=deadline.left, delivery_timeout=deadline.left)
            reading = connection.arguments("consumer", connect_timeout=deadline.left, create_topics=False)
            with Tail(connection.url, [topic], **reading) as tail, Producer(connection.url, **times) as producer:
                before = _now()
                begun = time.monotonic()
                producer.send_batch(topic, [mark]).result(deadline.left).raise_for_failures()
                sent, after = time.monotonic(), _now()
                while not deadline.over:
                    for record in tail.poll(timeout=min(0.2, deadline.left)):
                        if record.value == mark:
                            took = time.monotonic() - begun
                            found = _round_trip(subject, sent - begun, took)
                            return [found, _clocks(client, topic, record.timestamp, before, after, deadline)]
    except RdNotifyError as error:
        return [Finding(
            subject, "record", State.TROUBLE, f"{'not read back' if sent else 'not delivered'}: {error}",
            "see what is said of the topic and its brokers above; sending takes WRITE on the topic, reading READ",
        )]  # fmt: skip
    return [Finding(
        subject, "record", State.TROUBLE, f"delivered in {(sent - begun) * 1000:.0f} ms, but not read back in time",
        "see what is said of its partitions above", {"delivered_seconds": sent - begun},
    )]  # fmt: skip


def _is_missing(client: Admin, topic: str, deadline: Deadline) -> bool:
    try:
        client.describe(topic, deadline.left)
    except KafkaError as error:
        return error.name == "UNKNOWN_TOPIC_OR_PART"
    return False


def _round_trip(subject: str, delivered: float, took: float) -> Finding:
    facts = {"delivered_seconds": round(delivered, 4), "read_seconds": round(took, 4)}
    text = f"delivered in {delivered * 1000:.0f} ms, read back after {took * 1000:.0f} ms"
    return Finding(subject, "record", State.OK, text, "", facts)


def _clocks(client: Admin, topic: str, stamp: int | None, before: float, after: float, deadline: Deadline) -> Finding:
    """``stamp`` in milliseconds; the others are this machine's time before and after the broker took the record."""
    try:
        setting = client.settings(topic, deadline.left)["message.timestamp.type"].value
    except RdNotifyError as error:
        return Finding("clocks", "skew", State.SKIPPED, f"not known whose time the topic keeps: {error}")
    if setting != "LogAppendTime" or stamp is None:
        return Finding(
            "clocks", "skew", State.SKIPPED,
            f"topic {topic} keeps the senders' times (message.timestamp.type=CreateTime): nothing shows the broker's; "
            "name one with LogAppendTime",
        )  # fmt: skip
    broker = stamp / 1000
    ahead = broker - after if broker > after else min(0.0, broker + 0.001 - before)  # a stamp is cut to milliseconds
    facts = {"broker_ahead_seconds": round(ahead, 3), "uncertainty_seconds": round(after - before, 3)}
    if abs(ahead) < _SOME:
        return Finding("clocks", "skew", State.OK, "this machine's and the broker's agree", "", facts)
    return Finding(
        "clocks", "skew", State.TROUBLE if abs(ahead) >= _MUCH else State.WARNING,
        f"the broker's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's",
        "let both take the time from a server (chrony, systemd-timesyncd): certificates, tokens and retention go by it",
        facts,
    )  # fmt: skip
