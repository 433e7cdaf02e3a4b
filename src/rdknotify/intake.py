"""The records of a consumer group: taken from their topics and retry topics, and settled.

What a :class:`~rdknotify.Listener` and a :class:`~rdknotify.feed.Feed` have in common: both decide when to commit, and
what of it is wanted again or can never be handled; here is how that is done. One thread at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rdknotify import metrics
from rdknotify._rdknotify import Record
from rdknotify.deadletter import DeadLetterLog, DeadLetterSink, count_from_zero, dead_letters, keep
from rdknotify.errors import CommitFailed, ConfigError, KafkaError, Timeout
from rdknotify.logged import Seldom, error_name, tell
from rdknotify.member import Member
from rdknotify.options import for_role, resolve
from rdknotify.retry import DelayLine, Republisher, Retries, create_absent
from rdknotify.service import STEP_WAIT
from rdknotify.topics import TopicPartition, check_name
from rdknotify.url import TransportURL

__all__ = ["Counts", "Intake", "positions"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What a listener has done since it was started; records are notifications, well-formed or not.

    Attributes:
        received: records taken from the group's topics, retries included.
        handled: notifications whose endpoints were done with them; one that no endpoint wants is.
        failed: notifications on which an endpoint raised.
        requeued: records published to a retry topic.
        refused: notifications that an endpoint wanted again where that cannot be (``settle="before"``).
        poison: records that are not notifications.
        dead_lettered: records kept as dead letters: poison, or handed out ``max_deliveries`` times.
        skipped: the same, where no dead letter topic was set: logged and let go.
    """

    received: int = 0
    handled: int = 0
    failed: int = 0
    requeued: int = 0
    refused: int = 0
    poison: int = 0
    dead_lettered: int = 0
    skipped: int = 0


COUNTED = {
    "handled": metrics.NOTIFICATIONS_HANDLED,
    "failed": metrics.NOTIFICATIONS_FAILED,
    "refused": metrics.NOTIFICATIONS_REFUSED,
    "requeued": metrics.RECORDS_REQUEUED,
}
"""What of it is collected."""


