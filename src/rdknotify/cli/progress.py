"""The bar of ``send``: how far in the file, how fast, how long still. Only where somebody looks."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from rdknotify.cli import output

__all__ = ["Progress"]

_EVERY = 0.1
"""Seconds between two looks."""


class Progress:
    """A bar on standard error, gone at the end; nothing where that is no terminal. A context manager."""

    def __init__(self, size: int | None) -> None:
        """``size``: bytes of the file; None where nobody knows, and so no end is foreseen."""
        columns = [TextColumn("{task.fields[lines]:,} lines"), TextColumn("{task.fields[rate]:,.0f}/s")]
        foreseen = [BarColumn(), TaskProgressColumn(), TimeRemainingColumn()] if size else []
        self._bar = Bar(*foreseen, *columns, console=output.err, transient=True, disable=not output.err.is_terminal)
        self._task = self._bar.add_task("", total=size, lines=0, rate=0.0)
        self._begun, self._next = time.monotonic(), 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, lines: int, end: int) -> None:
        """So many lines, and bytes of the file, are done with."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            rate = lines / max(now - self._begun, _EVERY)
            self._bar.update(self._task, completed=end, lines=lines, rate=rate)
