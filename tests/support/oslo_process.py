"""What services do in processes of their own: ``oslo_process.py COMMAND URL CONFIGURATION ...``.

The commands are the functions below that take arguments from the command line; those named ``green_...`` run patched
by eventlet. Each notification that a listener's endpoint gets is a line of FILE, written before anything else happens.
"""

from __future__ import annotations

import sys

if sys.argv[1:] and sys.argv[1].startswith("green_"):
    import eventlet

    eventlet.monkey_patch()

import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import oslo_messaging
from oslo_config import cfg


def _transport(url: str, file: str) -> Any:
    conf = cfg.ConfigOpts()
    conf(["--config-file", file], project="tests")
    return oslo_messaging.get_notification_transport(conf, url=url)


def _notifier(transport: Any, topic: str) -> Any:
    return oslo_messaging.Notifier(transport, "n", driver="messagingv2", topics=[topic])


class Told:
    """Writes event types to a file; in the call of number ``die_at`` the process kills itself."""

    def __init__(self, path: str, die_at: int = 0, work: float = 0.0) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = die_at
        self._work = work
        self._lock = threading.Lock()

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        with self._lock:
            os.write(self._file, event_type.encode() + b"\n")
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._work)


def send_and_exit(url: str, file: str, topic: str, count: str) -> None:
    """Send, and reach the end of the program without a word to the transport."""
    notifier = _notifier(_transport(url, file), topic)
    for number in range(int(count)):
        notifier.info({}, str(number), {})


def send_and_fork(url: str, file: str, topic: str) -> None:
    """The parent has sent before the fork; then both send and end as programs do."""
    notifier = _notifier(_transport(url, file), topic)
    notifier.info({}, "before", {})
    child = os.fork()
    notifier.info({}, "parent" if child else "child", {})
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))


def listen(url: str, file: str, topic: str, pool: str, seen: str, die_at: str = "0") -> None:
    """Listen until killed."""
    target = oslo_messaging.Target(topic=topic)
    endpoint = Told(seen, int(die_at))
    server = oslo_messaging.get_notification_listener(
        _transport(url, file), [target], [endpoint], pool=pool, allow_requeue=True
    )
    server.start(override_pool_size=4)
    server.wait()


def green_send_and_listen(url: str, file: str, topic: str, pool: str, seen: str, count: str, report: str) -> None:
    """Send and listen, one notification too large to be delivered; write what was observed as JSON."""
    writers: set[int] = set()

    class Who(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            writers.add(record_thread())

    record_thread = eventlet.patcher.original("threading").get_native_id
    logging.getLogger("rdknotify").addHandler(Who())
    logging.getLogger("rdknotify").setLevel(logging.DEBUG)
    gaps: list[float] = []

    def tick() -> None:
        while True:
            begun = time.monotonic()
            eventlet.sleep(0.005)
            gaps.append(time.monotonic() - begun)

    ticker = eventlet.spawn(tick)
    transport = _transport(url, file)
    notifier = _notifier(transport, topic)
    notifier.info({}, "first", {})  # makes the producer, whose threads are its own
    before = _native_threads()
    begun = time.monotonic()
    for number in range(1, int(count)):
        notifier.info({}, str(number), {})
    sending = time.monotonic() - begun
    threads = _native_threads() - before
    notifier.info({}, "too large", {"text": "x" * 2_000_000})
    server = oslo_messaging.get_notification_listener(
        _transport(url, file), [oslo_messaging.Target(topic=topic)], [Told(seen)], pool=pool
    )
    server.start()
    deadline = time.monotonic() + 20
    while _lines(seen) < int(count) and time.monotonic() < deadline:
        eventlet.sleep(0.02)
    gaps.clear()
    eventlet.sleep(1.0)  # long enough for a tick of what looks after failures, and for polls of an empty topic
    idle_gap = max(gaps)
    server.stop()
    server.wait()
    transport.cleanup()
    ticker.kill()
    observed = {
        "executor": server.executor_type,
        "threads": threads,
        "rate": int(count) / sending,
        "logged": bool(writers),
        "foreign": len(writers - {record_thread()}),
        "gap": idle_gap,
    }
    Path(report).write_text(json.dumps(observed))


def _native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _lines(path: str) -> int:
    return Path(path).read_bytes().count(b"\n") if os.path.exists(path) else 0


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
