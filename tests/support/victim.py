"""A client in a process of its own, so that a crash of it is a failed test; told what to do by lines of JSON.

``Victim`` is the test's side. The process sends and reads; it survives every RdNotifyError, makes clients anew where
one is fatal, and says how much memory it took since it had first delivered something.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from support.processes import STRICT_PYTHON

TESTS = Path(__file__).parents[1]


class Victim:
    """Starts it; ends it, and fails if it did not end well. ``options``: the consumer's ``config``."""

    def __init__(self, url: str, topic: str, **options: Any) -> None:
        told = json.dumps({"url": url, "topic": topic, "options": options})
        command = [*STRICT_PYTHON, "-m", "support.victim", told]
        self._process = subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, what: str, **details: Any) -> Any:
        """Let it do something and return what it says; fails when it is gone."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, details]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the client died of {what}: exit status {self._process.wait(10)}"
        return json.loads(answer)

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate(timeout=30)
        assert kind is not None or self._process.returncode == 0, f"exit status {self._process.returncode}"


class _Client:
    """What runs in the process."""

    def __init__(self, url: str, topic: str, options: dict[str, Any]) -> None:
        import rdknotify

        self._rdknotify = rdknotify
        self._url, self._topic, self._options = url, topic, options
        self._seen: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._memory = 0
        self._clients: dict[str, Any] = {}

    def _get(self, which: str) -> Any:
        if which not in self._clients:
            quick = {"connect_timeout": None, "config": {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 50}}
            if which == "producer":
                made = self._rdknotify.Producer(self._url, delivery_timeout=2.0, **quick)
            elif which == "admin":
                made = self._rdknotify.Admin(self._url, **quick)
            else:
                quick["config"] |= {"fetch.error.backoff.ms": 20, "session.timeout.ms": 3000, **self._options}
                made = self._rdknotify.Consumer(self._url, [self._topic], group="victims", start="earliest", **quick)
            self._clients[which] = made
        return self._clients[which]

    def _try(self, which: str, action: Any) -> Any:
        """Every error of ours is survived; after a fatal one there is a new client."""
        try:
            return action(self._get(which))
        except self._rdknotify.RdNotifyError as error:
            self._errors[f"{type(error).__name__}: {getattr(error, 'name', '')}"] += 1
            if getattr(error, "fatal", False):
                self._clients.pop(which).close()
        return None

    def _read(self) -> None:
        for record in self._try("consumer", lambda consumer: consumer.poll(500, 0.05)) or ():
            self._seen[(record.value or b"").decode("latin-1")] += 1

    def suffer(self, seconds: float) -> int:
        """Send and read for so long, whatever comes of it; returns how often that was tried."""
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end:
            self._try("producer", lambda producer: producer.send(self._topic, b"suffered", timeout=0.1))
            self._read()
            number += 1
        return number

    def administer(self, wait: float) -> None:
        """Ask all that an administrator may ask, each for so many seconds, whatever comes of it."""
        group, topic, place = "victims", self._topic, (self._topic, 0)
        questions: list[Callable[[Any], object]] = [
            lambda admin: admin.cluster(wait),
            lambda admin: admin.groups(wait),
            lambda admin: admin.group(group, wait),
            lambda admin: admin.offsets(group, timeout=wait),
            lambda admin: admin.topics(timeout=wait),
            lambda admin: admin.describe(topic, wait),
            lambda admin: admin.settings(topic, wait),
            lambda admin: admin.find_offsets([place], timeout=wait),
            lambda admin: admin.delete_records({place: 0}, wait),
            lambda admin: admin.delete_groups(["nobody's"], wait),
            lambda admin: admin.delete_topics(["nobody.s"], wait),
        ]
        for question in questions:
            self._try("admin", question)

    def prove(self, mark: str, count: int, timeout: float) -> float:
        """Deliver so many records and read them all; returns the seconds that took."""
        began = time.monotonic()
        wanted = {f"{mark}-{number}" for number in range(count)}
        missing = wanted
        while missing or wanted - self._seen.keys():
            if time.monotonic() > began + timeout:
                unread = len(wanted - self._seen.keys())
                raise TimeoutError(f"{len(missing)} not sent, {unread} not read: {self._errors}; {self._where()}")
            if missing:
                missing = self._deliver(sorted(missing))
            self._read()
        self._memory = self._memory or memory()
        return time.monotonic() - began

    def send(self, values: list[str]) -> int:
        """Deliver these, a batch each; returns how many were not."""
        return sum(len(self._deliver([value])) for value in values)

    def _where(self) -> str:
        consumer = self._get("consumer")
        return f"assigned {consumer.assignment()}, at {consumer.position()}"

    def _deliver(self, values: list[str]) -> set[str]:
        """Send, and return what was not delivered."""
        report = self._try("producer", lambda producer: producer.send_batch(self._topic, values).result(5))
        return set(values) if report is None else {values[failure.index] for failure in report.failures}

    def read(self, count: int, timeout: float) -> dict[str, int]:
        """Read until so many different values are there; returns how often each came."""
        end = time.monotonic() + timeout
        while len(self._seen) < count and time.monotonic() < end:
            self._read()
        return dict(self._seen)

    def errors(self) -> dict[str, int]:
        return dict(self._errors)

    def grown(self) -> float:
        """How far memory was ever above what it took at the first proof, MiB."""
        return memory() - self._memory

    def close(self) -> float:
        """Close both, there are new ones when needed; returns the seconds that took."""
        began = time.monotonic()
        while self._clients:
            self._clients.popitem()[1].close()
        return time.monotonic() - began


def memory() -> float:
    """The most that this process ever took, MiB."""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert peak
    return int(peak[1]) / 1024


def main() -> None:
    import logging

    logging.disable()  # what librdkafka says of rubbish is for other tests
    client = _Client(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        what, details = json.loads(line)
        print(json.dumps(getattr(client, what)(**details)), flush=True)


if __name__ == "__main__":
    main()
