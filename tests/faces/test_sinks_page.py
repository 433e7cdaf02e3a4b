"""The programs of docs/sinks.md run as they stand there: the mapping stores, the sink passes the test kit."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from support.database import ask
from support.waiting import until

from rdknotify import Notifier
from rdknotify.deadletter import read_dead_letters
from rdknotify.testing import MockCluster
from rdknotify.testing.sinks import SinkContract

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sinks.md").read_text()
MAPPING, SINK, TEST = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def stored(database: Path) -> list[tuple[object, ...]]:
    if not database.exists() or not ask(database, "SELECT 1 FROM sqlite_master WHERE name = 'changes'"):
        return []
    return ask(database, "SELECT message_id, instance, state, memory_mb FROM changes")


def test_the_mapping_is_the_example() -> None:
    assert (ROOT / "examples" / "mapping.py").read_text() == MAPPING


def test_the_mapping_of_the_page_stores_rows_of_its_own(mock_cluster: MockCluster, tmp_path: Path) -> None:
    mock_cluster.create_topic("notifications.info", partitions=1)
    good = {"instance_id": "i-1", "state": "active", "memory_mb": "512"}
    with Notifier(mock_cluster.url, "compute.node1", ["notifications"]) as notifier:
        notifier.info({}, "compute.instance.update", {"instance_id": "i-0", "state": "active"})
        message_id = notifier.info({}, "compute.instance.update", good)
    (tmp_path / "mapping.py").write_text(MAPPING.replace("kafka://localhost:9092", mock_cluster.url))
    running = subprocess.Popen([sys.executable, "mapping.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: stored(tmp_path / "instances.db"), timeout=60)
    finally:
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 0, said
    assert stored(tmp_path / "instances.db") == [(message_id, "i-1", "active", 512)]
    (dead,) = read_dead_letters(tmp_path / "dead-letters.jsonl")
    assert dead["reason"] == "KeyError: 'memory_mb'"


def test_the_sink_of_the_page_passes_the_kit(tmp_path: Path) -> None:
    (tmp_path / "plain_sink.py").write_text(SINK)
    (tmp_path / "test_plain_sink.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout
    checks = sum(name.startswith("test_") for name in vars(SinkContract))
    assert re.search(rf"^{checks} passed", done.stdout, re.MULTILINE), done.stdout
