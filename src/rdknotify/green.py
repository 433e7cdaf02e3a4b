"""Where eventlet has replaced threads: what waits in C must not hold up the hub, which runs every green thread.

All our Python, locks and logging stay in the hub's native thread, as green code; only a call of the core that waits is
run in eventlet's pool of native threads. Elsewhere everything is called directly. The one file that knows eventlet.
"""

from __future__ import annotations

import _thread
import atexit
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

__all__ = ["Awaited", "call", "leave_pool", "patched", "pause", "wait"]

_T = TypeVar("_T")
_SHORTEST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02
_GRACE = 0.5
"""Seconds in which an interrupted call may end: longer than a slice of a poll, whose records must not get lost."""

_pool_left = False


class Awaited(Protocol):
    """What :func:`wait` waits for, as a :class:`~rdknotify.Delivery`."""

    def done(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


def patched() -> bool:
    """Whether this is eventlet's native thread, and ``eventlet.monkey_patch()`` has replaced threads. Cheap.

    A native thread that somebody made all the same may wait as it likes. The hub is taken to run in the main one.
    """
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and patcher.is_monkey_patched("thread") and _thread.get_native_id() == os.getpid()


def pause(seconds: float) -> None:
    """Sleep; other green threads have their turn, also with 0 seconds."""
    if patched():
        sys.modules["eventlet"].sleep(seconds)
    else:
        time.sleep(seconds)


def wait(awaited: Awaited, timeout: float | None = None) -> bool:
    """Wait until ``done()``, without a native thread where patched; false after ``timeout`` seconds (None: never)."""
    if not patched():
        return awaited.wait(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    length = _SHORTEST_PAUSE
    while not awaited.done():
        left = length if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return False
        pause(min(length, left))
        length = min(2 * length, _LONGEST_PAUSE)
    return True


def call(function: Callable[..., _T], *args: Any) -> _T:
    """``function(*args)``, in a native thread where patched: for a leaf that waits, and neither logs nor locks.

    Raises what it raises. If an exception ends the waiting (Ctrl-C, a ``Timeout``, a kill), a call that has not begun
    never does, and one that has is given half a second to end.
    """
    if not patched():
        return function(*args)
    if _pool_left:
        pause(0)
        return function(*args)
    return _call_in_pool(function, *args)


def _call_in_pool(function: Callable[..., _T], *args: Any) -> _T:
    to_begin, ended = [function], []

    def run() -> _T:
        try:
            return to_begin.pop()(*args)
        finally:
            ended.append(True)

    try:
        result: _T = _pool().execute(run)
        return result
    except BaseException:
        deadline = time.monotonic() + _GRACE
        try:
            to_begin.pop()
        except IndexError:
            while not ended and time.monotonic() < deadline:
                pause(_SHORTEST_PAUSE)
        raise


@functools.cache
def _pool() -> Any:
    from eventlet import tpool

    atexit.register(leave_pool)  # after the pool's own registration, so called before the pool is ended
    return tpool


def leave_pool() -> None:
    """Call directly from now on: at exit the pool is ended, and Python 3.12 starts no more threads for a new one."""
    global _pool_left
    _pool_left = True


def _forget_parents_pool() -> None:
    """In a forked child there are none of the pool's threads, and the wake-ups in its socket are the parent's."""
    tpool: Any = sys.modules.get("eventlet.tpool")
    if tpool is None or not tpool._setup_already:
        return
    # Other green threads live on in the child: the one that reads the socket gets another, which stays silent.
    silent, other_end = tpool.socket.socketpair()
    silent.setblocking(False)
    os.dup2(silent.fileno(), tpool._rsock.fileno(), inheritable=False)
    silent.close()
    other_end.detach()  # stays open: its end would be something to read
    tpool._wsock.close()
    tpool._threads.clear()
    tpool._setup_already = False


os.register_at_fork(after_in_child=_forget_parents_pool)
