"""What a check found, in plain words, and how several checks are made side by side within a time."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["Deadline", "Finding", "State", "side_by_side"]

R = TypeVar("R")


class State(enum.Enum):
    """How it is; only ``TROUBLE`` makes the exit status 3."""

    OK = "ok"
    WARNING = "warning"
    TROUBLE = "trouble"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        subject: what was looked at: ``broker host:port``, ``topic name``, ``group name``, ``cluster``.
        check: which check it was, in a word: ``name``, ``tcp``, ``tls``, ``sasl`` ...
        text: what was found; where it is trouble, the cause.
        advice: the next step; empty where there is none to take.
        facts: the same for programs.
    """

    subject: str
    check: str
    state: State
    text: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "check": self.check,
            "state": self.state.value,
            "text": self.text,
            "advice": self.advice or None,
            "facts": dict(self.facts),
        }


class Deadline:
    """A time until which everything of one kind must be done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left; a little where none is, because 0 would mean something else to a socket."""
        return max(0.001, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end


def side_by_side(calls: Sequence[Callable[[], R]], deadline: Deadline, grace: float = 0.2) -> list[R | None]:
    """What each returns, in their order; None for one that has not returned in time, whose thread is left behind.

    Names are looked up by the C library, which knows no time limit: that is why. An exception comes out.
    """
    results: list[R | None] = [None] * len(calls)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            results[number] = calls[number]()
        except BaseException as error:  # raised below, in the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline.left + grace)
    if errors:
        raise errors[0]
    return list(results)
