"""``rdknotify lag`` as a user meets it: numbers, pace, exit statuses; on librdkafka's embedded Kafka."""

from __future__ import annotations

import io
import json
import re
import threading
import time

import pytest
from rich.console import Console
from support.command import run
from support.watching import at_looks, interrupt

from rdknotify import Admin, Producer
from rdknotify.admin import Group, Member, PartitionLag
from rdknotify.cli import columns, durations, output
from rdknotify.cli.lag import _SPARE
from rdknotify.cli.lagging import GroupLag, Pace, Paces
from rdknotify.testing.mock import MockCluster

TITLES = ["group", "state", "topic", "partition", "committed", "end", "lag", "member"]
PACE_TITLES = ["grows/s", "commits/s", "done in"]
COUNT = 100


@pytest.fixture
def cluster(mock_cluster: MockCluster) -> MockCluster:
    """``orders`` has 100 records in two partitions, of which the group ``billing`` has committed 10 of the first."""
    mock_cluster.create_topic("orders", 2)
    mock_cluster.create_topic("others", 1)
    with Producer(mock_cluster.url) as producer:
        keys = [b"%d" % number for number in range(COUNT)]
        producer.send_batch("orders", keys, keys=keys).result(10).raise_for_failures()
    with Admin(mock_cluster.url) as admin:
        admin.reset_offsets("billing", {("orders", 0): 10})
    return mock_cluster


def test_a_group_s_partitions_with_their_lag(cluster: MockCluster) -> None:
    ran = run("lag", "billing", "--url", cluster.url)
    titles, *rows = ran.rows
    assert (ran.status, ran.err, titles) == (0, "", TITLES)
    assert [row[:5] for row in rows] == [
        ["billing", "Unknown", "orders", "0", "10"],
        ["billing", "Unknown", "orders", "1", "-"],
    ]
    ends = [int(row[5]) for row in rows]
    assert sum(ends) == COUNT
    assert [row[6] for row in rows] == [str(ends[0] - 10), "-"]

    (told,) = map(json.loads, run("lag", "billing", "--url", cluster.url, "--json").out.splitlines())
    assert (told["group"], told["lag"]) == ("billing", ends[0] - 10)
    assert [each["lag"] for each in told["partitions"]] == [ends[0] - 10, None]
    named = run("lag", "billing", "--topic", "others", "--url", cluster.url)
    assert named.rows[1:] == [["billing", "Unknown", "others", "0", "-", "0", "-", "-"]]


def test_a_lag_above_the_limit_is_a_status_for_scripts(cluster: MockCluster) -> None:
    # Without a committed offset a partition counts as a whole.
    above = run("lag", "billing", "--url", cluster.url, "--fail-above", COUNT - 11)
    assert above.status == 3
    assert f"its lag is {COUNT - 10}, above {COUNT - 11}" in above.err
    assert run("lag", "billing", "--url", cluster.url, "--fail-above", COUNT - 10).status == 0


