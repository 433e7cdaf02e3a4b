"""Who failed for a neighbour's sake: Kafka refuses a request as a whole, and librdkafka puts records together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from rdknotify.errors import Timeout
from rdknotify.outcomes import BatchReport, Failure, Outcome

__all__ = ["isolate", "maybe_innocent"]

_OF_A_REQUEST = frozenset(
    {
        "MSG_SIZE_TOO_LARGE",
        "RECORD_LIST_TOO_LARGE",
        "INVALID_RECORD",
        "_INVALID_DIFFERENT_RECORD",
        "INVALID_TIMESTAMP",
    }
)
"""What one record can bring upon all that were sent with it, or all of them together upon each."""


def maybe_innocent(failure: Failure) -> bool:
    """True when the record may have failed only because of others, and is certainly not on the log."""
    return failure.outcome is Outcome.NOT_PERSISTED and failure.error.name in _OF_A_REQUEST


def isolate(report: BatchReport, send: Callable[[Sequence[int]], BatchReport | None]) -> BatchReport:
    """The report after those that may be innocent were sent again, in ever smaller parts, until only culprits fail.

    ``send`` gets indexes, sends those records with no others and returns what became of them; None: it can
    send no more, and what has not been tried fails with Timeout. Each record is sent at most log2(n) + 1 times.
    """
    failures = {failure.index: failure for failure in report.failures}
    suspects = [failure.index for failure in report.failures if maybe_innocent(failure)]
    parts = deque(_halves(suspects) or [suspects])
    while parts:
        part = parts.popleft()
        again = send(part)
        if again is None:
            failures.update((index, _untried(failures[index])) for left in (part, *parts) for index in left)
            break
        for index in part:
            del failures[index]
        failed = [replace(failure, index=part[failure.index]) for failure in again.failures]
        failures.update((failure.index, failure) for failure in failed)
        # One that is left failed alone: with others in its request, those would have failed as well.
        parts.extend(_halves([failure.index for failure in failed if maybe_innocent(failure)]))
    return BatchReport(report.total, report.total - len(failures), [failures[index] for index in sorted(failures)])


def _halves(indexes: list[int]) -> list[list[int]]:
    middle = len(indexes) // 2
    return [indexes[:middle], indexes[middle:]] if middle else []


def _untried(failure: Failure) -> Failure:
    text = f"refused together with others ({failure.error.name}), and could not be tried without them"
    return replace(failure, error=Timeout(-185, "_TIMED_OUT", text, retriable=True))
