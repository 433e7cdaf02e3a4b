"""``rdknotify listen``: what it shows, what it leaves out, when it ends; and times as people write them."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import click
import pytest
from rich.console import Console
from support.command import Ran, run

from rdknotify.cli import output
from rdknotify.cli.durations import MOMENT, duration, moment
from rdknotify.cli.listen import _filter, _Show
from rdknotify.notifier import Notifier
from rdknotify.producer import Producer
from rdknotify.tail import Tail
from rdknotify.testing import MockCluster

FAST = ("-o", "fetch.wait.max.ms=20")


@pytest.fixture
def broker(mock_cluster: MockCluster) -> MockCluster:
    for priority in ("info", "error"):
        mock_cluster.create_topic(f"notifications.{priority}", 1)
    return mock_cluster


def publish(broker: MockCluster, *events: tuple[str, str, Any]) -> None:
    with Notifier(broker.url, "compute:\x1b[31mred", ["notifications"]) as notifier:
        for priority, event_type, payload in events:
            getattr(notifier, priority)({"request_id": f"req-{event_type}"}, event_type, payload)


def listen(*arguments: object) -> Ran:
    return run("listen", *FAST, *arguments)


def shown(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


EVENTS = [
    ("info", "instance.create.start", {"name": "a", "size": "big"}),
    ("error", "instance.create.error", {"name": "b"}),
    ("info", "volume.create", {"name": "ab"}),
]


def in_a_pool(broker: MockCluster, *arguments: object) -> Ran:
    return listen("--url", broker.url, "--pool", "billing", "--timeout", 30, *arguments)


def test_a_pipe_gets_whole_notifications(broker: MockCluster) -> None:
    publish(broker, *EVENTS)
    ran = in_a_pool(broker, "--count", 3)
    assert ran.status == 0, ran.err
    found = {each["event_type"]: each for each in shown(ran)}
    assert found.keys() == {event_type for _, event_type, _ in EVENTS}
    first = found["instance.create.start"]
    assert (first["topic"], first["partition"], first["offset"]) == ("notifications.info", 0, 0)
    assert (first["priority"], first["payload"], first["ctxt"]) == (
        "INFO", {"name": "a", "size": "big"}, {"request_id": "req-instance.create.start"},
    )  # fmt: skip
    assert "3 shown; stopped before notifications.error[0]@1, notifications.info[0]@2" in ran.err


def read_by(show: _Show, broker: MockCluster, count: int) -> None:
    with Tail(broker.url, ["^notifications[.]"], start="earliest", config={"fetch.wait.max.ms": 20}) as tail:
        while sum(show.reached.values()) < count:
            show(tail.poll(10, 5))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], {event_type for _, event_type, _ in EVENTS}),
        ([r"event_type=instance\."], {"instance.create.start", "instance.create.error"}),
        (["event_type=.*create", "payload.name=a"], {"instance.create.start", "volume.create"}),
        (["event_type=instance", "event_type=.*start"], {"instance.create.start"}),
        (["payload.size="], {"instance.create.start"}),
        (["ctxt.request_id=req-volume"], {"volume.create"}),
        (["publisher_id=nova"], set()),
    ],
)
def test_filters_are_those_of_endpoints_and_all_must_match(
    broker: MockCluster, capsys: pytest.CaptureFixture[str], filters: list[str], expected: set[str]
) -> None:
    publish(broker, *EVENTS)
    show = _Show(raw=False, pretty=False, filters=[_filter(text) for text in filters])
    read_by(show, broker, 3)
    assert {json.loads(line)["event_type"] for line in capsys.readouterr().out.splitlines()} == expected
    assert show.shown == len(expected)


def test_only_some_priorities_are_read(broker: MockCluster) -> None:
    publish(broker, *EVENTS)
    (only,) = shown(in_a_pool(broker, "--priority", "error", "--priority", "audit", "--count", 1))
    assert only["event_type"] == "instance.create.error"


def test_what_is_no_notification_is_told_and_shown_raw(broker: MockCluster) -> None:
    with Producer(broker.url) as producer:
        producer.send("notifications.info", b"\xff", key=b"k", headers=[("h", b"v"), ("h", None)]).result(10)
    publish(broker, *EVENTS[:1])
    ran = in_a_pool(broker, "--count", 1)
    assert len(shown(ran)) == 1
    assert "notifications.info[0]@0: not a notification: " in ran.err
    assert "1 shown, 1 were no notifications" in ran.err
    raw = shown(
        listen(
            "--url",
            broker.url,
            "--pool",
            "raw",
            "--timeout",
            30,
            "--raw",
            "--topic",
            "notifications.info",
            "--count",
            2,
        )
    )
    timestamp = raw[0].pop("timestamp")
    assert raw[0] == {
        "topic": "notifications.info", "partition": 0, "offset": 0, "key": "k",
        "headers": [["h", "v"], ["h", None]], "value": {"base64": "/w=="},
    }  # fmt: skip
    assert abs(timestamp / 1000 - time.time()) < 120
    assert json.loads(raw[1]["value"])["oslo.version"] == "2.0"


def test_the_embedded_broker_has_something_to_show() -> None:
    ran = listen("--url", "mock:")  # ends by itself: nobody else can send to it
    assert ran.status == 0, ran.err
    assert len({each["message_id"] for each in shown(ran)}) == 100
    assert listen("--url", "mock:", "--raw", "--count", 1, "--timeout", 20).status == 0


def test_silence_ends_it(broker: MockCluster) -> None:
    begun = time.monotonic()
    ran = listen("--url", broker.url, "--topic", "not.there", "--timeout", 0.5)
    assert (ran.status, ran.out) == (0, "")
    assert 0.5 <= time.monotonic() - begun < 20
    assert "no topic of these is there" in ran.err and "not.there.info" in ran.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--filter", "event_type=("], "--filter: filter: event_type='(' is not a regular expression"),
        (["--filter", "event_type"], "write NAME=REGEX"),
        (["--filter", "priority=x"], "write NAME=REGEX"),
        (["--filter", "payload=x"], "write NAME=REGEX"),
        (["--since", "soon"], "'soon' is no time: write it as '10 minutes ago'"),
        (["--since", "now", "--pool", "p"], "--since: leave it out"),
        (["--raw", "--filter", "event_type=x"], "leave out --filter and --priority"),
        (["--raw", "--topic", "^("], "is not a regular expression"),
        (["--count", "0"], "--count"),
        (["--timeout", "0"], "--timeout"),
    ],
)
def test_wrong_use_is_told(broker: MockCluster, arguments: list[str], text: str) -> None:
    ran = listen("--url", broker.url, *arguments)
    assert ran.status == 2
    assert text in re.sub(r"\s+", " ", ran.err)


# -- a process ---------------------------------------------------------------------------------------------------------


@contextmanager
def process(broker: MockCluster, *arguments: str, out: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "rdknotify", "listen", "--url", broker.url, *FAST, *arguments]
    with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as listener:
        try:
            yield listener
        finally:
            listener.kill()


def until_shown(broker: MockCluster, listener: subprocess.Popen[str]) -> str:
    """Publish until the listener, which begins with what is new, has shown a first one."""
    assert listener.stdout is not None
    for _ in range(600):
        publish(broker, *EVENTS[:1])
        if _readable(listener.stdout, 0.1):
            return listener.stdout.readline()
    raise AssertionError("it shows nothing")


def _readable(file: Any, seconds: float) -> bool:
    return bool(select.select([file], [], [], seconds)[0])


def test_ctrl_c_says_where_it_stopped(broker: MockCluster) -> None:
    publish(broker, *EVENTS)
    with process(broker, "--priority", "info") as listener:
        first = json.loads(until_shown(broker, listener))
        assert first["offset"] >= 2  # nothing from before
        listener.send_signal(signal.SIGINT)
        out, err = listener.communicate(timeout=30)
    assert listener.returncode == 130, err
    count = 1 + len(out.splitlines())
    assert f"{count:,} shown; stopped before notifications.info[0]@{first['offset'] + count}" in err
    assert "Traceback" not in err


def test_it_ends_when_nobody_reads_any_more_though_nothing_comes(broker: MockCluster) -> None:
    with process(broker) as listener:
        until_shown(broker, listener)
        assert listener.stdout is not None and listener.stderr is not None
        listener.stdout.close()
        assert listener.wait(timeout=20) == 0
        assert listener.stderr.read() == ""


# -- for people --------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    console = Console(force_terminal=True, width=60, record=True, soft_wrap=True, file=open("/dev/null", "w"))  # noqa: SIM115
    monkeypatch.setattr(output, "out", console)
    yield console
    console.file.close()


def test_people_get_lines_that_cannot_drive_their_terminal(broker: MockCluster, terminal: Console) -> None:
    publish(broker, ("error", "went.wrong\x1b]0;title\x07", {"text": "x" * 100 + "\x1b[2J"}))
    show = _Show(raw=False, pretty=True, filters=[])
    with Tail(broker.url, ["notifications.error"], start="earliest", config={"fetch.wait.max.ms": 20}) as tail:
        show(tail.poll(10, 20))
    raw = _Show(raw=True, pretty=True, filters=[])
    with Tail(broker.url, ["notifications.error"], start="earliest", config={"fetch.wait.max.ms": 20}) as tail:
        raw(tail.poll(10, 20))
    text = terminal.export_text(styles=False)
    head, payload, origin, value = text.splitlines()
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} ERROR    went\.wrong\\x1b\]0;title\\x07  compute:\\x1b\[31mred$", head)
    assert payload.startswith('  {"text":"xxx') and payload.endswith("…") and len(payload) == 60
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} notifications\.error\[0\]@0$", origin)
    assert value.startswith('  {"oslo.version"')
    assert "\x1b" not in text


# -- beside all groups -------------------------------------------------------------------------------------------------


def test_a_tail_finds_what_appears_later_from_its_beginning(broker: MockCluster) -> None:
    publish(broker, *EVENTS)
    with Tail(broker.url, ["notifications.info", "later"], config={"fetch.wait.max.ms": 20}) as tail:
        assert not tail.poll(10, 0.3)
        broker.create_topic("later", 2)
        with Producer(broker.url) as producer:
            producer.send_batch("later", [b"1", b"2", b"3"]).result(10).raise_for_failures()
        publish(broker, EVENTS[0])
        found: list[tuple[str, int, int]] = []
        deadline = time.monotonic() + 30
        while len(found) < 4 and time.monotonic() < deadline:
            found += tail.poll(10, 0.2).origins()
        assert sorted(topic for topic, _, _ in found) == ["later"] * 3 + ["notifications.info"]
        assert ("notifications.info", 0, 2) in found
        assert len(tail.assignment()) == 3


# -- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10 minutes", 600), ("1h 30m", 5400), ("2 hours, 5 min", 7500), ("7d", 604800), ("1 week", 604800),
     ("1.5 h", 5400), ("250ms", 0.25)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)
    assert moment(f"{text} ago") == pytest.approx(time.time() - seconds, abs=5)


@pytest.mark.parametrize("text", ["", "10", "minutes", "1 fortnight", "5m x", "-5m", "1e3s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration: write it as 90s"):
        duration(text)
    with pytest.raises(ValueError, match=r"is no time: write it as '10 minutes ago'"):
        moment(f"{text} ago")


def test_moments() -> None:
    today = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    assert moment("today") == today.timestamp()
    assert moment("Yesterday") == (today - timedelta(days=1)).timestamp()
    assert moment("14:30") == today.replace(hour=14, minute=30).timestamp()
    assert moment("2026-11-22 03:00") == datetime(2026, 11, 22, 3).timestamp()
    assert moment("2026-11-22T03:00:00Z") == datetime(2026, 11, 22, 3, tzinfo=timezone.utc).timestamp()
    assert moment("now") == pytest.approx(time.time(), abs=5)
    with pytest.raises(ValueError, match="is no time"):
        moment("25:00")


def test_a_wrong_time_is_wrong_usage() -> None:
    with pytest.raises(click.BadParameter, match="is no time"):
        MOMENT.convert("x", None, None)
