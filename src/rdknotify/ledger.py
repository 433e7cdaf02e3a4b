"""What was sent and has no outcome yet; what was not delivered is logged by name, counted, and kept to be asked for.

What is in flight stands in one queue, oldest first; each call takes what is settled off its front, so that memory holds
little more than what is in flight.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from rdknotify import events
from rdknotify.errors import DeliveryError, KafkaError
from rdknotify.logged import error_name, tell
from rdknotify.outcomes import Failure, Outcome

__all__ = ["KEPT", "Ledger", "Undelivered"]

log = logging.getLogger(__name__)

_OneOrMany = str | list[str]
_Entry = tuple[Any, str, _OneOrMany, _OneOrMany]
"""A delivery, its topic, and the message ids and event types of its records: one, or a list of them."""

KEPT = 1000
"""Undelivered notifications that are kept by name between two flushes; more are only counted."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A notification that was not, or perhaps not, delivered to one of its topics."""

    message_id: str
    event_type: str
    topic: str
    outcome: Outcome
    error: KafkaError

    def __str__(self) -> str:
        return f"{self.message_id} ({self.event_type}) to {self.topic}: {self.outcome.name}, {self.error}"


class Ledger:
    """Accounts for notifications of one process. Thread-safe.

    Failures are logged when a call or, about a second later, the thread of events comes across them: one line for each
    delivery. The first ``keep`` are kept for :meth:`raise_undelivered`.

    Attributes:
        pending: what was sent and is not settled; append an entry, then call :meth:`settle`.
        failed: how many records were not, or perhaps not, delivered.
    """

    def __init__(self, keep: int = KEPT) -> None:
        self.pending: deque[_Entry] = deque()
        self.failed = 0
        self._keep = keep
        self._settling = threading.Lock()
        self._undelivered: list[Undelivered] = []
        self._unlisted = 0
        events.every_tick(self)

    def settle(self) -> None:
        """Take what is settled off the front; nothing to do if another thread is at it."""
        pending = self.pending
        if not self._settling.acquire(False):
            return
        try:
            # Only who holds the lock takes entries out.
            while pending and pending[0][0].done():
                delivery, topic, ids, event_types = pending.popleft()
                if delivery.failed:
                    self._note(delivery.poll().failures, topic, ids, event_types)
        finally:
            self._settling.release()

    tick = settle

    def refused(self, topic: str, message_id: str, event_type: str, error: KafkaError) -> None:
        """This one was refused before it was sent."""
        with self._settling:
            self._note([Failure(0, error, Outcome.NOT_PERSISTED)], topic, message_id, event_type)

    def settle_all(self) -> None:
        """Settle all that can be, wherever it stands."""
        with self._settling:
            for _ in range(len(self.pending)):
                entry = self.pending.popleft()
                if entry[0].done():
                    self._note(entry[0].poll().failures, *entry[1:])
                else:
                    self.pending.append(entry)

    def raise_undelivered(self, cause: BaseException | None = None) -> None:
        """Settle all that can be; raise DeliveryError for what failed since last time."""
        self.settle_all()
        with self._settling:
            undelivered, self._undelivered = self._undelivered, []
            unlisted, self._unlisted = self._unlisted, 0
        if undelivered or unlisted:
            raise DeliveryError(undelivered, unlisted) from cause

    def _note(self, failures: list[Failure], topic: str, ids: _OneOrMany, event_types: _OneOrMany) -> None:
        if not failures:
            return
        self.failed += len(failures)
        room = self._keep - len(self._undelivered)
        named = [
            Undelivered(_at(ids, each.index), _at(event_types, each.index), topic, each.outcome, each.error)
            for each in failures[: max(room, 1)]
        ]
        self._undelivered += named[: max(room, 0)]
        self._unlisted += len(failures) - min(len(failures), max(room, 0))
        first, count = named[0], len(failures)
        several = f"{count} notifications were not delivered; the first"
        said = "a notification was not delivered" if count == 1 else several
        fields: dict[str, Any] = {"topic": topic, "count": count, "error": error_name(first.error)}
        fields |= {"message_id": first.message_id, "event_type": first.event_type}
        tell(log, "undelivered", "%s: %s", said, first, **fields)


def _at(one_or_many: _OneOrMany, index: int) -> str:
    return one_or_many if isinstance(one_or_many, str) else one_or_many[index]
