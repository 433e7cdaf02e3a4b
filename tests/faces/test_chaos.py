"""The run of random faults: its plan comes from the seed alone, and its judgement can say no."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from rdknotify.testing.checker import Event, Fault, Logged, Poll, Result, Send, Stored, Writer, value
from reliability.chaos.judge import judge
from reliability.chaos.schedule import Chaos, Planned, plan
from reliability.chaos.setting import GROUPS, SINKS, TOPIC
from reliability.results import Report

RECORDS = 1000
SECONDS = 0.2  # for which so few records are enough


class TestThePlan:
    def test_it_follows_from_the_seed(self) -> None:
        assert plan(7, 300) == plan(7, 300)
        assert plan(7, 300) != plan(8, 300)

    def test_twenty_minutes_have_more_than_five_hundred_faults(self) -> None:
        assert min(len(plan(seed, 1200)) for seed in range(20)) > 550

    def test_a_lane_has_one_fault_at_a_time_and_its_targets_to_itself(self) -> None:
        planned = plan(3, 1200)
        lanes = {each.lane: [other for other in planned if other.lane == each.lane] for each in planned}
        for faults in lanes.values():
            assert all(before.at + before.seconds <= after.at for before, after in pairwise(faults))
        members = [{each.fault.split()[-1] for each in lanes[name]} for name in ("members", "more members", "database")]
        assert not members[0] & members[1] and not members[2] & (members[0] | members[1])


class Notes:
    """A fault that notes when it begins and ends."""

    kind, target = "kill", "somebody"

    def __init__(self) -> None:
        self.noted: list[str] = []

    def __enter__(self) -> None:
        self.noted.append("begun")

    def __exit__(self, *error: object) -> None:
        self.noted.append("ended")


def test_faults_happen_as_planned_and_none_begins_after_the_stop() -> None:
    fault = Notes()
    planned = [Planned(0.0, "lane", "kill somebody", 0.01), Planned(300.0, "lane", "kill somebody", 1.0)]
    chaos = Chaos(planned, {"kill somebody": fault}, [], lambda: None)  # type: ignore[dict-item]
    chaos.start()
    deadline = time.monotonic() + 20
    while not chaos.past and time.monotonic() < deadline:
        time.sleep(0.005)
    chaos.stop(20)
    assert fault.noted == ["begun", "ended"]
    assert [(each.kind, each.target) for each in chaos.past] == [("kill", "somebody")]
    assert chaos.problems == []
    assert not chaos.going_on


def history() -> list[Event]:
    """All sent, all read by everybody, one fault and progress soon after it."""
    first = value(1, 0)
    events: list[Event] = [Send(1.0, "producer-1.0", [(first, RECORDS)]), Fault(1.5, 2.0, "kill", "before-1")]
    events.append(Result(3.0, "producer-1.0", 2, [(first, RECORDS)]))
    events.append(Logged(TOPIC, 0, [(0, first, RECORDS)]))
    for group in GROUPS:
        if group in SINKS:
            events.append(Stored(group, TOPIC, 0, [(0, first, RECORDS)]))
        else:
            events.append(Poll(4.0, f"{group}-1.0", group, [(0, first, RECORDS)], TOPIC, 0, 1))
    return events


def judged(folder: Path, events: list[Event], problems: list[str]) -> tuple[bool, list[str]]:
    with Writer(folder / "all.jsonl") as written:
        for event in events:
            written.write(event)
    report = Report("chaos", "", "")
    words = judge(report, folder, SECONDS, problems)
    return report.passed, words


class TestTheJudgement:
    def test_a_good_run_passes(self, tmp_path: Path) -> None:
        passed, words = judged(tmp_path, history(), [])
        assert passed
        assert words == ["faults: kill before 1"]

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            (Logged(TOPIC, 0, [(RECORDS, value(1, 0), 1)]), "log: 1 duplicate"),
            (Poll(5.0, "before-2.0", "before", [(5, value(1, 5), 1)], TOPIC, 0, 1), "before: 1 again"),
            (Poll(5.0, "after-2.0", "after", [(5, value(1, 5), 201)], TOPIC, 0, 1), "after: 201 again"),
            (Stored("sqlite", TOPIC, 0, [(5, value(1, 5), 1)]), "sqlite: 1 duplicate"),
            (Result(3.0, "producer-1.0", 2, [(value(1, RECORDS), 1)]), "log: 1 lost"),
            (Fault(4.0, 4.1, "kill", "node 1"), None),
        ],
        ids=["twice on the log", "again in before", "more than a batch again", "stored twice", "lost", "no harm"],
    )
    def test_what_breaks_a_promise_fails_it(self, tmp_path: Path, more: Event, told: str | None) -> None:
        passed, words = judged(tmp_path, [*history(), more], [])
        assert passed == (told is None)
        assert told is None or any(words_.startswith(told) for words_ in words)

    def test_late_recovery_fails_it(self, tmp_path: Path) -> None:
        late = Poll(30.0, "after-1.0", "after", [(0, value(1, 0), 1)], TOPIC, 0, 2)
        passed, _ = judged(tmp_path, [*history(), Fault(4.5, 5.0, "cut", "all"), late], [])
        assert not passed

    def test_a_client_that_ended_by_itself_fails_it(self, tmp_path: Path) -> None:
        passed, words = judged(tmp_path, history(), ["after-1 ended by itself"])
        assert not passed
        assert "after-1 ended by itself" in words
