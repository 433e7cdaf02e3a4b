"""librdkafka's events for :mod:`logging` and the last statistics: one daemon thread for every client of the process.

Lines go to the logger ``rdknotify.events``. What repeats is said once per :data:`REPEAT_INTERVAL`, with a count: while
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
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from rdknotify import _rdknotify as core
from rdknotify import green, metrics, shapes
from rdknotify.errors import RdNotifyError
from rdknotify.logged import REPEAT_INTERVAL, tell
from rdknotify.trouble import Certificates, Trouble, broker_of

__all__ = ["ClientEvents", "EventSource", "Ticking", "every_tick", "forward", "logger", "stop", "watch"]

logger = logging.getLogger(__name__)

TICK_INTERVAL = 1.0
"""Seconds between two ticks of one object, about."""

_RECENT_TROUBLES = 32
_KNOWN_TROUBLES = 256
_RECENT = 2 * REPEAT_INTERVAL
"""Seconds after which a trouble explains nothing any more; librdkafka repeats one that lasts after 30."""
_GLANCE = 0.25
"""Seconds that the thread of events waits for a lost cluster's answer at each tick."""
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
_ALL_DOWN = ("_ALL_BROKERS_DOWN", " ")
_OUTAGES = frozenset({"_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT", "_TRANSPORT"})


class LogLine(NamedTuple):
    level: int
    text: str
    event: str
    broker: str | None = None
    error: str | None = None


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
        self.client_id = name.rpartition("#")[0]
        """The part of the name that clients of one kind share."""
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
        self._handle: Callable[[], core.Client | None] = lambda: None
        self._servers = ""
        self._met = self._cluster_lost = False
        self._lost: set[str] = set()
        """Brokers that could not be reached, and were not seen again: only statistics tell."""
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
            return self._parsed()

    def _parsed(self) -> dict[str, Any] | None:
        if self._statistics_text is not None:
            self._statistics = json.loads(self._statistics_text)
            self._statistics_text = None
        return self._statistics

    def absorb(self, take: Callable[[], list[shapes.Event]]) -> list[LogLine]:
        """Take the events and return what to log; taking and remembering are one step for other threads."""
        with self._lock:
            return [line for event in take() for line in self._translate(*event)]

    def _translate(self, kind: str, number: int, name: str, text: str) -> Iterator[LogLine]:
        if kind == "log":
            yield from self._log(_SYSLOG_LEVELS[max(0, min(number, 7))], name, text)
        elif kind == "error":
            metrics.add(metrics.CLIENT_ERRORS, 1, self.client_id, name)
            if name != "_FATAL":  # a log line has told it
                yield from self._trouble(logging.WARNING if name in _OUTAGES else logging.ERROR, name, text)
        elif kind == "stats":
            self._statistics_text = text
            yield from self._brokers_back()
        elif kind == "token":
            self.token_wanted()
        else:
            text = f"{number} events were dropped: they came faster than they were taken"
            yield LogLine(logging.WARNING, text, "events_dropped")

    def _log(self, level: int, facility: str, text: str) -> Iterator[LogLine]:
        if text.startswith("[thrd:"):
            text = text.partition("]: ")[2]
        if facility == "SSLCERTVRFY":  # the error that follows is told with it
            self._certificates.learn(text)
        elif facility == "FATAL" and level == logging.CRITICAL:
            yield LogLine(level, text, "fatal", error="_FATAL")
        elif facility == "FAIL" and level == logging.ERROR:  # an error event follows, with the same text
            self._remember(Trouble(facility, self._certificates.explain(text), time.monotonic()))
        # The only reason ever given for a broken handshake is a FAIL line, of level info.
        elif level >= logging.WARNING or (facility == "FAIL" and level > logging.DEBUG):
            yield from self._trouble(level, facility, text)
        else:
            yield LogLine(level, f"{facility}: {text}", "librdkafka", broker_of(text)[0], facility)

    def _trouble(self, level: int, name: str, text: str) -> Iterator[LogLine]:
        now = time.monotonic()
        trouble = Trouble(name, self._certificates.explain(text), now)
        text = trouble.text
        broker, reason = broker_of(text)
        if name == "_ALL_BROKERS_DOWN":  # says nothing, and so often that it would push out the reasons
            self._cluster_lost = True
            event, broker, reason = "cluster_lost", None, ""
        else:
            self._remember(trouble)
            event = _event_of(trouble, broker)
        if event == "broker_lost" and broker:
            self._lost.add(broker)
        # Times and counts would make each repeat look new, and so would a broker's names: h:1/1, h:1/bootstrap.
        key = (name, f"{broker or ''} {reason.partition(' (after ')[0]}")
        repeats = self._repeats.get(key)
        if repeats is not None and now - repeats.told < REPEAT_INTERVAL:
            repeats.suppressed += 1
            return
        if len(self._repeats) >= _KNOWN_TROUBLES:
            self._repeats.clear()
        self._repeats[key] = _Repeats(now)
        again = f" ({repeats.suppressed} more since last told)" if repeats and repeats.suppressed else ""
        advice = f"; {trouble.advice}" if trouble.advice and (trouble.is_refusal or trouble.is_mismatch) else ""
        yield LogLine(level, f"{name}: {text}{advice}{again}", event, broker, name)

    def _brokers_back(self) -> Iterator[LogLine]:
        if not self._lost:
            return
        for state in ((self._parsed() or {}).get("brokers") or {}).values():
            broker = state["nodename"]
            if broker in self._lost and state["state"] == "UP":
                self._lost.discard(broker)
                yield LogLine(logging.INFO, f"{broker} is connected again", "broker_back", broker)

    # -- whether the cluster answers ------------------------------------------------------------------------------

    def meet(self, handle: core.Client, servers: str) -> None:
        """Tell, about a second later, when this client's cluster has answered, and again after no broker did."""
        self._handle, self._servers = weakref.ref(handle), servers
        every_tick(self)

    def answered(self) -> None:
        """The cluster answers: told the first time, and after all brokers were lost."""
        with self._lock:
            event = "cluster_back" if self._met else "connected"
            news = self._cluster_lost or not self._met
            self._met, self._cluster_lost = True, False
            self._repeats.pop(_ALL_DOWN, None)  # or the last line would say that all is well, when it is lost again
        if news:
            said = "the cluster answers again" if event == "cluster_back" else "connected"
            tell(logger, event, "%s: %s: %s", self.name, said, self._servers, client=self.name, broker=self._servers)

    def tick(self) -> None:
        handle = self._handle()
        if handle is None or (self._met and not self._cluster_lost):
            return
        with suppress(RdNotifyError):  # closed, forked, or what is told elsewhere
            # librdkafka tells of connections only in debug lines.
            if handle.accepted and (not self._met or green.call(handle.cluster_reachable, _GLANCE)):
                self.answered()

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
    name = source.events.name
    for line in source.events.absorb(source.take_events):
        fields = {"broker": line.broker, "error": line.error, "client": name}
        given: dict[str, Any] = {field: value for field, value in fields.items() if value}
        tell(logger, line.event, "%s: %s", name, line.text, level=line.level, **given)


def _event_of(trouble: Trouble, broker: str | None) -> str:
    if trouble.is_refusal:
        return "refused"
    if broker and trouble.name == "FAIL":
        return "disconnected"
    return "broker_lost" if broker and trouble.name in _OUTAGES else "librdkafka"


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
