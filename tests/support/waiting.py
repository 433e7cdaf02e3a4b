"""Waiting for something that is about to happen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = float(os.environ.get("RDKNOTIFY_TEST_PATIENCE", 1))
"""How many times as long to wait: more than once where the processor is emulated, or others come first."""
_T = TypeVar("_T")


def until(condition: Callable[[], _T], what: str = "it happens", timeout: float = 10.0) -> _T:
    """The condition's first true answer; fails after ``timeout`` seconds, where nothing is emulated."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s in vain until {what}"
        time.sleep(0.01)
    return answer
