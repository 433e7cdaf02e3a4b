"""What happens at the looks of ``rdknotify lag --watch``, by their number: a busy machine keeps no times."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from rdknotify.cli import lag

__all__ = ["at_looks", "interrupt"]


def interrupt() -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def at_looks(patch: pytest.MonkeyPatch, events: dict[int, Callable[[], object]]) -> None:
    """Call these just before the look of that number, counted from 1."""
    count = 0
    look = lag._Question.look

    def counted(self: lag._Question) -> list[lag.GroupLag]:
        nonlocal count
        count += 1
        events.get(count, bool)()
        return look(self)

    patch.setattr(lag._Question, "look", counted)
