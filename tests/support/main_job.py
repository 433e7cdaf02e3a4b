"""The main job in pieces: who sends, and persisters in processes of their own."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rdknotify import Notifier
from rdknotify.testing import LocalKafka, RunningKafka
from rdknotify.testing.data import nova_notifications
from rdknotify.topics import notification_topic

Kafka = LocalKafka | RunningKafka

WORKER = Path(__file__).with_name("persister_worker.py")
SOON = 30.0
"""Seconds after which something that should happen counts as missing."""
CHUNK = 200


class Sender:
    """Sends Nova's notifications and keeps the ids; all of priority info, in one topic."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        kafka.create_topic(notification_topic(topic, "info"), partitions=8)
        self.sent: list[str] = []
        self._notifier = Notifier(kafka.url, "nova-compute:test", [topic])
        self._error: BaseException | None = None

    def send(self, count: int, rate: float | None = None) -> None:
        """Send ``count``, at most ``rate`` a second, and wait until all are delivered."""
        begun = time.monotonic()
        chosen = itertools.islice(itertools.cycle(nova_notifications()), count)
        for number in range(0, count, CHUNK):
            for one in itertools.islice(chosen, CHUNK):
                self.sent.append(self._notifier.info({"request_id": "req-1"}, one["event_type"], one["payload"]))
            if rate is not None:
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        self._notifier.flush(SOON)

    @contextmanager
    def sending(self, count: int, rate: float) -> Iterator[threading.Thread]:
        """Send beside what the caller does; at the end wait for the rest."""

        def work() -> None:
            try:
                self.send(count, rate)
            except BaseException as error:
                self._error = error

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield thread
        finally:
            thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._notifier.close()


class Workers:
    """Persisters in processes of their own, all for one group and one database: a path, or a DSN of PostgreSQL."""

    def __init__(self, kafka: Kafka, topic: str, group: str, database: Path | str) -> None:
        self._job: dict[str, Any] = {
            "url": kafka.url,
            "topics": [notification_topic(topic, "info")],
            "group": group,
            "database": str(database),
            "options": {},
        }
        self._running: list[subprocess.Popen[str]] = []

    def use(self, **options: Any) -> None:
        """Options of all that are started from now on."""
        self._job["options"] = options

    def start(self, **config: Any) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps({**self._job, "config": config})],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._running.append(worker)
        return worker

    def leave(self, worker: subprocess.Popen[str]) -> dict[str, int]:
        """End it as an operator would; it must end well, and says what it has done."""
        worker.send_signal(signal.SIGTERM)
        out, _ = worker.communicate(timeout=SOON)
        assert worker.returncode == 0
        counts: dict[str, int] = json.loads(out)
        return counts

    def end(self) -> None:
        for worker in self._running:
            worker.kill()
            worker.communicate()


def until(condition: Callable[[], object], timeout: float = SOON) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
