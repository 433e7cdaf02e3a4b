"""F1 to F8: a producer under load while leaders die, hang, do not answer or reset connections. Its own words count."""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict

import psutil
import pytest
from support.bulks import Stored, settle, stored_values
from support.load import Load
from support.reader import read_all
from support.waiting import until

from rdknotify import Producer, QueueFull
from rdknotify.testing import LocalKafka, faults

RATE = 2000
# A silent broker is given up after 3 seconds, one that comes back is found within one.
CONFIG = {"socket.timeout.ms": 3000, "reconnect.backoff.max.ms": 1000}


def judge(figure, row: str, kafka: LocalKafka, topic: str, load: Load) -> None:
    """All that was sent is there once, in order, and was reported so."""
    report = load.report()
    kafka.heal()  # a leader that was stopped may tell an old end until it learns of its successor
    rows = read_all(kafka.bootstrap_servers, topic)
    stored = Stored(value for _partition, _offset, _key, value, _headers in rows)
    figure(row, "sent", len(load.sent), "records")
    figure(row, "failed", len(report.failures), "records", at_most=0)
    figure(row, "acknowledged and lost", len(set(load.sent) - set(stored)), "records", at_most=0)
    figure(row, "duplicated", sum(stored.values()) - len(stored), "records", at_most=0)
    figure(row, "reordered within a partition", reordered(rows), "records", at_most=0)
    assert set(stored) <= set(load.sent)


def reordered(rows) -> int:
    """Values that come after a higher one of the same partition."""
    highest: dict[int, bytes] = defaultdict(bytes)
    count = 0
    for partition, _offset, _key, value, _headers in rows:
        count += value < highest[partition]
        highest[partition] = max(highest[partition], value)
    return count


def test_f1_the_leader_is_killed_three_times(kafka3, topic, figure):
    kafka3.create_topic(topic, 3, 3)
    with Producer(kafka3.url, config=CONFIG) as producer, Load(producer, topic, RATE) as load:
        for partition in range(3):
            load.until_acknowledged(len(load.sent) + RATE)
            with faults.KillNode(kafka3, kafka3.leader_of(topic, partition)):
                load.until_acknowledged(len(load.sent) + RATE)
            kafka3.wait_in_sync()
    judge(figure, "F1", kafka3, topic, load)
    figure("F1", "longest wait for an acknowledgement", load.longest_wait, "s", at_most=6, bears=10)


def test_f2_the_leader_is_stopped_for_ten_seconds(kafka3, topic, figure):
    kafka3.create_topic(topic, 1, 3)
    with Producer(kafka3.url, config=CONFIG) as producer, Load(producer, topic, RATE) as load:
        load.until_acknowledged(RATE)
        with faults.PauseNode(kafka3, kafka3.leader_of(topic, 0)):
            begun = len(load.sent)
            until(lambda: len(load.sent) >= begun + 10 * RATE, "ten seconds are over", 60)
        load.until_acknowledged(len(load.sent))
    judge(figure, "F2", kafka3, topic, load)
    figure("F2", "longest wait for an acknowledgement", load.longest_wait, "s", at_most=5, bears=9.5)


def test_f3_acknowledgements_are_lost_for_five_seconds(kafka3_proxied, topic, figure):
    """With a control: without idempotence the same fault at the same time shows duplicates, so the test bites."""
    kafka = kafka3_proxied
    for name in (topic, f"{topic}-control"):
        kafka.create_topic(name, 3, 3)
    with (
        Producer(kafka.proxied_url, config=CONFIG) as producer,
        Producer(kafka.proxied_url, config={**CONFIG, "enable.idempotence": False}) as control,
        Load(producer, topic, RATE) as load,
        Load(control, f"{topic}-control", RATE) as careless,
    ):
        load.until_acknowledged(RATE)
        careless.until_acknowledged(RATE)
        with faults.DropReplies(kafka.proxies):
            begun = len(load.sent)
            until(lambda: len(load.sent) >= begun + 5 * RATE, "five seconds are over", 60)
        load.until_acknowledged(len(load.sent))
        careless.until_acknowledged(len(careless.sent))
    judge(figure, "F3", kafka, topic, load)
    figure("F3", "longest wait for an acknowledgement", load.longest_wait, "s", at_most=6, bears=10)
    stored = stored_values(kafka.bootstrap_servers, f"{topic}-control")
    figure("F3", "control, lost", len(set(careless.sent) - set(stored)), "records", at_most=0)
    figure("F3", "control, duplicated", sum(stored.values()) - len(stored), "records", at_least=1)


def test_f4_one_of_three_brokers_is_mute(kafka3_proxied, topic, figure):
    kafka = kafka3_proxied
    kafka.create_topic(topic, 3, 3)
    mute = kafka.leader_of(topic, 0)
    with Producer(kafka.proxied_url, delivery_timeout=3, config=CONFIG) as producer:
        with Load(producer, topic, RATE) as load:
            load.until_acknowledged(RATE)
            with faults.DropReplies(kafka.proxies, f"node {mute}"):
                until(lambda: load.failed, "records fail", 30)
                load.until_acknowledged(len(load.sent))
            load.until_acknowledged(len(load.sent) + RATE)
        report = load.report()
        figure("F4", "delivered", report.delivered, "records", at_least=RATE)
        figure("F4", "failed", len(report.failures), "records", at_least=1)
        figure("F4", "longest wait for an outcome", load.longest_wait, "s")
        settle(figure, "F4", "one broker mute", producer, kafka, topic, load.sent, report)


