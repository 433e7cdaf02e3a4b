"""``rdknotify send``: each line has an outcome, whatever stands in it and whatever the broker does."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.command import Ran, run
from support.reader import Row, read_all

from rdknotify.cli import lines as cli_lines
from rdknotify.cli import sending
from rdknotify.cli.interrupts import Interrupts
from rdknotify.cli.lines import Chunk, Lines
from rdknotify.envelope import Notification, decode
from rdknotify.producer import Producer
from rdknotify.testing import MockCluster

RAW = "records"


@pytest.fixture
def broker(mock_cluster: MockCluster) -> MockCluster:
    for topic in (RAW, "notifications.info", "notifications.error"):
        mock_cluster.create_topic(topic, 1)
    return mock_cluster


def send(broker: MockCluster, *arguments: object) -> Ran:
    return run("send", "--url", broker.url, *arguments)


def process(broker: MockCluster, *arguments: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rdknotify", "send", "--url", broker.url, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


def rows(broker: MockCluster, topic: str = RAW) -> list[Row]:
    return read_all(broker.bootstrap_servers, topic)


def values(broker: MockCluster, topic: str = RAW) -> list[bytes | None]:
    return [row[3] for row in rows(broker, topic)]


def notifications(broker: MockCluster, topic: str = "notifications.info") -> list[Notification]:
    return [decode(value or b"") for value in values(broker, topic)]


def write(path: Path, *lines: Any) -> Path:
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return path


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_arguments_are_one_notification(broker: MockCluster) -> None:
    ran = send(broker, "instance.created", '{"id": 7}', "--priority", "error", "--publisher-id", "me", "--key", "k",
               "--ctxt", '{"request_id": "r"}')  # fmt: skip
    assert ran.status == 0, ran.err
    ((_, _, key, value, _),) = rows(broker, "notifications.error")
    sent = decode(value or b"")
    assert key == b"k"
    assert (sent.event_type, sent.payload, sent.priority, sent.publisher_id, sent.context) == (
        "instance.created", {"id": 7}, "ERROR", "me", {"request_id": "r"},
    )  # fmt: skip
    assert ran.out == f"{sent.message_id}\n"
    assert "1 delivered, 0 certainly not, 0 possibly" in ran.err


def test_lines_say_what_they_are(broker: MockCluster, tmp_path: Path) -> None:
    long = 2**80
    file = write(
        tmp_path / "in.jsonl",
        {"event_type": "plain", "payload": {"é": "\t\n", "n": [1.5, None, True]}},
        b"",
        b'  \t{"event_type":\t"spaced",\t"payload":\t{"a":\t1}}\r',
        {"event_type": "all", "priority": "ERROR", "publisher_id": "p", "ctxt": {"u": 1}, "key": "k", "payload": "x"},
        b'{"event_type": "long", "payload": %d}' % long,
        {"event_type": 'quoted "x"', "publisher_id": None, "priority": None, "key": None, "ctxt": None},
        {"event_type": "again", "message_id": "id-1", "timestamp": "2026-01-02 03:04:05", "extra": {"more": 1},
         "topic": "elsewhere", "partition": 3, "offset": 9},
        {"value": "v", "topic": RAW, "key": {"base64": "/w=="}, "headers": [["h", "1"], ["h", None]], "offset": 5},
        {"value": None, "topic": RAW, "key": "k"},
    )  # fmt: skip
    ran = send(broker, "--file", file, "--publisher-id", "cli")
    assert ran.status == 0, ran.err
    assert "8 delivered" in ran.err
    info = {each.event_type: each for each in notifications(broker)}
    assert info["plain"].payload == {"é": "\t\n", "n": [1.5, None, True]}
    assert info["spaced"].payload == {"a": 1}
    assert info["long"].payload == long
    assert {each.publisher_id for each in info.values()} == {"cli"}
    again = info["again"]
    assert (again.message_id, again.timestamp, again.extra) == ("id-1", "2026-01-02 03:04:05", {"more": 1})
    ((_, _, key, value, _),) = rows(broker, "notifications.error")
    assert (key, decode(value or b"").context, decode(value or b"").payload) == (b"k", {"u": 1}, "x")
    assert [row[2:] for row in rows(broker)] == [(b"\xff", b"v", [("h", b"1"), ("h", None)]), (b"k", None, [])]


def test_raw_lines_are_values_as_they_are(broker: MockCluster, tmp_path: Path) -> None:
    expected = [b"\xff\x00not text", b'{"a":1}', b" blanks \r", b"the last has no end"]
    file = tmp_path / "raw"
    file.write_bytes(b"\n" + b"\n\n".join(expected))
    ran = send(broker, "--raw", "--topic", RAW, "--key", "k", "--file", file)
    assert ran.status == 0, ran.err
    assert [(row[2], row[3]) for row in rows(broker)] == [(b"k", value) for value in expected]


def test_what_listen_prints_is_taken_again(broker: MockCluster, tmp_path: Path) -> None:
    file = write(tmp_path / "in", *({"event_type": f"e{n}", "payload": n, "ctxt": {"n": n}} for n in range(20)),
                 {"topic": RAW, "value": {"base64": "/w=="}, "headers": [["h", "é"]], "key": ""})  # fmt: skip
    assert send(broker, "--file", file).status == 0
    first, record = notifications(broker), rows(broker)
    listen = ("listen", "--url", broker.url, "--timeout", 30)
    (tmp_path / "a").write_text(run(*listen, "--pool", "p", "--count", 20).out)
    raw = run(*listen, "--pool", "q", "--raw", "--topic", RAW, "--count", 1)
    (tmp_path / "b").write_text(raw.out)
    assert send(broker, "--file", tmp_path / "a", "--topic", "copy").status == 0
    assert send(broker, "--file", tmp_path / "b", "--topic", "copied").status == 0
    copies = notifications(broker, "copy.info")
    assert {each.message_id: each.payload for each in copies} == {each.message_id: each.payload for each in first}
    assert {each.timestamp for each in copies} == {each.timestamp for each in first}
    assert [row[2:] for row in rows(broker, "copied")] == [row[2:] for row in record]


def test_a_virtual_host_and_a_services_topic_are_heeded(broker: MockCluster, tmp_path: Path) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text(f"[oslo_messaging_notifications]\ntransport_url = {broker.url}/blue\ntopics = nova\n")
    assert run("send", "--config-file", conf, "e").status == 0
    assert len(values(broker, "nova.info.blue")) == 1


# -- what cannot be sent -----------------------------------------------------------------------------------------------

BAD = [
    (b"not json", "not JSON"),
    (b"[1]", "not a JSON object"),
    (b'{"payload": 1}', 'neither "event_type"'),
    (b'{"event_type": 5}', "event_type is not text"),
    (b'{"event_type": "e", "priority": "loud"}', "priority is none of audit"),
    (b'{"event_type": "e", "priority": 1}', "priority is none of audit"),
    (b'{"event_type": "e", "publisher_id": 1}', "publisher_id is not text"),
    (b'{"event_type": "e", "ctxt": 1}', "ctxt is not a JSON object"),
    (b'{"event_type": "e", "key": 1}', "key is neither text"),
    (b'{"event_type": "e", "pyload": 1}', "unknown field pyload"),
    (b'{"event_type": "e", "payload": NaN}', "not JSON"),
    (b'{"event_type": "e", "payload": "\xff"}', "not JSON"),
    (b'{"event_type": "e", "message_id": 1}', "message_id or timestamp is not text"),
    (b'{"value": 1, "topic": "t"}', "value is neither text"),
    (b'{"value": {"base64": "!"}, "topic": "t"}', "value is neither text"),
    (b'{"value": "v"}', "a record without a topic"),
    (b'{"value": "v", "topic": "a b"}', "Kafka allows only"),
    (b'{"value": "v", "topic": "t", "headers": [["h"]]}', "headers are not"),
    (b'{"oslo.version": "2.0", "oslo.message": "{}"}', "--raw"),
    (b'{"line": 1, "outcome": "x", "error": "y", "text": "z"}', "--resume"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[line.decode("latin-1") for line, _ in BAD])
def test_a_bad_line_is_told_and_stops_nothing(broker: MockCluster, tmp_path: Path, line: bytes, reason: str) -> None:
    file = write(tmp_path / "in", {"event_type": "before"}, line, {"event_type": "after"})
    ran = send(broker, "--file", file, "--failures", tmp_path / "failures")
    assert ran.status == 3
    assert re.search(rf"^rdknotify: line 2: .*{re.escape(reason)}", ran.err, re.MULTILINE), ran.err
    assert "2 delivered, 0 certainly not, 0 possibly, 1 bad line" in ran.err
    assert [each.event_type for each in notifications(broker)] == ["before", "after"]
    (entry,) = entries(tmp_path / "failures")
    assert (entry["line"], entry["outcome"]) == (2, "bad line")
    assert reason in entry["error"]
    if b"\xff" not in line:
        assert entry["text"] == line.decode()


def test_bad_lines_that_were_mended_are_sent_by_resume(broker: MockCluster, tmp_path: Path) -> None:
    file, failures = tmp_path / "in", tmp_path / "failures"
    write(file, b"{", {"event_type": "fine"}, b'{"event_type": "e"')
    assert send(broker, "--file", file, "--failures", failures).status == 3
    assert "the lines 1, 3" in send(broker, "--file", file).err
    found = entries(failures)
    found[1]["text"] += "}"
    write(failures, *found)
    ran = send(broker, "--resume", failures, "--failures", tmp_path / "left")
    assert ran.status == 3
    assert notifications(broker)[-1].event_type == "e"
    assert [entry["line"] for entry in entries(tmp_path / "left")] == [1]
    assert "rdknotify: line 1: " in ran.err


def test_strict_stops_at_a_bad_line(broker: MockCluster, tmp_path: Path) -> None:
    file = write(tmp_path / "in", {"event_type": "before"}, b"bad", {"event_type": "after"})
    ran = send(broker, "--file", file, "--strict")
    assert ran.status == 3
    assert "stopped after line 2: not JSON" in ran.err
    assert [each.event_type for each in notifications(broker)] == ["before"]
    assert send(broker, "--file", file, "--strict", "--from-line", 3).status == 0
    assert [each.event_type for each in notifications(broker)] == ["before", "after"]


def test_what_is_too_large_fails_alone_and_may_be_resumed(broker: MockCluster, tmp_path: Path) -> None:
    file, failures = tmp_path / "in", tmp_path / "failures"
    file.write_bytes(b"\n".join([b"small", b"x" * 5000, b"tiny"]))
    ran = send(broker, "--raw", "--topic", RAW, "--file", file, "--failures", failures, "-o", "message.max.bytes=2000")
    assert ran.status == 3
    assert "2 delivered, 1 certainly not, 0 possibly" in ran.err
    assert f"rdknotify send --resume {failures}" in ran.err
    (entry,) = entries(failures)
    assert (entry["line"], entry["outcome"], entry["text"]) == (2, "not persisted", "x" * 5000)
    assert "MSG_SIZE_TOO_LARGE" in entry["error"]
    assert send(broker, "--resume", failures).status == 0
    assert values(broker) == [b"small", b"tiny", b"x" * 5000]


def test_what_is_perhaps_there_is_sent_again_only_when_asked_for_and_can_be_told_apart(
    broker: MockCluster, tmp_path: Path
) -> None:
    file = write(tmp_path / "in", {"event_type": "e", "payload": "once"})
    failures = tmp_path / "failures"
    broker.fail_next("Produce", "NO_ERROR", broker=1, delay=4)
    ran = send(broker, "--file", file, "--failures", failures, "-o", "delivery_timeout=1")
    assert ran.status == 1
    assert "0 delivered, 0 certainly not, 1 possibly" in ran.err
    assert "stopped after line 1: " in ran.err
    assert "go on with --from-line 2" in ran.err
    left = send(broker, "--resume", failures)
    assert left.status == 0
    assert "0 delivered" in left.err and "1 left out" in left.err and "--also-possible" in left.err
    assert send(broker, "--resume", failures, "--also-possible").status == 0
    ids = [each.message_id for each in notifications(broker)]
    assert len(ids) == 2 and len({*ids}) == 1  # a reader drops the twin


def test_a_broker_that_goes_away_ends_it_with_every_line_accounted_for(broker: MockCluster) -> None:
    with Producer(broker.url, delivery_timeout=1.0) as producer, Interrupts() as interrupts:
        pump = sending.Pump(producer, sending.as_they_are(RAW, None), interrupts)
        pump.feed(Chunk(1, [b"a"] * 10, 0))
        until(lambda: not producer.in_flight)
        broker.broker_down(1)
        pump.feed(Chunk(11, [b"b"] * 10, 0))
        begun = time.monotonic()
        pump.finish()
        assert time.monotonic() - begun < 10
    assert pump.tally.delivered == 10
    assert pump.tally.outcomes.total() == 10
    assert pump.tally.failed == [(11, 20)]
    assert pump.stopped
    assert "_MSG_TIMED_OUT" in (pump.tally.trouble or "")


# -- how it is sent ----------------------------------------------------------------------------------------------------


def test_a_rate_is_kept_evenly(broker: MockCluster, tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"x\n" * 60)
    begun = time.monotonic()
    assert send(broker, "--raw", "--topic", RAW, "--file", file, "--rate", 50).status == 0
    assert time.monotonic() - begun > 1.1
    assert len(values(broker)) == 60


def test_ctrl_c_says_where_and_how_to_go_on(broker: MockCluster, tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"".join(b"%d\n" % number for number in range(1, 2001)))
    with process(broker, "--raw", "--topic", RAW, "--file", file, "--rate", "500") as sender:
        until(lambda: rows(broker))
        sender.send_signal(signal.SIGINT)
        _, err = sender.communicate(timeout=30)
    assert sender.returncode == 130, err
    found = re.search(r"stopped after line ([\d,]+); go on with --from-line (\d+)", err)
    assert found is not None, err
    reached = int(found[2]) - 1
    assert 0 < reached < 2000
    assert len(values(broker)) == reached
    assert send(broker, "--raw", "--topic", RAW, "--file", file, "--from-line", found[2]).status == 0
    assert values(broker) == [b"%d" % number for number in range(1, 2001)]


def test_lines_of_a_pipe_are_sent_as_they_come(broker: MockCluster) -> None:
    with process(broker, stdin=subprocess.PIPE) as sender:
        assert sender.stdin is not None
        for number in (1, 2):
            sender.stdin.write(f'{{"event_type": "e{number}"}}\n')
            sender.stdin.flush()
            until(lambda number=number: len(values(broker, "notifications.info")) == number)
        sender.stdin.write('{"event_type": "e3"}')
        _, err = sender.communicate(timeout=30)
    assert sender.returncode == 0, err
    assert [each.event_type for each in notifications(broker)] == ["e1", "e2", "e3"]


def test_memory_does_not_grow_with_the_file(broker: MockCluster, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        file = tmp_path / "in"
        with file.open("wb") as out:
            for _ in range(count // 1000):
                out.write((b"x" * 199 + b"\n") * 1000)
        with process(broker, "--raw", "--topic", RAW, "--file", file) as sender:
            _, status, usage = os.wait4(sender.pid, 0)
            sender.returncode = os.waitstatus_to_exitcode(status)
            assert sender.stderr is not None
            assert f"{count:,} delivered" in sender.stderr.read()
        file.unlink()
        return usage.ru_maxrss * resource.getpagesize() // resource.getpagesize()  # KiB on Linux

    assert peak(600_000) < peak(150_000) + 40_000


# -- lines -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    st.booleans(),
    st.integers(1, 25),
)
@example([b"", b""], True, 1)
def test_lines_have_their_numbers_whatever_the_blocks(
    tmp_path: Path, expected: list[bytes], ended: bool, start: int
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"\n".join(expected) + (b"\n" if ended and expected else b""))
    if expected and not ended and not expected[-1]:
        expected = expected[:-1]
    with pytest.MonkeyPatch.context() as patch, Lines(path, start) as lines:
        patch.setattr(cli_lines, "BLOCK", 7)
        found = list(numbered(lines))
    assert found == list(enumerate(expected, 1))[start - 1 :]


def numbered(lines: Lines) -> Iterator[tuple[int, bytes]]:
    for chunk in lines:
        yield from enumerate(chunk.lines, chunk.first)


def test_a_file_without_ends_of_lines_is_refused(
    broker: MockCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_lines, "LONGEST", 100)
    monkeypatch.setattr(cli_lines, "BLOCK", 64)
    file = tmp_path / "in"
    file.write_bytes(b"fine\n" + b"x" * 500)
    ran = send(broker, "--raw", "--topic", RAW, "--file", file)
    assert ran.status == 3
    assert "stopped after line 1: line 2 is longer than" in ran.err
    assert values(broker) == [b"fine"]


# -- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["e", "{a: 1}"], "PAYLOAD is not JSON"),
        (["e", "--ctxt", "[]"], "--ctxt: a JSON object is needed"),
        (["e", "--file", "x"], "give one of EVENT_TYPE, --file and --resume"),
        (["--raw", "e"], "--raw: name the records' whole --topic"),
        (["--raw", "--topic", "t", "e", "{}"], "--raw: the one argument is the value"),
        (["e", "--also-possible"], "--also-possible goes with --resume"),
        (["--resume", "x", "--failures", "x"], "name another file"),
        (["e", "--priority", "loud"], "'loud' is not one of"),
        (["e", "--rate", "0"], "--rate"),
    ],
)
def test_wrong_use_is_told(broker: MockCluster, arguments: list[str], text: str) -> None:
    ran = send(broker, *arguments)
    assert ran.status == 2
    assert text in re.sub(r"\s+", " ", ran.err)


@pytest.mark.parametrize("option", ["--file", "--resume", "--failures"])
def test_a_file_that_cannot_be_opened_is_named(broker: MockCluster, tmp_path: Path, option: str) -> None:
    arguments = [option, str(tmp_path / "no" / "file"), *(["e"] if option == "--failures" else [])]
    ran = send(broker, *arguments)
    assert ran.status == 1
    assert str(tmp_path / "no" / "file") in ran.err
