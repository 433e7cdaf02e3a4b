"""Every exception that rdknotify raises, but for those of sinks (``rdknotify.sinks``). Imports nothing.

::

    RdNotifyError
    ├── ConfigError (ValueError)            an option, URL, topic name or argument is wrong
    ├── ClosedError                         used after close(), or in a forked child
    ├── EnvelopeError (ValueError)          a value is not a notification envelope
    ├── TokenError                          there is no OAuth token to be had
    ├── DeliveryError                       notifications were not delivered, found by a flush
    ├── PartialDeliveryError                some records of one batch were not delivered
    └── KafkaError                          Kafka or librdkafka said no: code, name, reason, fatal, retriable
        ├── AcknowledgeFailed               records of a share group are not, or may not be, settled
        ├── AuthenticationError             credentials or certificate refused
        ├── AuthorizationError              the user may not do that: an ACL is missing
        ├── CommitFailed                    offsets were not committed: the records will be seen again
        ├── QueueFull (BufferError)         the local queue had no room until the deadline
        └── Timeout (TimeoutError)          no answer until the deadline
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AcknowledgeFailed",
    "AuthenticationError",
    "AuthorizationError",
    "ClosedError",
    "CommitFailed",
    "ConfigError",
    "DeliveryError",
    "EnvelopeError",
    "KafkaError",
    "PartialDeliveryError",
    "QueueFull",
    "RdNotifyError",
    "Timeout",
    "TokenError",
]


class RdNotifyError(Exception):
    """Root of everything that rdknotify raises on purpose."""


class ConfigError(RdNotifyError, ValueError):
    """An option, URL, topic name or argument is wrong; the text names it, its value and the remedy."""


class ClosedError(RdNotifyError):
    """The client was used after ``close()``, or in a process forked after it was made."""


class EnvelopeError(RdNotifyError, ValueError):
    """A record's value is not a notification envelope (a *poison record*)."""


class TokenError(RdNotifyError):
    """There is no OAuth token to be had; the text says from where and why. The cause of an AuthenticationError."""


class KafkaError(RdNotifyError):
    """Kafka or librdkafka refused an operation.

    Attributes:
        code: librdkafka's ``rd_kafka_resp_err_t``; negative values are local to the client.
        name: its symbolic name, as ``TOPIC_AUTHORIZATION_FAILED`` or ``_MSG_TIMED_OUT``.
        reason: what happened, in words.
        fatal: the client cannot go on; make a new one.
        retriable: the same call may succeed later.
    """

    def __init__(self, code: int, name: str, reason: str, *, fatal: bool = False, retriable: bool = False) -> None:
        super().__init__(code, name, reason)
        self.code = code
        self.name = name
        self.reason = reason
        self.fatal = fatal
        self.retriable = retriable

    def __str__(self) -> str:
        return f"{self.reason} ({self.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own __reduce__ would drop the keyword-only flags.
        return type(self), (self.code, self.name, self.reason), self.__dict__


class AcknowledgeFailed(KafkaError):
    """Settling records of a share group failed; code and name are those of the first partition.

    ``INVALID_RECORD_STATE`` means that the lock had expired: the records are, or were, handed out again. With anything
    else the outcome is unknown: the broker may have settled them, or hands them out again when their lock expires.

    Attributes:
        failures: the error of each partition where it failed; it is that of all that was settled there since
            the last commit.
    """

    failures: Any = None


class AuthenticationError(KafkaError):
    """The broker refused the credentials or the client's certificate, or its own certificate was not accepted."""


class AuthorizationError(KafkaError):
    """The broker knows the user, who may not do that: an ACL on the topic, group or cluster is missing."""


class CommitFailed(KafkaError):
    """Offsets could not be committed: the records will be delivered again, here or to another member."""


class Timeout(KafkaError, TimeoutError):
    """The operation had no answer until its deadline."""


class QueueFull(KafkaError, BufferError):
    """The producer's local queue had no room until the deadline.

    Attributes:
        enqueued: indexes of the batch's records that were enqueued (for ``send``: empty).
        delivery: the :class:`~rdknotify.Delivery` of those records; the others are in it as ``NOT_PERSISTED``.
    """

    enqueued: tuple[int, ...] = ()
    delivery: Any = None


class PartialDeliveryError(RdNotifyError):
    """Some records of a batch were not delivered; ``report`` tells which, why and what may be sent again."""

    def __init__(self, report: Any) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        first = self.report.failures[0]
        return (
            f"{len(self.report.failures)} of {self.report.total} records were not delivered; "
            f"first: record {first.index}, {first.outcome.name}: {first.error}"
        )


class DeliveryError(RdNotifyError):
    """Notifications sent since the last flush were not delivered.

    Attributes:
        undelivered: one entry for each: message id, event type, outcome and error.
        dropped: how many more there were than are listed.
    """

    def __init__(self, undelivered: Any, dropped: int = 0) -> None:
        super().__init__(undelivered, dropped)
        self.undelivered = undelivered
        self.dropped = dropped

    def __str__(self) -> str:
        count = len(self.undelivered) + self.dropped
        shown = "; ".join(str(entry) for entry in self.undelivered[:3])
        return f"{count} notifications were not delivered: {shown}" + ("; ..." if count > 3 else "")
