"""The pump of ``send``: lines into batches, many in flight, and an outcome for each line."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from rdknotify.cli.failures import BAD, FailedLine, Failures, outcome_text
from rdknotify.cli.forms import BadLine, Made
from rdknotify.cli.interrupts import Interrupts
from rdknotify.cli.lines import Chunk
from rdknotify.errors import KafkaError, QueueFull
from rdknotify.isolation import maybe_innocent
from rdknotify.outcomes import BatchReport, Failure, Outcome
from rdknotify.producer import Producer

__all__ = ["Pump", "Reader", "Tally", "as_they_are", "each_line"]

BATCH = 5_000
"""Lines handed over in one call."""
WINDOW = 100_000
"""Records in flight, at the most; and as bytes: what memory holds beside a block."""
WINDOW_BYTES = 64 << 20
GRACE = 5.0
"""Seconds that what is in flight still has when sending was stopped."""
_SLICE = 0.2
_TOLD = 5
"""Errors that are told, each once, with the first line that has them."""


class Bulk(NamedTuple):
    """Records of one topic that are sent in one call, and the lines they were made of."""

    topic: str
    numbers: Sequence[int]
    texts: Sequence[bytes]
    values: list[bytes | None]
    keys: list[bytes | None] | None = None
    headers: list[Any] | None = None

    def made(self, index: int) -> Made:
        return Made(
            self.topic,
            self.values[index],
            None if self.keys is None else self.keys[index],
            None if self.headers is None else self.headers[index],
        )


class Reader(Protocol):
    """Makes bulks of lines that follow each other, and says which lines it could not read."""

    def __call__(self, first: int, lines: list[bytes], /) -> tuple[list[Bulk], list[FailedLine]]: ...


def as_they_are(topic: str, key: bytes | None) -> Reader:
    """Each line is the value of a record; empty ones are passed over."""

    def read(first: int, lines: list[bytes]) -> tuple[list[Bulk], list[FailedLine]]:
        numbers: Sequence[int] = range(first, first + len(lines))
        if b"" in lines:
            numbers = [number for number, line in zip(numbers, lines, strict=True) if line]
            lines = [line for line in lines if line]
        values: Any = lines
        return [Bulk(topic, numbers, lines, values, None if key is None else [key] * len(lines))] if lines else [], []

    return read


Read = Callable[[int, bytes], "tuple[int, bytes, Made] | None"]


def each_line(read: Read, strict: bool = False) -> Reader:
    """Each line is read for itself: ``read`` gives its number, its text and the record, or None; BadLine is told.

    ``strict``: lines after a bad one are not read.
    """

    def read_all(first: int, lines: list[bytes]) -> tuple[list[Bulk], list[FailedLine]]:
        bad: list[FailedLine] = []
        by_topic: dict[str, list[tuple[int, bytes, Made]]] = {}
        for number, line in enumerate(lines, first):
            if not line or line.isspace():
                continue
            try:
                found = read(number, line)
            except BadLine as error:
                bad.append(FailedLine(number, line, BAD, str(error)))
                if strict:
                    break
                continue
            if found is not None:
                by_topic.setdefault(found[2].topic, []).append(found)
        return [_bulk(topic, found) for topic, found in by_topic.items()], bad

    return read_all


def _bulk(topic: str, found: list[tuple[int, bytes, Made]]) -> Bulk:
    numbers, texts, made = zip(*found, strict=True)
    keys = [each.key for each in made]
    headers = [each.headers for each in made]
    return Bulk(
        topic,
        numbers,
        texts,
        [each.value for each in made],
        keys if any(key is not None for key in keys) else None,
        headers if any(headers) else None,
    )


@dataclass
class Tally:
    """What became of the lines."""

    delivered: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Failures by the words of the failures file."""
    reached: int = 0
    """The last line that was looked at."""
    reasons: dict[str, int] = field(default_factory=dict)
    """The first errors, each with the first line that had it."""
    failed: list[tuple[int, int]] = field(default_factory=list)
    """The first ranges of lines that failed."""
    trouble: str | None = None
    """Why sending was stopped before the end, unless a signal did that."""

    def note(self, failed: list[FailedLine]) -> None:
        """These failed."""
        for number, _, outcome, error, _ in failed:
            self.outcomes[outcome] += 1
            if len(self.reasons) < _TOLD:
                self.reasons.setdefault(error, number)
            if self.failed and self.failed[-1][1] == number - 1:
                self.failed[-1] = (self.failed[-1][0], number)
            elif len(self.failed) <= _TOLD:
                self.failed.append((number, number))


class _Sent(NamedTuple):
    delivery: Any
    bulk: Bulk
    size: int


