"""Share groups (KIP-932): a work queue on Kafka, where each record is accepted, released or rejected by itself.

The brokers keep the state of every record and count its deliveries; a record is *acquired* by one member, whose *lock*
on it expires after the group's ``share.record.lock.duration.ms``. What is added here: a group that begins where it was
told to, a warning before the lock expires, an error when settling failed, and a dead letter instead of a silent end.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any, Literal

from rdknotify import _rdknotify as core
from rdknotify import green, shapes
from rdknotify._rdknotify import Record
from rdknotify.client import GroupClient, admit, check_accepted, deadline_after, remaining
from rdknotify.deadletter import count_from_zero, dead_letters, keep
from rdknotify.errors import AcknowledgeFailed, AuthorizationError, ClosedError, ConfigError, KafkaError
from rdknotify.events import ClientEvents, every_tick
from rdknotify.logged import Seldom
from rdknotify.options import for_role, resolve
from rdknotify.retry import Republisher
from rdknotify.topics import TopicPartition, check_name
from rdknotify.trouble import naming_options
from rdknotify.url import TransportURL

__all__ = ["ShareBatch", "ShareConsumer"]

log = logging.getLogger(__name__)

_ACCEPT, _RELEASE, _REJECT = 1, 2, 3
_STATE = -172
_EXPIRED = "INVALID_RECORD_STATE"

_SPARE_DELIVERIES = 2
"""What brokers allow beyond ``max_deliveries``: a record whose member died in its last delivery is yet to be buried."""
_WARN_AT = 0.25
_WARN_AT_LEAST = 2.0
"""The warning comes when this share of the lock is left, and as many seconds as two ticks take."""

_SLICE = 0.25
_REQUEST_TIMEOUT = 5.0
_GRACE = 1.0

_PASSING = frozenset({"_MAX_POLL_EXCEEDED", "_RESOLVE", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"})


class ShareBatch(tuple[Record, ...]):
    """Records that were acquired together; empty at the timeout.

    Attributes:
        deadline: when their lock expires at the earliest, in seconds of ``time.monotonic()``: settle them before.
    """

    deadline: float = 0.0

    @property
    def time_left(self) -> float:
        """Seconds until the deadline, never negative."""
        return remaining(self.deadline)

    def values(self) -> list[bytes | None]:
        """Every value."""
        return [record.value for record in self]


class ShareConsumer(GroupClient):
    """A member of a share group (Kafka 4.2 and later): records go to any member, in no promised order.

    **librdkafka calls its share consumer a preview**, not for production, whose behaviour may change.

    Every record that :meth:`poll` returns is settled before the next poll: :meth:`accept` (done), :meth:`release` (hand
    it out again, at once: there is no delay) or :meth:`reject` (never again). A record is handed out ``max_deliveries``
    times at most, whether it was released, its lock expired or its member died; then it is published as a dead letter,
    and rejected when that is confirmed. At least once: what fails in between is handed out, or published, again.

    The lock cannot be renewed: what is not settled within ``lock_duration`` seconds of being acquired (see
    :attr:`ShareBatch.deadline`) is handed out again while it is still worked on. That is logged before it happens, and
    :class:`~rdknotify.AcknowledgeFailed` tells it afterwards, unless another member has accepted the record by then.

    At construction the group is told ``share.auto.offset.reset`` (option ``start``; Kafka's own default would skip
    what is there before the first member), ``share.delivery.count.limit`` and ``share.record.lock.duration.ms``. Where
    that is not allowed a warning has the command for ``kafka-configs``. The last member that is made decides.

    One thread polls and settles; :meth:`close` is safe to call from any. Options: ``docs/options.md``; those of a
    producer are for the one that publishes dead letters.

    Args:
        topics: names; regular expressions are not possible.
        dead_letter: a topic; True: one named after the source topic and the group; False: dead letters are only logged.

    Raises:
        ConfigError: the URL, an argument, an option or a property is wrong, or not what brokers allow a group.
        AuthenticationError, Timeout: the cluster refused us, or did not answer within ``connect_timeout`` seconds.
    """

    _core: core.ShareConsumer
    _log = log

    def __init__(
        self,
        url: str | TransportURL,
        topics: Sequence[str],
        group: str | None = None,
        *,
        start: Literal["earliest", "latest"] | None = None,
        max_deliveries: int | None = None,
        lock_duration: float | None = None,
        dead_letter: str | bool = True,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if isinstance(topics, str) or not topics:
            raise ConfigError(f"topics={topics!r}: a list with at least one topic is needed")
        self._topics = [check_name(topic) for topic in topics]
        named = {
            "consumer_group": group,
            "start": start,
            "max_deliveries": max_deliveries,
            "lock_duration": lock_duration,
        }
        options |= {name: value for name, value in named.items() if value is not None}
        url = TransportURL.parse(url)
        for_producer = for_role(options, "producer")
        resolve(url, "producer", for_producer, config)  # checked now, though it is made later
        settings = resolve(url, "share consumer", for_role(options, "share consumer"), config)
        self._values = settings.values
        self._servers = url.bootstrap_servers
        self._dead_letters = dead_letters(dead_letter, partial(Republisher, url, config=config, **for_producer))
        self._closing = threading.Event()
        self._seldom = Seldom()
        self._joined = False
        self._waiting: deque[Record] = deque()
        """Acquired, not handed out yet."""
        self._held: set[Record] = set()
        """Handed out, not settled yet."""
        self._unsent = False
        self._deadline = 0.0
        self._warned = False
        with naming_options():
            self._core = core.ShareConsumer(settings.conf)
        self.events = ClientEvents(self._core.name)
        count_from_zero(self.group)
        try:
            admit(self, self._core, settings)
            if self._values["connect_timeout"] is not None:
                self._join()
            every_tick(self)
        except BaseException:
            green.call(self._core.shut)
            raise

    # -- what every client has ------------------------------------------------------------------------------------

    @property
    def group(self) -> str:
        """The share group."""
        return str(self._values["consumer_group"])

    @property
    def unsettled(self) -> frozenset[Record]:
        """The records that were handed out and are not settled yet."""
        return frozenset(self._held)

    def tick(self) -> None:
        """Warn, once a fetch, of records that are held until their lock is about to expire."""
        margin = max(_WARN_AT * self._values["lock_duration"], _WARN_AT_LEAST)
        if self._held and not self._warned and remaining(self._deadline) < margin:
            self._warned = True
            text = (
                f"{len(self._held)} records are not settled, and their lock expires in {remaining(self._deadline):.1f} "
                "s: then they are handed out again; settle fewer at once (max_records), or let the group have a longer "
                "lock_duration"
            )
            self._tell("lock_late", text, count=len(self._held))

    # -- the group ------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        """Tell the group how to behave, then join it: its first member decides where it begins."""
        settings = {
            "share.auto.offset.reset": str(self._values["start"]),
            "share.delivery.count.limit": str(self._values["max_deliveries"] + _SPARE_DELIVERIES),
            "share.record.lock.duration.ms": str(round(self._values["lock_duration"] * 1000)),
        }
        try:
            green.call(self._core.configure_group, self.group, settings, _REQUEST_TIMEOUT)
        except KafkaError as error:
            text = (
                f"the brokers do not take the settings of share group {self.group!r}: {error}; "
                f"max_deliveries={self._values['max_deliveries']}, lock_duration={self._values['lock_duration']:g}"
            )
            if error.name == "INVALID_CONFIG":
                raise ConfigError(f"{text}: choose others, or change the brokers' bounds (group.share.*)") from error
            if not isinstance(error, AuthorizationError):
                raise
            changes = ",".join(f"{name}={value}" for name, value in settings.items())
            command = f"kafka-configs --bootstrap-server {self._servers} --alter --group {self.group}"
            text += f". Somebody who may has to run: {command} --add-config {changes}"
            self._tell("group_settings", text, error)
        self._core.subscribe(self._topics)
        self._joined = True

    # -- records --------------------------------------------------------------------------------------------------

    def poll(self, max_records: int | None = None, timeout: float | None = 1.0) -> ShareBatch:
        """Return as soon as there is a record, with what was acquired up to ``max_records``; empty at the timeout.

        What was settled before is committed first, which may take ``commit_timeout`` seconds more. ``max_records``
        defaults to option ``max_poll_records``; ``timeout`` is in seconds, None waits until :meth:`close`. A fetch may
        acquire more than that: the rest is returned by later polls, and released if they come after its lock.

        Raises:
            AcknowledgeFailed: settling what was handed out before failed; the next poll goes on.
            KafkaError: ``_STATE`` while records are not settled; else what does not pass by itself, as authorization.
            PartialDeliveryError: a dead letter was not confirmed: what was acquired with it is released.
        """
        if max_records is not None and max_records < 1:
            raise ConfigError(f"max_records={max_records!r}: at least 1 is needed")
        limit = self._values["max_poll_records"] if max_records is None else max_records
        self._check_open()
        if self._held:
            text = (
                f"{len(self._held)} records are not settled: accept(), release() or reject() each before the next poll"
            )
            raise core.kafka_error(_STATE, text)
        if not self._joined:
            self._join()
        self.commit()
        self.drop_late()
        deadline = deadline_after(timeout)
        while not (self._waiting or self._closing.is_set()):
            check_accepted(self, self._core)
            self._acquire(min(_SLICE, remaining(deadline)))
            if not remaining(deadline):
                break
        return self._hand_out(limit)

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError(f"{self.name} was closed, or made before a fork of this process; make a new one")

    def _hand_out(self, limit: int) -> ShareBatch:
        batch = ShareBatch(islice(self._waiting, limit))
        batch.deadline = self._deadline
        self._held.update(batch)
        for _ in batch:
            self._waiting.popleft()
        return batch

    def _acquire(self, timeout: float) -> None:
        """Fetch once. What has been handed out often enough is buried, the others wait to be handed out."""
        batch = core.Batch()
        try:
            age = self._fetch(batch, timeout)
            for error in self._core.take_errors():
                self._tell("unreadable", f"a record could not be read: {error}", error)
            if age is None:
                return
            self._deadline = time.monotonic() - age + self._values["lock_duration"]
            self._warned = False
            last = self._values["max_deliveries"]
            if spent := [record for record in batch if record.delivery_count > last]:
                self._bury(spent, f"handed out {last} times and never settled in time: released, too late, or a crash")
            self._waiting.extend(record for record in batch if record.delivery_count <= last)
        except BaseException:
            # Acquired, and not handed on, because of Ctrl-C or a dead letter that was not confirmed: for the next one.
            self._waiting.clear()
            self._core.acknowledge(batch, _RELEASE)
            self._unsent = True
            raise

    def _fetch(self, batch: core.Batch, timeout: float) -> float | None:
        try:
            return green.call(self._core.poll, batch, timeout)
        except KafkaError as error:
            if self._closing.is_set():
                return None
            if error.fatal or not (error.retriable or error.name in _PASSING):
                raise
            if self._seldom.may(str(error)):
                self._tell("retrying", f"{error}; polling goes on", error)
            green.pause(timeout)  # it came at once, and would so again
            return None

    def drop_late(self) -> list[Record]:
        """If their lock has expired, let go of all records that are not settled; returns those that were handed out.

        Whoever handles records one after the other need not go on with these: another member may have them already.
        Raises AcknowledgeFailed, unless it only says that the lock had expired.
        """
        late = [*self._held, *self._waiting]
        if not late or remaining(self._deadline):
            return []
        self.commit()
        text = (
            f"{len(late)} records were acquired {self._values['lock_duration']:g} s ago and not settled since: they "
            "are released; a smaller max_poll_records acquires fewer at once"
        )
        self._tell("lock_late", text, count=len(late))
        dropped, self._held = [*self._held], set()
        self._waiting.clear()
        self._core.acknowledge(late, _RELEASE)
        failures = green.call(self._core.commit, self._values["commit_timeout"])
        if any(error.name != _EXPIRED for error in failures.values()):
            raise _failed(failures)
        return dropped

    # -- settling -------------------------------------------------------------------------------------------------

    def accept(self, records: Iterable[Record] | Record) -> None:
        """These are done with. Like the other two it only takes note: :meth:`commit`, or the next poll, sends it.

        Raises KafkaError ``_STATE`` for a record that was settled and committed before.
        """
        self._settle(records, _ACCEPT)

    def release(self, records: Iterable[Record] | Record) -> None:
        """Have these handed out again, at once and to any member; in its last delivery a record is rejected instead.

        Raises as :meth:`reject`.
        """
        wanted = _several(records)
        last = self._values["max_deliveries"]
        spent = [record for record in wanted if record.delivery_count >= last]
        self._settle([record for record in wanted if record.delivery_count < last], _RELEASE)
        self._bury(spent, f"handed out {last} times and released each time")

    def reject(self, records: Iterable[Record] | Record, reason: str | Sequence[str] = "rejected") -> None:
        """Never hand these out again: they are published as dead letters, and rejected when that is confirmed.

        ``reason`` is one for all, or one for each. Raises PartialDeliveryError or KafkaError when it is not confirmed:
        then they are held as before.
        """
        self._bury(_several(records), reason)

    def _bury(self, records: Sequence[Record], reason: str | Sequence[str]) -> None:
        reasons = [reason] * len(records) if isinstance(reason, str) else reason
        letters = sorted(zip(records, reasons, strict=True), key=_delivery_count)
        for count, alike in groupby(letters, _delivery_count):
            buried, why = zip(*alike, strict=True)
            keep(self._dead_letters, buried, why, self.group, count)
            self._settle(buried, _REJECT)

    def _settle(self, records: Iterable[Record] | Record, kind: int) -> None:
        self._check_open()
        settled = _several(records)
        if not settled:
            return
        self._core.acknowledge(settled, kind)
        self._unsent = True
        self._held.difference_update(settled)
        late = time.monotonic() - self._deadline
        if late > 0:
            text = f"{len(settled)} records were settled {late:.1f} s after their lock had expired: they may be handed "
            self._tell("lock_late", text + "out again", count=len(settled))

    def commit(self, timeout: float | None = None) -> None:
        """Send what was settled since the last commit and wait for the answers: ``commit_timeout`` seconds by default.

        Raises:
            AcknowledgeFailed: for the partitions it names. It is over all the same: nothing is sent again.
        """
        self._check_open()
        if not self._unsent:
            return
        limit = self._values["commit_timeout"] if timeout is None else timeout
        failures = green.call(self._core.commit, limit)
        self._unsent = False
        if failures:
            raise _failed(failures)

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self, timeout: float | None = None) -> None:
        """Commit what was settled, leave the group and release. Idempotent; what is not settled goes to other members.

        A poll in progress returns. When the brokers do not answer within ``timeout`` seconds (default:
        ``close_timeout``) what is not settled is free when its lock expires. Raises as :meth:`commit`, in the end.
        """
        if self.closed:
            return
        self._closing.set()
        deadline = deadline_after(self._values["close_timeout"] if timeout is None else timeout)
        grace = 0.0
        try:
            try:
                self.commit(remaining(deadline))
            finally:
                if not green.call(self._core.leave, remaining(deadline)):
                    self._tell("left_late", "it did not leave its share group in time; its session has to expire")
                grace = min(_GRACE, remaining(deadline))
        finally:
            self._waiting.clear()  # records keep the handle
            self._held.clear()
            green.call(self._core.shut, grace)
            self._dead_letters.close()

    def __del__(self) -> None:
        handle: core.ShareConsumer | None = getattr(self, "_core", None)
        if handle is not None and not handle.closed:
            warnings.warn(f"{self.name} was not closed", ResourceWarning, stacklevel=2, source=self)


def _several(records: Iterable[Record] | Record) -> Sequence[Record]:
    return (records,) if isinstance(records, Record) else tuple(records)


def _delivery_count(letter: tuple[Record, str]) -> int:
    return letter[0].delivery_count


def _failed(failures: Mapping[shapes.Partition, KafkaError]) -> AcknowledgeFailed:
    texts = (
        f"{topic}[{partition}]: {_explained(error)}" for (topic, partition), error in sorted(failures.items(), key=str)
    )
    first = next(iter(failures.values()))
    error = core.kafka_error(first.code, "; ".join(texts), kind=AcknowledgeFailed)
    assert isinstance(error, AcknowledgeFailed)
    error.failures = {TopicPartition(*place): error for place, error in failures.items()}
    return error


def _explained(error: KafkaError) -> str:
    if error.name == _EXPIRED:
        return "the lock had expired: the records are handed out again"
    return f"the outcome is unknown, the records may be handed out again: {error}"
