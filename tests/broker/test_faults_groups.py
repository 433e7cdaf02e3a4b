"""A group under load whose members, or whose coordinator, come and go: nothing lost, the gap reported."""

from __future__ import annotations

import itertools
from typing import Any

from support.figures import Figures
from support.waiting import until

from rdknotify.testing.checker import Kind, Report
from reliability.crew import Client, Crew, longest_wait

RATE = 2000
MOST = 200
"""Records that a member takes at a time: what one that is killed may have handed out and not committed."""
CHURNS = 8
MEMBER: dict[str, dict[str, Any]] = {
    "classic": {"group_protocol": "classic", "config": {"session.timeout.ms": 2000, "heartbeat.interval.ms": 300}},
    "consumer": {"group_protocol": "consumer"},
}
"""A member that was killed is missed after 2 seconds; by the newer protocol after 6, as the kit's brokers say."""
BROKER_SESSION = 3.0
"""Seconds until a node that was killed is missed, as the kit's brokers say."""
OFFSETS_PARTITIONS = 6


class Groups:
    """Two groups of the same topic, one for each protocol."""

    def __init__(self, crew: Crew, names: dict[str, str]) -> None:
        self._crew, self.names = crew, names
        self.members: dict[str, list[Client]] = {protocol: [] for protocol in MEMBER}

    def join(self) -> list[Client]:
        """A new member for each."""
        joined = [
            self._crew.add("consume", self.names[protocol], most=MOST, options=options)
            for protocol, options in MEMBER.items()
        ]
        for each, member in zip(self.members.values(), joined, strict=True):
            each.append(member)
        return joined

    def oldest(self) -> list[Client]:
        """The oldest member of each, no member any more."""
        return [each.pop(0) for each in self.members.values()]

    def finish(self, sender: Client) -> Report:
        """End all in order, when all was committed."""
        sender.leave()
        self._crew.wait_until_committed(self.names.values())
        self._crew.leave([*itertools.chain.from_iterable(self.members.values())])
        return self._crew.judge()


def missing(report: Report, group: str) -> int:
    """Records that were acknowledged and are not on the log, or are there and were not handed out."""
    return sum(report.count(kind, where) for kind in (Kind.LOST, Kind.UNSEEN) for where in ("log", group))


def test_members_come_and_go_all_the_time(kafka, crew: Crew, group: str, figure: Figures) -> None:
    groups = Groups(crew, {protocol: f"{group}-{protocol}" for protocol in MEMBER})
    joined = [*groups.join(), *groups.join(), *groups.join()]
    sender = crew.add("send", rate=RATE, bulks=(50, 50))
    for each in [*joined, sender]:
        crew.begun(each)
    for crash in [True, False] * (CHURNS // 2):
        gone, come = groups.oldest(), groups.join()
        if crash:
            for each in gone:
                each.kill()
            crew.begun(come[0])  # the other gets its partitions when those of the dead are free
        else:
            crew.leave(gone)
            for each in come:
                crew.begun(each)
    report = groups.finish(sender)
    figure("F9", "records sent", report.sent)
    for protocol, name in groups.names.items():
        repeated = report.readings[name].repeated
        figure("F9", f"{protocol}: lost, or never handed out", missing(report, name), at_most=0)
        figure("F9", f"{protocol}: handed out twice", repeated, at_most=CHURNS // 2 * MOST)
        figure("F9", f"{protocol}: longest wait of a record", longest_wait(crew.events(), name), "s")
    assert not report.anomalies, report


def test_the_coordinator_is_killed(kafka3, crew: Crew, group: str, figure: Figures) -> None:
    place = offsets_partition(group)
    names = (name for name in map(f"{group}-{{}}".format, itertools.count()) if offsets_partition(name) == place)
    groups = Groups(crew, {protocol: next(names) for protocol in MEMBER})  # both have the same coordinator
    joined = [*groups.join(), *groups.join()]
    sender = crew.add("send", rate=RATE, bulks=(50, 50))
    for each in [*joined, sender]:
        crew.begun(each)
    assert len(kafka3.views()[0].topics["__consumer_offsets"]) == OFFSETS_PARTITIONS
    node = kafka3.leader_of("__consumer_offsets", place)
    kafka3.kill(node)
    until(lambda: kafka3.leader_of("__consumer_offsets", place) != node, "another node takes over as coordinator", 30)
    report = groups.finish(sender)
    figure("F10", "records sent", report.sent)
    for protocol, name in groups.names.items():
        longest = longest_wait(crew.events(), name)
        figure("F10", f"{protocol}: lost, or never handed out", missing(report, name), at_most=0)
        figure("F10", f"{protocol}: handed out twice", report.readings[name].repeated)
        figure("F10", f"{protocol}: longest wait of a record", longest, "s", at_most=BROKER_SESSION + 4, bears=20)
    assert not report.anomalies, report


def offsets_partition(group: str) -> int:
    """Where the group's offsets are, and with them its coordinator: Kafka takes Java's hash of the name."""
    code = 0
    for character in group:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    return (code & 0x7FFFFFFF) % OFFSETS_PARTITIONS
