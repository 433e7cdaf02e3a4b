"""The coordinator of a group goes from one broker to another: what it refuses meanwhile is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rdknotify import green
from rdknotify.client import deadline_after, remaining
from rdknotify.errors import KafkaError

__all__ = ["patiently"]

_PAUSE = 0.05
_MOVING = frozenset({"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"})

_T = TypeVar("_T")


def patiently(call: Callable[[float], _T], timeout: float) -> _T:
    """``call(seconds left)``, again and again while the coordinator is moving; librdkafka tries for a second or so.

    Raises what the call raises, the last time at the ``timeout``.
    """
    deadline = deadline_after(timeout)
    while True:
        try:
            return call(remaining(deadline))
        except KafkaError as error:
            if error.name not in _MOVING or remaining(deadline) < _PAUSE:
                raise
        green.pause(_PAUSE)
