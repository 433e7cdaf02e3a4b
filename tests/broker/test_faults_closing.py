"""Closing while no broker says anything: in time, whatever the client was doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from support.endpoints import SOON, Endpoint, until
from support.figures import Figures

from rdknotify import Consumer, Listener, Notifier, Persister, Producer, SQLiteSink
from rdknotify.errors import RdNotifyError
from rdknotify.service import Service
from rdknotify.testing.faults import Fault, Freeze, PauseNode
from rdknotify.topics import notification_topic

TIMEOUT = 2.0
OVERRUN = 0.5
"""Seconds beyond its timeout that ``close()`` may take."""
RECORDS = 1000

SILENCE: dict[str, Callable[[Any], Fault]] = {
    "the nodes stopped": PauseNode,
    "the network frozen": lambda kafka: Freeze(kafka.proxies),
}


class Clients:
    """One of each kind, at work on a topic of its own."""

    def __init__(self, url: str, topic: str, group: str, folder: Path) -> None:
        self.url, self.topic, self.group = url, topic, group
        self.producer = Producer(url)
        self.notifier = Notifier(url, "n", topics=[topic])
        self.consumers = {
            name: self._consumer(name, **options)
            for name, options in {
                "consumer": {},
                "consumer, newer protocol": {"group_protocol": "consumer"},
                "consumer, commit on its way": {},
                "consumer, in poll": {},
            }.items()
        }
        sink = SQLiteSink(folder / "notifications.db")
        common: dict[str, Any] = {"stop_timeout": TIMEOUT}
        self.services: dict[str, Service] = {
            "listener, before": Listener(url, [topic], [Endpoint()], pool=f"{group}-before", **common),
            "listener, after": Listener(url, [topic], [Endpoint()], pool=f"{group}-after", settle="after", **common),
            "persister": Persister(
                url, [notification_topic(topic, "info")], group=f"{group}-persister", sink=sink, max_wait=0.1, **common
            ),
        }

    def _consumer(self, name: str, **options: Any) -> Consumer:
        group = f"{self.group}-{name.replace(' ', '-').replace(',', '')}"
        return Consumer(self.url, [notification_topic(self.topic, "info")], group, **options)

    def begin(self) -> None:
        """See that each has something to do."""
        for service in self.services.values():
            service.start()
        self.notifier.notify_batch("info", [(str(number), {}) for number in range(RECORDS)]).result(SOON)
        self.batches = {name: until_polled(consumer) for name, consumer in self.consumers.items()}
        for service in self.services.values():
            until(lambda service=service: service.counts.received == RECORDS)

    def go_on(self) -> list[threading.Thread]:
        """In the silence: what cannot be delivered, committed or polled."""
        self.producer.send_batch(notification_topic(self.topic, "info"), [b"{}"] * RECORDS)
        self.notifier.notify_batch("info", [("late", {})] * RECORDS)
        self.batches["consumer, commit on its way"].commit(wait=False)
        polling = threading.Thread(target=self.consumers["consumer, in poll"].poll, kwargs={"timeout": 60})
        polling.start()
        return [polling]

    def closed(self) -> dict[str, float]:
        """Seconds that each took to close, all at once."""
        took: dict[str, float] = {}

        def close(name: str, client: Any) -> None:
            begun = time.monotonic()
            with suppress(RdNotifyError):  # that tells what could not be delivered, or had not ended
                client.close(TIMEOUT)
            took[name] = time.monotonic() - begun

        every = {"producer": self.producer, "notifier": self.notifier, **self.consumers, **self.services}
        threads = [threading.Thread(target=close, args=each) for each in every.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return took


def until_polled(consumer: Consumer) -> Any:
    deadline = time.monotonic() + SOON
    while not (batch := consumer.poll(timeout=0.1)):
        assert time.monotonic() < deadline, "no record came"
    return batch


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("silence", SILENCE)
def test_close_is_bounded(
    kafka3_proxied, topic: str, group: str, tmp_path: Path, figure: Figures, stack: ExitStack, silence: str
) -> None:
    kafka3_proxied.create_topic(notification_topic(topic, "info"), 2)
    clients = Clients(kafka3_proxied.proxied_url, topic, group, tmp_path)
    for each in (clients.producer, clients.notifier, *clients.consumers.values(), *clients.services.values()):
        stack.callback(_close, each)
    clients.begin()
    with SILENCE[silence](kafka3_proxied):
        polling = clients.go_on()
        took = clients.closed()
        for thread in polling:
            thread.join(SOON)
            assert not thread.is_alive()
    print(f"seconds that each took: {took}")
    what = f"{silence}: the longest of {len(took)} times close({TIMEOUT:g})"
    figure("F16", what, max(took.values()), "s", at_most=TIMEOUT + OVERRUN)
    for service in clients.services.values():
        with suppress(RdNotifyError):  # that it was not told in time
            assert service.wait(SOON)


def _close(client: Any) -> None:
    with suppress(RdNotifyError):
        client.close()
