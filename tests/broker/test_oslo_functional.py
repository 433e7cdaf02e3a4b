"""oslo.messaging's own functional tests of notifications pass on ``rdkafka://``, from fresh topics of real Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from support import oslo_functional

pytest.importorskip("oslo_messaging")
pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

TIMEOUT = 180.0
NOTIFY = [
    "test_simple",
    "test_multiple_topics",
    "test_multiple_servers",
    "test_independent_topics",
    "test_all_categories",
    "test_simple_batch",
    "test_compression",
]
LOGGING = [
    [f"test_logging({priority},{driver})" for driver in ("messaging", "messagingv2")]
    for priority in ("debug", "info", "warn", "error", "critical")
]
PROCESSES = [NOTIFY, *LOGGING]
"""Side by side, because the tests mostly wait: each of logging 15 seconds, until nothing more comes."""


@pytest.fixture(scope="module")
def outcomes(kafka_session, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each test. A virtual host that nobody used before makes its topics fresh."""
    kafka_session.heal()
    vhost = uuid.uuid4().hex[:8]
    # test_multiple_servers wants each of its two listeners to get some, in the order in which they were sent.
    kafka_session.create_topic(f"test-topic.info.{vhost}", 2)
    url = f"rdkafka://{kafka_session.bootstrap_servers}/{vhost}"
    folder = tmp_path_factory.mktemp("oslo-functional")
    files = [folder / str(number) for number in range(len(PROCESSES))]
    started = [_start(path, names, url) for path, names in zip(files, PROCESSES, strict=True)]
    deadline = time.monotonic() + TIMEOUT
    try:
        for process in started:
            process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        pass  # the tests that did not end have no outcome
    finally:
        for process in started:
            process.kill()
            process.wait()
    return {name: outcome for path in files for name, outcome in map(json.loads, path.read_text().splitlines())}


def _start(outcomes: Path, names: list[str], url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", oslo_functional.__file__, *names]
    with outcomes.open("wb") as file:
        return subprocess.Popen(command, env=oslo_functional.environment(url), stdout=file)


@pytest.mark.parametrize("name", [name for names in PROCESSES for name in names])
def test_passes(outcomes: dict[str, str], name: str) -> None:
    assert name in outcomes, "it did not end"
    assert outcomes[name] == oslo_functional.PASSED, outcomes[name]
