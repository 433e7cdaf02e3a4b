"""Programs in which eventlet has replaced threads, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.processes import STRICT_PYTHON

IMPORT = """
from rdknotify.consumer import Consumer
from rdknotify.producer import Producer
"""
PATCH = """
import warnings
warnings.filterwarnings("ignore", r"\\s*Eventlet is deprecated|Using fork")
import eventlet
eventlet.monkey_patch()
"""
PRELUDE = """
import logging, os, signal, sys, threading, time
from rdknotify import green
from support.patched import Hub, LoggingThreads, group

url = sys.argv[1]
hub = Hub()
logged_in = LoggingThreads()
"""


def run_patched(program: str, url: str, *, imported_first: bool = False) -> str:
    """Run a program after :data:`PRELUDE`; what it printed. Fails if it fails, or says anything on stderr."""
    beginning = IMPORT + PATCH if imported_first else PATCH + IMPORT
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [*STRICT_PYTHON, "-c", beginning + PRELUDE + program, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0 and not done.stderr, f"exit status {done.returncode}\n{done.stderr}\n{done.stdout}"
    return done.stdout


class Hub:
    """A green thread that ticks every 5 ms: how long the hub was held up at most."""

    def __init__(self) -> None:
        import eventlet

        self.longest = 0.0
        self._sleep = eventlet.sleep
        eventlet.spawn(self._run)
        self._sleep(0.05)
        self.longest = 0.0

    def _run(self) -> None:
        import time

        last = time.monotonic()
        while True:
            self._sleep(0.005)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now

    def check(self, allowed: float = 0.1) -> None:
        self._sleep(0.01)
        assert self.longest < allowed, f"the hub was held up for {self.longest:.3f} s"


class LoggingThreads(list):
    """The native threads in which something was logged."""

    def __init__(self) -> None:
        import logging
        import threading

        handler = logging.Handler(logging.DEBUG)
        handler.emit = lambda record: self.append(threading.get_native_id())
        logging.getLogger().addHandler(handler)
        logging.getLogger("rdknotify").setLevel(logging.DEBUG)


def group() -> str:
    """A group's name that is new."""
    return f"group-{os.urandom(4).hex()}"
