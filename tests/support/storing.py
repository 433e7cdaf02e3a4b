"""A persister on real Kafka while its database is in trouble: what it did meanwhile, and what is there at the end."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rdknotify import Persister, PostgresSink, SQLiteSink, TopicPartition, _rdknotify
from rdknotify.deadletter import read_dead_letters
from rdknotify.sinks import Sink, Span
from rdknotify.topics import notification_topic
from support.figures import Figures
from support.main_job import Kafka, Sender
from support.waiting import until

INTERVAL = 6.0
"""Seconds that a member may take between two polls: ``max.poll.interval.ms``."""
IMPATIENT = {"max.poll.interval.ms": 6000, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
LONG = 60.0
"""Seconds after which something that should happen counts as missing."""


class Watched:
    """A sink that notes how long it took."""

    def __init__(self, sink: SQLiteSink | PostgresSink) -> None:
        self.sink = sink
        self.restores = 0
        self.errors: list[str] = []
        self.store_times: list[float] = []
        self.open, self.close = sink.open, sink.close

    def restore(self, group: str, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.restores += 1
        return self.sink.restore(group, partitions)

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        begun = time.monotonic()
        try:
            return self.sink.store(group, rows, spans)
        except Exception as error:
            self.errors.append(str(error))
            raise
        finally:
            self.store_times.append(time.monotonic() - begun)


class Trouble:
    """One persister, alone in its group, that stores what ``sender`` sent; ``ask`` runs SQL in its database."""

    def __init__(
        self,
        kafka: Kafka,
        sender: Sender,
        topic: str,
        group: str,
        sink: SQLiteSink | PostgresSink,
        ask: Callable[[str], list[tuple[Any, ...]]],
        dead_letters: Path,
        **options: Any,
    ) -> None:
        self.kafka, self.sender, self.group, self.ask = kafka, sender, group, ask
        self.topic = notification_topic(topic, "info")
        self.dead_letters = dead_letters
        self.sink = Watched(sink)
        settings = {"max_wait": 0.2, "batch_size": 500, "config": IMPATIENT, "dead_letter": dead_letters, **options}
        watched: Sink = self.sink
        self.persister = Persister(kafka.url, [self.topic], group=group, sink=watched, **settings)

    def stored(self) -> list[str]:
        return [row[0] for row in self.ask("SELECT message_id FROM notifications")]

    def dead(self) -> list[dict[str, Any]]:
        return list(read_dead_letters(self.dead_letters)) if self.dead_letters.exists() else []

    def joined(self) -> None:
        """Wait until all partitions are this member's: from now on they must stay."""
        until(lambda: len(self.persister.partitions) == 8, timeout=LONG)
        self.sink.restores = 0

    def drained(self) -> float:
        """Wait until all is stored or a dead letter; returns how many seconds that took."""
        begun = time.monotonic()
        counts = lambda: self.persister.counts  # noqa: E731
        until(lambda: counts().stored + counts().poison >= len(self.sender.sent), "all is stored", timeout=LONG)
        return time.monotonic() - begun

    def lag(self) -> int:
        """Records that the group has not committed, as whoever watches it sees."""
        watcher = _rdknotify.Consumer({"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": self.group})
        try:
            keys = [(self.topic, partition) for partition in range(8)]
            committed = watcher.committed(keys, 10.0)
            return sum(watcher.watermarks(*key, 10.0)[1] - (committed[key] or 0) for key in keys)
        finally:
            watcher.shut()

    def judge(self, figure: Figures, what: str, log: str, dead: int = 0) -> None:
        """Records the outcome: called when the persister is closed."""
        expected = set(self.sender.sent)
        times = Counter(self.stored())
        figure("P", f"{what}: rows stored", len(times), "rows")
        lost, twice = len(expected - times.keys()) - dead, times.total() - len(expected & times.keys())
        figure("P", f"{what}: records lost", lost, at_most=0)
        figure("P", f"{what}: rows there twice, or never sent", twice, at_most=0)
        figure("P", f"{what}: lag afterwards", self.lag(), "records", at_most=0)
        figure("P", f"{what}: membership lost", log.count("maximum poll interval") + self.sink.restores, at_most=0)
        assert len(self.dead()) == dead


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system for the time of the block, its owner's as the folder it is in. Skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a disk that fills up needs a file system of its own, and none can be mounted: {done.stderr}")
    try:
        owner = folder.parent.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """Fill a disk up to so many megabytes; returns the file to remove when there shall be room again."""
    state = os.statvfs(folder)
    filler = folder / "filler"
    filler.write_bytes(b"\0" * (state.f_bavail * state.f_frsize - (left << 20)))
    return filler
