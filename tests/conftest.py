"""What holds for every test: the kit's fixtures, versions in the header, nothing left behind at the end."""

from __future__ import annotations

import gc
import os
import signal
import time
from importlib.util import find_spec

import pytest
from support.processes import processes_of

# The pure tests run without a compiler: from a source tree whose extension is not built, they alone are collected.
BUILT = find_spec("rdknotify._rdknotify") is not None
pytest_plugins = ["rdknotify.testing.plugin", "support.postgres", "support.figures"] if BUILT else []
collect_ignore = [] if BUILT else ["broker", "core", "engine", "faces", "manual"]

# A shell lets its background jobs ignore SIGINT, and their children inherit that; the tests of Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

LEFTOVER_TIMEOUT = 10.0
"""Seconds for the last handles and servers to go."""


def pytest_report_header() -> str:
    if not BUILT:
        return "the extension is not built: pure tests only"
    from rdknotify import _rdknotify
    from rdknotify.testing.jars import KAFKA_VERSION, LocalKafkaError, find_java, java_version

    try:
        java = str(java_version(find_java()))
    except LocalKafkaError:
        java = "missing"
    return f"librdkafka {_rdknotify.version()}, Kafka {KAFKA_VERSION}, Java {java}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that leaves native handles or servers behind, which no single test would notice."""
    deadline = time.monotonic() + LEFTOVER_TIMEOUT
    while (left := _leftovers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\nleft behind at the end of the session: {', '.join(left)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _leftovers() -> list[str]:
    gc.collect()
    handles = []
    if BUILT:
        from rdknotify import _rdknotify

        handles = [f"{count} {kind}" for kind, count in _rdknotify.live_handles().items() if count]
    return handles + [f"process {process} of a server" for process in processes_of(os.getpid())]
