"""``rdknotify topics`` as a user meets it, on the embedded broker and on one that is dead."""

from __future__ import annotations

import json
import time

import pytest
from support.command import run

from rdknotify.testing.mock import MockCluster
from rdknotify.topics import PRIORITIES

EMBEDDED = "mock:"
TITLES = ["topic", "partitions", "replicas", "records", "trouble"]


def test_the_embedded_broker_s_topics_are_listed() -> None:
    status, out, _ = ran = run("topics", "list", "--url", EMBEDDED)
    assert status == 0
    titles, *rows = ran.rows
    assert titles == TITLES
    assert [row[:3] for row in rows] == [["notifications.error", "4", "1"], ["notifications.info", "4", "1"]]
    assert sum(int(row[3]) for row in rows) == 100
    assert "\x1b" not in out

    listed = [json.loads(line) for line in run("topics", "list", "--url", EMBEDDED, "--json").out.splitlines()]
    assert [each["topic"] for each in listed] == ["notifications.error", "notifications.info"]
    assert sum(each["records"] for each in listed) == 100
    assert {each["trouble"] for each in listed} == {""}


def test_a_cluster_without_topics_says_so(mock_cluster: MockCluster) -> None:
    ran = run("topics", "list", "--url", mock_cluster.url)
    assert (ran.status, ran.out) == (0, "")
    assert "there are no topics, or this user may not see them" in ran.err


def test_a_topic_in_trouble_is_no_success(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("well", 1)
    mock_cluster.create_topic("sick", 3)
    mock_cluster.leaderless("sick", 1)
    ran = run("topics", "list", "--url", mock_cluster.url)
    assert ran.status == 3
    assert ran.rows[1:] == [
        ["sick", "3", "1", "-", "1 partition without a leader"],
        ["well", "1", "1", "0", ""],
    ]
    ran = run("topics", "describe", "sick", "--json", "--url", mock_cluster.url)
    (told,) = map(json.loads, ran.out.splitlines())
    assert [each["leader"] for each in told["partitions"]] == [1, None, 1]
    assert (told["partitions"][1]["end"], told["records"]) == (None, None)


def test_topics_are_described_and_what_is_missing_is_named() -> None:
    ran = run("topics", "describe", "notifications.info", "nowhere", "--url", EMBEDDED)
    assert ran.status == 3
    head, titles, *rows = ran.rows
    assert head[0].startswith("notifications.info: 4 partitions, 1 replica, ")
    assert titles == ["partition", "leader", "replicas", "in sync", "begin", "end", "records"]
    assert [row[:5] for row in rows] == [[str(number), "1", "1", "1", "0"] for number in range(4)]
    assert all(row[5] == row[6] for row in rows)
    assert "cannot describe 'nowhere': there is none" in ran.err
    assert "`rdknotify topics list`" in ran.err
    assert "this broker tells no settings" in ran.err
    assert run("topics", "describe", "nowhere", "--url", EMBEDDED).status == 1


def test_topics_are_created() -> None:
    ran = run("topics", "create", "orders", "--partitions", "3", "--url", EMBEDDED)
    assert (ran.status, ran.out) == (0, "orders: 3 partitions\n")
    assert "ends with this command" in ran.err
    there = ("topics", "create", "notifications.info", "--url", EMBEDDED)
    assert run(*there).status == 1
    assert "it is there already; --if-missing lets it be" in run(*there).err
    assert run(*there, "--if-missing")[:2] == (0, "notifications.info: 4 partitions\n")
    assert run(*there, "orders").status == 3


def test_the_topics_of_notifications_are_one_a_priority() -> None:
    ran = run("topics", "create", "--notifications", "mine", "--partitions", "1", "--url", EMBEDDED)
    assert ran.out.splitlines() == [f"mine.{priority}: 1 partition" for priority in PRIORITIES]
    chosen = ("--priority", "warn", "--priority", "audit")
    ran = run("topics", "create", "--notifications", "mine", *chosen, "--url", EMBEDDED)
    assert [line.partition(":")[0] for line in ran.out.splitlines()] == ["mine.warn", "mine.audit"]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["create"], 2, "name a topic, or give --notifications TOPIC"),
        (["create", "a", "--priority", "info"], 2, "--priority goes with --notifications"),
        (["create", "a", "--retention", "a week"], 2, "write it as 90s, 10 minutes, 2h or 7d"),
        (["create", "a", "--config", "cleanup.policy"], 2, "write it as NAME=VALUE"),
        (["create", "a", "--retention", "1d", "--config", "retention.ms=5"], 2, "given twice, by --retention"),
        (["create", "a b"], 1, "topic 'a b': Kafka allows only letters"),
        (["create", "--notifications", "n", "--priority", "loud"], 2, "'loud' is not one of"),
        (["describe"], 2, "Missing argument 'TOPIC...'"),
        (["delete", "notifications.info"], 1, "the embedded broker cannot delete topics"),
    ],
)
def test_wrong_use_is_said_with_the_remedy(arguments: list[str], status: int, text: str) -> None:
    ran = run("topics", *arguments, "--url", EMBEDDED)
    assert ran.status == status
    assert text in " ".join(ran.err.split())


def test_a_dead_broker_is_one_line_within_ten_seconds() -> None:
    begun = time.monotonic()
    ran = run("topics", "list", "--url", "kafka://127.0.0.1:1", "-o", "connect_timeout=2")
    assert time.monotonic() - begun < 10
    assert ran.status == 1
    (line,) = ran.err.splitlines()
    assert "no Kafka at 127.0.0.1:1" in line and "check host and port" in line
