"""``rdknotify dead-letter``: what is listed, what is sent again, what is remembered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Ran, run
from support.reader import read_all

from rdknotify import Producer
from rdknotify.cli.dead_letter import letters
from rdknotify.deadletter import DeadLetterFile, DeadLetters
from rdknotify.testing import MockCluster

LETTERS = "billing.dead-letter"
CAME_FROM = "notifications.info"


class Read:
    """A record as it was read at its origin."""

    topic, partition, timestamp = CAME_FROM, 0, 1_750_000_000_000

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.key, self.value = b"key %d" % offset, b'{"n": %d}' % offset
        self.headers: list[tuple[str, bytes | None]] = [("trace", b"abc")]


def reason(number: int) -> str:
    return f"EnvelopeError: number {number} is {'odd' if number % 2 else 'even'}"


def bury(url: str, count: int, topic: str = LETTERS) -> None:
    with Producer(url) as producer:
        letters = DeadLetters(producer, topic)
        letters.send([Read(number) for number in range(count)], [reason(number) for number in range(count)], "billing")


@pytest.fixture
def broker(mock_cluster: MockCluster) -> MockCluster:
    """With six dead letters, in two partitions, and the topic that they came from."""
    mock_cluster.create_topic(LETTERS, 2)
    mock_cluster.create_topic(CAME_FROM, 1)
    bury(mock_cluster.url, 6)
    return mock_cluster


def listed(broker: MockCluster, *more: str) -> dict[int, dict[str, Any]]:
    """The letters of the list, by the offset of their origin."""
    ran = command("list", broker, "--json", *more)
    assert ran.status == 0, ran.err
    return {letter["offset"]: letter for letter in map(json.loads, ran.out.splitlines())}


def on_the_log(broker: MockCluster, topic: str = CAME_FROM) -> list[bytes | None]:
    return sorted(value for *_, value, _ in read_all(broker.bootstrap_servers, topic) if value is not None)


def command(name: str, broker: MockCluster, *more: str) -> Ran:
    return run("dead-letter", name, "--url", broker.url, "-o", "fetch.wait.max.ms=20", *more)


def again(broker: MockCluster, *more: str) -> Ran:
    return command("send-again", broker, *more)


def test_the_list_says_which_whence_and_why(broker: MockCluster) -> None:
    found = listed(broker)
    assert found.keys() == set(range(6))
    for number, letter in found.items():
        assert (letter["topic"], letter["partition"], letter["group"]) == (CAME_FROM, 0, "billing")
        assert letter["reason"] == reason(number)
        assert letter["done"] is None
    ran = command("list", broker, "--topic", LETTERS, "--reason", "odd")
    assert sorted(row[2] for row in ran.rows) == [f"{CAME_FROM}-0@{number}" for number in (1, 3, 5)]
    assert "3 dead letters" in ran.err


def test_one_is_shown_whole(broker: MockCluster) -> None:
    letter = listed(broker)[3]
    ran = command("show", broker, letter["number"])
    assert ran.status == 0
    for text in (f"{CAME_FROM}-0@3", reason(3), "key 3", "trace=abc", '"n": 3'):
        assert text in ran.out
    shown = json.loads(command("show", broker, letter["number"], "--json").out)
    assert (shown["key"], shown["value"], shown["headers"]) == ("key 3", '{"n": 3}', [["trace", "abc"]])


def test_what_is_sent_again_arrives_as_it_was_and_is_not_listed_again(broker: MockCluster) -> None:
    ran = again(broker, "--reason", "odd")
    assert (ran.status, ran.out) == (0, "")
    assert "3 sent again" in ran.err
    rows = read_all(broker.bootstrap_servers, CAME_FROM)
    assert sorted((row[2], row[3], row[4]) for row in rows) == [
        (b"key %d" % number, b'{"n": %d}' % number, [("trace", b"abc")]) for number in (1, 3, 5)
    ]
    assert listed(broker).keys() == {0, 2, 4}
    everything = listed(broker, "--all")
    assert {number for number, letter in everything.items() if letter["done"]} == {1, 3, 5}
    assert listed(broker, "--group", "another").keys() == set(range(6))


def test_each_is_dealt_with_once_in_whatever_order(broker: MockCluster) -> None:
    number = {offset: letter["number"] for offset, letter in listed(broker).items()}
    assert again(broker, number[4]).status == 0
    assert command("discard", broker, "--yes", number[0], number[5]).status == 0
    assert listed(broker).keys() == {1, 2, 3}
    assert "no dead letter with the number" in again(broker, number[4]).err
    assert again(broker, number[1], number[1]).status == 0
    assert again(broker, "--all").status == 0
    assert listed(broker) == {}
    assert on_the_log(broker) == [b'{"n": %d}' % number for number in (1, 2, 3, 4)]
    bury(broker.url, 1)
    assert len(listed(broker)) == 1
    assert listed(broker, "--all").keys() == set(range(6))


def test_a_fix_goes_through_a_command(broker: MockCluster) -> None:
    assert again(broker, "--all", "--to", "fixed", "--fix", "tr n m").status == 0
    assert on_the_log(broker, "fixed") == [b'{"m": %d}' % number for number in range(6)]
    assert on_the_log(broker) == []


def test_a_fix_that_fails_leaves_the_letter(broker: MockCluster) -> None:
    ran = again(
        broker, "--all", "--fix", "read -r line; case $line in *[13]*) echo broken >&2; exit 4;; esac; echo $line"
    )
    assert ran.status == 3
    assert "2 left as they were" in ran.err and "status 4: broken" in ran.err
    assert listed(broker).keys() == {1, 3}
    for useless in ("exit 7", "cat > /dev/null"):
        assert again(broker, "--all", "--fix", useless).status == 1
    assert listed(broker).keys() == {1, 3}


def test_the_editor_changes_a_value(broker: MockCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i -e 's/n/edited/' \"$1\"\ntouch -d '+5 seconds' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    assert again(broker, "--reason", "number 2", "--edit").status == 0
    assert on_the_log(broker) == [b'{"edited": 2}']


def test_what_the_broker_refuses_stays(broker: MockCluster) -> None:
    broker.fail_next("Produce", "MSG_SIZE_TOO_LARGE")
    ran = again(broker, "--reason", "number 2")
    if ran.status:  # else the second attempt, alone, was taken
        assert "not sent" in ran.err and listed(broker).keys() == set(range(6))
    broker.fail_next("Produce", *["TOPIC_AUTHORIZATION_FAILED"] * 8)
    ran = again(broker, "--reason", "number 3")
    assert ran.status == 1
    assert "WRITE on" in ran.err
    assert 3 in listed(broker)


def test_what_was_sent_and_cannot_be_remembered_is_told(broker: MockCluster) -> None:
    for partition in (0, 1):
        broker.fail_partition(LETTERS, partition, "Produce", *["TOPIC_AUTHORIZATION_FAILED"] * 8)
    last = max(listed(broker).values(), key=lambda letter: int(letter["number"].partition("-")[2]))
    ran = again(broker, last["number"])
    assert ran.status == 1
    assert f"{last['number']} were sent again" in ran.err and "discard them" in ran.err
    assert on_the_log(broker) == [b'{"n": %d}' % last["offset"]]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["send-again"], 2, "say which"),
        (["discard"], 2, "say which"),
        (["discard", "--all"], 2, "give --yes"),
        (["send-again", "abc"], 1, "write it as"),
        (["send-again", "9-9"], 1, "no dead letter with the number 9-9"),
        (["list", "--reason", "("], 1, "no regular expression"),
        (["list", "--topic", "nowhere"], 1, "there is no such topic"),
        (["send-again", "--all", "--to", LETTERS], 1, "the dead letter topic itself"),
        (["send-again", "--all", "--fix", "cat", "--edit"], 2, "not both"),
    ],
)
def test_wrong_use_is_told_with_the_remedy(broker: MockCluster, arguments: list[str], status: int, text: str) -> None:
    name, *more = arguments
    ran = command(name, broker, *more)
    assert (ran.status, ran.out) == (status, "")
    assert text in ran.err
    assert len(listed(broker)) == 6


def test_a_topic_is_found_by_its_name_if_there_is_one(mock_cluster: MockCluster) -> None:
    ran = run("dead-letter", "list", "--url", mock_cluster.url)
    assert ran.status == 1 and "give --topic NAME" in ran.err
    for name in ("a.dead-letter", "b.dead-letter"):
        mock_cluster.create_topic(name, 1)
    ran = run("dead-letter", "list", "--url", mock_cluster.url)
    assert ran.status == 1 and "a.dead-letter, b.dead-letter" in ran.err


def test_the_embedded_broker_has_some_to_try_it_with() -> None:
    ran = run("dead-letter", "list", "--url", "mock:")
    assert (ran.status, len(ran.rows)) == (0, 3)
    assert "3 sent again" in run("dead-letter", "send-again", "--url", "mock:", "--all").err


def test_a_dead_broker_is_one_line() -> None:
    begun = time.monotonic()
    ran = run("dead-letter", "list", "--url", "127.0.0.1:1", "--topic", LETTERS, "-o", "connect_timeout=1")
    assert ran.status == 1 and "check host and port" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert time.monotonic() - begun < 10


def test_more_than_memory_shall_hold_comes_in_portions(broker: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters.Room.__init__, "__defaults__", (4, 1000))
    ran = again(broker, "--all")
    assert "4 sent again" in ran.err and "2 further ones were not read" in ran.err
    assert "2 sent again" in again(broker, "--all").err
    assert on_the_log(broker) == [b'{"n": %d}' % number for number in range(6)]


# -- a file --------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """With four dead letters, and a line that a crash tore."""
    path = tmp_path / "dead.jsonl"
    letters = DeadLetterFile(path)
    letters.send([Read(number) for number in range(2)], [reason(0), reason(1)], "billing")
    with path.open("a") as lines:
        lines.write('{"topic": "notif')
    letters.send([Read(number) for number in (2, 3)], [reason(2), reason(3)], "billing")
    return path


def test_a_file_needs_no_broker_but_to_send(file: Path, mock_cluster: MockCluster) -> None:
    ran = run("dead-letter", "list", "--file", file)
    assert ran.status == 0
    assert [row[0] for row in ran.rows] == ["1", "2", "3", "4"]
    assert [row[2] for row in ran.rows] == [f"{CAME_FROM}-0@{number}" for number in range(4)]
    assert '"n": 2' in run("dead-letter", "show", "--file", file, "3").out
    refused = run("dead-letter", "send-again", "--file", file, "--all")
    assert refused.status == 2 and "needs a broker" in refused.err

    sent = run("dead-letter", "send-again", "--file", file, "--url", mock_cluster.url, "2..3")
    assert sent.status == 0
    assert on_the_log(mock_cluster) == [b'{"n": 1}', b'{"n": 2}']
    assert run("dead-letter", "discard", "--file", file, "--yes", "1").status == 0
    assert [row[0] for row in run("dead-letter", "list", "--file", file).rows] == ["4"]
    done = [row[4] for row in run("dead-letter", "list", "--file", file, "--all").rows]
    assert done == ["discarded", "sent again", "sent again", ""]


def test_a_file_that_was_made_anew_begins_anew(file: Path) -> None:
    assert run("dead-letter", "discard", "--file", file, "--yes", "--all").status == 0
    file.unlink()
    DeadLetterFile(file).send([Read(7)], reason(7), "billing")
    assert [row[2] for row in run("dead-letter", "list", "--file", file).rows] == [f"{CAME_FROM}-0@7"]


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"a": 1}\n')
    ran = run("dead-letter", "list", "--file", path)
    assert ran.status == 1 and "no file of dead letters" in ran.err