class Intake:
    """Takes the records of ``topics`` for one consumer group. Options: those of the roles consumer, producer, listener.

    ``dead_letter``: a topic; True: one named after the source topic and the group; False: logged and skipped;
    None: the option ``dead_letter_topic``, or else True for ``settle="after"``. ``on_revoked`` is called, inside
    :meth:`receive`, :meth:`rest` and :meth:`close`, with partitions that are about to go and whether they are lost.

    Raises ConfigError.
    """

    def __init__(
        self,
        url: str | TransportURL,
        topics: Sequence[str],
        *,
        group: str | None,
        dead_letter: str | bool | None,
        config: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        on_revoked: Callable[[set[tuple[str, int]], bool], object],
    ) -> None:
        if isinstance(dead_letter, str):
            check_name(dead_letter, dead_letter=dead_letter)
        self._url = url
        self._producer_options = {"config": config, **for_role(options, "producer")}
        self._consumer_options = {"config": config, **for_role(options, "consumer")}
        # Checked now, though the clients are made later.
        resolve(url, "producer", for_role(options, "producer"), config)
        consumer = resolve(url, "consumer", for_role(options, "consumer"), config).values
        values = resolve(url, "listener", for_role(options, "listener")).values
        if values["settle"] == "share":
            raise ConfigError("settle='share': only a rdknotify.Listener can be a member of a share group")
        self.group: str = group or consumer["consumer_group"]
        self.max_records: int = consumer["max_poll_records"]
        self.settle_after: bool = values["settle"] == "after"
        self.stop_timeout: float = values["stop_timeout"]
        if dead_letter is None:
            dead_letter = values["dead_letter_topic"] or self.settle_after
        self._dead_letter = dead_letter
        self._topics = list(dict.fromkeys(topics))
        retried = self._topics if self.settle_after else ()
        self._retries = Retries(retried, self.group, values["retry_delay"], values["max_deliveries"])
        self._delays: DelayLine[Record] = DelayLine(self._retries.topics, values["retry_delay"])
        self._on_revoked = on_revoked
        self._resting = False
        self._seldom = Seldom()
        self.counts = Counts()
        metrics.register(self, metrics.Fields(self.counts, COUNTED, self.group))
        count_from_zero(self.group)
        self._resources = ExitStack()

    # -- one life --------------------------------------------------------------------------------------------

    def open(self, check: bool = True) -> None:
        """Connect and join the group. ``check``: raise what the cluster says, or Timeout if it says nothing."""
        unchecked = {} if check else {"connect_timeout": None}
        self._dead_letters: DeadLetterSink = DeadLetterLog()
        if self.settle_after or self._dead_letter:
            self._producer = Republisher(self._url, **self._producer_options | unchecked)
            self._resources.callback(self._producer.close)
        if self._dead_letter:
            self._dead_letters = dead_letters(self._dead_letter, self._producer)
        if self.settle_after and check:
            create_absent(self._producer, self._retries.topics)
        self._consumer = Member(
            self._url,
            [*self._topics, *self._retries.topics],
            self.group,
            commit="after",
            on_revoked=self._give_up,
            **self._consumer_options | unchecked,
        )
        self._resources.callback(self._consumer.close)

    def close(self) -> None:
        """Leave the group and release; idempotent. Commits nothing."""
        self._resources.close()
        for client in ("_consumer", "_producer", "_dead_letters"):
            vars(self).pop(client, None)  # they know us: without a cycle they go at once

    @property
    def has_joined(self) -> bool:
        """Whether the group has given it partitions."""
        return bool(self._consumer.assignment())

    # -- taking ----------------------------------------------------------------------------------------------

    def receive(self, most: int, wait: float) -> list[Record]:
        """What is there, up to ``most`` records, after at most ``wait`` seconds; retries when they are due.

        Raises KafkaError for what does not pass by itself.
        """
        if self._resting:
            self._resting = False
            self._consumer.resume(_partitions(set(self._consumer.assignment()) - self._delays.partitions))
        released = self._release()
        arrived = self._poll(most, 0.0 if released else min(wait, self._until_due()))
        self.counts.received += len(arrived)
        return released + (self._hold(arrived) if self._retries.topics else arrived)

    def rest(self, wait: float) -> list[Record]:
        """Remain a member of the group without taking records. Returns the odd one that came all the same."""
        self._resting = True
        self._consumer.pause(self._consumer.assignment())
        return self._poll(1, wait)

    def _poll(self, most: int, wait: float) -> list[Record]:
        try:
            return list(self._consumer.poll(most, wait))
        except KafkaError as error:
            if not _passes(error):
                raise
            self._tell("retrying", f"{error}; trying again", error)
            time.sleep(STEP_WAIT)
            return []

    def _until_due(self) -> float:
        due = self._delays.next_due()
        return STEP_WAIT if due is None else max(0.0, due / 1000 - time.time())

    def _hold(self, records: list[Record]) -> list[Record]:
        """Keep back the retries that are not due and pause their partitions; the others flow on."""
        before = self._delays.partitions
        now = round(time.time() * 1000)
        passed = [record for record in records if not self._delays.hold(record, now)]
        if held := self._delays.partitions - before:
            self._consumer.pause(_partitions(held))
        return passed

    def _release(self) -> list[Record]:
        before = self._delays.partitions
        released = self._delays.release(round(time.time() * 1000))
        if emptied := before - self._delays.partitions:
            self._consumer.resume(_partitions(emptied))
        return released

    def _give_up(self, partitions: Sequence[TopicPartition], lost: bool) -> None:
        taken: set[tuple[str, int]] = set(partitions)
        if paused := self._delays.partitions & taken:
            self._consumer.resume(_partitions(paused))
            self._delays.forget(paused)
        self._on_revoked(taken, lost)

    # -- settling --------------------------------------------------------------------------------------------

    def commit(self, offsets: dict[tuple[str, int], int], meanwhile: Callable[[], object] | None = None) -> bool:
        """Commit these next offsets; false if that is not certain, which passes by itself. Raises KafkaError.

        ``meanwhile`` is called while the answer is on its way.
        """
        if not offsets:
            return True
        try:
            self._consumer.commit(offsets, meanwhile=meanwhile)
        except KafkaError as error:
            if self._consumer.waits_for(error):
                time.sleep(STEP_WAIT)
                return False
            if not _passes(error):
                raise
            self._tell("not_committed", f"offsets of {len(offsets)} partitions not committed: {error}", error)
            return False
        return True

    def _tell(self, event: str, text: str, error: KafkaError) -> None:
        if self._seldom.may(text):
            tell(log, event, "group %s: %s", self.group, text, group=self.group, error=error_name(error))

    def requeue(self, records: Sequence[Record]) -> None:
        """Publish to retry topics, or as dead letters what was handed out often enough.

        Raises KafkaError or PartialDeliveryError if one of them is not known to be kept: then none may be committed.
        """
        last = self._retries.max_deliveries
        spent = [record for record in records if self._retries.exhausted(record)]
        again = [record for record in records if not self._retries.exhausted(record)]
        oversized = self._retries.publish(again, self._producer, time.time()) if again else []
        self.counts.requeued += len(again) - len(oversized)
        self.bury(spent, f"handed out {last} times and still wanted again", attempts=last)
        self.bury(oversized, "wanted again, and too large for the retry topic")

    def bury(self, records: Sequence[Record], reason: str | Sequence[str], attempts: int | None = None) -> None:
        """Keep dead letters where they are safe; raises as :meth:`requeue`."""
        if not records:
            return
        keep(self._dead_letters, records, reason, self.group, attempts)
        if self._dead_letter:
            self.counts.dead_lettered += len(records)
        else:
            self.counts.skipped += len(records)


def positions(records: Iterable[Record]) -> dict[tuple[str, int], int]:
    """The next offset of each partition after these records, which are in its order."""
    return {(record.topic, record.partition): record.offset + 1 for record in records}


def _passes(error: KafkaError) -> bool:
    """Whether to go on: what was not committed is seen again, and the next commit covers it too."""
    return not error.fatal and (error.retriable or isinstance(error, (CommitFailed, Timeout)))


def _partitions(pairs: Iterable[tuple[str, int]]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for topic, partition in pairs]
