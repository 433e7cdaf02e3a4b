"""librdkafka's events for :mod:`logging` and the last statistics: one daemon thread for every client of the process.

Everything goes to the logger ``rdknotify``. What repeats is said once per :data:`REPEAT_INTERVAL`, with a count: while
something waits, librdkafka reports ``_ALL_BROKERS_DOWN`` about twenty times a second.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from rdknotify import _rdknotify as core
from rdknotify import green, shapes
from rdknotify.trouble import Certificates, Trouble

__all__ = ["ClientEvents", "EventSource", "Ticking", "every_tick", "forward", "logger", "stop", "watch"]

logger = logging.getLogger("rdknotify")

REPEAT_INTERVAL = 30.0
"""Seconds for which the same trouble of one client is only counted."""

TICK_INTERVAL = 1.0
"""Seconds between two ticks of one object, about."""

_RECENT_TROUBLES = 32
_KNOWN_TROUBLES = 256
_RECENT = 2 * REPEAT_INTERVAL
"""Seconds after which a trouble explains nothing any more; librdkafka repeats one that lasts after 30."""
_WAIT = 1.0
_PAUSE = 0.02
_GREEN_PAUSE = 0.1
_SYSLOG_LEVELS = (logging.CRITICAL,) * 3 + (
    logging.ERROR,
    logging.WARNING,
    logging.INFO,
    logging.INFO,
    logging.DEBUG,
)
_OUTAGES = frozenset({"_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT", "_TRANSPORT"})


class LogLine(NamedTuple):
    level: int
    text: str


class _Repeats:
    """How often one trouble came since it was last told."""

    __slots__ = ("suppressed", "told")

    def __init__(self, told: float) -> None:
        self.told = told
        self.suppressed = 0


class ClientEvents:
    """What became of one client's events: lines to log, recent troubles, the last statistics. Thread-safe."""

    def __init__(self, name: str) -> None:
        self.name = name
        """librdkafka's name of the client, which a closed one cannot tell any more."""
        self.obstacle: Trouble | None = None
        """Why the cluster does not take this client, if it has said so; None again when that may have changed.

        This and ``last`` are read without the lock, from any native thread.
        """
        self.last: Trouble | None = None
        """The latest of ``troubles``."""
        self.token_wanted: Callable[[], object] = bool
        """Called when librdkafka wants a new OAuth token; must not wait."""
        self.waits_for = ""
        """What of the application librdkafka waits for, in words."""
        self.cause: BaseException | None = None
        """What the application's own part in an obstacle raised."""
        self.kept: Any = None
        """What looks after the client's credentials; ticks are held weakly."""
        self._certificates = Certificates()
        self._lock = threading.Lock()
        self._recent: deque[Trouble] = deque(maxlen=_RECENT_TROUBLES)
        self._repeats: dict[tuple[str, str], _Repeats] = {}
        self._statistics_text: str | None = None
        self._statistics: dict[str, Any] | None = None

    @property
    def troubles(self) -> list[Trouble]:
        """The latest errors and warnings that give a reason, oldest first."""
        with self._lock:
            return list(self._recent)

    @property
    def statistics(self) -> dict[str, Any] | None:
        """The last statistics, parsed once when first asked for; None before the first."""
        with self._lock:
            if self._statistics_text is not None:
                self._statistics = json.loads(self._statistics_text)
                self._statistics_text = None
            return self._statistics

    def absorb(self, take: Callable[[], list[shapes.Event]]) -> list[LogLine]:
        """Take the events and return what to log; taking and remembering are one step for other threads."""
        with self._lock:
            lines = [self._translate(*event) for event in take()]
        return [line for line in lines if line is not None]

    def _translate(self, kind: str, number: int, name: str, text: str) -> LogLine | None:
        if kind == "log":
            return self._log(_SYSLOG_LEVELS[max(0, min(number, 7))], name, text)
        if kind == "error":
            return self._trouble(logging.WARNING if name in _OUTAGES else logging.ERROR, name, text)
        if kind == "stats":
            self._statistics_text = text
            return None
        if kind == "token":
            self.token_wanted()
            return None
        return LogLine(logging.WARNING, f"{number} events were dropped: they came faster than they were taken")

    def _log(self, level: int, facility: str, text: str) -> LogLine | None:
        if text.startswith("[thrd:"):
            text = text.partition("]: ")[2]
        if facility == "SSLCERTVRFY":  # the error that follows is told with it
            self._certificates.learn(text)
            return None
        # The only reason ever given for a broken handshake is a FAIL line, of level info.
        if level >= logging.WARNING or facility == "FAIL":
            return self._trouble(level, facility, text)
        return LogLine(level, f"{facility}: {text}")

    def _trouble(self, level: int, name: str, text: str) -> LogLine | None:
        now = time.monotonic()
        trouble = Trouble(name, self._certificates.explain(text), now)
        text = trouble.text
        if name != "_ALL_BROKERS_DOWN":  # says nothing, and so often that it would push out the reasons
            self._remember(trouble)
        # Times and counts in the text would make each repeat look new.
        subject = "" if name == "_ALL_BROKERS_DOWN" else text.partition(" (after ")[0]
        repeats = self._repeats.get((name, subject))
        if repeats is not None and now - repeats.told < REPEAT_INTERVAL:
            repeats.suppressed += 1
            return None
        if len(self._repeats) >= _KNOWN_TROUBLES:
            self._repeats.clear()
        self._repeats[name, subject] = _Repeats(now)
        again = f" ({repeats.suppressed} more since last told)" if repeats and repeats.suppressed else ""
        advice = f"; {trouble.advice}" if trouble.advice and (trouble.is_refusal or trouble.is_mismatch) else ""
        return LogLine(level, f"{name}: {text}{advice}{again}")

    def _remember(self, trouble: Trouble) -> None:
        self._recent.append(trouble)
        self.last = trouble
        known = self.obstacle
        if trouble.is_refusal:
            self.obstacle = trouble
        elif trouble.is_mismatch:
            self.obstacle = known or trouble  # which may be a passing thing: how long ago the first was tells
        elif trouble.name in _OUTAGES and known is not None and not known.is_refusal:
            self.obstacle = None

    def recent(self) -> str:
        """What went wrong last, for the text of a timeout: empty, or a clause that begins with a semicolon."""
        last = self.last
        if self.waits_for:
            return f"; {self.waits_for}"
        if last is None or time.monotonic() - last.when > _RECENT:
            return ""
        return f"; {time.monotonic() - last.when:.0f} s before: {last}"


