"""Share groups: a record is handed out until it is settled, and buried after its last delivery; failures are told."""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from support.figures import Figures
from support.reader import read_all
from support.rights import Rights
from support.sharing import Worker, hold, take
from support.waiting import until

from rdknotify import (
    AcknowledgeFailed,
    ClosedError,
    ConfigError,
    KafkaError,
    PartialDeliveryError,
    Producer,
    ShareConsumer,
)
from rdknotify import _rdknotify as core
from rdknotify.testing.faults import KillNode, ResetStorm

LOCK = 3.0
"""Seconds; the kit's brokers allow one, by themselves fifteen."""

Join = Callable[..., ShareConsumer]


@pytest.fixture
def join(request: pytest.FixtureRequest, topic: str, group: str) -> Iterator[Join]:
    """``join(**options)``: a member of the group, of the cluster that the test asks for; closed at its end."""
    proxied = "kafka3_proxied" in request.fixturenames
    cluster = request.getfixturevalue("kafka3_proxied" if proxied else "kafka")
    members: list[ShareConsumer] = []

    def join(**options) -> ShareConsumer:
        members.append(ShareConsumer(cluster.proxied_url if proxied else cluster.url, [topic], group, **options))
        return members[-1]

    yield join
    for member in members:
        member.close()


def fill(kafka, topic: str, values: Sequence[bytes], partitions: int = 1) -> None:
    kafka.create_topic(topic, partitions)
    with Producer(kafka.url) as producer:
        producer.send_batch(topic, values, headers={"kind": "test"}).result(30).raise_for_failures()


def buried(kafka, topic: str, group: str) -> Counter[bytes | None]:
    """What is in the group's dead letter topic."""
    return Counter(value for _, _, _, value, _ in read_all(kafka.bootstrap_servers, f"{topic}.{group}.dead-letter"))


def test_what_is_released_every_time_is_buried_once_and_hinders_nobody(kafka, join, topic, group, figure: Figures):
    good, poison = [b"good %d" % i for i in range(300)], [b"poison %d" % i for i in range(3)]
    fill(kafka, topic, good[:150] + poison + good[150:])
    worker = Worker(join(max_deliveries=4), judge=lambda record: not record.value.startswith(b"poison"))
    worker.start()
    until(lambda: worker.accepted.total() == 300 and all(worker.deliveries[each] == 4 for each in poison), timeout=30)
    figure("F13", "share: neighbours of poison records that were not accepted exactly once",
           sum(worker.accepted[each] != 1 for each in good), at_most=0)  # fmt: skip
    time.sleep(1)  # what came again, would come at once
    worker.end()
    copies = buried(kafka, topic, group)
    figure("F13", "share: copies of a poison record in the dead letter topic", max(copies.values()), at_most=1)
    figure("F13", "share: poison records without a dead letter", len(set(poison) - set(copies)), at_most=0)
    figure("F13", "share: deliveries that were not counted right", len(worker.miscounted), at_most=0)
    assert worker.deliveries == dict.fromkeys(good, 1) | dict.fromkeys(poison, 4) and not worker.failures
    row = read_all(kafka.bootstrap_servers, f"{topic}.{group}.dead-letter")[0]
    headers = dict(row[4])
    assert (headers["rdknotify.attempts"], headers["kind"]) == (b"4", b"test")
    assert b"handed out 4 times" in headers["rdknotify.reason"]


