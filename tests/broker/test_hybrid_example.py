"""The example of a service with RPC on one transport and notifications through Kafka, run as a user would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from support.reader import read_all

from rdknotify.topics import retry_topic

pytestmark = pytest.mark.skipif(
    find_spec("oslo_messaging") is None, reason="oslo.messaging is for Python 3.11 and newer"
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "hybrid"
SUMMARY = re.compile(r"sent (\d+), handled (\d+), requeued (\d+), lost (\d+)\n")


def run(folder: Path = EXAMPLE, **environment: str) -> tuple[int, tuple[int, ...]]:
    """Its exit status, and the figures of its summary, which is all that it prints."""
    done = subprocess.run(
        [sys.executable, str(folder / "run.py")],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    summary = SUMMARY.fullmatch(done.stdout)
    assert summary, done.stdout + done.stderr
    return done.returncode, tuple(map(int, summary.groups()))


def on_log(bootstrap: str, topic: str) -> int:
    try:
        return len(read_all(bootstrap, topic))
    except KafkaException:
        return 0  # there is no such topic yet


def test_every_notification_is_handled_though_the_database_was_busy(kafka) -> None:
    topics = ("hybrid.info", retry_topic("hybrid.info", "meter"))
    before = [on_log(kafka.bootstrap_servers, topic) for topic in topics]
    status, (sent, handled, requeued, lost) = run(KAFKA=kafka.bootstrap_servers)
    assert (status, sent, handled, lost) == (0, 40, 40, 0)
    assert 0 < requeued <= sent
    after = [on_log(kafka.bootstrap_servers, topic) for topic in topics]
    assert [now - earlier for now, earlier in zip(after, before, strict=True)] == [sent, requeued]


def test_on_a_kafka_of_its_own_it_tells_what_an_endpoint_forgot(tmp_path) -> None:
    shutil.copy(EXAMPLE / "service.conf", tmp_path)
    program = (EXAMPLE / "run.py").read_text()
    for right, wrong in (("Result.REQUEUE", "Result.HANDLED"), ("TIMEOUT = 60.0", "TIMEOUT = 6.0")):
        assert right in program
        program = program.replace(right, wrong)
    (tmp_path / "run.py").write_text(program)
    status, (sent, handled, forgotten, lost) = run(tmp_path, KAFKA="")
    assert (status, sent) == (1, 40)
    assert lost == forgotten == sent - handled > 0
