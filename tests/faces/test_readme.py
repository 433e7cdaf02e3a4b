"""Every code block of the README is run as it stands there, only with another broker's address."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest

from rdknotify import Notifier

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]


def until(wanted: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def start(folder: Path, name: str, text: str, bootstrap: str) -> tuple[subprocess.Popen[str], Path]:
    """Run a program of the README in a folder of its own; returns it and the file of what it prints."""
    (folder / f"{name}.py").write_text(text.replace("localhost:9092", bootstrap))
    printed = folder / f"{name}.out"
    with printed.open("w") as output:
        command = [sys.executable, f"{name}.py"]
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, text=True), printed


def stored(database: Path) -> int:
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'notifications'").fetchall()
        return connection.execute("SELECT count(*) FROM notifications").fetchone()[0] if tables else 0


def test_the_readme_has_the_three_programs_of_examples():
    examples = [(ROOT / "examples" / name).read_text() for name in ("sender.py", "listener.py", "persister.py")]
    assert examples == PROGRAMS
    assert all(len(text.splitlines()) <= 24 for text in PROGRAMS)


def test_sender_listener_and_persister_of_the_readme_work_together(kafka, tmp_path):
    sender, listener, persister = PROGRAMS
    running = [start(tmp_path, "listener", listener, kafka.bootstrap_servers)]
    running.append(start(tmp_path, "persister", persister, kafka.bootstrap_servers))
    try:
        process, printed = start(tmp_path, "sender", sender, kafka.bootstrap_servers)
        assert process.wait(60) == 0, printed.read_text()
        assert "1000 of 1000 delivered" in printed.read_text()
        until(lambda: stored(tmp_path / "notifications.db") >= 1001)
        until(lambda: len(running[0][1].read_text().splitlines()) >= 1001)
    finally:
        for process, _ in running:
            process.send_signal(signal.SIGTERM)
    for process, printed in running:
        assert process.wait(30) == 0, printed.read_text()
    assert re.search(r"\d+ received, \d+ stored, 0 duplicates left out", running[1][1].read_text())
    assert "compute.node1: compute.instance.create.end web-1" in running[0][1].read_text()


def test_requeue_of_the_readme_listener_comes_back(kafka, tmp_path):
    listener = PROGRAMS[1].replace("busy", "busy-once").replace('pool="billing"', 'pool="retries", retry_delay=0.2')
    process, printed = start(tmp_path, "listener", listener, kafka.bootstrap_servers)
    try:
        with Notifier(kafka.url, publisher_id="compute.node2", topics=["notifications"]) as notifier:
            notifier.info({}, "compute.instance.update", {"instance": "busy-once"})
        until(lambda: printed.read_text().count("busy-once") >= 5)
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, printed.read_text()


@pytest.mark.parametrize("command", [text.strip() for language, text in BLOCKS if language == "sh"])
def test_the_commands_of_the_readme_exist(command):
    if command.startswith("pip install rdknotify "):
        named = set(re.findall(r"\[(\w+)\]", command))
        assert named and named <= set(metadata.metadata("rdknotify").get_all("Provides-Extra") or ())
        return  # installing is for make wheels-test
    assert command in ("make demo", "make test"), "another command needs a test of its own"
    done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
