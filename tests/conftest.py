"""What holds for every test: the kit's fixtures, versions in the header, nothing left behind at the end."""

from __future__ import annotations

import gc
import os
import time

import pytest
from support.processes import processes_of

from rdknotify import _rdknotify
from rdknotify.testing.jars import KAFKA_VERSION, LocalKafkaError, find_java, java_version

pytest_plugins = ["rdknotify.testing.plugin"]

LEFTOVER_TIMEOUT = 10.0
"""Seconds for the last handles and JVMs to go."""


def pytest_report_header() -> str:
    try:
        java = str(java_version(find_java()))
    except LocalKafkaError:
        java = "missing"
    return f"librdkafka {_rdknotify.version()}, Kafka {KAFKA_VERSION}, Java {java}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that leaves native handles or JVMs behind, which no single test would notice."""
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
    handles = [f"{count} {kind}" for kind, count in _rdknotify.live_handles().items() if count]
    return handles + [f"process {process} of a LocalKafka" for process in processes_of(os.getpid())]
