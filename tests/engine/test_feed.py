"""A feed hands out what it committed, or commits what was answered, over librdkafka's in-process Kafka."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.consuming import committed
from support.waiting import until

from rdknotify.envelope import encode, new_notification
from rdknotify.feed import DEEPEST, Feed, Item
from rdknotify.notifier import Notifier
from rdknotify.producer import Producer
from rdknotify.testing.mock import MockCluster
from rdknotify.topics import dead_letter_topic, retry_topic

TOPIC = "notifications.info"
GROUP = "p"


@pytest.fixture
def url(mock_cluster: MockCluster) -> str:
    for topic in (TOPIC, retry_topic(TOPIC, GROUP), dead_letter_topic(TOPIC, GROUP)):
        mock_cluster.create_topic(topic, partitions=1)
    return mock_cluster.url


@pytest.fixture
def producer(url: str) -> Iterator[Producer]:
    with Producer(url) as producer:
        yield producer


def send(
    producer: Producer, count: int, key: Callable[[int], str | None] = lambda number: None, first: int = 0
) -> None:
    numbers = range(first, first + count)
    values = [encode(new_notification("compute.node1", str(number), "info", {"number": number})) for number in numbers]
    producer.send_batch(TOPIC, values, [key(number) for number in numbers]).result(10).raise_for_failures()


def number_of(item: Item) -> int:
    number: int = item.message["payload"]["number"]
    return number


class Held:
    """A receiver that keeps what it gets until the test answers."""

    def __init__(self) -> None:
        self.calls: queue.Queue[list[Item]] = queue.Queue()
        self.given = 0

    def __call__(self, items: list[Item]) -> None:
        self.given += len(items)
        self.calls.put(items)

    def next(self) -> list[Item]:
        return self.calls.get(timeout=10)


def answer_all(items: list[Item]) -> None:
    for item in items:
        item.done()


class Pool:
    """A receiver as oslo.messaging's server: a pool of threads, each call worked on by one."""

    def __init__(self, threads: int, work: Callable[[Item], object]) -> None:
        self._executor = ThreadPoolExecutor(threads)
        self._work = work
        self.depth = threading.local()
        self.deepest = 0

    def receive(self, items: list[Item]) -> None:
        self._executor.submit(self.process, items)

    def process(self, items: list[Item]) -> None:
        depth = self.depth.value = getattr(self.depth, "value", 0) + 1
        self.deepest = max(self.deepest, depth)
        try:
            for item in items:
                self._work(item)
            for item in items:
                item.done()
        finally:
            self.depth.value -= 1

    def close(self) -> None:
        self._executor.shutdown()


def test_before_commits_a_slice_and_then_hands_it_out_one_after_the_other(url: str, producer: Producer) -> None:
    send(producer, 30)
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP, max_poll_records=10) as feed:
        for number in range(30):
            (item,) = held.next()
            assert number_of(item) == number
            assert held.given == number + 1, "one worker has one call at a time"
            assert number < committed(url, GROUP, TOPIC) <= number + 1 + 10
            answer_all([item])
    assert feed.counts.handled == 30


def test_no_more_is_committed_than_may_wait(url: str, producer: Producer) -> None:
    send(producer, 100)
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP, max_poll_records=10, workers=4) as feed:
        taken = [held.next() for _ in range(4)]
        time.sleep(0.3)
        assert (held.given, feed.counts.received, committed(url, GROUP, TOPIC)) == (4, 10, 10)
        assert [number_of(items[0]) for items in taken] == [0, 1, 2, 3], "they were looked at: this is the begin"
        time.sleep(0.3)
        assert held.given == 4 and feed.counts.received <= 14, "all workers are at work"
        for items in taken:
            answer_all(items)
        for _ in range(96):
            answer_all(held.next())
    assert feed.counts.handled == committed(url, GROUP, TOPIC) == 100


def test_a_slow_worker_does_not_hold_up_others(url: str, producer: Producer) -> None:
    send(producer, 64)
    together = threading.Barrier(16)
    pool = Pool(16, lambda item: together.wait(10))
    with Feed(url, [TOPIC], pool.receive, group=GROUP, workers=16, work=pool.process) as feed:
        until(lambda: feed.counts.handled == 64, "all 16 threads have met four times")
        pool.close()


