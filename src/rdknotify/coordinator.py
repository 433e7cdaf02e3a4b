"""What a group's coordinator refuses while it moves to another broker, or the group regroups, is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rdknotify import green
from rdknotify.client import deadline_after, remaining
from rdknotify.errors import KafkaError

__all__ = ["patiently"]

_PAUSE = 0.05
_REGROUPING_TIMEOUT = 3.0
"""Seconds for a new generation to be there, which librdkafka gets in the background; then it is another's turn."""
_MOVING = frozenset({"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"})
_REGROUPING = frozenset({"ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH"})

_T = TypeVar("_T")


def patiently(call: Callable[[float], _T], timeout: float) -> _T:
    """``call(seconds left)``, again and again while that may help; librdkafka itself tries for a second or so.

    A partition stays ours until we give it up, so that what was done of it can be committed as a member of the new
    generation. Who was put out of the group gets no generation before it has given up what it had, so that it cannot
    commit what is another's. Raises what the call raises, the last time at the ``timeout``.
    """
    deadline = deadline_after(timeout)
    regrouped = min(deadline, deadline_after(_REGROUPING_TIMEOUT))
    left = timeout
    while True:
        try:
            return call(left)
        except KafkaError as error:
            limit = deadline if error.name in _MOVING else regrouped
            if error.name not in _MOVING | _REGROUPING or remaining(limit) < _PAUSE:
                raise
        green.pause(_PAUSE)
        left = remaining(deadline)