def test_an_expired_lock_is_warned_of_and_then_told(kafka, join, topic, figure: Figures, caplog):
    fill(kafka, topic, [b"%d" % i for i in range(10)])
    slow, other = join(lock_duration=LOCK), join(lock_duration=LOCK)
    late = hold(slow)
    until(lambda: "are not settled, and their lock expires" in caplog.text, timeout=LOCK)
    warned = late.time_left
    figure("F14", "seconds between the warning and the end of the lock", warned, "s", at_least=0.1)
    begun = time.monotonic() + warned
    again = hold(other)
    figure("F14", "from the end of the lock to the next delivery", time.monotonic() - begun, "s", at_most=5)
    assert {record.delivery_count for record in again} == {2}
    slow.accept(late)
    assert "after their lock had expired" in caplog.text
    with pytest.raises(AcknowledgeFailed, match="the lock had expired: the records are handed out again") as caught:
        slow.commit()
    assert caught.value.name == "INVALID_RECORD_STATE" and caught.value.failures.keys() == {(topic, 0)}
    other.accept(again)
    other.commit()
    assert not slow.poll(timeout=0.5) and not other.poll(timeout=0.5)
    figure("F14", "late acknowledgements that were not told", len(late) - len(again), at_most=0)


@pytest.mark.parametrize("fault", ["kill -9 of the leader's node", "connections reset"])
def test_a_fault_leaves_nothing_undelivered(fault, kafka3, kafka3_proxied, join, topic, figure: Figures):
    values = [b"%d" % i for i in range(12_000)]
    kafka3.create_topic(topic, 3)
    workers = [Worker(join()) for _ in range(2)]
    for worker in workers:
        worker.start()
    with Producer(kafka3.url) as producer:
        producer.send_batch(topic, values[:1000]).result(30).raise_for_failures()
        until(lambda: sum(worker.accepted.total() for worker in workers) >= 1000, timeout=30)
        leader = kafka3.leader_of(topic, 0)
        trouble = KillNode(kafka3, leader) if fault.startswith("kill") else ResetStorm(kafka3.proxies, every=0.5)
        with trouble:
            for begin in range(1000, len(values), 500):
                producer.send_batch(topic, values[begin : begin + 500])
                time.sleep(0.2)
        producer.flush(60)
    until(lambda: len({*workers[0].accepted, *workers[1].accepted}) == len(values), timeout=60)
    for worker in workers:
        worker.end()
    accepted = workers[0].accepted + workers[1].accepted
    figure("F15", f"{fault}: records never delivered", len(set(values) - set(accepted)), at_most=0)
    figure("F15", f"{fault}: records accepted more than once", sum(count > 1 for count in accepted.values()))
    figure("F15", f"{fault}: acknowledgements of unknown outcome", sum(len(w.failures) for w in workers))
    figure("F15", f"{fault}: longest time without progress", max(w.longest_gap for w in workers), "s", at_most=30)


def test_a_dead_letter_that_is_not_confirmed_is_not_rejected(kafka, join, topic, group):
    fill(kafka, topic, [b"poison"])
    kafka.create_topic(f"{topic}.refusing", 1, config={"cleanup.policy": "compact"})  # takes no record without a key
    member = join(max_deliveries=1, dead_letter=f"{topic}.refusing")
    with pytest.raises(PartialDeliveryError):
        member.release(hold(member))
    with pytest.raises(KafkaError, match="1 records are not settled"):
        member.poll()
    member.close()
    successor = join(max_deliveries=1)
    until(lambda: not successor.poll(timeout=0.2) and kafka_has(kafka, f"{topic}.{group}.dead-letter"), timeout=20)
    assert buried(kafka, topic, group) == {b"poison": 1}


def test_a_fetch_is_handed_out_in_parts_and_what_is_late_is_let_go(kafka, join, topic, caplog):
    fill(kafka, topic, [b"%d" % i for i in range(100)])
    member = join(lock_duration=2)
    first = take(member, 30, max_records=10)
    assert [len(batch) for batch in first] == [10, 10, 10]
    until(lambda: not first[-1].time_left, timeout=5)
    rest = take(member, 70)
    assert "70 records were acquired 2 s ago" in caplog.text
    counts = Counter(record.delivery_count for batch in rest for record in batch)
    assert counts == {2: 70}
    assert sorted(int(v) for batch in first + rest for v in batch.values()) == [*range(100)]


