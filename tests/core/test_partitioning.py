"""Which partition a record goes to: murmur2 of the key as in Java, or one that keyless ones stick to."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from rdknotify import _rdknotify as core

# From org.apache.kafka.common.utils.UtilsTest.testMurmur2.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), list(JAVA.items()))
def test_murmur2_is_javas(key, expected):
    assert core.murmur2(key) == expected & 0xFFFFFFFF


@pytest.mark.parametrize("partitions", [1, 4, 7])
def test_keyed_records_go_where_the_java_client_sends_them(mock, producer, read, partitions):
    mock.create_topic("keyed", partitions)
    keys = [b"%d" % i for i in range(200)] + [b"", "\N{SNOWMAN}".encode()]
    for _ in range(2):  # the first batch while the topic is still unknown, the second when it is known
        producer.send_batch("keyed", keys, keys=keys).result(10).raise_for_failures()
    records = read(2 * len(keys), ["keyed"])
    assert {record.partition for record in records} == set(range(partitions))
    assert all(record.partition == (core.murmur2(record.key) & 0x7FFFFFFF) % partitions for record in records)


def test_a_topic_that_was_asked_for_before_its_first_record_is_partitioned_alike(mock, producer, read):
    mock.create_topic("asked", 4)
    producer.metadata("asked")
    keys = [b"%d" % i for i in range(200)]
    producer.send_batch("asked", keys, keys=keys).result(10).raise_for_failures()
    records = read(len(keys), ["asked"])
    assert all(record.partition == (core.murmur2(record.key) & 0x7FFFFFFF) % 4 for record in records)


def test_one_record_at_a_time_goes_where_a_batch_goes(producer, read, topic):
    keys = [b"%d" % i for i in range(40)]
    for key in keys:
        producer.send(topic, b"single", key=key)
        producer.send(topic, b"single", key=key, headers={"h": b"1"})
    producer.send_batch(topic, [b"batch"] * len(keys), keys=keys)
    assert producer.flush(10) == 0
    where = {}
    for record in read(3 * len(keys)):
        where.setdefault(record.key, set()).add(record.partition)
    assert all(len(partitions) == 1 for partitions in where.values())


def test_order_is_kept_for_each_key(producer, read, topic):
    keys = [b"%d" % (i % 17) for i in range(1000)]
    values = [b"%d" % i for i in range(1000)]
    producer.send_batch(topic, values, keys=keys).result(10)
    seen = {}
    for record in read(1000):
        assert int(record.value) > seen.get(record.key, -1)
        seen[record.key] = int(record.value)


def test_a_keyless_batch_stays_together(producer, read, topic):
    producer.send_batch(topic, [b"first"]).result(10)
    producer.send_batch(topic, [b"together"] * 200).result(10)
    partitions = Counter(record.partition for record in read(201) if record.value == b"together")
    assert sorted(partitions.values()) in ([1, 199], [200])  # once a second the first record asks for the leaders


def test_keyless_batches_spread_over_all_partitions(producer, read, topic):
    producer.send_batch(topic, [b"first"]).result(10)
    for _ in range(80):
        producer.send_batch(topic, [bytes(1000)] * 64)
    assert producer.flush(10) == 0
    partitions = Counter(record.partition for record in read(80 * 64))
    assert set(partitions) == {0, 1, 2, 3}
    assert min(partitions.values()) > 80 * 64 / 4 / 3


def test_single_keyless_records_spread_too(producer, read, topic):
    producer.send(topic, b"first").result(10)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        producer.send(topic, b"v")
        time.sleep(0.005)
    assert producer.flush(10) == 0
    assert {record.partition for record in read(20)} == {0, 1, 2, 3}


def test_a_partition_without_a_leader_is_passed_over(mock, producer, join, topic, until):
    mock.set_leader(topic, 2, -1)
    asking = join().client

    def ends():
        return [asking.watermarks(topic, partition, 5)[1] for partition in (0, 1, 3)]

    def spread():
        before = ends()
        deliveries = [producer.send_batch(topic, [bytes(1000)] * 64) for _ in range(40)]
        delivered = all(delivery.wait(1) for delivery in deliveries)
        return delivered and all(after - end > 40 * 64 / 3 / 3 for end, after in zip(before, ends(), strict=True))

    # librdkafka knows of no leader, or not of all, while it places the very first records.
    until(spread, "all partitions with a leader get their share, and no other gets anything", 5)
    assert spread()


def take_leader(mock, producer, topic, partition):
    # The mock cannot bear a record for a partition without a leader: the producer must have heard of it.
    mock.set_leader(topic, partition, -1)
    assert producer.metadata(topic)["topics"][topic][partition] == -1


def test_a_partition_that_lost_its_leader_is_left_within_seconds(mock, producer, topic, until):
    producer.send_batch(topic, [b"known"]).result(10)
    take_leader(mock, producer, topic, 2)

    def delivered():
        delivery = producer.send_batch(topic, [bytes(1000)] * 600)  # more than twice a partition's turn
        return delivery.wait(1)

    until(lambda: delivered() and delivered() and delivered(), "keyless records pass the partition over", 15)


def test_keyed_records_wait_for_their_leader(mock, producer, topic):
    key = next(b"%d" % i for i in range(100) if (core.murmur2(b"%d" % i) & 0x7FFFFFFF) % 4 == 2)
    producer.send(topic, b"known").result(10)
    take_leader(mock, producer, topic, 2)
    delivery = producer.send(topic, b"v", key=key)
    assert not delivery.wait(0.5)
    mock.set_leader(topic, 2, 1)
    assert delivery.result(15).delivered == 1
