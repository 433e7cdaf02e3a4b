"""The checker of histories: a good one shows nothing, and each defect shows as what it is and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdknotify.testing.checker import (
    Commit,
    Event,
    Fault,
    Held,
    Kind,
    Logged,
    Poll,
    Report,
    Result,
    Run,
    Send,
    Stored,
    Writer,
    check,
    load,
    runs,
    spans,
    value,
)

TOPIC = "events"
MEMBERS, UNTOLD, SINK = "billing", "listening", "ledger"
"""Groups: members with assignments, members that are not told offsets, a persister."""
PARTITIONS = 2
BATCH = 5
POSSIBLY, FAILED = value(9, 0), value(9, 1)
"""Sent, and not on the log: with no certain outcome, and with that one."""

Record = tuple[int, int]
"""Offset and value."""


@dataclass
class Batch:
    at: float
    process: str
    epoch: int | None
    records: list[Record]


@dataclass
class World:
    """What happened, as it is easily changed; :meth:`events` are its histories."""

    outcomes: dict[int, list[int]] = field(default_factory=dict)
    """Of each value, of its tries in turn."""
    log: list[list[Record]] = field(default_factory=list)
    members: list[list[Batch]] = field(default_factory=list)
    untold: list[list[Batch]] = field(default_factory=list)
    stored: list[list[Record]] = field(default_factory=list)
    more: list[Event] = field(default_factory=list)

    def events(self) -> list[Event]:
        found: list[Event] = []
        for sent, outcomes in self.outcomes.items():
            for outcome in outcomes:
                found.append(Send(0.0, "producer", [(sent, 1)]))
                found.append(Result(0.1, "producer", outcome, [(sent, 1)]))  # type: ignore[arg-type]
        for partition in range(PARTITIONS):
            found.append(Logged(TOPIC, partition, as_runs(self.log[partition])))
            found.append(Stored(SINK, TOPIC, partition, as_runs(self.stored[partition])))
            for batch in self.members[partition]:
                known = as_runs(batch.records)
                found.append(Poll(batch.at, batch.process, MEMBERS, known, TOPIC, partition, batch.epoch))
            for batch in self.untold[partition]:
                hidden = [(-1, first, count) for first, count in spans([sent for _, sent in batch.records])]
                found.append(Poll(batch.at, batch.process, UNTOLD, hidden))
        return found + self.more

    def report(self) -> Report:
        return check(self.events())

    def everywhere(self, partition: int, record: Record) -> None:
        """One more record, which everybody reads."""
        self.log[partition].append(record)
        self.members[partition][-1].records.append(record)
        self.untold[partition][-1].records.append(record)
        self.stored[partition].append(record)


def as_runs(records: list[Record]) -> list[Run]:
    return runs([offset for offset, _ in records], [sent for _, sent in records])


def good(random: Random) -> World:
    """Two producers, two partitions with gaps in their offsets, members that are killed now and then."""
    world = World(outcomes={POSSIBLY: [1], FAILED: [0, 0]})
    sequences = [0, 0]
    for partition in range(PARTITIONS):
        records: list[Record] = []
        offset = 0
        for _ in range(random.randint(15, 40)):
            producer = random.randrange(2)
            sent = value(producer, sequences[producer])
            sequences[producer] += 1
            world.outcomes[sent] = random.choice([[2], [2], [2], [0, 2], [1]])
            records.append((offset, sent))
            offset += random.choice([1, 1, 1, 1, 2])  # a transaction's marker, say
        world.log.append(records)
        world.stored.append(list(records))
        world.members.append(batches(random, records, [0, 1, 2]))
        world.untold.append(batches(random, records, [None]))
        world.more.append(Held(90.0, SINK, TOPIC, partition, 3))
        for group in (MEMBERS, SINK):
            world.more += [Commit(at, group, TOPIC, partition, next_) for at, next_ in ((100.0, 3), (110.0, offset))]
        world.more.append(Held(120.0, SINK, TOPIC, partition, offset))
    world.more.append(Fault(5.0, 6.0, "kill", "a member"))
    return world


def batches(random: Random, records: list[Record], epochs: list[int | None]) -> list[Batch]:
    """Handed out by members in turn; the last batch before a change of owner may come again."""
    found: list[Batch] = []
    owner, begin = 0, 0
    while begin < len(records):
        chosen = records[begin : begin + BATCH]
        found.append(Batch(10.0 + len(found), f"member-{owner}", epochs[owner % len(epochs)], list(chosen)))
        if random.random() < 0.4:
            owner += 1
            if random.random() < 0.5:
                continue
        begin += BATCH
    return found


# -- one defect each: changes a good world and says what must be found ------------------------------------------


def lost_by_the_log(world: World, partition: int, index: int) -> tuple[Kind, str]:
    record = world.log[partition][index]
    world.outcomes[record[1]] = [2]
    for records in (world.log[partition], world.stored[partition]):
        records.remove(record)
    for batch in world.members[partition] + world.untold[partition]:
        batch.records = [each for each in batch.records if each != record]
    return Kind.LOST, "log"


def lost_by_a_group(world: World, partition: int, index: int) -> tuple[Kind, str]:
    record = world.log[partition][index]
    for batch in world.untold[partition]:
        batch.records = [each for each in batch.records if each != record]
    return Kind.LOST, UNTOLD


def lost_by_the_sink(world: World, partition: int, index: int) -> tuple[Kind, str]:
    del world.stored[partition][index]
    return Kind.LOST, SINK


def unseen(world: World, partition: int, index: int) -> tuple[Kind, str]:
    last = set(world.log[partition][-index - 1 :])
    for batch in world.untold[partition]:
        batch.records = [each for each in batch.records if each not in last]
    return Kind.UNSEEN, UNTOLD


def duplicate_on_the_log(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.everywhere(partition, (world.log[partition][-1][0] + 1, world.log[partition][index][1]))
    return Kind.DUPLICATE, "log"


def duplicate_on_the_log_that_the_sink_left_out(world: World, partition: int, index: int) -> tuple[Kind, str]:
    duplicate_on_the_log(world, partition, index)
    del world.stored[partition][-1]
    return Kind.DUPLICATE, "log"


def stored_twice(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.stored[partition].append(world.stored[partition][index])
    return Kind.DUPLICATE, SINK


def failed_but_exists(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.outcomes[world.log[partition][index][1]] = [0, 0]
    return Kind.FAILED_EXISTS, "log"


def never_sent(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.everywhere(partition, (world.log[partition][-1][0] + 1, value(7, index)))
    return Kind.NEVER_SENT, "log"


def two_values_at_one_offset(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.log[partition].append((world.log[partition][index][0], POSSIBLY))
    return Kind.INCONSISTENT, "log"


def another_value_for_a_member(world: World, partition: int, index: int) -> tuple[Kind, str]:
    batch = next(batch for batch in world.members[partition] if batch.records)
    batch.records[0] = (batch.records[0][0], FAILED)
    return Kind.INCONSISTENT, MEMBERS


def vanished(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.members[partition][-1].records.append((world.log[partition][-1][0] + 1, POSSIBLY))
    return Kind.VANISHED, MEMBERS


def vanished_untold(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.untold[partition][0].records.append((-1, POSSIBLY))
    return Kind.VANISHED, UNTOLD


def skipped(world: World, partition: int, index: int) -> tuple[Kind, str]:
    batch = next(batch for batch in world.members[partition] if len(batch.records) > 2)
    taken = batch.records.pop(1)
    world.members[partition].insert(0, Batch(1.0, "another member", 0, [taken]))
    return Kind.SKIPPED, MEMBERS


def reordered(world: World, partition: int, index: int) -> tuple[Kind, str]:
    batch = next(batch for batch in world.members[partition] if batch.records)
    batch.records.append(batch.records[-1])
    return Kind.REORDERED, MEMBERS


def committed_ahead_of_members(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.more.append(Commit(9.0, MEMBERS, TOPIC, partition, world.log[partition][index][0] + 1))
    return Kind.AHEAD, MEMBERS


def committed_ahead_of_the_sink(world: World, partition: int, index: int) -> tuple[Kind, str]:
    world.more.append(Commit(80.0, SINK, TOPIC, partition, 4 + index))
    return Kind.AHEAD, SINK


Defect = Callable[[World, int, int], tuple[Kind, str]]
DEFECTS: list[Defect] = [
    lost_by_the_log,
    lost_by_a_group,
    lost_by_the_sink,
    unseen,
    duplicate_on_the_log,
    duplicate_on_the_log_that_the_sink_left_out,
    stored_twice,
    failed_but_exists,
    never_sent,
    two_values_at_one_offset,
    another_value_for_a_member,
    vanished,
    vanished_untold,
    skipped,
    reordered,
    committed_ahead_of_members,
    committed_ahead_of_the_sink,
]


@given(st.integers(0, 2**32))
def test_a_good_history_shows_nothing(seed: int) -> None:
    world = good(Random(seed))
    report = world.report()
    assert report.anomalies == []
    assert report.sent == len(world.outcomes)
    assert report.logged == sum(map(len, world.log))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
@given(seed=st.integers(0, 2**32), partition=st.integers(0, PARTITIONS - 1), index=st.integers(1, 12))
def test_exactly_the_defect_is_found(defect: Defect, seed: int, partition: int, index: int) -> None:
    world = good(Random(seed))
    expected = defect(world, partition, index)
    (anomaly,) = world.report().anomalies
    assert (anomaly.kind, anomaly.where) == expected
    assert anomaly.count == (index + 1 if defect is unseen else 1)
    assert len(anomaly.evidence) == min(anomaly.count, 5)
    assert all(anomaly.evidence)


def test_every_kind_of_anomaly_has_a_defect_here() -> None:
    assert {defect(good(Random(1)), 0, 1)[0] for defect in DEFECTS} == set(Kind)


@given(st.integers(0, 2**32), st.permutations([each for each in DEFECTS if each is not two_values_at_one_offset]))
def test_two_defects_do_not_hide_each_other(seed: int, order: list[Defect]) -> None:
    world = good(Random(seed))
    expected = {defect(world, partition, 3 + partition) for partition, defect in enumerate(order[:PARTITIONS])}
    assert expected == {(anomaly.kind, anomaly.where) for anomaly in world.report().anomalies}


def test_the_evidence_names_the_record_its_place_and_who() -> None:
    events = [
        Send(0.0, "p", [(value(3, 0), 4)]),
        Logged(TOPIC, 1, [(10, value(3, 0), 4)]),
        Poll(1.0, "m-1", MEMBERS, [(10, value(3, 0), 1), (13, value(3, 3), 1)], TOPIC, 1, 2),
    ]
    lost, skipped = check(events).anomalies
    assert str(lost) == "billing: 2 lost: record 3:1 at events-1 offset 11; record 3:2 at events-1 offset 12"
    assert skipped.count == 2
    assert skipped.evidence == [
        "m-1 in its assignment 2: record 3:3 at events-1 offset 13 after record 3:0 at events-1 offset 10"
    ]


def test_repeats_are_counted_by_fault_and_members() -> None:
    def poll(at: float, process: str, first: int, count: int) -> Poll:
        return Poll(at, process, MEMBERS, [(first, first, count)], TOPIC, 0, 1)

    events = [
        Send(0.0, "p", [(0, 100)]),
        Logged(TOPIC, 0, [(0, 0, 100)]),
        Fault(5.0, 6.0, "kill", "a"),
        Fault(20.0, 21.0, "stop", "b"),
        poll(4.0, "a", 0, 50),
        poll(9.0, "b", 30, 70),  # 20 again, after the first fault
        poll(23.0, "c", 95, 5),  # 5 again, after the second
        poll(24.0, "d", 97, 3),  # 3 again, of the same
    ]
    report = check(events)
    assert report.anomalies == []
    reading = report.readings[MEMBERS]
    assert (reading.handed, reading.repeated, reading.largest_repeat) == (128, 28, 20)
    assert reading.largest_at == "kill a: a, then b"


def test_who_commits_before_is_not_ahead() -> None:
    world = good(Random(5))
    committed_ahead_of_members(world, 0, 3)
    assert check(world.events(), before=[MEMBERS]).anomalies == []


def test_nothing_at_all_is_no_anomaly_and_records_without_a_log_are() -> None:
    assert check([]).anomalies == []
    report = check([Send(0.0, "p", [(1, 1)]), Result(0.1, "p", 2, [(1, 1)]), Poll(1.0, "m", MEMBERS, [(0, 1, 1)])])
    assert {anomaly.kind for anomaly in report.anomalies} == {Kind.LOST, Kind.VANISHED}


def test_runs_hold_exactly_what_they_were_made_of() -> None:
    assert runs([4, 5, 6, 8, 9], [70, 71, 80, 81, 82]) == [(4, 70, 2), (6, 80, 1), (8, 81, 2)]
    assert spans([1, 2, 3, 7, 8, 3]) == [(1, 3), (7, 2), (3, 1)]
    assert runs([], []) == []


class TestFiles:
    def test_histories_of_several_processes_come_back_as_they_were(self, tmp_path: Path) -> None:
        world = good(Random(3))
        failed_but_exists(world, 1, 2)
        with Writer(tmp_path / "producer.jsonl") as producer, Writer(tmp_path / "others.jsonl") as others:
            for event in world.events():
                (producer if isinstance(event, (Send, Result)) else others).write(event)
        assert {*map(repr, load(tmp_path))} == {*map(repr, world.events())}
        assert check(load(tmp_path)) == world.report()

    def test_a_life_that_goes_on_appends(self, tmp_path: Path) -> None:
        for at in (1.0, 2.0):
            with Writer(tmp_path / "a.jsonl") as history:
                history.write(Fault(at, at + 1, "kill", "node 1"))
        assert list(load(tmp_path)) == [Fault(1.0, 2.0, "kill", "node 1"), Fault(2.0, 3.0, "kill", "node 1")]

    def test_a_line_that_was_cut_off_is_left_out_and_any_other_that_is_wrong_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        with Writer(path) as history:
            history.write(Fault(1.0, 2.0, "kill", "node 1"))
        path.write_bytes(path.read_bytes() + b'{"type":"fault","at":')
        assert len(list(load(tmp_path))) == 1
        path.write_bytes(path.read_bytes() + b"\n")
        with pytest.raises(ValueError, match=r"a\.jsonl:2: "):
            list(load(tmp_path))