def test_rejected_records_do_not_come_again_and_unsettled_ones_do(kafka, join, topic, group):
    fill(kafka, topic, [b"a", b"b", b"c"])
    member = join(dead_letter=False)
    batch = hold(member)
    first = batch[0]
    assert (first.value, first.key, first.topic, first.partition, first.offset) == (b"a", None, topic, 0, 0)
    assert first.headers == [("kind", b"test")] and first.timestamp > 1e12
    member.reject(batch[0], "of no use")
    member.accept(batch[1])
    member.close()  # sends both, and gives up the third
    with pytest.raises(ClosedError, match="was closed"):
        member.accept(batch[2])
    (again,) = hold(join())
    assert (again.value, again.delivery_count) == (b"c", 2)


def kafka_has(kafka, topic: str) -> bool:
    return topic in kafka.views()[0].topics


def test_a_group_begins_where_it_is_told(kafka, topic, group):
    fill(kafka, topic, [b"before"])
    with (
        ShareConsumer(kafka.url, [topic], f"{group}-e") as earliest,
        ShareConsumer(kafka.url, [topic], f"{group}-l", start="latest") as latest,
    ):
        assert take(earliest, 1)[0].values() == [b"before"]
        with Producer(kafka.url) as producer:
            while not (seen := latest.poll(timeout=0.5)):
                producer.send(topic, b"after").result(10)
        latest.accept(seen)
        assert set(seen.values()) == {b"after"}


def test_what_the_brokers_do_not_allow_is_said(kafka, topic, group):
    with pytest.raises(ConfigError, match=r"lock_duration=3000: choose others, or change the brokers' bounds"):
        ShareConsumer(kafka.url, [topic], group, lock_duration=3000)
    with pytest.raises(ConfigError, match=r"share.delivery.count.limit .*; max_deliveries=20"):
        ShareConsumer(kafka.url, [topic], group, max_deliveries=20)


def test_one_who_may_not_set_up_a_group_is_told_how_to(kafka_secure, topic, group, caplog):
    kafka_secure.create_topic(topic, 1)
    with Producer(kafka_secure.url) as producer:
        producer.send(topic, b"v").result(10)
    rights = Rights(kafka_secure.bootstrap_servers, "bob")
    rights.give(topic=topic, operations=["READ", "DESCRIBE"])
    rights.give(group=group, operations=["READ", "DESCRIBE"])
    url = kafka_secure.security.url("SASL_PLAINTEXT", "bob")
    try:
        with ShareConsumer(url, [topic], group, sasl_mechanism="SCRAM-SHA-256") as member:
            assert f"kafka-configs --bootstrap-server {kafka_secure.bootstrap_of('SASL_PLAINTEXT')}" in caplog.text
            assert f"--group {group} --add-config share.auto.offset.reset=earliest,share.delivery" in caplog.text
            assert member.poll(timeout=0.5) == ()
    finally:
        rights.take_all()


def test_the_preview_is_said_in_the_log(kafka, join, topic, caplog):
    caplog.set_level(logging.WARNING, "rdknotify")
    kafka.create_topic(topic, 1)
    join()
    until(lambda: '"Preview"' in caplog.text, timeout=5)


def test_close_is_bounded_while_the_brokers_are_silent(kafka, join, topic, figure: Figures):
    fill(kafka, topic, [b"%d" % i for i in range(10)])
    member = join()
    batch = hold(member)
    kafka.pause()
    try:
        begun = time.monotonic()
        member.accept(batch)
        with pytest.raises(AcknowledgeFailed, match="the outcome is unknown"):
            member.close(2)
        figure("F16", "share: close(timeout=2) took", time.monotonic() - begun, "s", at_most=2.5)
        assert member.closed
        member.close()
        with pytest.raises(ClosedError):
            member.poll()
    finally:
        kafka.resume()
    del batch
    gc.collect()
    until(lambda: not any(core.live_handles().values()), "librdkafka's threads end", timeout=30)
