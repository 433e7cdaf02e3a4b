"""Work that goes on until it is told to stop: what a listener and a persister have in common."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rdknotify._rdknotify import kafka_error
from rdknotify.client import TIMED_OUT, Closing
from rdknotify.errors import ClosedError
from rdknotify.logged import tell

__all__ = ["Service"]

log = logging.getLogger(__name__)

STEP_WAIT = 0.1
"""Seconds that one step may wait for something to do: how soon ``stop()`` and a signal are noticed."""


class Service(Closing):
    """A loop with one life: ``run()`` in the caller's thread, or ``start()`` in one of its own.

    Made by a subclass of ``_open``, ``_step``, ``_drain`` and ``_close``, which all run in the working
    thread. ``stop()`` lets the current step finish, then drains and closes. An exception of the work ends it:
    ``run()`` raises it, or else ``wait()`` does. Used as a context manager it is started on entry and closed
    on exit. ``run`` aside, every method may be called from any thread.
    """

    def __init__(self, name: str, stop_timeout: float) -> None:
        self._name = name
        self._stop_timeout = stop_timeout
        # A plain flag: a signal handler that set an Event could deadlock with the thread it interrupted.
        self._stopping = False
        self._ready = threading.Event()
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._pid: int | None = None
        self._begin_lock = threading.Lock()

    # -- what a subclass does --------------------------------------------------------------------------------

    def _open(self) -> None:
        """Connect; before the first step."""

    def _step(self) -> None:
        """One piece of the work; waits at most about ``STEP_WAIT`` for something to do."""
        raise NotImplementedError

    def _drain(self) -> None:
        """Finish what was taken; after a regular stop only, within the stop timeout."""

    def _close(self) -> None:
        """Release everything; always called once, also when ``_open`` failed half-way."""

    # -- what a user calls -----------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """True from ``stop()`` or the first signal on."""
        return self._stopping

    def run(self) -> None:
        """Work in this thread until ``stop()``, SIGINT or SIGTERM, which drain and return.

        A second SIGINT raises KeyboardInterrupt at once. Signals are handled in the main thread only;
        elsewhere call ``stop()``.
        """
        self._begin()
        with self._signals():
            self._work()
        if self._error is not None:
            raise self._error

    def start(self) -> None:
        """Work in a thread of its own. Returns when that is connected, raises what kept it from connecting.

        At interpreter exit it is stopped, and waited for within the stop timeout.
        """
        self._begin()
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        # Registered now and not at import, so that it comes before the hook that closes the clients.
        atexit.register(self._at_exit)
        self._thread.start()
        self._ready.wait()
        if self._finished.is_set():
            self.wait()

    def stop(self) -> None:
        """Ask the work to end; returns at once. Idempotent."""
        self._stopping = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the work has ended; false after ``timeout`` seconds. Raises what ended it, if it was an error."""
        if self._pid is None:
            return True
        if self._pid != os.getpid():
            raise ClosedError(f"{self._name} works in the process that started it, not in this fork of it")
        if not self._finished.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def close(self, timeout: float | None = None) -> None:
        """Stop, and wait for at most ``timeout`` seconds (default: the stop timeout).

        Raises Timeout when that was too short, and what ``wait()`` raises.
        """
        self.stop()
        limit = self._stop_timeout if timeout is None else timeout
        if not self.wait(limit):
            raise kafka_error(TIMED_OUT, f"{self._name} had not ended {limit:g} s after stop()")

    def __enter__(self) -> Any:
        self.start()
        return self

    # -- how it works ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._begin_lock:
            if self._pid is not None:
                raise ClosedError(f"{self._name} has been started before; make a new one")
            self._pid = os.getpid()

    def _work(self) -> None:
        try:
            try:
                self._open()
                tell(log, "started", "%s works", self._name, service=self._name)
                self._ready.set()
                while not self._stopping:
                    self._step()
                self._drain()
            finally:
                self._stopping = True
                self._close()
            tell(log, "stopped", "%s has stopped", self._name, service=self._name)
        except BaseException as error:  # handed to run() or wait(), KeyboardInterrupt included
            self._error = error
            name = type(error).__name__
            tell(log, "failed", "%s has ended: %s: %s", self._name, name, error, service=self._name, error=name)
        finally:
            self._finished.set()
            self._ready.set()
            atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(self._stop_timeout)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self._stopping and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop()

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
