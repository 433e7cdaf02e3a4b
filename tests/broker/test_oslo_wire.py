"""``rdkafka://``, ``kafka://`` and rdknotify's own classes on one topic: whoever sent it, all receive equal objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import pytest
from support.oslo import RequestContext, oslo_messaging, transport
from support.reader import read_all
from support.waiting import until

from rdknotify import Listener, Notifier
from rdknotify.testing.data import nova_notifications

COUNT = 1000
PRIORITIES = ("info", "error")
"""Those of Nova's notifications."""
OURS = "rdknotify"
"""Not a scheme: rdknotify.Notifier and rdknotify.Listener."""
EACH = ("kafka", "rdkafka", OURS)
SOON = 60.0
PUBLISHER = "compute.node1"
READY = "is anybody there"
TOKEN = "a-token-that-nobody-may-see"
CONTEXT = RequestContext(user_id="u1", project_id="p1", roles=["admin", "réader"], auth_token=TOKEN)

Call = tuple[Any, ...]
"""Context, publisher, event type, payload, metadata: the arguments of an endpoint's method."""


class Endpoint:
    """Keeps the calls of each priority in their order."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Call]] = {priority: [] for priority in PRIORITIES}
        self.ready: set[str] = set()

    def info(self, *call: Any) -> None:
        self._keep("info", call)

    def error(self, *call: Any) -> None:
        self._keep("error", call)

    def _keep(self, priority: str, call: Call) -> None:
        if call[2] == READY:
            self.ready.add(priority)
        else:
            self.calls[priority].append(call)

    def is_complete(self) -> bool:
        return sum(map(len, self.calls.values())) >= COUNT


def notifications() -> Iterator[tuple[dict[str, Any], Any]]:
    """Real notifications; every other one has a context."""
    return islice(zip(cycle(nova_notifications()), cycle(({}, CONTEXT))), COUNT)


def send(scheme: str, kafka: Any, topic: str) -> None:
    if scheme == OURS:
        with Notifier(kafka.url, PUBLISHER, topics=[topic]) as notifier:
            for each, context in notifications():
                getattr(notifier, each["priority"])(context, each["event_type"], each["payload"])
        return
    sender = transport(f"{scheme}://{kafka.bootstrap_servers}")
    notifier = oslo_messaging.Notifier(sender, PUBLISHER, driver="messagingv2", topics=[topic])
    for each, context in notifications():
        if context and scheme == "kafka":
            context = context.redacted_copy()  # not all releases of oslo.messaging do so, and we do
        getattr(notifier, each["priority"])(context, each["event_type"], each["payload"])
    sender.cleanup()


@contextmanager
def listening(scheme: str, kafka: Any, topic: str, pool: str) -> Iterator[Endpoint]:
    endpoint = Endpoint()
    if scheme == OURS:
        with Listener(kafka.url, [topic], [endpoint], pool=pool):
            yield endpoint
        return
    receiver = transport(f"{scheme}://{kafka.bootstrap_servers}")
    target = oslo_messaging.Target(topic=topic)
    server = oslo_messaging.get_notification_listener(receiver, [target], [endpoint], executor="threading", pool=pool)
    server.start(override_pool_size=1)  # more threads may change the order
    try:
        yield endpoint
    finally:
        server.stop()
        server.wait()
        receiver.cleanup()


def on_the_log(kafka: Any, topic: str, priority: str) -> list[dict[str, Any]]:
    """The notifications in a topic, unpacked here, by the letter of the wire format."""
    messages = []
    for *_, value, _ in read_all(kafka.bootstrap_servers, f"{topic}.{priority}"):
        envelope = json.loads(value)
        assert envelope.keys() == {"oslo.version", "oslo.message"} and envelope["oslo.version"] == "2.0"
        assert TOKEN.encode() not in value
        messages.append(json.loads(envelope["oslo.message"]))
    return [message for message in messages if message["event_type"] != READY]


def expected(kafka: Any, topic: str, priority: str) -> list[Call]:
    """The calls of that priority: what was sent, with the id and the time that are on the log."""
    sent = [(each, context) for each, context in notifications() if each["priority"] == priority]
    fields = json.loads(json.dumps(CONTEXT.redacted_copy().to_dict()))
    return [
        (
            fields if context else {},
            PUBLISHER,
            each["event_type"],
            each["payload"],
            {"message_id": message["message_id"], "timestamp": message["timestamp"]},
        )
        for (each, context), message in zip(sent, on_the_log(kafka, topic, priority), strict=True)
    ]


@pytest.mark.parametrize("sender", EACH)
def test_all_receive_what_was_sent(kafka, topic: str, group: str, sender: str) -> None:
    for priority in PRIORITIES:
        kafka.create_topic(f"{topic}.{priority}", 1)  # keeps the order
    with (
        listening("kafka", kafka, topic, f"{group}-kafka") as by_kafka,
        listening("rdkafka", kafka, topic, f"{group}-rdkafka") as by_rdkafka,
        listening(OURS, kafka, topic, f"{group}-ours") as by_ours,
        Notifier(kafka.url, "test", topics=[topic]) as notifier,
    ):
        endpoints = {"kafka": by_kafka, "rdkafka": by_rdkafka, OURS: by_ours}

        def ready() -> bool:
            for priority in PRIORITIES:
                getattr(notifier, priority)({}, READY, {})
            return by_kafka.ready == set(PRIORITIES)

        # The driver of kafka:// begins somewhere after its start, and drops the first that it gets.
        until(ready, "the listener of kafka:// is at work", SOON)
        notifier.flush(SOON)
        send(sender, kafka, topic)
        until(lambda: all(each.is_complete() for each in endpoints.values()), "all listeners have all", SOON)

    for priority in PRIORITIES:
        calls = expected(kafka, topic, priority)
        for name, endpoint in endpoints.items():
            assert endpoint.calls[priority] == calls, f"{priority} received by {name}"
    ids = {call[4]["message_id"] for calls in by_ours.calls.values() for call in calls}
    assert len(ids) == COUNT
