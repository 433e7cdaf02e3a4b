"""The command line as a user meets it: texts, exit statuses, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.database import ask

from rdknotify import _rdknotify
from rdknotify.cli import main_job as demo
from rdknotify.sinks import SinkError, Span
from rdknotify.sinks.schema import Schema
from rdknotify.topics import TopicPartition

COUNT = 2000


def start(*arguments: str, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rdknotify", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "COLUMNS": "100"},
    )


def run(*arguments: str, temporary: Path) -> tuple[int, str, str]:
    with start(*arguments, temporary=temporary) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def figures(text: str) -> dict[str, str]:
    """The closing table."""
    return dict(re.findall(r"^ (\S.*?)  +([\d,]+(?: ms)?) *$", text, re.MULTILINE))


def test_version_names_what_it_is_made_of(tmp_path: Path) -> None:
    status, out, err = run("version", temporary=tmp_path)
    assert (status, err) == (0, "")
    assert re.fullmatch(r"rdknotify \S+\n", out)
    status, out, _ = run("version", "--verbose", temporary=tmp_path)
    assert status == 0
    assert f"librdkafka {_rdknotify.version()} (" in out
    assert "ssl" in out
    assert "Python 3." in out
    for name, its in _rdknotify.parts().items():
        assert (name if its == "system" else f"{name} {its}") in out
    assert re.search(r"^wheel: cp3\d+-\S+-\w+$", out, re.MULTILINE)
    assert re.search(r", (glibc [\d.]+|musl)$", out, re.MULTILINE)


def test_version_tells_a_program_whose_certificates_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    status, out, _ = run("version", "--json", temporary=tmp_path)
    told = json.loads(out)
    assert status == 0
    assert told["certificates"] == str(bundle)
    assert told["parts"] == _rdknotify.parts()
    assert told["features"] == list(_rdknotify.features())

    bundle.unlink()
    status, out, _ = run("version", "--json", temporary=tmp_path)
    assert status == 0
    assert json.loads(out)["certificates"].startswith(f"none: SSL_CERT_FILE={bundle}")


def test_the_demo_stores_what_it_sends_and_keeps_it(tmp_path: Path) -> None:
    kept = tmp_path / "kept.db"
    status, out, err = run("demo", "--count", str(COUNT), "--keep", str(kept), temporary=tmp_path)
    assert (status, err) == (0, ""), out
    shown = figures(out)
    assert {shown[name] for name in ("sent", "delivered", "stored", "distinct")} == {f"{COUNT:,}"}
    assert (shown["lost"], shown["duplicated"]) == ("0", "0")
    assert shown.keys() >= {"notifications/s", "end to end p50", "end to end p99"}
    ((rows, types, partitions),) = ask(
        kept,
        "SELECT count(DISTINCT message_id), count(DISTINCT event_type), count(DISTINCT partition) FROM notifications",
    )
    assert rows == COUNT
    assert types > 100
    assert partitions > 1
    assert [entry for entry in tmp_path.iterdir() if not entry.name.startswith("kept.db")] == []


def test_an_unreachable_broker_is_one_clear_line(tmp_path: Path) -> None:
    begun = time.monotonic()
    status, _, err = run("demo", "--kafka", "127.0.0.1:1", temporary=tmp_path)
    assert status == 1
    assert time.monotonic() - begun < 15
    (line,) = [line for line in err.splitlines() if line.startswith("rdknotify: ")]
    assert "127.0.0.1:1" in line and "check host and port" in line
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["demo", "--keep", "{there}"], 1, "is there already; name a file that is not"),
        (["demo", "--keep", "{nowhere}/demo.db"], 1, "nowhere does not exist; make it first"),
        (["demo", "--kafka", "http://host"], 1, "scheme 'http' is not one of kafka, rdkafka"),
        (["demo", "--count", "0"], 2, "--count"),
        (["dmeo"], 2, "No such command 'dmeo'"),
    ],
)
def test_wrong_use_is_said_without_a_traceback(tmp_path: Path, arguments: list[str], status: int, text: str) -> None:
    there = tmp_path / "there.db"
    there.touch()
    paths = {"there": there, "nowhere": tmp_path / "nowhere"}
    found, _, err = run(*(argument.format(**paths) for argument in arguments), temporary=tmp_path)
    assert found == status
    assert text in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_cleans_up(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with start("demo", "--count", "10000000", temporary=tmp_path) as process:
        deadline = time.monotonic() + 30
        while not _stored_some(tmp_path):
            assert time.monotonic() < deadline, "the demo did not begin to store"
            time.sleep(0.05)
        begun = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert time.monotonic() - begun < 12
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert re.search(r"interrupted: [\d,]+ sent", out)
    assert list(tmp_path.iterdir()) == []


def _stored_some(folder: Path) -> bool:
    try:
        return any(ask(path, "SELECT 1 FROM notifications LIMIT 1") for path in folder.glob("*/demo.db"))
    except sqlite3.OperationalError:
        return False  # the table is not there yet


class LosingSink(demo._TimedSink):
    """Says that it stored what it did not."""

    def store(self, group: str, rows: Sequence[tuple[Any, ...]], spans: Mapping[TopicPartition, Span]) -> int:
        return super().store(group, rows[1:], spans) + 1


class FullSink(demo._TimedSink):
    """A database on a disk with room for a few hundred kilobytes."""

    def open(self, schema: Schema) -> None:
        super().open(schema)
        assert self._connection is not None
        self._connection.execute("PRAGMA max_page_count = 100")


def test_the_demo_fails_if_a_notification_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_TimedSink", LosingSink)
    console = Console(record=True, width=100)
    assert demo.run(None, 500, None, console) == 1
    shown = console.export_text()
    assert int(figures(shown)["lost"]) > 0
    assert "the database does not hold what was sent" in shown


def test_a_full_disk_ends_the_demo_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_TimedSink", FullSink)
    with pytest.raises(SinkError, match="full; free some space"):
        demo.run(None, 5000, None, Console(width=100))


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_the_command_names_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import rdknotify.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "the command line needs click and rich: pip install 'rdknotify[cli]'"
