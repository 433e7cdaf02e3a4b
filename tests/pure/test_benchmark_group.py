"""What a rebalance costs is told from the members' notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.group import Group, Handled, pause


def group(*notes: str, partitions: int = 2) -> Group:
    made = Group(partitions)
    for note in notes:
        made.note(note)
    return made


def test_an_assignment_is_complete_when_each_partition_has_one_owner_and_each_member_some() -> None:
    made = group("1.0 a gets 0 1")
    assert made.complete(["a"]) and made.changed == 1.0
    assert not made.complete(["a", "b"])
    made.note("2.0 a gives 1")
    assert not made.complete(["a"])
    made.note("3.0 b gets 1")
    assert made.complete(["a", "b"]) and made.changed == 3.0
    assert not made.complete(["a"])
    made.died("b")
    assert not made.complete(["a"])


def test_a_partition_with_two_owners_is_not_assigned() -> None:
    assert not group("1.0 a gets 0 1", "1.0 b gets 1").complete(["a", "b"])


def test_a_pause_is_what_came_between_beyond_the_sending() -> None:
    steady = [Handled(sent=at, at=at + 0.01) for at in (0.0, 1.0, 2.0)]
    assert pause(steady, 0, 10) == pytest.approx(0)
    held_up = [*steady, Handled(sent=3.0, at=3.5), Handled(sent=3.1, at=3.5)]
    assert pause(held_up, 0, 10) == pytest.approx(0.49)
    assert pause(held_up, 0, 3) == pytest.approx(0)  # it ended later


def test_late_records_and_those_handled_twice_are_counted_where_they_were_handled() -> None:
    made = group(
        "1.01 a handles 0 0 1.0",
        "1.01 a handles 1 0 1.0",
        "2.50 b handles 0 1 2.0",
        "2.51 b handles 1 1 2.5",
        "2.60 c handles 0 1 2.0",
    )
    assert made.distinct() == 4
    figures = made.between(2, 3)
    assert figures.pop("pause") == pytest.approx(0.49)
    assert figures == {"records": 2, "paused": 1, "delayed": 1, "duplicates": 1}
    assert made.between(1, 2) == {"records": 2, "pause": 0.0, "paused": 0, "delayed": 0, "duplicates": 0}
    assert made.flows(since=1.5) and not made.flows(since=2.2)


def test_of_two_that_handled_a_record_the_earlier_counts_in_whatever_order_the_notes_are_read() -> None:
    made = group("2.0 b handles 0 0 1.0", "1.5 a handles 0 0 1.0")
    assert made.handled[0][0].at == 1.5 and made.again == [2.0]


def test_notes_are_read_on_from_where_the_last_look_ended(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    made = Group(2)
    made.follow([log])
    log.write_text("1.0 a joins\n2.0 a gets 0 1\n3.0 a gi")
    made.follow([log])
    assert made.said == {("a", "joins"): 1.0} and made.owned == {"a": {0, 1}}
    with log.open("a") as more:
        more.write("ves 1\n")
    made.follow([log])
    assert made.owned == {"a": {0}}