def test_watching_tells_the_pace_until_ctrl_c(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    at_looks(monkeypatch, {4: interrupt})
    ran = run("lag", "billing", "--watch", "--every", "300ms", "--url", cluster.url)
    assert ran.status == 130
    titles, *rows = ran.rows
    assert titles == TITLES + PACE_TITLES
    first = [row for row in rows if row[3] == "0"]
    assert len(first) == 3
    assert first[0][8:] == ["-", "-", "-"]
    assert first[-1][8:] == ["0.0", "0.0", "never"]


def test_watching_in_json(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    at_looks(monkeypatch, {4: interrupt})
    ran = run("lag", "billing", "--watch", "--every", "300ms", "--json", "--url", cluster.url)
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.status == 130
    assert "grows_per_second" not in lines[0]
    assert (lines[-1]["grows_per_second"], lines[-1]["done_in"]) == (0.0, None)


def test_an_outage_while_watching_is_told_and_outlived(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = ("INVALID_GROUP_ID", "GROUP_AUTHORIZATION_FAILED")
    at_looks(monkeypatch, {2: lambda: cluster.fail_next("OffsetFetch", *errors), 5: interrupt})
    ran = run("lag", "billing", "--watch", "--every", "100ms", "--url", cluster.url)
    assert ran.status == 130
    assert re.search(r"no answer, looking again: .*INVALID_GROUP_ID", ran.err)
    assert "group 'billing': " in ran.err and "allow this user READ on the consumer group" in ran.err
    assert [row[4] for row in ran.rows if row[3] == "0"] == ["10", "10"]


def test_ctrl_c_does_not_wait_for_a_silent_broker(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    silent: list[float] = []

    def fall_silent() -> None:
        cluster.delay(60)
        silent.append(time.monotonic())
        threading.Timer(0.3, interrupt).start()

    at_looks(monkeypatch, {2: fall_silent})
    assert run("lag", "billing", "--watch", "--every", "100ms", "--url", cluster.url).status == 130
    assert time.monotonic() - silent[0] < 6  # a look may take 8


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ([], 1, "this broker cannot list its consumer groups, as the embedded one: name a group"),
        (["g", "--every", "0s", "--watch"], 2, "--every: a time above 0 is needed"),
        (["g", "--every", "soon", "--watch"], 2, "write it as 90s, 10 minutes, 2h or 7d"),
        (["g", "--fail-above", "-1"], 2, "--fail-above"),
    ],
)
def test_wrong_use_is_said_with_the_remedy(arguments: list[str], status: int, text: str) -> None:
    ran = run("lag", *arguments, "--url", "mock:")
    assert ran.status == status
    assert text in " ".join(ran.err.split())


def test_a_dead_broker_is_one_line_within_ten_seconds() -> None:
    begun = time.monotonic()
    ran = run("lag", "--watch", "--url", "kafka://127.0.0.1:1", "-o", "connect_timeout=2")
    assert time.monotonic() - begun < 10
    assert ran.status == 1
    (line,) = ran.err.splitlines()
    assert "no Kafka at 127.0.0.1:1" in line and "check host and port" in line


def group_lag(*partitions: PartitionLag, members: tuple[Member, ...] = ()) -> GroupLag:
    return GroupLag(Group("g", "Stable", "Classic", "range", None, members), partitions)


def test_the_pace_is_that_of_the_partitions_together() -> None:
    paces = Paces()
    for second, (end, committed) in enumerate([(1000, 0), (1010, 30), (1020, 60)]):
        found = group_lag(PartitionLag("t", 0, committed, 0, end), PartitionLag("t", 1, 500, 0, 500 + 10 * second))
        paces.note([found], now=second)
        if not second:
            assert paces.of(found) is None
    assert paces.of(found, found.partitions[0]) == Pace(10.0, 30.0, 960 / 20)
    assert paces.of(found, found.partitions[1]) == Pace(10.0, 0.0, None)
    assert paces.of(found) == Pace(20.0, 30.0, 980 / 10)


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    paces = Paces()
    for second in range(0, 200, 10):
        found = group_lag(PartitionLag("t", 0, 0 if second < 100 else (second - 100) * 5, 0, 10_000))
        paces.note([found], now=second)
    assert paces.of(found) == Pace(0.0, 5.0, (10_000 - 450) / 5)


def test_what_is_known_of_a_group_in_words() -> None:
    member = Member("id", "nova", "", "10.0.0.1", ())
    found = group_lag(
        PartitionLag("t", 0, 5, 10, 30, member), PartitionLag("t", 1, None, 3, 7), PartitionLag("t", 2, 9, 0, 4),
        members=(member,),
    )  # fmt: skip
    assert (found.lag, found.at_most) == (20, 24)
    assert found.summary() == "Stable, Classic, 1 member"
    assert found.remark() == "1 without a committed offset"
    assert found.reader(found.partitions[0]) == "nova@10.0.0.1 (5 removed unread)"
    assert group_lag().summary() == "Stable, Classic, no members, nothing committed"


@pytest.mark.parametrize(("width", "there"), [(140, 9), (80, 6), (60, 4)])
def test_a_narrow_terminal_gets_fewer_columns_and_whole_numbers(
    width: int, there: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    monkeypatch.setattr(output, "out", console)
    titles = [*TITLES[2:], *PACE_TITLES]
    row = (
        "notifications.info.some-vhost",
        11,
        1234567,
        2345678,
        1111111,
        "nova@10.20.30.40",
        1234.5,
        99.0,
        "1 day 2 h",
    )
    console.print(columns.table(titles, [row], _SPARE))
    head, *lines = console.export_text().splitlines()
    shown = [title for title in titles if re.search(rf"(^| ){title}($| )", head)]
    assert len(shown) == there
    numbers = {
        "partition": "11",
        "committed": "1,234,567",
        "end": "2,345,678",
        "lag": "1,111,111",
        "grows/s": "1,234.5",
    }
    assert all(f" {text} " in lines[0] for title, text in numbers.items() if title in shown)


def test_times_are_said_as_people_say_them() -> None:
    said = {0.2: "0.2 s", 1: "1 s", 90: "1 min 30 s", 3600: "1 h", 3660: "1 h 1 min", 3601: "1 h"}
    said |= {86400: "1 day", 604800: "7 days", 90000: "1 day 1 h", 86400 * 1500: "1,500 days"}
    assert {seconds: durations.in_words(seconds) for seconds in said} == said