class Pump:
    """Sends chunk after chunk; :meth:`finish` waits for the rest. What fails goes into the tally, and to ``failures``.

    It stops of itself (``tally.trouble``) where going on makes no sense: the cluster refuses us, or a whole batch
    fails and its records are not to blame. ``rate`` is records a second.
    """

    def __init__(
        self,
        producer: Producer,
        reader: Reader,
        interrupts: Interrupts,
        failures: Failures | None = None,
        rate: float | None = None,
        strict: bool = False,
        progress: Callable[[int, int], None] = lambda lines, end: None,
    ) -> None:
        self._producer, self._reader, self._failures = producer, reader, failures
        self._interrupts, self._strict, self._progress = interrupts, strict, progress
        self._rate = rate
        self._batch = BATCH if rate is None else max(1, min(BATCH, int(rate / 20)))
        self._due = time.monotonic()
        self._sent: deque[_Sent] = deque()
        self._records = self._bytes = 0
        self._topics: set[str] = set()
        self._refused = False
        self.tally = Tally()

    @property
    def stopped(self) -> bool:
        return bool(self._interrupts) or self.tally.trouble is not None

    def feed(self, chunk: Chunk) -> None:
        """Send these lines; returns early when it was stopped, ``tally.reached`` says where."""
        for start in range(0, len(chunk.lines), self._batch):
            lines = chunk.lines[start : start + self._batch] if len(chunk.lines) > self._batch else chunk.lines
            first = chunk.first + start
            self._pace(len(lines))
            if self.stopped:
                return
            bulks, bad = self._reader(first, lines)
            for bulk in bulks:
                self._send(bulk)
            self._note(bad)
            self.tally.reached = first + len(lines) - 1
            if bad and self._strict:
                self.tally.reached = bad[0].number
                self.tally.trouble = f"{bad[0].error} (--strict)"
            self._settle(WINDOW - self._batch, WINDOW_BYTES)
            self._progress(self.tally.reached, chunk.end)
        if not chunk.lines:
            self._settle(WINDOW, WINDOW_BYTES)
            self._progress(self.tally.reached, chunk.end)

    def finish(self) -> None:
        """Wait for every outcome; after a stop for a few seconds only, then what is in flight is given up."""
        self._settle(0, 0)
        if not self._sent:
            return
        try:
            deadline = time.monotonic() + (0 if self._refused else GRACE)
            while self._sent and time.monotonic() < deadline:
                self._sent[0].delivery.wait(_SLICE)
                self._settle(WINDOW, WINDOW_BYTES)
            self._producer.purge()
            for sent in self._sent:
                sent.delivery.wait(max(0.0, deadline + 1 - time.monotonic()))
        except KafkaError as error:  # fatal
            self._give_up(error)
        self._producer.shut()  # nothing is without an outcome now
        while self._sent:
            self._take_off()

    def _pace(self, count: int) -> None:
        if self._rate is None:
            return
        now = time.monotonic()
        self._due = max(self._due, now - 1)  # what was missed is made up for, up to a second
        while self._due > now and not self.stopped:
            self._interrupts.sleep(min(self._due - now, _SLICE))
            self._settle(WINDOW, WINDOW_BYTES)
            now = time.monotonic()
        self._due += count / self._rate

    def _send(self, bulk: Bulk) -> None:
        self._topics.add(bulk.topic)
        try:
            delivery = self._producer.send_batch(bulk.topic, bulk.values, bulk.keys, bulk.headers)
        except QueueFull as full:
            delivery = full.delivery
        except KafkaError as error:
            self._give_up(error)
            failed = outcome_text(Outcome.NOT_PERSISTED)
            self._note(
                [
                    FailedLine(number, text, failed, str(error), bulk.made(index))
                    for index, (number, text) in enumerate(zip(bulk.numbers, bulk.texts, strict=True))
                ]
            )
            return
        sent = _Sent(delivery, bulk, sum(len(value) for value in bulk.values if value is not None))
        self._sent.append(sent)
        self._records += delivery.total
        self._bytes += sent.size

    def _settle(self, records: int, size: int) -> None:
        """Take off what is settled, and wait while there is more than that in flight."""
        sent = self._sent
        while sent:
            if sent[0].delivery.done():
                self._take_off()
            elif self.stopped or (self._records <= records and self._bytes <= size):
                return
            elif not sent[0].delivery.wait(_SLICE):
                try:
                    self._producer.check_accepted()
                except KafkaError as error:
                    self._give_up(error)

    def _take_off(self) -> None:
        delivery, bulk, size = self._sent.popleft()
        self._records -= delivery.total
        self._bytes -= size
        if not delivery.failed and not self._producer.closed:
            self.tally.delivered += delivery.total
            return
        report = self._without_innocent(bulk, delivery.result(0))
        self.tally.delivered += report.delivered
        if report.failures and not report.delivered and self._is_hopeless(report.failures[0]):
            self._give_up(report.failures[0].error)
        self._note(
            [
                FailedLine(
                    bulk.numbers[failure.index],
                    bulk.texts[failure.index],
                    outcome_text(failure.outcome),
                    str(failure.error),
                    bulk.made(failure.index),
                )
                for failure in report.failures
            ]
        )

    def _give_up(self, error: KafkaError) -> None:
        """The cluster will not take what is in flight either."""
        self._refused = True
        self.tally.trouble = self.tally.trouble or str(error)

    def _is_hopeless(self, failure: Failure) -> bool:
        """Whether the next batch will fare no better than this one, of which nothing was delivered."""
        if failure.error.name == "_MSG_TIMED_OUT":
            return True
        return len(self._topics) == 1 and not maybe_innocent(failure)

    def _without_innocent(self, bulk: Bulk, report: BatchReport) -> BatchReport:
        """The report after those that may have failed for a neighbour's sake were sent again."""
        again = [failure.index for failure in report.failures if maybe_innocent(failure)]
        if not again or self.stopped:
            return report

        def chosen(column: Any) -> Any:
            return column if column is None else [column[index] for index in again]

        try:
            second = self._producer.deliver(
                bulk.topic, chosen(bulk.values), chosen(bulk.keys), chosen(bulk.headers), timeout=GRACE * 2
            )
        except KafkaError as error:
            self._give_up(error)
            return report
        failures = [failure for failure in report.failures if not maybe_innocent(failure)]
        failures += [Failure(again[each.index], each.error, each.outcome) for each in second.failures]
        return BatchReport(report.total, report.total - len(failures), failures)

    def _note(self, failed: list[FailedLine]) -> None:
        if failed:
            self.tally.note(failed)
            if self._failures is not None:
                self._failures.add(failed)