def test_a_quick_worker_goes_on_without_the_queue_in_order(url: str, producer: Producer) -> None:
    send(producer, 300)
    seen: list[int] = []
    pool = Pool(1, lambda item: seen.append(number_of(item)))
    with Feed(url, [TOPIC], pool.receive, group=GROUP, work=pool.process) as feed:
        until(lambda: feed.counts.handled == 300)
        pool.close()
    assert seen == list(range(300))
    assert 1 < pool.deepest <= DEEPEST + 1


def test_the_order_of_each_key_is_kept_by_many_workers(url: str, producer: Producer) -> None:
    send(producer, 200, key=lambda number: f"key{number % 5}")
    seen: dict[int, list[int]] = {key: [] for key in range(5)}
    at_work: set[int] = set()

    def work(item: Item) -> None:
        number = number_of(item)
        assert number % 5 not in at_work
        at_work.add(number % 5)
        time.sleep(0.001)
        seen[number % 5].append(number)
        at_work.remove(number % 5)

    pool = Pool(16, work)
    with Feed(url, [TOPIC], pool.receive, group=GROUP, workers=16, work=pool.process) as feed:
        until(lambda: feed.counts.handled == 200)
        pool.close()
    assert seen == {key: list(range(key, 200, 5)) for key in range(5)}


def test_batches_fill_up_to_their_size_or_patience(url: str, producer: Producer) -> None:
    send(producer, 25)
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP, batch_size=10, batch_timeout=1.0):
        for size in (10, 10, 5):
            items = held.next()
            assert len(items) == size
            answer_all(items)


def test_a_batch_without_patience_is_what_is_there(url: str, producer: Producer) -> None:
    send(producer, 5)
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP, batch_size=10):
        taken = 0
        while taken < 5:  # never 10: it does not wait for more; what was sent in two requests may come in two
            items = held.next()
            taken += len(items)
            answer_all(items)


def test_stop_hands_out_what_was_committed_and_takes_no_more(url: str, producer: Producer) -> None:
    send(producer, 50)
    seen: list[int] = []

    def work(item: Item) -> None:
        time.sleep(0.01)
        seen.append(number_of(item))

    pool = Pool(1, work)
    feed = Feed(url, [TOPIC], pool.receive, group=GROUP, work=pool.process, max_poll_records=20)
    feed.start()
    until(lambda: seen)
    feed.stop()
    assert feed.quiesce(10)
    pool.close()
    feed.close()
    assert seen == list(range(committed(url, GROUP, TOPIC)))
    assert 20 <= len(seen) < 50


def test_what_was_committed_and_cannot_be_handed_out_in_time_is_named(
    url: str, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    send(producer, 3)
    held = Held()
    feed = Feed(url, [TOPIC], held, group=GROUP, stop_timeout=0.3)
    feed.start()
    (stuck,) = held.next()
    with caplog.at_level(logging.ERROR):
        feed.close(5)
    assert (
        "2 records are committed and were not handed out within stop_timeout=0.3 s: notifications.info-0 1, "
        in caplog.text
    )
    stuck.done()
    assert held.given == 1


def test_after_commits_what_was_answered_up_to_the_first_that_was_not(url: str, producer: Producer) -> None:
    send(producer, 4)
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP, settle="after", workers=4):
        items = {number_of(item): item for _ in range(4) for item in held.next()}
        items[1].done()
        items[2].done()
        time.sleep(0.3)
        assert committed(url, GROUP, TOPIC) == 0
        items[0].done()
        until(lambda: committed(url, GROUP, TOPIC) == 3)
    assert committed(url, GROUP, TOPIC) == 3, "the last one was never answered"


def test_what_is_answered_after_the_stop_is_committed_before_leaving(url: str, producer: Producer) -> None:
    send(producer, 10)
    held = Held()
    feed = Feed(url, [TOPIC], held, group=GROUP, settle="after", workers=2)
    feed.start()
    first, second = held.next(), held.next()
    feed.stop()
    assert feed.quiesce(5)
    answer_all(first)
    answer_all(second)
    feed.close(5)
    assert (held.given, committed(url, GROUP, TOPIC)) == (2, 2)


