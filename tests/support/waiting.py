"""Waiting for something that is about to happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def until(condition: Callable[[], _T], what: str = "it happens", timeout: float = 10.0) -> _T:
    """The condition's first true answer; fails after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s in vain until {what}"
        time.sleep(0.01)
    return answer
