"""Which records are handed out next, to how many workers, and up to where a partition is done with."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdknotify.handout import Collector, Crew, Lanes, Progress

SOURCE = "notifications.info"


def collected(count: int, partition: int = 0) -> list[Any]:
    return [SimpleNamespace(topic=SOURCE, partition=partition, offset=offset) for offset in range(count)]


def test_a_collector_is_ready_when_it_is_full_or_the_first_has_waited() -> None:
    collector = Collector(3, patience=2.0)
    records = collected(4)
    collector.add(records[:2], now=10.0)
    assert (collector.room(500), collector.wait(5.0, 11.0)) == (1, 1.0)
    assert collector.take(11.9) == []
    assert collector.take(12.0) == records[:2]
    collector.add(records, now=20.0)
    assert collector.take(20.0) == records[:3]
    assert collector.take(20.0) == [] and collector.take(math.inf) == records[3:]
    assert (collector.room(500), collector.wait(5.0, 20.0)) == (3, 5.0)


def test_a_collector_without_a_size_hands_out_at_once_what_was_not_taken_away() -> None:
    collector = Collector(None, patience=0.0)
    kept = collected(2, partition=1)
    collector.add(collected(2, partition=0) + kept, now=1.0)
    collector.forget({(SOURCE, 0)})
    assert collector.room(500) == 500
    assert collector.take(1.0) == kept


def test_what_is_put_back_is_next_again() -> None:
    collector = Collector(None, patience=0.0)
    records = collected(3)
    collector.add(records, now=1.0)
    collector.put_back(collector.take(1.0))
    collector.add(collected(1, partition=1), now=2.0)
    assert len(collector) == 4
    assert collector.take(2.0)[:3] == records
    collector.put_back(records)
    collector.clear()
    assert len(collector) == 0


# -- lanes -------------------------------------------------------------------------------------------------


@given(st.lists(st.sets(st.sampled_from("abc"), max_size=2), max_size=30), st.data())
def test_units_with_a_common_key_go_one_after_the_other(keys: list[set[str]], data: st.DataObject) -> None:
    lanes: Lanes[int] = Lanes()
    at_work, left, entered = [], [], 0
    while len(left) < len(keys):
        if entered < len(keys) and (not at_work or data.draw(st.booleans())):
            if lanes.enter(entered, keys[entered]):
                at_work.append(entered)
            entered += 1
        else:
            done = at_work.pop(data.draw(st.integers(0, len(at_work) - 1)))
            left.append(done)
            at_work += lanes.leave(done)
        assert all(not keys[one] & keys[other] for one in at_work for other in at_work if one != other)
        for key in "abc":
            of_key = [unit for unit in left if key in keys[unit]]
            assert of_key == sorted(of_key)
        # Nobody waits without a reason.
        ahead = {*at_work, *lanes.waiting}
        assert all(any(keys[unit] & keys[other] for other in ahead if other < unit) for unit in lanes.waiting)
    assert lanes.waiting == []


def test_those_that_wait_can_be_taken_out() -> None:
    lanes: Lanes[str] = Lanes()
    assert lanes.enter("first", ["a"]) and lanes.enter("free", [])
    assert not lanes.enter("second", ["a", "b"]) and not lanes.enter("third", ["b"])
    assert lanes.drop_waiting() == ["second", "third"]
    assert lanes.enter("fourth", ["b"])
    assert lanes.leave("first") == lanes.leave("fourth") == lanes.leave("free") == []


# -- crew --------------------------------------------------------------------------------------------------


def test_who_is_quick_goes_on_alone() -> None:
    crew: Crew[int] = Crew(64)
    crew.enter(range(100), now=0.0)
    assert crew.call(0.0, processor=0.0) == [0]
    for unit in range(1, 100):
        now = unit * 0.0005
        assert crew.go_on() == unit
        assert crew.call(now, processor=now) == [], "the processor is busy, and there is progress"
    assert crew.go_on() is None
    crew.enter([100], now=1.0)
    assert crew.call(1.0, processor=0.1) == [100], "a new one is begun at once"


@pytest.mark.parametrize("step", [0.002, 0.02])
def test_who_is_slow_gets_help_soon(step: float) -> None:
    crew: Crew[int] = Crew(64)
    crew.enter(range(500), now=0.0)
    called = [len(crew.call(number * step, processor=0.0)) for number in range(5)]
    assert called == [1, 3, 12, 48, 0]
    assert len(crew) == 500 - 64


def test_who_sleeps_now_and_then_gets_help_when_others_wait() -> None:
    crew: Crew[int] = Crew(64)
    crew.enter(range(500), now=0.0)
    assert len(crew.call(0.0, 0.0)) == 1
    called = 0
    for tick in range(1, 20):
        crew.go_on()
        called += len(crew.call(tick * 0.002, processor=tick * 0.0005))
    assert called >= 15


def test_who_does_not_come_on_beside_a_busy_thread_gets_help_later() -> None:
    crew: Crew[int] = Crew(64)
    crew.enter(range(500), now=0.0)
    assert len(crew.call(0.0, processor=0.0)) == 1
    ticks = [tick * 0.002 for tick in range(1, 12)]
    called = [len(crew.call(now, processor=now)) for now in ticks]
    assert called == [0] * 9 + [3, 0]


def test_no_more_workers_than_there_are() -> None:
    crew: Crew[int] = Crew(1)
    crew.enter(range(3), now=0.0)
    assert crew.call(0.0, 0.0) == [0]
    assert crew.call(9.0, 0.0) == []
    assert (crew.go_on(), crew.waiting) == (1, [2])
    crew.drop([2])
    assert crew.go_on() is None and not crew


# -- progress ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.randoms())
def test_progress_is_up_to_the_first_that_is_open(steps: list[int], random: Any) -> None:
    offsets = [sum(steps[: number + 1]) for number in range(len(steps))]
    progress = Progress()
    progress.enter(offsets)
    still_open = set(offsets)
    for offset in random.sample(offsets, len(offsets)):
        progress.done(offset)
        still_open.remove(offset)
        before = [each for each in offsets if each < min(still_open, default=math.inf)]
        assert progress.next == (before[-1] + 1 if before else None)
    assert not progress
