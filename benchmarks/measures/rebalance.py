"""What a rebalance costs: a member joins, leaves or is killed while records come all the time.

The variants are ``cooperative-sticky join 8``: the protocol, the event, and how many members there were at first.
``form`` is the first assignment of all, ``nothing`` two seconds without an event, whose pauses are the machine's.
Figures: ``settled`` (seconds from the event until every partition has its owner for good) and those of
``Group.between``; ``lost`` counts what nobody handled of all that was sent, and has to be 0.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

from benchmarks.clients import OURS
from benchmarks.group import Group
from benchmarks.harness import Failed, Stage, ended, go
from rdknotify.testing import LocalKafka, LocalKafkaError
from rdknotify.testing.cluster import until

PARTITIONS = 64
RATE = 2000
SIZES = (2, 8, 32)
THREADS = 8
"""Members in one process."""
SESSION_MS = 6000
"""LocalKafka's own for the protocol consumer, where it is the broker's."""
PROTOCOLS = {
    "cooperative-sticky": {
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": str(SESSION_MS),
    },
    "consumer": {"group.protocol": "consumer"},
}
QUIET_SECONDS = 1.0
"""Without a change of a complete assignment, which then is settled."""
NOTHING_SECONDS = 2.0
SETTLE_TIMEOUT = 60.0
LAST_TIMEOUT = 20.0


def measure(stage: Stage) -> None:
    for protocol in PROTOCOLS if not stage.plan.quick else ("consumer",):
        for size in SIZES if not stage.plan.quick else SIZES[:1]:
            with ExitStack() as stack:
                Regrouping(stage, protocol, size, stack).play()


class Regrouping:
    """A group of so many members, a steady stream for them, and what happens to them."""

    def __init__(self, stage: Stage, protocol: str, size: int, stack: ExitStack) -> None:
        self._stage = stage
        self._name = protocol
        self._members = [f"member-{number}" for number in range(size)]
        """Those that have to own something."""
        self._size = size
        self._stack = stack
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rdknotify-rebalance-")))
        group = f"benchmark-{uuid.uuid4().hex[:8]}"
        topic = stack.enter_context(stage.topic(PARTITIONS))
        self._job = stage.job(topic, 0, partitions=PARTITIONS, rate=RATE, group=group)
        self._group = Group(PARTITIONS)
        self._logs: list[Path] = []
        self._processes: list[Popen[str]] = []
        self._spans: dict[str, tuple[float, float, float | None]] = {}
        """Of each event when it began, when it was over, and after how many seconds the assignment had settled."""

    def play(self) -> None:
        """Raises Failed when an assignment does not settle or a record is lost."""
        for first in range(0, self._size, THREADS):
            self._start(self._members[first : first + THREADS])
        self._settle("form", lambda: min(self._group.said.values(), default=None), flowing=False)
        stream = self._stack.enter_context(self._stage.started(OURS, "stream", self._job))
        self._until(lambda: self._group.flows(self._group.changed), "had records everywhere")
        if not self._stage.plan.quick:
            self._nothing()
        self._join()
        if not self._stage.plan.quick:
            self._leave()
            if self._name != "consumer" or isinstance(self._stage.kafka, LocalKafka):
                self._kill()
        self._record(self._lost(stream))

    def _start(self, members: Sequence[str]) -> Popen[str]:
        """A process with these members."""
        log = self._folder / f"{members[0]}.log"
        job = replace(self._job, more={"members": members, "log": str(log), "config": PROTOCOLS[self._name]})
        process = self._stack.enter_context(self._stage.started(OURS, "members", job))
        self._logs.append(log)
        self._processes.append(process)
        return process

    def _nothing(self) -> None:
        begin = time.monotonic()
        self._until(lambda: time.monotonic() > begin + NOTHING_SECONDS, "passed time")
        self._spans["nothing"] = begin, time.monotonic(), None

    def _join(self) -> None:
        self._members.append("newcomer")
        self._newcomer = self._start(["newcomer"])
        self._settle("join", lambda: self._group.said.get(("newcomer", "joins")))

    def _leave(self) -> None:
        leaver = self._members.pop(0)
        go(self._processes[0], f"leave {leaver}")
        self._settle("leave", lambda: self._group.said.get((leaver, "leaves")))

    def _kill(self) -> None:
        self._newcomer.kill()
        killed = time.monotonic()
        self._newcomer.wait()
        self._processes.remove(self._newcomer)
        self._group.follow(self._logs)
        self._group.died(self._members.pop())
        self._settle("kill", lambda: killed)

    def _settle(self, event: str, begun: Callable[[], float | None], flowing: bool = True) -> None:
        """Wait until all partitions have their owners, stay there, and bring what is sent now."""
        group = self._group

        def settled() -> bool:
            quiet = time.monotonic() > group.changed + QUIET_SECONDS
            return quiet and group.complete(self._members) and (not flowing or group.flows(group.changed))

        self._until(settled, f"settled after {event}")
        begin = begun()
        assert begin is not None
        self._spans[event] = begin, time.monotonic(), group.changed - begin

    def _until(self, seen: Callable[[], bool], what: str) -> None:
        def look() -> bool | None:
            if dead := next((process for process in self._processes if process.poll() is not None), None):
                ended(dead)
                raise Failed("members ended early")
            self._group.follow(self._logs)
            return seen() or None

        try:
            until(look, SETTLE_TIMEOUT, f"{self._size} members, {self._name}: they have not {what}")
        except LocalKafkaError as error:
            raise Failed(str(error)) from None

    def _lost(self, stream: Popen[str]) -> int:
        """How many records nobody handled, who all had the time."""
        go(stream)
        sent: int = ended(stream)["records"]
        stored = self._stage.on_log(self._job.topic, PARTITIONS)
        if stored != sent:
            raise Failed(f"rebalance: {stored} records on the log, {sent} were sent")
        deadline = time.monotonic() + LAST_TIMEOUT
        self._until(lambda: self._group.distinct() == sent or time.monotonic() > deadline, "handled all")
        for process in self._processes:
            ended(process)
        self._group.follow(self._logs)
        return sent - self._group.distinct()

    def _record(self, lost: int) -> None:
        if lost:
            raise Failed(f"{self._size} members, {self._name}: {lost} records were handled by nobody")
        for event, (begin, end, settled) in self._spans.items():
            figures = self._group.between(begin, end) | {"lost": lost}
            if settled is not None:
                figures["settled"] = settled
            self._stage.record("rebalance", OURS, f"{self._name} {event} {self._size}", 1, figures)
