"""One group with members of ``kafka://`` and of ``rdkafka://``, while services are switched from one to the other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.endpoints import Endpoint, until
from support.oslo import configuration, oslo_messaging, transport

from rdknotify import Notifier

PARTITIONS = 4
COUNT = 100
PROBE = "is anybody there"
ALIKE = ({}, {"group_protocol": "consumer"})
"""Options of the new members with which both kinds are at work side by side."""


class Member(Endpoint):
    """An endpoint that tells probes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.probed = False

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        if event_type == PROBE:
            self.probed = True
        else:
            super().info(ctxt, publisher_id, event_type, payload, metadata)


@contextmanager
def listening(scheme: str, kafka: Any, topic: str, pool: str, folder: Path, **options: str) -> Iterator[Member]:
    made = transport(f"{scheme}://{kafka.bootstrap_servers}/", configuration(folder / scheme, **options))
    member = Member()
    server = oslo_messaging.get_notification_listener(made, [oslo_messaging.Target(topic=topic)], [member], pool=pool)
    server.start()
    try:
        yield member
    finally:
        server.stop()
        server.wait()
        made.cleanup()


@pytest.fixture
def notifier(kafka, topic: str) -> Iterator[Notifier]:
    kafka.create_topic(f"{topic}.info", PARTITIONS)
    with Notifier(kafka.url, "n", topics=[topic]) as made:
        yield made


def probe(notifier: Notifier, *members: Member) -> None:
    """Send until each of them has a partition."""

    def probed() -> bool:
        notifier.info({}, PROBE, {})
        time.sleep(0.02)  # not all into the same batch, and so the same partition
        return all(member.probed for member in members)

    until(probed)


def send(notifier: Notifier, first: int) -> list[str]:
    names = [str(number) for number in range(first, first + COUNT)]
    for name in names:
        notifier.info({}, name, {})
        time.sleep(0.005)
    return names


def seen(*members: Member) -> Counter[str]:
    """What these have seen since the last time, when it is as much as was sent."""
    until(lambda: sum(member.calls.qsize() for member in members) >= COUNT)
    return Counter(name for member in members for name in member.seen(member.calls.qsize()))


@pytest.mark.parametrize("options", ALIKE, ids=["default", "consumer"])
def test_members_of_both_drivers_share_the_work_of_a_group(kafka, topic, group, tmp_path, notifier, options):
    with listening("rdkafka", kafka, topic, group, tmp_path, **options) as new:
        with listening("kafka", kafka, topic, group, tmp_path) as old:
            probe(notifier, old, new)
            assert Counter(send(notifier, 0)) == seen(old, new)
        assert Counter(send(notifier, COUNT)) == seen(new)


def test_a_new_member_that_is_refused_says_so_and_begins_when_the_old_ones_have_left(
    kafka, topic, group, tmp_path, notifier, caplog
):
    with ExitStack() as leaving:
        old = leaving.enter_context(listening("kafka", kafka, topic, group, tmp_path))
        probe(notifier, old)
        with listening("rdkafka", kafka, topic, group, tmp_path, assignment_strategy="cooperative-sticky") as new:
            until(lambda: "INCONSISTENT_GROUP_PROTOCOL" in caplog.text)
            assert Counter(send(notifier, 0)) == seen(old)
            assert not new.calls.qsize()
            leaving.close()
            assert Counter(send(notifier, COUNT)) == seen(new)
