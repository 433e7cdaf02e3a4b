"""Hand notifications to a receiver that answers for each of them, later and from any thread.

One thread (*the pump*) polls, commits and hands out; the receiver's threads answer. What is shared between them is
changed under one lock, which is never held while something waits.

* ``settle="before"``: a slice of records is committed, then handed out; the next slice is taken when half of what may
  wait has been begun, so that offsets are never further ahead than what waits.
* ``settle="after"``: an offset is committed when all before it, of its partition, have been answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rdknotify import service
from rdknotify._rdknotify import Record
from rdknotify.envelope import decode_message
from rdknotify.errors import EnvelopeError, KafkaError, PartialDeliveryError, Timeout
from rdknotify.handout import Collector, Crew, Lanes, Progress
from rdknotify.intake import Counts, Intake, positions
from rdknotify.logged import Seldom, error_name, place, tell
from rdknotify.url import TransportURL

__all__ = ["Feed", "Item"]

log = logging.getLogger(__name__)

DEEPEST = 16
"""Calls that a worker does inside the answer to the one before, one in the other."""
JOIN_TIMEOUT = 5.0
"""Seconds that ``start()`` waits for partitions, of which there may be none."""
ANSWER_TIMEOUT = 5.0
"""Seconds that a rebalance is held up by endpoints at work, whose notifications would be seen again elsewhere."""
REST_AFTER = 1.0
"""Seconds without room after which the pump takes part in rebalances only."""
PAUSE = 1.0
"""Seconds until the pump tries again what Kafka has refused."""
LISTED = 100
"""Notifications that a log line names."""


_Read = tuple[Record, dict[str, Any] | None, Any]
"""A record, the notification in it and its context; or None and why it is none."""


def _read(record: Record) -> _Read:
    try:
        return (record, *decode_message(record.value or b""))
    except EnvelopeError as error:
        return record, None, f"not a notification: {error}"


class _Unit:
    """Records that are handed over in one call."""

    __slots__ = ("again", "begun", "depth", "left", "records", "size")

    def __init__(self, records: list[_Read]) -> None:
        self.records = records
        self.size = self.left = len(records)
        """How many notifications there are, and how many of them are not answered."""
        self.again = 0
        """How many are wanted again."""
        self.begun = False
        self.depth = 0


class _Call:
    """What the items of one call have in common. When they are gone without an answer, it makes that known."""

    __slots__ = ("_abandoned", "unit")

    def __init__(self, unit: _Unit, abandoned: deque[_Unit]) -> None:
        self.unit = unit
        self._abandoned = abandoned

    def __del__(self) -> None:
        if self.unit.left:
            self._abandoned.append(self.unit)


class _Items(list[Any]):
    """The items of one call, as they are handed over: who looks into it has begun."""

    feed: Feed
    unit: _Unit

    def __iter__(self) -> Iterator[Any]:
        if not self.unit.begun:
            self.feed._begun(self.unit)
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        if not self.unit.begun:
            self.feed._begun(self.unit)
        return super().__getitem__(index)


class Item:
    """A notification in its receiver's hands. Every one is answered once; further answers do nothing. Thread-safe.

    Attributes:
        ctxt: the request's context.
        message: the notification's fields by name.
        record: where it came from.
    """

    __slots__ = ("_answered", "_call", "_feed", "_progress", "ctxt", "message", "record")

    def __init__(
        self,
        feed: Feed,
        call: _Call,
        progress: Progress | None,
        record: Record,
        message: dict[str, Any],
        ctxt: dict[str, Any],
    ) -> None:
        self._feed = feed
        self._call = call
        self._progress = progress
        self._answered = False
        self.record = record
        self.message = message
        self.ctxt = ctxt

    def done(self) -> None:
        """It need not be seen again."""
        self._answer(again=False)

    def again(self) -> None:
        """It is wanted again: with ``settle="after"`` after ``retry_delay``, else this is counted as ``refused``."""
        self._answer(again=True)

    def _answer(self, again: bool) -> None:
        feed, unit = self._feed, self._call.unit
        with feed._lock:
            if self._answered:
                return
            self._answered = True
            if again:
                feed._want_again(self)
                unit.again += 1
            elif self._progress is not None:
                self._progress.done(self.record.offset)
            unit.left -= 1
            if unit.left:
                return
        feed._go_on(unit)


class Feed(service.Service):
    """Takes the notifications of some topics for a consumer group, and hands them to ``receive``.

    ``receive`` gets a list of items: one, or with ``batch_size`` up to so many; it must not wait, and is called from
    the pump or from a thread that answers; who looks into the list has begun to work on it. At most
    ``max_poll_records`` (or one batch, if that is more) are taken and not begun. With several ``workers`` items whose
    records have the same key are handed over one after the other's answer; with one, all are handed over in their
    order.

    ``start()`` returns when the group has given it partitions, or after ``JOIN_TIMEOUT``. Where the cluster does not
    answer, that is logged, and tried for ever.

    Args:
        topics: whole names.
        item: the class of items, made with Item's arguments.
        workers: how many calls may be worked on side by side.
        work: does what ``receive`` has done later, at once: the next call of a worker that has just answered, which
            saves the way through its queue.
        batch_timeout: seconds to wait for a batch to fill; None or 0: hand out what is there.

    Raises:
        ConfigError: an option or argument is wrong.
    """

    def __init__(
        self,
        url: str | TransportURL,
        topics: Sequence[str],
        receive: Callable[[list[Any]], object],
        *,
        group: str | None = None,
        item: type[Item] = Item,
        workers: int = 1,
        work: Callable[[list[Any]], object] | None = None,
        batch_size: int | None = None,
        batch_timeout: float | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._intake = Intake(
            url, topics, group=group, dead_letter=None, config=config, options=options, on_revoked=self._on_revoked
        )
        super().__init__(f"feed of {self._intake.group}", self._intake.stop_timeout)
        self._receive = receive
        self._work_on = work
        self._item = item
        self._single = batch_size is None
        self._side_by_side = workers > 1
        self._bound = max(self._intake.max_records, batch_size or 1)
        self._collector: Collector[Record] = Collector(batch_size, batch_timeout or 0.0)
        self._lock = threading.Lock()
        self._lanes: Lanes[_Unit] = Lanes()
        self._crew: Crew[_Unit] = Crew(workers)
        self._abandoned: deque[_Unit] = deque()
        self._progress: dict[tuple[str, int], Progress] = {}
        self._wanted: list[Item] = []
        self._poison: list[tuple[Record, str, Progress | None]] = []
        self._waiting = 0
        """Records handed out and not begun."""
        self._unanswered = 0
        self._wake = threading.Event()
        self._listens = False
        """Whether the pump waits to be woken."""
        self._joined = threading.Event()
        self._quiet = threading.Event()
        self._leaving = False
        self._blocked_since: float | None = None
        self._broken = False
        self._keep_after = 0.0
        self._seldom = Seldom()

    @property
    def counts(self) -> Counts:
        """What was done since the start; ``handled`` are those that were answered by ``done``."""
        return self._intake.counts

    # -- what the receiver's threads call ------------------------------------------------------------------------

    def _begun(self, unit: _Unit) -> None:
        with self._lock:
            if unit.begun:
                return
            unit.begun = True
            self._waiting -= unit.size
            wake = self._listens and self._has_room()
        if wake:
            self._wake.set()

    def _want_again(self, item: Item) -> None:
        if item._progress is None:
            self.counts.refused += 1
        else:
            self._wanted.append(item)

    def _go_on(self, unit: _Unit) -> None:
        """All of the unit is answered: its worker gets the next one."""
        if not unit.begun:
            self._begun(unit)
        at_once = self._work_on is not None and unit.depth < DEEPEST
        while (following := self._next(unit)) is not None:
            following.depth = unit.depth + 1 if at_once else 0
            if items := self._items(following):
                hand_over = self._work_on if at_once else self._receive
                assert hand_over is not None
                hand_over(items)
                return
            unit = following  # of poison alone

    def _next(self, unit: _Unit) -> _Unit | None:
        """The unit has ended; the next one, if there is one for its worker."""
        with self._lock:
            self.counts.handled += unit.size - unit.again - unit.left
            self._unanswered -= unit.size
            if self._side_by_side:
                self._crew.enter(self._free(unit), time.monotonic())
            following = self._crew.go_on()
            wake = self._listens and self._stopping
        if wake:
            self._wake.set()
        return following

    def _items(self, unit: _Unit) -> _Items:
        """The notifications in the unit's records, to be handed over; what is none is put aside."""
        call = _Call(unit, self._abandoned)
        items, records, unit.records = _Items(), unit.records, []
        items.feed, items.unit = self, unit
        after = self._intake.settle_after
        poison: list[tuple[Record, str, Progress | None]] = []
        for record, message, ctxt in records:
            progress = self._progress.get(_partition(record)) if after else None
            if message is None:
                poison.append((record, ctxt, progress))
            else:
                items.append(self._item(self, call, progress, record, message, ctxt))
        if poison:
            self._put_aside(unit, poison)
        return items

    def _put_aside(self, unit: _Unit, poison: list[tuple[Record, str, Progress | None]]) -> None:
        with self._lock:
            self.counts.poison += len(poison)
            self._poison += poison
            self._waiting -= len(poison)
            self._unanswered -= len(poison)
            unit.size -= len(poison)
            unit.left -= len(poison)

    def _free(self, unit: _Unit) -> list[_Unit]:
        """The units that may go when this one has left; those that were withdrawn leave as well."""
        freed: list[_Unit] = []
        left = [unit]
        for each in left:
            for first in self._lanes.leave(each):
                (freed if first.size else left).append(first)
        return freed

    def _has_room(self) -> bool:
        return self._waiting <= self._bound // 2

    # -- the pump: one life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """As :meth:`Service.start`, and wait until the group has given it partitions, ``JOIN_TIMEOUT`` at most."""
        super().start()
        self._joined.wait(JOIN_TIMEOUT)

    def _open(self) -> None:
        try:
            self._intake.open()
        except Timeout as error:
            self._tell_retry(f"{error}; it is tried until the cluster answers", error)
            self._joined.set()
            self._intake.close()
            self._intake.open(check=False)

    def _step(self) -> None:
        try:
            self._take_and_hand_out()
        except KafkaError as error:
            self._tell(error)
            self._broken = self._broken or error.fatal
            self._sleep(PAUSE)

    def _take_and_hand_out(self) -> None:
        if self._broken:
            self._begin_anew()
        self._settle()
        self._call_workers()
        now = time.monotonic()
        wait = self._collector.wait(Crew.STALLED if self._crew else service.STEP_WAIT, now)
        room = self._bound - self._waiting - len(self._collector)
        if room > 0 and self._has_room():
            self._blocked_since = None
            arrived = self._intake.receive(self._collector.room(room), wait)
        else:
            arrived = self._without_room(wait, now)
        if not self._joined.is_set() and self._intake.has_joined:
            self._joined.set()
        self._collector.add(arrived, time.monotonic())
        self._hand_out(self._collector.take(time.monotonic()))

    def _without_room(self, wait: float, now: float) -> list[Record]:
        self._blocked_since = self._blocked_since or now
        if now - self._blocked_since >= REST_AFTER:
            return self._intake.rest(wait)
        self._sleep(wait, until_room=True)
        return []

    def _sleep(self, seconds: float, until_room: bool = False) -> None:
        """For so long, or until the receiver makes room."""
        self._wake.clear()
        self._listens = True
        if not (until_room and self._has_room()):
            self._wake.wait(seconds)
        self._listens = False

    def _begin_anew(self) -> None:
        """With new clients, at the committed offsets; what is handed out is answered all the same."""
        self._intake.close()
        self._collector.clear()
        self._progress.clear()
        self._intake.open(check=False)
        self._broken = False

    def _drain(self) -> None:
        if not self._intake.settle_after:
            self._hand_out_the_rest()
        self._drop_waiting()
        self._quiet.set()
        while self._intake.settle_after and self._unanswered and not self._leaving:
            self._rest_and_settle()
        self._settle(last=True)
        if self._poison and not self._intake.settle_after:
            self._tell_lost("committed, and not kept as dead letters", [record for record, _, _ in self._poison])

    def _hand_out_the_rest(self) -> None:
        """What is committed is seen now or never."""
        deadline = time.monotonic() + self._stop_timeout
        while self._hands_are_full() and time.monotonic() < deadline:
            self._call_workers()
            self._rest_and_settle()

    def _hands_are_full(self) -> bool:
        with self._lock:
            return bool(self._crew or self._lanes.waiting)

    def _drop_waiting(self) -> None:
        """No worker gets what still waits. What was not committed goes to the next owner."""
        with self._lock:
            dropped = self._crew.waiting + self._lanes.drop_waiting()
            self._crew.drop(set(dropped))
            self._count(dropped, -1)
        if dropped and not self._intake.settle_after:
            lost = [record for unit in dropped for record, _, _ in unit.records]
            limit = f"stop_timeout={self._stop_timeout:g} s"
            self._tell_lost(f"{len(lost)} records are committed and were not handed out within {limit}", lost)

    def _tell_lost(self, text: str, lost: Sequence[Record]) -> None:
        group = self._intake.group
        named = ", ".join(f"{record.topic}-{record.partition} {record.offset}" for record in lost[:LISTED])
        where = {"group": group, "count": len(lost), **place(lost[0])}
        tell(log, "records_lost", "group %s: %s: %s", group, text, named, **where)

    def _rest_and_settle(self) -> None:
        try:
            self._settle()
            self._intake.rest(0.0)  # what comes is not committed: the next owner gets it
        except KafkaError as error:
            self._tell(error)
        self._sleep(Crew.STALLED if self._crew else service.STEP_WAIT)

    def _close(self) -> None:
        self._joined.set()
        self._quiet.set()
        self._intake.close()

    def quiesce(self, timeout: float | None = None) -> bool:
        """After ``stop()``: wait until nothing more is handed over; false after ``timeout`` seconds."""
        return self._pid is None or self._quiet.wait(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Stop, settle what was answered, leave the group. Raises as :meth:`Service.close`."""
        self._leaving = True
        super().close(timeout)

    def _at_exit(self) -> None:
        self._leaving = True
        super()._at_exit()

    # -- the pump: handing out -------------------------------------------------------------------------------------

    def _hand_out(self, records: list[Record]) -> None:
        if not records:
            return
        read: list[_Read] = []
        if self._intake.settle_after:
            read += map(_read, records)
        elif not self._intake.commit(positions(records), meanwhile=lambda: read.extend(map(_read, records))):
            self._collector.put_back(records)
            self._sleep(service.STEP_WAIT)
            return
        units = [_Unit([each]) for each in read] if self._single else [_Unit(read)]
        with self._lock:
            if self._intake.settle_after:
                self._follow(records)
            self._count(units, 1)
            if self._side_by_side:
                units = [unit for unit in units if self._lanes.enter(unit, _keys(unit))]
            self._crew.enter(units, time.monotonic())
        self._call_workers()

    def _call_workers(self) -> None:
        while self._abandoned:
            unit = self._abandoned.popleft()
            text, group = "group %s: %d notifications were not answered by their endpoint", self._intake.group
            tell(log, "endpoint_failed", text, group, unit.left, group=group, count=unit.left)
            unit.depth = DEEPEST  # the next one is not to be worked on here
            self._go_on(unit)
        if self._crew:
            with self._lock:
                called = self._crew.call(time.monotonic(), time.process_time())
            for unit in called:
                if items := self._items(unit):
                    self._receive(items)
                else:
                    unit.depth = DEEPEST
                    self._go_on(unit)

    def _count(self, units: Sequence[_Unit], sign: int) -> None:
        size = sign * sum(unit.size for unit in units)
        self._waiting += size
        self._unanswered += size

    def _follow(self, records: list[Record]) -> None:
        for record in records:
            progress = self._progress.get(_partition(record))
            if progress is None:
                progress = self._progress[_partition(record)] = Progress()
            progress.enter((record.offset,))

    # -- the pump: settling ----------------------------------------------------------------------------------------

    def _settle(self, last: bool = False) -> None:
        """Put what is wanted again, or is poison, where it is safe; commit what is done with."""
        if (self._wanted or self._poison) and (last or time.monotonic() >= self._keep_after):
            try:
                self._keep()
            except (KafkaError, PartialDeliveryError) as error:
                self._tell(error)
                self._keep_after = time.monotonic() + PAUSE
        if self._intake.settle_after:
            self._commit(self._progress)

    def _keep(self) -> None:
        with self._lock:
            poison, wanted = list(self._poison), list(self._wanted)
        if poison:
            self._intake.bury([record for record, _, _ in poison], [reason for _, reason, _ in poison])
            with self._lock:
                self._finish((record, progress) for record, _, progress in poison)
                del self._poison[: len(poison)]
        if wanted:
            self._intake.requeue([item.record for item in wanted])
            with self._lock:
                self._finish((item.record, item._progress) for item in wanted)
                del self._wanted[: len(wanted)]

    def _finish(self, kept: Iterable[tuple[Record, Progress | None]]) -> None:
        for record, progress in kept:
            if progress is not None:
                progress.done(record.offset)

    def _commit(self, partitions: Collection[tuple[str, int]]) -> None:
        with self._lock:
            reached = {
                partition: progress.next
                for partition in partitions
                if (progress := self._progress.get(partition)) is not None and progress.next is not None
            }
        if reached and self._intake.commit(reached):
            with self._lock:
                for partition, offset in reached.items():
                    if self._progress[partition].next == offset:
                        self._progress[partition].next = None

    def _on_revoked(self, partitions: set[tuple[str, int]], lost: bool) -> None:
        self._collector.forget(partitions)
        if not self._intake.settle_after:
            return
        self._withdraw(partitions)
        if not lost:
            # What its endpoints are done with by now need not be seen again by the next owner.
            deadline = time.monotonic() + (0.0 if self._stopping else ANSWER_TIMEOUT)
            while any(self._progress.get(each) for each in partitions) and time.monotonic() < deadline:
                self._settle()
                time.sleep(0.01)
            self._settle()
        for partition in partitions:
            self._progress.pop(partition, None)
        with self._lock:
            self._wanted = [item for item in self._wanted if _partition(item.record) not in partitions]
            self._poison = [entry for entry in self._poison if _partition(entry[0]) not in partitions]

    def _withdraw(self, partitions: set[tuple[str, int]]) -> None:
        """Take out what has not been handed over of these partitions: the next owner gets it."""
        with self._lock:
            ready = self._crew.waiting
            for unit in [*self._lanes.waiting, *ready]:
                self._count([unit], -1)
                unit.records = [each for each in unit.records if _partition(each[0]) not in partitions]
                unit.size = unit.left = len(unit.records)
                self._count([unit], 1)
            emptied = {unit for unit in ready if not unit.size}
            self._crew.drop(emptied)
            for unit in emptied:
                self._crew.enter(self._free(unit), time.monotonic())

    def _tell_retry(self, text: str, error: Exception) -> None:
        fields: dict[str, Any] = {"group": self._intake.group, "error": error_name(error)}
        tell(log, "retrying", "group %s: %s", self._intake.group, text, level=logging.ERROR, **fields)

    def _tell(self, error: Exception) -> None:
        if self._seldom.may(str(error)):
            self._tell_retry(f"{error}; trying again", error)


def _partition(record: Record) -> tuple[str, int]:
    return record.topic, record.partition


def _keys(unit: _Unit) -> Collection[tuple[str, bytes]]:
    return {(record.topic, record.key) for record, _, _ in unit.records if record.key is not None}
