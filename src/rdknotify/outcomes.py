"""What became of the records of a batch: one outcome each, and the report that lists the failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from rdknotify.errors import KafkaError, PartialDeliveryError

__all__ = ["BatchReport", "Failure", "Outcome"]


class Outcome(IntEnum):
    """The three things that can become of a sent record; the numbers are librdkafka's ``rd_kafka_msg_status_t``."""

    NOT_PERSISTED = 0
    """Certainly not on the log: safe to send again."""
    POSSIBLY_PERSISTED = 1
    """The broker may have it: sending it again may duplicate."""
    DELIVERED = 2
    """On the log, acknowledged as ``acks`` asks."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that was not (or perhaps not) delivered.

    Attributes:
        index: its place in the batch, from 0.
        error: why, as the broker or librdkafka told it.
        outcome: ``NOT_PERSISTED`` or ``POSSIBLY_PERSISTED``: whether it may be sent again without a twin.
    """

    index: int
    error: KafkaError
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The outcome of every record of a batch: ``delivered`` plus ``len(failures)`` is ``total``.

    Attributes:
        total: records in the batch.
        delivered: how many are on the log.
        failures: the others, by their index.
    """

    total: int
    delivered: int
    failures: list[Failure] = field(default_factory=list)

    @property
    def safe_to_resend(self) -> list[int]:
        """Indexes of the records that are certainly not on the log."""
        return [failure.index for failure in self.failures if failure.outcome is Outcome.NOT_PERSISTED]

    def raise_for_failures(self) -> None:
        """Raise :class:`~rdknotify.PartialDeliveryError`, which carries this report, unless all were delivered."""
        if self.failures:
            raise PartialDeliveryError(self)