class EventSource(Protocol):
    """A client whose events are forwarded."""

    events: ClientEvents

    def take_events(self) -> list[shapes.Event]: ...


class Ticking(Protocol):
    """Something that has to look after its affairs although nobody calls it."""

    def tick(self) -> None: ...


def forward(source: EventSource) -> None:
    """Log what this client's events say, now."""
    for line in source.events.absorb(source.take_events):
        logger.log(line.level, "%s: %s", source.events.name, line.text)


class _Forwarder:
    """The thread ``rdknotify-events``: runs while there are clients to watch, never keeps the interpreter alive."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: also in a forked child, where the thread and the parent's clients do not exist."""
        # Reentrant: a garbage collection inside may run code that makes a client.
        self._lock = threading.RLock()
        # Reentrant only because eventlet, when it replaces threads later, replaces such locks that are there already.
        self._logging = threading.RLock()
        self._sources: weakref.WeakSet[EventSource] = weakref.WeakSet()
        self._ticking: weakref.WeakSet[Ticking] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._era = object()

    def watch(self, source: EventSource) -> None:
        with self._lock:
            self._sources.add(source)
            self._ensure_thread()

    def every_tick(self, ticking: Ticking) -> None:
        """Call ``tick()`` about once a second, in the events' thread, for as long as the object lives. Thread-safe.

        It is held weakly, and not carried over into a forked child. What ``tick`` raises is logged.
        """
        with self._lock:
            self._ticking.add(ticking)
            self._ensure_thread()

    def stop(self) -> None:
        # Held for ever: the daemon thread cannot be inside a log handler when the interpreter goes.
        if self._logging.acquire(timeout=_WAIT):
            self._forward_all()

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(self._era,), name="rdknotify-events", daemon=True)
            self._thread.start()

    def _run(self, era: object) -> None:
        next_tick = time.monotonic() + TICK_INTERVAL
        while self._keep_running(era):
            if self._wait(min(_WAIT, max(0.0, next_tick - time.monotonic()))):
                with self._logging:
                    self._forward_all()
                # Whoever uses the core without us may leave events untaken, which end every wait at once.
                green.pause(_PAUSE)
            if time.monotonic() >= next_tick:
                with self._logging:
                    self._tick_all()
                next_tick = time.monotonic() + TICK_INTERVAL

    def _wait(self, timeout: float) -> bool:
        if not green.patched():
            return core.wait_events(timeout)
        green.pause(_GREEN_PAUSE)
        return core.wait_events(0.0)

    def _keep_running(self, era: object) -> bool:
        if era is not self._era:  # a green thread lives on in a forked child, which has begun anew
            return False
        with self._lock:
            if not self._sources and not self._ticking:
                self._thread = None
            return self._thread is not None

    def _forward_all(self) -> None:
        with self._lock:
            sources = list(self._sources)
        for source in sources:
            forward(source)

    def _tick_all(self) -> None:
        with self._lock:
            objects = list(self._ticking)
        for ticking in objects:
            try:
                ticking.tick()
            except Exception:
                logger.exception("a tick of %s failed", type(ticking).__name__)


_forwarder = _Forwarder()
os.register_at_fork(after_in_child=_forwarder.reset)
watch = _forwarder.watch
every_tick = _forwarder.every_tick
stop = _forwarder.stop
