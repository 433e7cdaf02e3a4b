"""``rdknotify persist``: what comes into the database, how it ends, what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command import run
from support.database import ask

from rdknotify import Producer
from rdknotify.testing import MockCluster
from rdknotify.testing.data import nova_notifications

# The mock lets a member into a group that there was before only when the last session is over.
QUICK = ("-o", "fetch.wait.max.ms=20", "-o", "session.timeout.ms=1500", "-o", "heartbeat.interval.ms=300")


@pytest.fixture
def sent(mock_cluster: MockCluster) -> MockCluster:
    """With ten records that are no notifications in the topic ``notifications.info``."""
    mock_cluster.create_topic("notifications.info", 1)
    send(mock_cluster, 10)
    return mock_cluster


def send(cluster: MockCluster, count: int) -> None:
    with Producer(cluster.url) as producer:
        values = [b"%d" % number for number in range(count)]
        producer.send_batch("notifications.info", values).result(10).raise_for_failures()


def test_the_samples_of_the_embedded_broker_are_stored_each_once(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    ran = run("persist", "--url", "mock:", "--into", f"sqlite:///{path}", "--idle", "1")
    assert ran.status == 0
    assert ran.out == ""
    assert "100 stored" in ran.err
    places = re.findall(r"(notifications\.\w+)-\d+ at (\d+)", ran.err)
    assert {topic for topic, _ in places} == {"notifications.info", "notifications.error"}
    assert sum(int(offset) for _, offset in places) == 100
    kinds = ask(path, "SELECT event_type, count(*) FROM notifications GROUP BY event_type")
    expected = [one["event_type"] for one in nova_notifications()[:100]]
    assert dict(kinds) == {kind: expected.count(kind) for kind in expected}


def test_it_goes_on_where_it_stopped(sent: MockCluster, tmp_path: Path) -> None:
    common = ("persist", "notifications.info", "--url", sent.url, *QUICK, "--schema", "raw", "--table", "kept")
    first = run(*common, "--into", tmp_path / "a.db", "--count", "4", "--batch-size", "2")
    assert first.status == 0
    stored = ask(tmp_path / "a.db", "SELECT count(*) FROM kept")[0][0]
    assert 4 <= stored <= 10
    assert f"notifications.info-0 at {stored}" in first.err
    send(sent, 5)
    again = run(*common, "--into", tmp_path / "a.db", "--idle", "1")
    assert again.status == 0
    assert f"{15 - stored} stored" in again.err
    assert ask(tmp_path / "a.db", "SELECT count(*), count(DISTINCT offset) FROM kept") == [(15, 15)]


def test_what_becomes_no_row_is_kept_or_told_of(sent: MockCluster, tmp_path: Path) -> None:
    common = ("persist", "notifications.info", "--url", sent.url, *QUICK, "--idle", "1")
    told = run(*common, "--into", tmp_path / "a.db", "--group", "a")
    assert told.status == 3
    assert "10 skipped (no --dead-letter)" in told.err
    assert "record skipped" in told.err  # the library's warnings are shown

    letters = tmp_path / "dead.jsonl"
    kept = run(*common, "--into", tmp_path / "b.db", "--group", "b", "--dead-letter", letters)
    assert kept.status == 0
    assert "10 dead letters" in kept.err
    assert len(letters.read_text().splitlines()) == 10


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--into", "mysql://host/db"], 2, "give a file's path, sqlite:///FILE or postgresql://"),
        (["--into", "sqlite://"], 2, "names no file"),
        (["--into", "{nowhere}/x.db"], 1, "does not exist; make it first"),
        (["--into", "{here}/x.db", "--schema", "raw"], 2, "name the topics"),
        (["--into", "{here}/x.db", "--table", "a b"], 1, "a b"),
        (["--into", "postgresql://u:geheim@127.0.0.1:1/db"], 1, "check that the server runs"),
        ([], 2, "--into"),
    ],
)
def test_wrong_use_is_told_with_the_remedy(arguments: list[str], status: int, text: str, tmp_path: Path) -> None:
    places = {"nowhere": str(tmp_path / "nowhere"), "here": str(tmp_path)}
    begun = time.monotonic()
    ran = run("persist", "--url", "mock:", *(argument.format(**places) for argument in arguments))
    assert (ran.status, ran.out) == (status, "")
    assert text in ran.err
    assert "geheim" not in ran.err
    assert time.monotonic() - begun < 10


def test_a_password_that_all_can_see_is_warned_of(tmp_path: Path) -> None:
    ran = run("persist", "--url", "mock:", "--into", "postgresql://u:geheim@127.0.0.1:1/db")
    assert "PGPASSWORD" in ran.err and "geheim" not in ran.err


def test_a_dead_broker_is_one_line(tmp_path: Path) -> None:
    begun = time.monotonic()
    ran = run("persist", "--url", "127.0.0.1:1", "--into", tmp_path / "x.db", "-o", "connect_timeout=1")
    assert ran.status == 1
    assert time.monotonic() - begun < 10
    (line,) = ran.err.splitlines()
    assert "check host and port" in line


def test_topics_that_never_come_end_it_when_idle(
    mock_cluster: MockCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rdknotify.cli.persist._JOINING", 1.0)
    ran = run("persist", "^nothing$", "--url", mock_cluster.url, "--into", tmp_path / "x.db", "--idle", "0.5")
    assert ran.status == 1
    assert "no partition came" in ran.err and "rdknotify doctor" in ran.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stores_what_is_in_hand_and_says_where_it_stopped(
    sent: MockCluster, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    path = tmp_path / "x.db"
    command = ["persist", "notifications.info", "--url", sent.url, *QUICK, "--into", str(path), "--schema", "raw"]
    # Nothing is stored by itself before the signal.
    with subprocess.Popen(
        [sys.executable, "-m", "rdknotify", *command, "--max-wait", "60", "-o", "statistics.interval.ms=0"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(2)
        begun = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert time.monotonic() - begun < 10
    assert "10 stored" in err and "stopped at notifications.info-0 at 10" in err
    assert ask(path, "SELECT count(*) FROM records") == [(10,)]
