"""Services on oslo.messaging as operators have them: configured by files, sending, listening, in processes.

``RDKNOTIFY_OSLO_SCHEME=kafka`` shows by hand what the existing driver does in the same test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from support.oslo import configuration, oslo_messaging, transport

SCHEME = os.environ.get("RDKNOTIFY_OSLO_SCHEME", "rdkafka")
PROCESS = Path(__file__).with_name("oslo_process.py")
PROMPT = "heartbeat.interval.ms:300"
"""Option ``librdkafka``: a member hears of those that join and leave within 0.3 seconds, not 3."""
QUICK = "session.timeout.ms:2000,heartbeat.interval.ms:300"
"""Option ``librdkafka``: a member that was killed is missed after 2 seconds."""


def send(to: Any, topic: str, event_type: str = "e", payload: Any = None, retry: int = -1) -> str:
    """Send as ``Notifier.info`` does, which itself logs all that a driver raises. Returns the message id."""
    message_id = str(uuid.uuid4())
    message = {
        "message_id": message_id,
        "publisher_id": "n",
        "event_type": event_type,
        "priority": "INFO",
        "payload": payload or {},
        "timestamp": "2026-01-02 03:04:05.678901",
    }
    to._send_notification(oslo_messaging.Target(topic=f"{topic}.info"), {}, message, version=2.0, retry=retry)
    return message_id


def send_numbers(to: Any, topic: str, count: int, first: int = 0) -> list[str]:
    """Send notifications whose event types are numbers, one by one; returns these."""
    numbers = [str(number) for number in range(first, first + count)]
    for number in numbers:
        send(to, topic, number)
    return numbers


class Services:
    """Makes and ends what a test needs of oslo.messaging on one Kafka."""

    def __init__(self, kafka: Any, folder: Path) -> None:
        self._kafka = kafka
        self._folder = folder
        self._servers: list[Any] = []
        self._ending = ExitStack()

    def url(self, vhost: str = "") -> str:
        return f"{SCHEME}://{self._kafka.bootstrap_servers}/{vhost}"

    def file(self, name: str = "") -> Path:
        return self._folder / (name or uuid.uuid4().hex)

    def transport(self, vhost: str = "", **options: object) -> Any:
        """A transport for which these options stand in the configuration file."""
        made = transport(self.url(vhost), configuration(self.file(), **options))
        self._ending.callback(made.cleanup)
        return made

    def notifier(
        self, topic: str, vhost: str = "", publisher: str = "n", retry: int | None = None, **options: object
    ) -> Any:
        made = self.transport(vhost, **options)
        return oslo_messaging.Notifier(made, publisher, driver="messagingv2", topics=[topic], retry=retry)

    def server(
        self,
        topics: str | Sequence[str],
        endpoint: object,
        pool: str,
        *,
        vhost: str = "",
        threads: int = 64,
        allow_requeue: bool = False,
        batch_size: int = 0,
        batch_timeout: float | None = None,
        start: bool = True,
        **options: object,
    ) -> Any:
        """A notification listener; a batch listener where ``batch_size`` is given."""
        targets = [oslo_messaging.Target(topic=topic) for topic in ([topics] if isinstance(topics, str) else topics)]
        common = {"allow_requeue": allow_requeue, "pool": pool}
        made = self.transport(vhost, **options)
        if batch_size:
            common |= {"batch_size": batch_size, "batch_timeout": batch_timeout}
            server = oslo_messaging.get_batch_notification_listener(made, targets, [endpoint], **common)
        else:
            server = oslo_messaging.get_notification_listener(made, targets, [endpoint], **common)
        if start:
            self._servers.append(server)
            server.start(override_pool_size=threads)
        return server

    def process(self, command: str, *arguments: object, **options: object) -> subprocess.Popen[bytes]:
        """A command of ``support/oslo_process.py`` in a process of its own, which writes all it logs to ``log``."""
        file = self.file()
        configuration(file, **options)
        words = [str(PROCESS), command, self.url(), str(file), *map(str, arguments)]
        started = subprocess.Popen([sys.executable, "-W", "ignore", *words])
        self._ending.callback(_kill, started)
        return started

    def close(self) -> None:
        end(*self._servers)
        self._ending.close()


def end(*servers: Any) -> float:
    """Stop these side by side, as services do on SIGTERM; returns how many seconds that took. Idempotent."""
    begun = time.monotonic()
    with ThreadPoolExecutor(max(1, len(servers))) as threads:
        list(threads.map(_end, servers))
    return time.monotonic() - begun


def _end(server: Any) -> None:
    server.stop()
    server.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class Committed:
    """What a group has committed of one topic, told by a client that is not ours; a context manager."""

    def __init__(self, bootstrap: str, group: str, topic: str, partitions: int = 1) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 2})
        self._partitions = [TopicPartition(topic, partition) for partition in range(partitions)]

    def __enter__(self) -> Committed:
        return self

    def __exit__(self, *error: object) -> None:
        self._consumer.close()

    def records(self) -> int:
        """How many records stand before the committed offsets."""
        return sum(max(each.offset, 0) for each in self._consumer.committed(self._partitions, 10))
