"""Notifications reach endpoints, and each is settled as documented, over librdkafka's in-process Kafka."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.consuming import committed
from support.endpoints import SOON, BatchEndpoint, Endpoint, until

from rdknotify.consumer import Consumer
from rdknotify.dispatch import NotificationResult
from rdknotify.errors import ConfigError, PartialDeliveryError
from rdknotify.listener import Listener
from rdknotify.notifier import Notifier
from rdknotify.producer import Producer
from rdknotify.provenance import Origin
from rdknotify.testing.mock import MockCluster
from rdknotify.topics import dead_letter_topic, retry_topic

SOURCE = "notifications.info"
RETRY = retry_topic(SOURCE, "p")


@pytest.fixture
def url(mock_cluster: MockCluster) -> str:
    """All topics exist before anyone joins: the mock cannot rebalance a group that is at work."""
    for topic in (SOURCE, RETRY, "metering.info", f"{SOURCE}.red", f"{SOURCE}.blue"):
        mock_cluster.create_topic(topic, partitions=1)
    return mock_cluster.url


@pytest.fixture
def notifier(url: str) -> Iterator[Notifier]:
    with Notifier(url, "compute.node1") as notifier:
        yield notifier


def requeue(event_type: str) -> NotificationResult | None:
    return NotificationResult.REQUEUE if event_type == "again" else NotificationResult.HANDLED


def fail(event_type: str) -> None:
    if event_type == "bad":
        raise RuntimeError("no such instance")


def read_all(url: str, topic: str, count: int) -> list[Any]:
    records: list[Any] = []
    deadline = time.monotonic() + SOON
    with Consumer(url, [topic], "reader") as consumer:
        while len(records) < count and time.monotonic() < deadline:
            records.extend(consumer.poll(timeout=0.5))
    assert len(records) == count
    return records


# -- handing out -------------------------------------------------------------------------------------------


def test_an_endpoint_gets_what_was_sent_in_order(url: str, notifier: Notifier) -> None:
    endpoint = Endpoint()
    listener = Listener(url, ["notifications"], [endpoint], pool="p")
    with listener:
        message_id = notifier.info({"user": "kim"}, "first", {"state": "büild", "n": [1, None]})
        notifier.info({}, "second", "text")
        ctxt, publisher_id, event_type, payload, metadata = endpoint.calls.get(timeout=SOON)
        assert (ctxt, publisher_id, event_type) == ({"user": "kim"}, "compute.node1", "first")
        assert payload == {"state": "büild", "n": [1, None]}
        assert metadata["message_id"] == message_id and metadata["timestamp"]
        assert endpoint.seen(1) == ["second"]
    assert (listener.counts.received, listener.counts.handled) == (2, 2)


def test_only_priorities_that_endpoints_have_are_listened_to(url: str, notifier: Notifier) -> None:
    endpoint = Endpoint()
    with Listener(url, ["notifications"], [endpoint], pool="p") as listener:
        notifier.error({}, "not for us", {})
        notifier.info({}, "for us", {})
        assert endpoint.seen(1) == ["for us"]
        assert listener.counts.received == 1


def test_several_topics_meet_in_one_listener(url: str) -> None:
    endpoint = Endpoint()
    with Listener(url, ["notifications", "metering"], [endpoint], pool="p"):
        with Notifier(url, "n", topics=["metering", "notifications"]) as notifier:
            notifier.info({}, "both", {})
        assert endpoint.seen(2) == ["both", "both"]


def test_a_batch_endpoint_gets_at_most_batch_size(url: str, notifier: Notifier) -> None:
    endpoint = BatchEndpoint()
    notifier.notify_batch("info", [(str(n), {}) for n in range(25)]).result(SOON)
    with Listener(url, ["notifications"], [endpoint], pool="p", batch_size=10, batch_timeout=0.3):
        sizes = [endpoint.calls.get(timeout=SOON) for _ in range(3)]
    assert [len(event_types) for event_types in sizes] == [10, 10, 5]
    assert [event_type for each in sizes for event_type in each] == [str(n) for n in range(25)]


def test_a_batch_fills_for_batch_timeout(url: str, notifier: Notifier) -> None:
    endpoint = BatchEndpoint()
    with Listener(url, ["notifications"], [endpoint], pool="p", batch_size=3, batch_timeout=60):
        for event_type in ("a", "b", "c"):
            notifier.info({}, event_type, {})
            notifier.flush(SOON)
        assert endpoint.calls.get(timeout=SOON) == ["a", "b", "c"]


def test_what_was_collected_for_a_batch_is_handed_out_at_the_stop(url: str, notifier: Notifier) -> None:
    endpoint = BatchEndpoint()
    listener = Listener(url, ["notifications"], [endpoint], pool="p", batch_size=3, batch_timeout=60)
    with listener:
        notifier.info({}, "waiting", {})
        until(lambda: listener.counts.received == 1)
    assert endpoint.calls.get_nowait() == ["waiting"]


# -- settle="before" ---------------------------------------------------------------------------------------


def test_before_commits_and_then_hands_out(url: str, notifier: Notifier) -> None:
    at_call: queue.Queue[int] = queue.Queue()
    endpoint = Endpoint(lambda event_type: at_call.put(committed(url, "p", SOURCE)))
    notifier.info({}, "x", {})
    with Listener(url, ["notifications"], [endpoint], pool="p"):
        assert at_call.get(timeout=SOON) == 1


def test_before_logs_an_exception_with_the_id_and_goes_on(
    url: str, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint(fail)
    listener = Listener(url, ["notifications"], [endpoint], pool="p")
    message_id = notifier.info({}, "bad", {})
    notifier.info({}, "good", {})
    with listener:
        assert endpoint.seen(2) == ["bad", "good"]
    (line,) = [record for record in caplog.records if "endpoint failed" in record.message]
    assert message_id in line.message and line.exc_info is not None
    assert (listener.counts.failed, listener.counts.handled) == (1, 1)


def test_before_counts_a_requeue_that_it_cannot_grant_and_says_so_once(
    url: str, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint(requeue)
    listener = Listener(url, ["notifications"], [endpoint], pool="p")
    notifier.notify_batch("info", [("again", {}), ("again", {}), ("fine", {})])
    with listener:
        assert endpoint.seen(3) == ["again", "again", "fine"]
    assert (listener.counts.refused, listener.counts.handled, listener.counts.requeued) == (2, 1, 0)
    assert len([record for record in caplog.records if "cannot grant" in record.message]) == 1


def test_before_hands_out_everything_it_took_when_stopped(url: str, notifier: Notifier) -> None:
    listener: Listener

    def stop(event_type: str) -> None:
        listener.stop()

    endpoint = Endpoint(stop)
    notifier.notify_batch("info", [(str(n), {}) for n in range(5)]).result(SOON)
    listener = Listener(url, ["notifications"], [endpoint], pool="p")
    listener.run()
    assert listener.counts.handled == listener.counts.received == committed(url, "p", SOURCE) > 0


# -- settle="after" ----------------------------------------------------------------------------------------


def test_after_hands_out_and_then_commits(url: str, notifier: Notifier) -> None:
    at_call: queue.Queue[int] = queue.Queue()
    endpoint = Endpoint(lambda event_type: at_call.put(committed(url, "p", SOURCE)))
    notifier.info({}, "x", {})
    with Listener(url, ["notifications"], [endpoint], pool="p", settle="after"):
        assert at_call.get(timeout=SOON) == 0
        until(lambda: committed(url, "p", SOURCE) == 1)


def test_after_hands_out_nothing_more_while_a_commit_fails(
    mock_cluster: MockCluster, url: str, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    committed_at_call: queue.Queue[int] = queue.Queue()

    def look(event_types: list[str]) -> None:
        committed_at_call.put(committed(url, "p", SOURCE))
        if committed_at_call.qsize() == 1:
            mock_cluster.fail_next("OffsetCommit", *["REQUEST_TIMED_OUT"] * 3)  # the client itself tries three times

    notifier.notify_batch("info", [(str(n), {}) for n in range(6)]).result(SOON)
    endpoint = BatchEndpoint(look)
    with Listener(url, ["notifications"], [endpoint], pool="p", settle="after", batch_size=2, batch_timeout=1):
        assert [endpoint.calls.get(timeout=SOON) for _ in range(3)] == [["0", "1"], ["2", "3"], ["4", "5"]]
        until(lambda: committed(url, "p", SOURCE) == 6)
    assert [committed_at_call.get() for _ in range(3)] == [0, 2, 4]
    assert "not committed" in caplog.text


def test_after_tries_a_commit_that_failed_again_though_nothing_more_comes(
    mock_cluster: MockCluster, url: str, notifier: Notifier
) -> None:
    endpoint = Endpoint(lambda _: mock_cluster.fail_next("OffsetCommit", "REQUEST_TIMED_OUT"))
    notifier.info({}, "x", {})
    with Listener(url, ["notifications"], [endpoint], pool="p", settle="after"):
        until(lambda: committed(url, "p", SOURCE) == 1)
    assert endpoint.seen(1) == ["x"] and endpoint.calls.empty()


def test_after_leaves_what_it_has_not_handed_out_to_the_next(url: str, notifier: Notifier) -> None:
    first: Listener

    def stop_at_two(event_type: str) -> None:
        if event_type == "2":
            first.stop()

    notifier.notify_batch("info", [(str(n), {}) for n in range(5)]).result(SOON)
    endpoint = Endpoint(stop_at_two)
    first = Listener(url, ["notifications"], [endpoint], pool="p", settle="after")
    first.run()
    assert endpoint.seen(3) == ["0", "1", "2"] and endpoint.calls.empty()
    assert committed(url, "p", SOURCE) == 3


def test_requeue_comes_again_and_does_not_hold_up_the_others(url: str, notifier: Notifier) -> None:
    answers = iter([NotificationResult.REQUEUE, NotificationResult.HANDLED])
    endpoint = Endpoint(lambda event_type: next(answers) if event_type == "again" else None)
    listener = Listener(url, ["notifications"], [endpoint], pool="p", settle="after", retry_delay=1.0)
    with listener:
        notifier.info({}, "again", {"keep": 1})
        assert endpoint.seen(1) == ["again"]
        begun = time.monotonic()
        notifier.info({}, "neighbour", {})
        assert endpoint.seen(2) == ["neighbour", "again"]
        assert time.monotonic() - begun > 0.8
    assert (listener.counts.requeued, listener.counts.handled, listener.counts.dead_lettered) == (1, 2, 0)


def test_after_max_deliveries_it_is_a_dead_letter(url: str, notifier: Notifier) -> None:
    endpoint = Endpoint(requeue)
    options: dict[str, Any] = {"pool": "p", "settle": "after", "retry_delay": 0.1, "max_deliveries": 3}
    with Listener(url, ["notifications"], [endpoint], **options) as listener:
        notifier.info({}, "again", {"keep": 1})
        assert endpoint.seen(3) == ["again"] * 3
        until(lambda: listener.counts.dead_lettered == 1)
    (letter,) = read_all(url, dead_letter_topic(SOURCE, "p"), 1)
    assert b"keep" in letter.value
    origin = Origin.of(letter)
    assert (origin.topic, origin.partition, origin.offset, origin.attempts) == (SOURCE, 0, 0, 3)
    assert listener.counts.requeued == 2 and endpoint.calls.empty()


def test_after_tries_an_exception_again(url: str, notifier: Notifier, caplog: pytest.LogCaptureFixture) -> None:
    raised = threading.Event()

    def fail_once(event_type: str) -> None:
        if not raised.is_set():
            raised.set()
            raise RuntimeError("database away")

    endpoint = Endpoint(fail_once)
    with Listener(url, ["notifications"], [endpoint], pool="p", settle="after", retry_delay=0.1) as listener:
        message_id = notifier.info({}, "x", {})
        assert endpoint.seen(2) == ["x", "x"]
        until(lambda: listener.counts.handled == 1)
    assert listener.counts.failed == 1
    assert any(message_id in record.message and record.exc_info for record in caplog.records)


def test_a_batch_endpoint_that_fails_gets_all_of_the_batch_again(url: str, notifier: Notifier) -> None:
    raised = threading.Event()

    def fail_once(event_types: list[str]) -> None:
        if not raised.is_set():
            raised.set()
            raise RuntimeError("database away")

    endpoint = BatchEndpoint(fail_once)
    notifier.notify_batch("info", [("a", {}), ("b", {})]).result(SOON)
    options: dict[str, Any] = {
        "pool": "p",
        "settle": "after",
        "batch_size": 2,
        "batch_timeout": 0.5,
        "retry_delay": 0.1,
    }
    with Listener(url, ["notifications"], [endpoint], **options):
        assert endpoint.calls.get(timeout=SOON) == ["a", "b"]
        again = endpoint.calls.get(timeout=SOON)
        while len(again) < 2:
            again += endpoint.calls.get(timeout=SOON)
    assert sorted(again) == ["a", "b"]


def test_nothing_is_committed_that_could_not_be_kept(mock_cluster: MockCluster, url: str, notifier: Notifier) -> None:
    def refuse(event_type: str) -> NotificationResult:
        mock_cluster.fail_partition(RETRY, 0, "Produce", "TOPIC_AUTHORIZATION_FAILED")
        return NotificationResult.REQUEUE

    notifier.info({}, "again", {})
    with pytest.raises(PartialDeliveryError, match="TOPIC_AUTHORIZATION_FAILED"):
        Listener(url, ["notifications"], [Endpoint(refuse)], pool="p", settle="after").run()
    assert committed(url, "p", SOURCE) == 0


# -- poison ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"not json", b"{}", b'{"oslo.version": "2.0", "oslo.message": "[]"}', None])
@pytest.mark.parametrize("settle", ["before", "after"])
def test_poison_goes_to_the_dead_letter_topic_and_stops_nothing(url: str, settle: str, value: bytes | None) -> None:
    endpoint = Endpoint()
    with Producer(url) as producer:
        producer.send(SOURCE, value, headers={"who": b"them"}).result(SOON)
    with Notifier(url, "n") as notifier:
        notifier.info({}, "neighbour", {})
    listener = Listener(url, ["notifications"], [endpoint], pool="p", settle=settle, dead_letter="graveyard")
    with listener:
        assert endpoint.seen(1) == ["neighbour"]
        until(lambda: listener.counts.dead_lettered == 1)
    (letter,) = read_all(url, "graveyard", 1)
    headers = dict(letter.headers)
    assert letter.value == value
    assert headers["who"] == b"them" and b"not a notification" in headers["rdknotify.reason"]
    assert (headers["rdknotify.topic"], headers["rdknotify.offset"]) == (SOURCE.encode(), b"0")
    assert (listener.counts.poison, listener.counts.handled) == (1, 1)


def test_poison_is_logged_and_skipped_where_no_dead_letter_topic_is_set(
    url: str, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint()
    with Producer(url) as producer:
        producer.send(SOURCE, b"rubbish").result(SOON)
    notifier.info({}, "neighbour", {})
    listener = Listener(url, ["notifications"], [endpoint], pool="p")
    with listener:
        assert endpoint.seen(1) == ["neighbour"]
    assert (listener.counts.poison, listener.counts.skipped, listener.counts.dead_lettered) == (1, 1, 0)
    assert any(SOURCE in record.message and "skipped" in record.message for record in caplog.records)


# -- groups ------------------------------------------------------------------------------------------------


def test_each_pool_gets_everything(url: str, notifier: Notifier) -> None:
    endpoints = [Endpoint(), Endpoint()]
    with (
        Listener(url, ["notifications"], [endpoints[0]], pool="billing"),
        Listener(url, ["notifications"], [endpoints[1]], pool="audit"),
    ):
        notifier.notify_batch("info", [(str(n), {}) for n in range(10)])
        assert [endpoint.seen(10) for endpoint in endpoints] == [[str(n) for n in range(10)]] * 2


def test_without_a_pool_the_group_is_the_option(url: str) -> None:
    assert Listener(url, ["notifications"], [Endpoint()]).group == "oslo_messaging_consumer"
    assert Listener(url, ["notifications"], [Endpoint()], consumer_group="own").group == "own"


def test_virtual_hosts_are_worlds_of_their_own(url: str) -> None:
    red, blue = Endpoint(), Endpoint()
    with (
        Listener(f"{url}/red", ["notifications"], [red], pool="p"),
        Listener(f"{url}/blue", ["notifications"], [blue], pool="q"),
        Notifier(f"{url}/red", "n") as to_red,
        Notifier(f"{url}/blue", "n") as to_blue,
    ):
        to_red.info({}, "red", {})
        to_blue.info({}, "blue", {})
        assert (red.seen(1), blue.seen(1)) == (["red"], ["blue"])
        assert red.calls.empty() and blue.calls.empty()


# -- life --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_run_and_gives_the_handlers_back(url: str, notifier: Notifier, number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    endpoint = Endpoint(lambda event_type: os.kill(os.getpid(), number))
    notifier.info({}, "x", {})
    Listener(url, ["notifications"], [endpoint], pool="p", settle="after").run()
    assert endpoint.seen(1) == ["x"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert committed(url, "p", SOURCE) == 1


def test_stop_is_quick_while_nothing_arrives(url: str) -> None:
    listener = Listener(url, ["notifications"], [Endpoint()], pool="p")
    listener.start()
    begun = time.monotonic()
    listener.stop()
    assert listener.wait(SOON)
    assert time.monotonic() - begun < 5.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"settle": "later"}, "settle='later'"),
        ({"topics": "notifications"}, "topics="),
        ({"topics": []}, "topics="),
        ({"topics": ["no spaces"]}, "no spaces"),
        ({"endpoints": []}, "endpoint"),
        ({"endpoints": [object()]}, "endpoint"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_timeout": -1.0}, "batch_timeout=-1.0"),
        ({"max_deliveries": 0}, "max_deliveries=0"),
        ({"retry_delay": -0.1}, "retry_delay=-0.1"),
        ({"dead_letter": "no spaces"}, "no spaces"),
        ({"max_pol_records": 3}, "max_poll_records"),
    ],
)
def test_what_is_wrong_is_named_at_construction(arguments: dict[str, Any], named: str) -> None:
    arguments = {"topics": ["notifications"], "endpoints": [Endpoint()], **arguments}
    with pytest.raises(ConfigError, match=named):
        Listener("kafka://localhost", **arguments)
