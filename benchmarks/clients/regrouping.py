"""A steady stream of records with the time in them, and members of a group that note what they own and handle.

All times are of the machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import sys
import threading
import time
import traceback
from collections.abc import Sequence

import rdknotify
from benchmarks.clients.base import Job, roles, tell
from benchmarks.clients.ours import consuming
from benchmarks.setting import librdkafka_producing
from rdknotify._rdknotify import murmur2

STAMP = struct.Struct("<d")
POLL_SECONDS = 0.1


def stream(job: Job) -> None:
    """One record to each partition again and again, ``job.rate`` a second, until there is a line on stdin."""
    keys = [_key(partition, job.partitions) for partition in range(job.partitions)]
    rest = bytes(job.size - STAMP.size)
    deliveries: list[rdknotify.Delivery] = []
    with rdknotify.Producer(f"kafka://{job.brokers}", config=librdkafka_producing()) as producer:
        producer.send(job.topic, STAMP.pack(time.monotonic()) + rest, keys[0]).result(30)
        due = time.monotonic()
        while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            values = [STAMP.pack(time.monotonic()) + rest] * job.partitions
            deliveries.append(producer.send_batch(job.topic, values, keys))
            due += job.partitions / job.rate
        delivered = sum(delivery.result(30).delivered for delivery in deliveries)
    sent = len(deliveries) * job.partitions
    assert delivered == sent, f"{delivered} of {sent} delivered"
    tell({"records": 1 + sent})


def _key(partition: int, partitions: int) -> bytes:
    """One that goes to this partition."""
    number = 0
    while (murmur2(key := str(number).encode()) & 0x7FFFFFFF) % partitions != partition:
        number += 1
    return key


def members(job: Job) -> None:
    """The members named in ``job.more``, a thread each, noting into the file ``log``.

    ``leave NAME`` on stdin lets one go, its end all of them.
    """
    log = os.open(job.more["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    named = {name: Member(job, name, log) for name in job.more["members"]}
    for member in named.values():
        member.start()
    for line in sys.stdin:
        named[line.split()[1]].leaving.set()
    for member in named.values():
        member.leaving.set()
    for member in named.values():
        member.join()
    tell({})


class Member(threading.Thread):
    """Polls, notes what it handles, then commits it. Each note is one write, which is there even if we are killed."""

    def __init__(self, job: Job, name: str, log: int) -> None:
        super().__init__(name=name)
        self.leaving = threading.Event()
        self._job = job
        self._log = log

    def run(self) -> None:
        try:
            self._note("joins")
            self._consume()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _consume(self) -> None:
        job = self._job
        with rdknotify.Consumer(
            f"kafka://{job.brokers}",
            [job.topic],
            job.group,
            config=consuming(job) | job.more["config"],
            on_assigned=lambda partitions: self._owns("gets", partitions),
            on_revoked=lambda partitions, _lost: self._owns("gives", partitions),
        ) as consumer:
            while not self.leaving.is_set():
                if batch := consumer.poll(timeout=POLL_SECONDS):
                    self._handle(batch)
            self._note("leaves")

    def _handle(self, batch: rdknotify.Batch) -> None:
        values = zip(batch.origins(), batch.values(), strict=True)
        self._note(
            *(
                f"handles {partition} {offset} {STAMP.unpack_from(value or b'')[0]}"
                for (_, partition, offset), value in values
            )
        )
        with contextlib.suppress(rdknotify.CommitFailed):  # handled again, here or elsewhere, and counted then
            batch.commit()

    def _owns(self, what: str, partitions: Sequence[rdknotify.TopicPartition]) -> None:
        if partitions:
            self._note(f"{what} {' '.join(str(partition) for _, partition in partitions)}")

    def _note(self, *texts: str) -> None:
        now = time.monotonic()
        os.write(self._log, "".join(f"{now} {self.name} {text}\n" for text in texts).encode())


ROLES = roles(stream={"rdknotify": stream}, members={"rdknotify": members})
