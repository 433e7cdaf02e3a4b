"""Dead letters: records that cannot be handled go here, with the reason, and are never lost silently.

Three places, one protocol: a Kafka topic (:class:`DeadLetters`), a file (:class:`DeadLetterFile`), or nowhere
but the log (:class:`DeadLetterLog`). ``send`` returns only when the records are safe there, so that their
offsets may be committed; when it raises, none may be. A repeated ``send`` may write a record twice.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from rdknotify import metrics, topics
from rdknotify.errors import ConfigError, KafkaError
from rdknotify.logged import place, tell
from rdknotify.outcomes import BatchReport, Failure
from rdknotify.provenance import Origin, ReadRecord, origin_headers

__all__ = [
    "DeadLetterFile",
    "DeadLetterLog",
    "DeadLetterSink",
    "DeadLetters",
    "count_from_zero",
    "dead_letters",
    "keep",
    "read_dead_letters",
    "too_large",
]

log = logging.getLogger(__name__)

_TOO_LARGE = ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE")


class DeadLetterSink(Protocol):
    """Where records go that cannot be handled. Used by one thread at a time."""

    def send(
        self, records: Sequence[ReadRecord], reason: str | Sequence[str], group: str, attempts: int | None = None
    ) -> None:
        """Keep the records for good, or raise; ``reason`` is one for all, or one for each."""

    def close(self) -> None:
        """Release what is held; idempotent."""


class BatchProducer(Protocol):
    """What is needed of :class:`rdknotify.Producer`."""

    def deliver(
        self, topic: str, values: Sequence[Any], keys: Sequence[Any] | None = None, headers: Any = None
    ) -> BatchReport: ...
    def close(self, timeout: float | None = None) -> None: ...


class DeadLetters:
    """Publish to a dead letter topic: value, key and headers as they were, plus the ``rdknotify.*`` headers.

    Args:
        producer: a :class:`~rdknotify.Producer`, which stays its owner's, or a function that makes one,
            called at the first dead letter; that one is closed with this.
        topic: where to; None names it after the origin's topic and the group
            (:func:`topics.dead_letter_topic`).

    A record that grew too large by its new headers is published without its value, which the reason then
    says; the headers tell where the original is.
    """

    def __init__(self, producer: BatchProducer | Callable[[], BatchProducer], topic: str | None = None) -> None:
        if topic is not None:
            topics.check_name(topic, dead_letter=topic)
        self._make = producer if callable(producer) else None
        self._producer = None if callable(producer) else producer
        self._topic = topic

    def send(
        self, records: Sequence[ReadRecord], reason: str | Sequence[str], group: str, attempts: int | None = None
    ) -> None:
        """Publish and wait for the outcomes. Raises PartialDeliveryError when one is not known to be kept."""
        by_topic: dict[str, list[tuple[ReadRecord, str]]] = {}
        for record, why in _with_reasons(records, reason):
            topic = self._topic or topics.dead_letter_topic(Origin.of(record).topic, group)
            if record.topic == topic:
                # Read by a regular expression that matches it: publishing it would go on for ever.
                text = "%s-%d offset %d is a dead letter already: %s"
                fields = {"group": group, "reason": why, "count": 1, **place(record)}
                tell(log, "dead_letter", text, topic, record.partition, record.offset, why, **fields)
                continue
            by_topic.setdefault(topic, []).append((record, why))
        try:
            for topic, letters in by_topic.items():
                report = self._publish(topic, letters, group, attempts, with_value=True)
                oversized = [letters[failure.index] for failure in report.failures if too_large(failure)]
                if len(oversized) < len(report.failures):
                    report.raise_for_failures()
                if oversized:
                    self._publish(topic, oversized, group, attempts, with_value=False).raise_for_failures()
                _tell_kept(letters, group, f"topic {topic}")
        except KafkaError as error:
            if error.fatal:
                self.close()  # one made here is of no more use; the next try makes another
            raise

    def _publish(
        self,
        topic: str,
        letters: list[tuple[ReadRecord, str]],
        group: str,
        attempts: int | None,
        with_value: bool,
    ) -> BatchReport:
        if self._producer is None:
            assert self._make is not None
            self._producer = self._make()
        values = [record.value if with_value else None for record, _ in letters]
        if not with_value:
            letters = [
                (record, f"{why} (its value of {len(record.value or b'')} bytes is too large for this topic)")
                for record, why in letters
            ]
        headers = [origin_headers(record, group, reason=why, attempts=attempts) for record, why in letters]
        # Bounded by the producer's delivery timeout.
        return self._producer.deliver(topic, values, [record.key for record, _ in letters], headers)

    def close(self) -> None:
        """Close the producer if it was made here."""
        if self._make is not None and self._producer is not None:
            producer, self._producer = self._producer, None
            producer.close()


class DeadLetterFile:
    """Append to a file: one JSON object a line, bytes in base64, on the disk (fsync) before ``send`` returns.

    Several processes may share the file: each call is one write to the end of it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ConfigError(
                f"dead_letter={str(self.path)!r}: the folder {self.path.parent} does not exist; make it first"
            )
        self._lock = threading.Lock()

    def send(
        self, records: Sequence[ReadRecord], reason: str | Sequence[str], group: str, attempts: int | None = None
    ) -> None:
        """Append and sync; raises OSError when the disk says no."""
        lines = "".join(
            json.dumps(_as_json(record, why, group, attempts)) + "\n" for record, why in _with_reasons(records, reason)
        )
        with self._lock, open(self.path, "a+b", buffering=0) as file:
            # A line torn by a full disk or a crash was never acknowledged: end it, so that it spoils no
            # other.
            remaining = memoryview(_line_end(file) + lines.encode())
            while remaining:
                remaining = remaining[file.write(remaining) :]
            os.fsync(file.fileno())
        _tell_kept(list(_with_reasons(records, reason)), group, f"file {self.path}")

    def close(self) -> None:
        """Nothing is held open between two calls."""


