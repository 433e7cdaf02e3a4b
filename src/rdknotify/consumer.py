"""Consuming records in batches: group membership, the two commit modes, positions.

What the group coordinator takes and gives is answered inside :meth:`Consumer.poll`, in the polling thread. Each time a
partition is assigned it gets a new *generation*; a batch remembers the generations it was polled in, so that it never
commits a partition that was taken away since, even if it came back.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, TypeAlias

from rdknotify import _rdknotify as core
from rdknotify import green, metrics, shapes
from rdknotify.client import GroupClient, admit, check_accepted, deadline_after, remaining
from rdknotify.coordinator import patiently
from rdknotify.errors import ClosedError, CommitFailed, ConfigError, KafkaError
from rdknotify.events import ClientEvents
from rdknotify.meters import timed_commit
from rdknotify.options import resolve
from rdknotify.topics import TopicPartition, check_subscription
from rdknotify.trouble import naming_options
from rdknotify.url import TransportURL

__all__ = ["Batch", "Consumer", "OnAssigned", "OnRevoked"]

log = logging.getLogger(__name__)

OnAssigned: TypeAlias = Callable[[list[TopicPartition]], Mapping[TopicPartition, int] | None]
"""Given partitions, returns where to start in those that shall not start at the committed offset."""
OnRevoked: TypeAlias = Callable[[list[TopicPartition], bool], object]
"""Given partitions that are about to go, and whether they are lost: another member may have them already."""
Positions: TypeAlias = "Mapping[TopicPartition, int] | Mapping[shapes.Partition, int] | Sequence[shapes.Position]"
_Generations: TypeAlias = "Mapping[shapes.Partition, int]"
_Rebalance: TypeAlias = "tuple[str, list[shapes.Partition], bool]"

_COMMITTED = -1001
_EARLIEST = -2
_LATEST = -1
_UNKNOWN_EPOCH = -1
_ASSIGNMENT_LOST = -142
_SLICE = 0.25
_PAUSE = 0.02
_REQUEST_TIMEOUT = 5.0
_GRACE = 1.0
_CREATION_WAIT = 2.0

# Outages are told by librdkafka's error events; here they need no second word.
_PASSING = frozenset({"_PARTITION_EOF", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT"})
_NOT_YET = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "LEADER_NOT_AVAILABLE"})
_REGROUPING = frozenset({"REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "_ASSIGNMENT_LOST"})
_REGROUPING |= {"STALE_MEMBER_EPOCH", "FENCED_MEMBER_EPOCH"}


class Batch(core.Batch):
    """Records of one poll: a sequence of :class:`~rdknotify.Record`, per partition in order; empty at the timeout."""

    _consumer: Consumer
    _generations: _Generations

    def commit(self, timeout: float | None = None, wait: bool = True) -> None:
        """Commit exactly this batch: for each of its partitions the offset after its last record.

        Partitions that were taken away since are not committed; the others are, then CommitFailed names them. Callable
        from any thread. ``timeout`` defaults to ``commit_timeout``; without ``wait`` the commit is only sent.

        Raises:
            CommitFailed: the records will be delivered again, here or to another member.
            Timeout: no answer; they may be delivered again.
            ConfigError: with ``commit="before"`` the batch was committed before it was returned.
        """
        self._consumer._commit_batch(self, timeout, wait)


class Consumer(GroupClient):
    """A member of a consumer group that polls batches of records.

    ``topics`` are names; one that starts with ``^`` is a regular expression over all topics of the cluster. New topics,
    also named ones that do not exist yet, are found within a second. ``commit="after"`` leaves it to the caller to
    commit what was done; ``commit="before"`` commits each batch before :meth:`poll` returns it. ``start`` (or option
    ``start``) says where the group begins in a partition without a committed offset: ``"latest"`` means the end of
    those that existed when this consumer was made, and the beginning of younger ones. With option
    ``create_topics``, brokers create named topics that are absent, if they may, before the group is joined.

    ``on_assigned`` and ``on_revoked`` are called inside :meth:`poll` and :meth:`close`. If ``on_assigned`` raises, the
    exception comes out of ``poll``, nothing is read from these partitions, and the next ``poll`` calls it again. If
    ``on_revoked`` raises, the partitions go all the same, then the exception comes out.

    One thread polls at a time; the other methods are safe to call from any.

    Raises:
        ConfigError: the URL, an argument, an option or a property is wrong.
        AuthenticationError, Timeout: the cluster refused us, or did not answer within ``connect_timeout`` seconds.
    """

    _core: core.Consumer
    _log = log

    def __init__(
        self,
        url: str | TransportURL,
        topics: Sequence[str],
        group: str | None = None,
        *,
        commit: Literal["before", "after"] = "after",
        start: Literal["earliest", "latest"] | None = None,
        config: Mapping[str, Any] | None = None,
        on_assigned: OnAssigned | None = None,
        on_revoked: OnRevoked | None = None,
        **options: Any,
    ) -> None:
        if commit not in ("before", "after"):
            raise ConfigError(f"commit={commit!r}: 'before' or 'after' is needed")
        subscription = check_subscription(topics)
        named = {"consumer_group": group, "start": start}
        options |= {name: value for name, value in named.items() if value is not None}
        settings = resolve(TransportURL.parse(url), "consumer", options, config)
        self._commit_mode, self._values = commit, settings.values
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._turn = threading.RLock()
        """Held by who polls or closes."""
        self._assignment = threading.RLock()
        """Held while the assignment changes and while offsets are committed: neither overtakes the other."""
        self._closing = threading.Event()
        self._generations: _Generations = {}
        self._next_generation, self._told = itertools.count(1), set[str]()
        self._unanswered: _Rebalance | None = None
        self._rewind: dict[shapes.Partition, int] = {}
        self._starts: dict[shapes.Partition, int | None] = {}
        self._ends: dict[shapes.Partition, int] = {}
        self._existing: frozenset[shapes.Partition] | None = None
        with naming_options():
            self._core = core.Consumer(settings.conf)
        self.events = ClientEvents(self._core.name)
        self._labels: tuple[str, str] = self.events.client_id, self._values["consumer_group"]
        try:
            admit(self, self._core, settings)
            if self._starts_latest and self._values["connect_timeout"] is not None:
                self._existing = self._existing_partitions()
            if self._values["create_topics"]:
                self._have_created(subscription)
            self._begin(subscription)
        except BaseException:
            green.call(self._core.shut)
            raise

    def _begin(self, subscription: Sequence[str]) -> None:
        """Ask for partitions: the group gives them."""
        self._core.subscribe(subscription)

    def _have_created(self, subscription: Sequence[str]) -> None:
        """Ask for topics, so that brokers that may create them do, and those who join the group find them there."""
        deadline = deadline_after(_CREATION_WAIT)
        absent = [topic for topic in subscription if not topic.startswith("^")]
        while absent and remaining(deadline):
            try:
                absent = [topic for topic in absent if not self._is_there(topic, remaining(deadline))]
            except KafkaError as error:
                log.info("%s: topics are not asked for: %s", self.name, error)
                return
            green.pause(_PAUSE if absent else 0)

    def _is_there(self, topic: str, timeout: float) -> bool:
        return bool(green.call(self._core.metadata, topic, timeout)["topics"].get(topic))

    # -- records --------------------------------------------------------------------------------------------------

    def poll(self, max_records: int | None = None, timeout: float | None = 1.0) -> Batch:
        """Return as soon as there is a record, with what is ready up to ``max_records``; an empty batch at the timeout.

        ``max_records`` defaults to option ``max_poll_records``; ``timeout`` is in seconds, None waits until
        :meth:`close`. Rebalances are answered inside, calling the hooks.

        Raises KafkaError for what does not pass by itself, as AuthorizationError and AuthenticationError, and with
        ``commit="before"`` for a commit that failed; the records of that commit are delivered by a later poll.
        """
        if max_records is not None and max_records < 1:
            raise ConfigError(f"max_records={max_records!r}: at least 1 is needed")
        limit = self._values["max_poll_records"] if max_records is None else max_records
        self._check_open()
        deadline = deadline_after(timeout)
        if not self._turn.acquire(timeout=-1 if timeout is None else remaining(deadline)):
            return self._new_batch()
        try:
            return self._poll(limit, deadline)
        finally:
            self._turn.release()

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches that are not empty, until :meth:`close` is called, by whichever thread."""
        while not self._closing.is_set():
            try:
                batch = self.poll(timeout=_SLICE)
            except ClosedError:
                if not self._closing.is_set():
                    raise
                return
            if batch:
                yield batch

    def _check_open(self) -> None:
        # Before any lock: in a forked child it may be held for ever.
        if self.closed:
            raise ClosedError(f"{self.name} was closed, or made before a fork of this process; make a new one")

    def _new_batch(self) -> Batch:
        batch = Batch()
        batch._consumer = self
        return batch

    def _poll(self, limit: int, deadline: float) -> Batch:
        while True:
            if self._rewind:
                self._seek_back()
            self._answer_rebalance()
            batch = self._new_batch()
            try:
                found = self._fill(batch, limit, min(_SLICE, remaining(deadline)))
                batch._generations = self._generations
                if found and self._settled(batch):
                    return batch
            except BaseException:
                # Taken from librdkafka and not handed on, because of Ctrl-C or a failed commit: to be delivered again.
                self._remember(batch)
                raise
            self._answer_rebalance()
            self._judge(self._core.take_errors())
            check_accepted(self, self._core)
            if not remaining(deadline) or self._closing.is_set():
                return self._new_batch()

    def _fill(self, batch: Batch, limit: int, timeout: float) -> bool:
        if not green.patched():
            return self._core.poll(batch, limit, timeout)
        green.pause(0)  # while there is always something ready, nothing else would let the others have their turn
        if self._core.poll(batch, limit, 0.0) or not timeout:
            return bool(batch)
        return green.call(self._core.poll, batch, limit, timeout)

    def _settled(self, batch: Batch) -> bool:
        """Commit the batch if that comes before its return; false if a rebalance came in between."""
        if self._commit_mode == "after":
            return True
        try:
            self._commit(batch.positions(), batch._generations, None, wait=True)
        except KafkaError as error:
            if error.name not in _REGROUPING:
                raise
            log.info("%s: %d records wait until the group has settled: %s", self.name, len(batch), error)
            self._remember(batch)
            return False
        return True

    def _remember(self, batch: Batch) -> None:
        """These records were not handed on: begin with the first of them again."""
        for topic, partition, offset in reversed(batch.origins()):
            self._rewind[topic, partition] = offset

    def _seek_back(self) -> None:
        owned = [(*partition, offset) for partition, offset in self._rewind.items() if partition in self._generations]
        self._seek(owned, _REQUEST_TIMEOUT)
        self._rewind.clear()  # what went away begins again elsewhere, at the committed offset

    def _judge(self, errors: Iterable[KafkaError]) -> None:
        """Raise the first error that does not pass by itself, log the others."""
        serious = [error for error in errors if error.fatal or not self._passes(error)]
        for error in serious[1:]:
            self._tell("unreadable", str(error), error)
        if serious:
            raise serious[0]

    def _passes(self, error: KafkaError) -> bool:
        if error.name in _NOT_YET:
            if str(error) not in self._told:
                self._told.add(str(error))
                self._tell("topic_absent", f"{error}; its records come as soon as it is there", error)
            return True
        if error.name == "_MAX_POLL_EXCEEDED":
            remedy = "polling joins the group again; take fewer records at a time (max_poll_records)"
            self._tell("poll_late", f"{error}; its partitions went to others, {remedy}", error)
            return True
        return error.retriable or error.name in _PASSING

    # -- rebalances -----------------------------------------------------------------------------------------------

    def _answer_rebalance(self) -> None:
        """Answer one rebalance if there is one; an assignment that cannot be placed yet is kept for the next call."""
        self._unanswered = self._unanswered or self._core.take_rebalance()
        if self._unanswered is None:
            return
        kind, partitions, incremental = self._unanswered
        if kind == "assign":
            offsets = self._place(partitions)
            if offsets is not None:
                self._take_on(offsets, incremental)
        else:
            self._give_up(partitions, incremental, lost=kind == "lost")

    def _place(self, partitions: Sequence[shapes.Partition]) -> list[shapes.Offset] | None:
        """Where to start in each; None while the cluster does not tell."""
        starts: dict[shapes.Partition, int] = {}
        if self._on_assigned is not None and partitions:
            placed = self._on_assigned([TopicPartition(*partition) for partition in partitions]) or {}
            starts = {(topic, partition): offset for (topic, partition), offset in placed.items()}
        unplaced = [partition for partition in partitions if partition not in starts]
        if unplaced and self._starts_latest:
            try:
                starts.update(self._latest_starts(unplaced))
            except KafkaError as error:
                if error.fatal or not (error.retriable or error.name in _PASSING):
                    raise
                self._tell("retrying", f"cannot tell yet where to start: {error}", error)
                return None
        return [(*partition, starts.get(partition, _COMMITTED)) for partition in partitions]

    def _count_rebalance(self, event: str) -> None:
        metrics.add(metrics.REBALANCES, 1, *self._labels, event)

    def _take_on(self, offsets: Sequence[shapes.Offset], incremental: bool) -> None:
        self._count_rebalance("assigned")
        generation = next(self._next_generation)
        begun = {(topic, partition): generation for topic, partition, _ in offsets}
        with self._assignment:
            self._core.assign(offsets, incremental)
            self._generations = {**self._generations, **begun} if incremental else begun
        self._note_starts(offsets)
        self._unanswered = None
        self._tell_partitions("assigned", begun)

    def _give_up(self, partitions: Sequence[shapes.Partition], incremental: bool, lost: bool) -> None:
        self._unanswered = None
        self._count_rebalance("lost" if lost else "revoked")
        known = [TopicPartition(*partition) for partition in partitions if partition in self._generations]
        self._tell_partitions("partitions_lost" if lost else "revoked", known)
        if lost:
            self._forget(partitions)
        try:
            if known and self._on_revoked is not None:
                self._on_revoked(known, lost)
        finally:
            with self._assignment:
                self._forget(partitions)
                self._core.unassign(partitions, incremental)
                with suppress(KafkaError):  # librdkafka would keep those paused that come back; some it never knew
                    self._core.resume(partitions)

    def _forget(self, partitions: Iterable[shapes.Partition]) -> None:
        # Replaced, never changed: batches hold the mapping of their time.
        gone = set(partitions)
        with self._assignment:
            self._generations = {key: number for key, number in self._generations.items() if key not in gone}

    @property
    def _starts_latest(self) -> bool:
        return bool(self._values["start"] == "latest")

    def _existing_partitions(self) -> frozenset[shapes.Partition]:
        known = green.call(self._core.metadata, None, _REQUEST_TIMEOUT)["topics"]
        return frozenset((topic, partition) for topic, partitions in known.items() for partition in partitions)

    def _latest_starts(self, partitions: Sequence[shapes.Partition]) -> dict[shapes.Partition, int]:
        """Where to start without a committed offset; committed at once, so that a later owner starts there too."""
        if self._existing is None:
            self._existing = self._existing_partitions()
        committed = green.call(self._core.committed, partitions, _REQUEST_TIMEOUT)
        fresh = {partition for partition in partitions if committed[partition] is None}
        starts = self._look_up(fresh & self._existing, _LATEST, _REQUEST_TIMEOUT)
        starts |= self._look_up(fresh - self._existing, _EARLIEST, _REQUEST_TIMEOUT)
        if starts:
            self._commit_starts(starts)
        return starts

    def _commit_starts(self, starts: Mapping[shapes.Partition, int]) -> None:
        try:
            green.call(self._core.commit, _with_epoch(starts), self._values["commit_timeout"])
        except KafkaError as error:
            # Only a further rebalance before the first commit would make a difference; it must not be held up.
            text = f"start of {len(starts)} partitions not committed: {error}"
            self._tell("not_committed", text, error, count=len(starts))

    # -- offsets --------------------------------------------------------------------------------------------------

    def commit(
        self,
        positions: Positions,
        timeout: float | None = None,
        wait: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        """Commit these next offsets: a mapping, or what :meth:`Batch.positions` returns.

        ``meanwhile`` is called while the answer is on its way: it is done whether or not the commit succeeds.

        Partitions that are not assigned (any more) are not committed; the others are, then CommitFailed names them.
        Raises as :meth:`Batch.commit`.
        """
        listed = _with_epoch(positions) if isinstance(positions, Mapping) else positions
        self._commit(listed, self._generations, timeout, wait, meanwhile)

    def _commit_batch(self, batch: Batch, timeout: float | None, wait: bool) -> None:
        if self._commit_mode == "before":
            raise ConfigError("commit='before' has committed the batch already; leave out batch.commit()")
        positions = batch.positions()
        if positions:
            self._commit(positions, batch._generations, timeout, wait)

    def _commit(
        self,
        positions: Sequence[shapes.Position],
        polled_in: _Generations,
        timeout: float | None,
        wait: bool,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        self._check_open()
        limit = self._values["commit_timeout"] if timeout is None else timeout
        with self._assignment:
            now = self._generations
            ours = [position for position in positions if now.get(position[:2], 0) == polled_in.get(position[:2])]
            if meanwhile is not None and (not ours or green.patched()):  # not in a thread of the pool
                meanwhile()
                meanwhile = None
            if ours:
                once = iter([meanwhile])
                with timed_commit(*self._labels, waited=wait):
                    patiently(lambda left: green.call(self._core.commit, ours, left, wait, next(once, None)), limit)
        if len(ours) < len(positions):
            gone = ", ".join(f"{topic}[{partition}]" for topic, partition, *_ in sorted({*positions} - {*ours}))
            text = f"not committed, because taken away in the meantime: {gone}"
            raise CommitFailed(_ASSIGNMENT_LOST, "_ASSIGNMENT_LOST", text)

    def assignment(self) -> list[TopicPartition]:
        """The partitions that this member reads now."""
        return [TopicPartition(*partition) for partition in self._core.assignment()]

    def committed(
        self, partitions: Sequence[TopicPartition] | None = None, timeout: float = _REQUEST_TIMEOUT
    ) -> dict[TopicPartition, int | None]:
        """The group's committed offset of each (default: assigned) partition; None where there is none."""
        asked = self.assignment() if partitions is None else partitions
        return _by_partition(green.call(self._core.committed, asked, timeout)) if asked else {}

    def position(self, partitions: Sequence[TopicPartition] | None = None) -> dict[TopicPartition, int | None]:
        """Where each (default: assigned) partition is read next: after the last record polled, or as sought.

        None before the first record of a partition that was begun at its committed offset.
        """
        asked = self.assignment() if partitions is None else partitions
        reached = _by_partition(self._core.positions(asked)) if asked else {}
        return {key: self._starts.get(key) if offset is None else offset for key, offset in reached.items()}

    def lag(self, timeout: float = _REQUEST_TIMEOUT) -> dict[TopicPartition, int]:
        """For each assigned partition how many records there are that this consumer has not polled yet.

        Before the first poll of a partition its committed offset counts, or else where it would start.
        """
        deadline = deadline_after(timeout)
        reached = self.position()
        unread = [partition for partition, offset in reached.items() if offset is None]
        reached |= self.committed(unread, remaining(deadline))
        ends = self._look_up(reached, _LATEST, remaining(deadline))
        begins = ends if self._starts_latest else self._look_up(unread, _EARLIEST, remaining(deadline))
        return {
            partition: max(0, ends[partition] - (begins[partition] if offset is None else offset))
            for partition, offset in reached.items()
        }

    def known_lag(self) -> tuple[int, dict[TopicPartition, int]]:
        """How many partitions are assigned, and :meth:`lag` as of the last fetch, where something was polled."""
        assigned = [TopicPartition(*partition) for partition in self._generations]
        ends = self._ends | self._core.ends(assigned)  # a broker that goes takes what is known of them with it
        self._ends = {key: ends[key] for key in assigned if key in ends}
        reached = self.position(assigned) if assigned else {}
        lag = {key: ends[key] - offset for key, offset in reached.items() if offset is not None and key in ends}
        return len(assigned), {key: max(0, records) for key, records in lag.items()}

    def topic_ids(self, topics: Sequence[str], timeout: float = _REQUEST_TIMEOUT) -> dict[str, str]:
        """The cluster's id of each of these topics (KIP-516): another one once a topic was deleted and made anew."""
        return green.call(self._core.topic_ids, topics, timeout)

    def _look_up(
        self, partitions: Iterable[shapes.Partition], time: int, timeout: float
    ) -> dict[shapes.Partition, int]:
        """The first offsets at or after a time in milliseconds, or the first or last ones; one request a broker."""
        times = [(topic, partition, time) for topic, partition in partitions]
        return green.call(self._core.offsets_for_times, times, timeout) if times else {}

    def seek(self, topic: str, partition: int, offset: int, timeout: float = _REQUEST_TIMEOUT) -> None:
        """Read an assigned partition from ``offset`` on; -2 is its beginning, -1 its end."""
        self._seek([(topic, partition, offset)], timeout)

    def _seek(self, offsets: Sequence[shapes.Offset], timeout: float) -> None:
        deadline = deadline_after(timeout)
        assigned = all((topic, partition) in self._generations for topic, partition, _ in offsets)
        while offsets:
            try:
                green.call(self._core.seek, offsets, remaining(deadline))
                break
            except KafkaError as error:
                # librdkafka refuses until it has begun to read, which it does one request after the assignment.
                if error.name != "_STATE" or not assigned or not remaining(deadline):
                    raise
            self._closing.wait(_PAUSE)
        for topic, partition, _ in offsets:
            self._rewind.pop((topic, partition), None)
        self._note_starts(offsets)

    def _note_starts(self, offsets: Iterable[shapes.Offset]) -> None:
        """Remember where reading was told to go on, which librdkafka does not tell before the next record."""
        for topic, partition, offset in offsets:
            self._starts[topic, partition] = offset if offset >= 0 else None

    def seek_to_time(self, when: datetime | float, timeout: float = _REQUEST_TIMEOUT) -> None:
        """Read all assigned partitions from their first record at or after ``when``: a datetime or epoch seconds.

        Where there is none yet, reading goes on with the next one that is written. A naive datetime is local time.
        """
        deadline = deadline_after(timeout)
        # Rounded down, as records' times are: one written within the same millisecond counts as after it.
        time = math.floor((when.timestamp() if isinstance(when, datetime) else when) * 1000)
        found = self._look_up(self.assignment(), time, timeout)
        later = [partition for partition, offset in found.items() if offset < 0]
        # The end is looked up before asking again, so that no record written in between is passed over.
        ends = self._look_up(later, _LATEST, remaining(deadline))
        again = self._look_up(later, time, remaining(deadline))
        found |= {key: again[key] if again[key] >= 0 else end for key, end in ends.items()}
        self._seek([(topic, partition, offset) for (topic, partition), offset in found.items()], remaining(deadline))

    def pause(self, partitions: Sequence[TopicPartition] | None = None) -> None:
        """Read nothing from these (default: all assigned) partitions until :meth:`resume`, or until they go."""
        self._core.pause(self.assignment() if partitions is None else partitions)

    def resume(self, partitions: Sequence[TopicPartition] | None = None) -> None:
        """Read from these (default: all assigned) partitions again."""
        self._core.resume(self.assignment() if partitions is None else partitions)

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self, timeout: float | None = None) -> None:
        """Leave the group, calling ``on_revoked`` for what was assigned, and release. Idempotent; commits nothing.

        A poll in progress returns. When the brokers do not answer within ``timeout`` seconds (default:
        ``close_timeout``) the group finds out after ``session.timeout.ms``. Raises what ``on_revoked`` raises.
        """
        if self.closed:
            return
        self._closing.set()
        deadline = deadline_after(self._values["close_timeout"] if timeout is None else timeout)
        entered = self._turn.acquire(timeout=remaining(deadline))
        grace = 0.0
        try:
            if entered and not self.closed and not self._leave(deadline):
                self._tell("left_late", "it did not leave its group in time; its session has to expire")
            grace = min(_GRACE, remaining(deadline))
        finally:
            green.call(self._core.shut, grace)
            # A hook often holds batches, and these the handle: a cycle that would wait for the garbage collector.
            self._on_assigned = self._on_revoked = None
            if entered:
                self._turn.release()

    def _leave(self, deadline: float) -> bool:
        failure: Exception | None = None
        while not (left := green.call(self._core.leave, min(_SLICE, remaining(deadline)))) and remaining(deadline):
            try:
                self._answer_while_leaving()
            except Exception as error:  # a hook's: told when the leaving is over
                failure = error
        if failure is not None:
            raise failure
        return left

    def _answer_while_leaving(self) -> None:
        self._unanswered = self._unanswered or self._core.take_rebalance()
        if self._unanswered is not None and self._unanswered[0] == "assign":
            # Void: librdkafka revokes it next, and would wait for ever for a second answer once the group is gone.
            self._unanswered = None
        self._answer_rebalance()

    def __del__(self) -> None:
        handle: core.Consumer | None = getattr(self, "_core", None)
        if handle is not None and not handle.closed:
            warnings.warn(f"{self.name} was not closed", ResourceWarning, stacklevel=2, source=self)


def _with_epoch(offsets: Mapping[Any, int]) -> list[shapes.Position]:
    return [(topic, partition, offset, _UNKNOWN_EPOCH) for (topic, partition), offset in offsets.items()]


def _by_partition(offsets: Mapping[shapes.Partition, int | None]) -> dict[TopicPartition, int | None]:
    return {TopicPartition(*partition): offset for partition, offset in offsets.items()}