def test_what_is_wanted_again_comes_again_and_is_a_dead_letter_in_the_end(url: str, producer: Producer) -> None:
    send(producer, 2)
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP, settle="after", retry_delay=0.2, max_deliveries=2) as feed:
        numbers = []
        for _ in range(3):
            (item,) = held.next()
            numbers.append(number_of(item))
            (item.again if number_of(item) == 0 else item.done)()
        assert numbers == [0, 1, 0]
        until(lambda: (feed.counts.requeued, feed.counts.dead_lettered) == (1, 1))
    assert committed(url, GROUP, TOPIC) == 2


def test_before_counts_what_is_wanted_again(url: str, producer: Producer) -> None:
    send(producer, 1)
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP) as feed:
        (item,) = held.next()
        item.again()
        item.done()
    assert (feed.counts.refused, feed.counts.handled) == (1, 0), "the first answer counts"


@pytest.mark.parametrize("settle", ["before", "after"])
@pytest.mark.parametrize("dead_letters", [None, "graveyard"])
def test_poison_is_put_aside_and_its_neighbours_arrive(
    url: str, mock_cluster: MockCluster, producer: Producer, settle: str, dead_letters: str | None
) -> None:
    mock_cluster.create_topic("graveyard", partitions=1)
    send(producer, 1)
    producer.send_batch(TOPIC, [b"no JSON", None, b"{}"]).result(10).raise_for_failures()
    send(producer, 1, first=1)
    held = Held()
    options = {} if dead_letters is None else {"dead_letter_topic": dead_letters}
    with Feed(url, [TOPIC], held, group=GROUP, settle=settle, **options) as feed:
        for number in range(2):
            (item,) = held.next()
            assert number_of(item) == number
            answer_all([item])
        kept = "dead_lettered" if dead_letters or settle == "after" else "skipped"
        until(lambda: getattr(feed.counts, kept) == 3)
        assert feed.counts.poison == 3
        until(lambda: committed(url, GROUP, TOPIC) == 5)


@pytest.mark.parametrize("key", [None, "same"])
def test_a_call_that_ends_without_answers_stops_nobody(
    url: str, producer: Producer, caplog: pytest.LogCaptureFixture, key: str | None
) -> None:
    send(producer, 3, key=lambda number: key)
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP, workers=1 if key is None else 2):
        for number in range(3):
            items = held.next()
            assert number_of(items[0]) == number
            del items
        until(lambda: caplog.text.count("1 notifications were not answered by their endpoint") == 3)


def test_a_member_that_waits_for_its_endpoints_remains_a_member(url: str, producer: Producer) -> None:
    send(producer, 30)
    held = Held()
    quick = {"max.poll.interval.ms": 6000, "session.timeout.ms": 6000}
    with Feed(url, [TOPIC], held, group=GROUP, max_poll_records=10, config=quick) as feed:
        first = held.next()
        time.sleep(8)
        answer_all(first)
        for _ in range(29):
            answer_all(held.next())
    assert feed.counts.handled == feed.counts.received == 30, "nothing was taken twice"


def test_a_cluster_that_is_away_at_the_start_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with MockCluster() as cluster:
        cluster.create_topic(TOPIC, partitions=1)
        cluster.broker_down(1)
        held = Held()
        with Feed(cluster.url, [TOPIC], held, group=GROUP, connect_timeout=0.5):
            assert "is tried until the cluster answers" in caplog.text
            cluster.broker_up(1)
            with Notifier(cluster.url, "compute.node1") as notifier:
                notifier.info({}, "hello", {"number": 7})
                assert [number_of(item) for item in held.next()] == [7]


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ValueError, match="max_deliveries=0"):
        Feed("kafka://localhost", [TOPIC], lambda items: None, max_deliveries=0)


def test_an_item_is_what_was_sent(url: str) -> None:
    with Notifier(url, "compute.node1") as notifier:
        message_id = notifier.info({"request_id": "r1"}, "hello", {"number": 7})
    held = Held()
    with Feed(url, [TOPIC], held, group=GROUP):
        (item,) = held.next()
        answer_all([item])
    expected: dict[str, Any] = {"message_id": message_id, "event_type": "hello", "payload": {"number": 7}}
    assert expected.items() <= item.message.items()
    assert item.ctxt == {"request_id": "r1"}
    assert (item.record.topic, item.record.offset) == (TOPIC, 0)