class DeadLetterLog:
    """No place for dead letters was set: log each one with its origin and reason, and let it go."""

    def send(
        self, records: Sequence[ReadRecord], reason: str | Sequence[str], group: str, attempts: int | None = None
    ) -> None:
        """Log a warning for each record, without its payload."""
        for record, why in _with_reasons(records, reason):
            origin = Origin.of(record)
            text = "record skipped by group %s: %s-%d offset %d: %s (set dead_letter to keep such records)"
            fields = {"group": group, "reason": why, "count": 1, **place(origin)}
            tell(log, "dead_letter", text, group, origin.topic, origin.partition, origin.offset, why, **fields)

    def close(self) -> None:
        """Nothing is held."""


def dead_letters(place: str | bool | None, producer: BatchProducer | Callable[[], BatchProducer]) -> DeadLetterSink:
    """A topic of that name; True: one named after the origin's topic and the group; False and None: only the log."""
    if place is None or place is False:
        return DeadLetterLog()
    return DeadLetters(producer, None if place is True else place)


def count_from_zero(group: str) -> None:
    """Have the first dead letter of a group seen as an increase, by whoever watches the metrics."""
    for metric in (metrics.RECORDS_DEAD_LETTERED, metrics.RECORDS_SKIPPED):
        metrics.add(metric, 0, group)


def keep(
    sink: DeadLetterSink,
    records: Sequence[ReadRecord],
    reason: str | Sequence[str],
    group: str,
    attempts: int | None = None,
) -> None:
    """Send dead letters to where they are safe, and count them. Raises as the sink does."""
    sink.send(records, reason, group, attempts)
    kept = metrics.RECORDS_SKIPPED if isinstance(sink, DeadLetterLog) else metrics.RECORDS_DEAD_LETTERED
    metrics.add(kept, len(records), group)


def read_dead_letters(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The entries of a :class:`DeadLetterFile`, values, keys and header values as bytes again."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # torn by a crash: its send never returned, so the record was dealt with again
            entry["value"] = _decode(entry["value"])
            entry["key"] = _decode(entry["key"])
            entry["headers"] = [(name, _decode(value)) for name, value in entry["headers"]]
            yield entry


def _tell_kept(letters: Sequence[tuple[ReadRecord, str]], group: str, where: str) -> None:
    """One line, however many: a flood of them shall not become one of the log."""
    if letters:
        origin, why = Origin.of(letters[0][0]), letters[0][1]
        text = "group %s: %d dead letters in %s; the first: %s-%d offset %d: %s"
        first = (origin.topic, origin.partition, origin.offset, why)
        fields = {"group": group, "reason": why, "count": len(letters), **place(origin)}
        tell(log, "dead_letter", text, group, len(letters), where, *first, **fields)


def _line_end(file: IO[bytes]) -> bytes:
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _as_json(record: ReadRecord, reason: str, group: str, attempts: int | None) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": _encode(record.key),
        "value": _encode(record.value),
        "headers": [
            (name, _encode(value)) for name, value in origin_headers(record, group, reason=reason, attempts=attempts)
        ],
        "reason": reason,
    }


def _with_reasons(records: Sequence[ReadRecord], reason: str | Sequence[str]) -> Iterator[tuple[ReadRecord, str]]:
    reasons = [reason] * len(records) if isinstance(reason, str) else reason
    return zip(records, reasons, strict=True)


def too_large(failure: Failure) -> bool:
    """True when the record will never fit: the topic or the client allows no message of its size."""
    return failure.error.name in _TOO_LARGE


def _encode(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _decode(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