def test_f6_what_a_topic_refuses_takes_no_neighbour_along(kafka, topic, figure):
    refusing = {
        "oversized": {"max.message.bytes": "3000"},
        "many": {"max.message.bytes": "3000"},
        "keyless": {"cleanup.policy": "compact"},
    }
    for name, config in refusing.items():
        kafka.create_topic(f"{topic}-{name}", 1, config=config)
    small, large = (lambda: os.urandom(20).hex().encode()), os.urandom(5000)
    values = [small() for _ in range(20)]
    bulks = {
        "oversized": ([*values[:7], large, *values[7:]], None, [7]),
        "many": ([os.urandom(200) for _ in range(2000)], None, []),
        "keyless": (
            [small() for _ in range(100)],
            [None if i in (17, 60) else b"k%d" % i for i in range(100)],
            [17, 60],
        ),
    }
    with Producer(kafka.url, linger=0.02) as producer:
        for name, (sent, keys, culprits) in bulks.items():
            where = f"{topic}-{name}"
            plain = producer.send_batch(where, sent, keys).result(30)
            figure(
                "F6", f"{name}: failed of {len(sent)} in a plain bulk", len(plain.failures), at_least=len(culprits) + 1
            )
            assert plain.safe_to_resend == [failure.index for failure in plain.failures]
            again = plain.safe_to_resend
            began = time.monotonic()
            report = producer.deliver(where, [sent[i] for i in again], keys and [keys[i] for i in again], timeout=30)
            figure(
                "F6",
                f"{name}: culprits found and the others delivered after",
                time.monotonic() - began,
                "s",
                at_most=10,
            )
            assert [again[failure.index] for failure in report.failures] == culprits
            stored = stored_values(kafka.bootstrap_servers, where)
            innocent = {value for index, value in enumerate(sent) if index not in culprits}
            figure("F6", f"{name}: innocents lost", len(innocent - set(stored)), at_most=0)
            figure("F6", f"{name}: there twice", sum(stored.values()) - len(stored), at_most=0)
            assert set(stored) == innocent


def test_f7_connections_are_reset_every_second_and_live_only_shortly(kafka3_proxied, topic, figure):
    kafka = kafka3_proxied
    kafka.create_topic(topic, 3, 3)
    with Producer(kafka.proxied_url, config=CONFIG) as producer, Load(producer, topic, RATE) as load:
        load.until_acknowledged(RATE)
        with faults.ResetStorm(kafka.proxies) as storm:
            until(lambda: storm.resets >= 15, "the storm is over", 60)
        longest = load.longest_wait
        figure("F7", "longest wait for an acknowledgement, a reset a second", longest, "s", at_most=2, bears=5)
        lives = [
            faults.ResetStorm(kafka.proxies, f"node {node}", every) for node, every in ((1, 0.5), (2, 0.9), (3, 1.5))
        ]
        for each in lives:
            each.begin()
        until(lambda: lives[2].resets >= 4, "the shortest lives are over", 60)
        for each in lives:
            each.end()
        load.until_acknowledged(len(load.sent))
    figure("F7", "resets", storm.resets + sum(each.resets for each in lives))
    judge(figure, "F7", kafka, topic, load)
    figure("F7", "longest wait for an acknowledgement", load.longest_wait, "s", at_most=6)


def test_f8_all_brokers_are_away_and_come_back(kafka3_proxied, topic, figure, caplog):
    kafka = kafka3_proxied
    kafka.create_topic(topic, 3, 3)
    queue = 20_000
    with Producer(kafka.proxied_url, config=CONFIG, max_in_flight=queue, queue_timeout=0) as producer:
        with Load(producer, topic, 2 * RATE) as load, caplog.at_level(logging.INFO, "rdknotify"):
            load.until_acknowledged(RATE)
            caplog.clear()
            with faults.Cut(kafka.proxies):
                begun = len(load.sent)
                until(lambda: producer.in_flight >= queue - 500, "the queue is full", 30)
                figure(
                    "F8", "memory grown while 200 MB are offered in vain", flooded(producer, topic), "MiB", at_most=40
                )
                until(lambda: len(load.sent) >= begun + 24 * RATE, "twelve seconds are over", 60)
                figure("F8", "in flight at most", producer.in_flight, "records", at_most=queue)
                down = [record for record in caplog.records if "ALL_BROKERS_DOWN" in record.getMessage()]
                figure("F8", "lines of the log that say all brokers are down", len(down), at_least=1, at_most=2)
            load.until_acknowledged(len(load.sent))
        report = load.report()
        figure("F8", "QueueFull raised", load.refused, "times", at_least=1)
        refused = {failure.error.name for failure in report.failures}
        assert refused == {"_QUEUE_FULL"}, "all that was taken is delivered"
        figure("F8", "longest wait for an acknowledgement", load.longest_wait, "s", at_most=20)
        settle(figure, "F8", "all brokers away", producer, kafka, topic, load.sent, report)


def flooded(producer: Producer, topic: str) -> float:
    """Offer far more than a full queue may hold; returns by how much that lets us grow, in MiB."""
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(100):
        with pytest.raises(QueueFull):
            producer.send_batch(f"{topic}-flood", [b"x" * 1000] * 2000)
    return (process.memory_info().rss - before) / (1 << 20)
