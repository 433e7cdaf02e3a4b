"""Ctrl-C and SIGTERM as something to look at: who is in the middle of a batch brings it to its end."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType

from rdknotify.cli.output import Exit

__all__ = ["Interrupts"]

_SLICE = 0.1


class Interrupts:
    """While entered, the first signal is only noted; the second acts as ever. For the main thread."""

    _NOTED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.status: Exit | None = None
        """The exit status that the signal asks for; None: there was none."""

    def __bool__(self) -> bool:
        return self.status is not None

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._note) for number in self._NOTED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def sleep(self, seconds: float) -> None:
        """That long, or until a signal comes."""
        deadline = time.monotonic() + seconds
        while self.status is None and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.status = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
        for each, handler in self._before.items():
            signal.signal(each, handler)
