"""Every notification is accounted for, over librdkafka's in-process Kafka."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from typing import Any

import pytest
from support.reader import read_all

from rdknotify.envelope import decode
from rdknotify.errors import ClosedError, ConfigError, DeliveryError, EnvelopeError, QueueFull, Timeout
from rdknotify.ledger import KEPT
from rdknotify.notifier import Notifier
from rdknotify.outcomes import Outcome
from rdknotify.testing.mock import MockCluster
from rdknotify.topics import PRIORITIES

SOON = 10.0
"""Seconds after which something that should happen counts as missing."""


def sent_to(mock: MockCluster, topic: str) -> list[Any]:
    return [decode(value) for *_, value, _ in read_all(mock.bootstrap_servers, topic) if value is not None]


def without_leader(mock: MockCluster, *topics: str) -> None:
    for topic in topics:
        mock.create_topic(topic, partitions=1)
        mock.leaderless(topic, 0)


@pytest.mark.parametrize("priority", PRIORITIES)
def test_each_priority_is_a_method_and_a_topic(mock_cluster: MockCluster, priority: str) -> None:
    with Notifier(mock_cluster.url, "compute.node1") as notifier:
        message_id = getattr(notifier, priority)({"user": "kim"}, "x.y", {"n": 1})
    (notification,) = sent_to(mock_cluster, f"notifications.{priority}")
    assert (notification.message_id, notification.priority) == (message_id, priority.upper())
    assert (notification.publisher_id, notification.event_type) == ("compute.node1", "x.y")
    assert (notification.payload, notification.context) == ({"n": 1}, {"user": "kim"})
    assert getattr(Notifier, priority).__name__ == priority


def test_a_virtual_host_is_part_of_the_topic(mock_cluster: MockCluster) -> None:
    with Notifier(f"{mock_cluster.url}/blue", "n", topics=["events"]) as notifier:
        notifier.warn({}, "x", {})
    assert len(sent_to(mock_cluster, "events.warn.blue")) == 1


def test_a_context_may_be_an_object_with_to_dict(mock_cluster: MockCluster) -> None:
    class Context:
        def to_dict(self) -> dict[str, Any]:
            return {"request_id": "req-1"}

    with Notifier(mock_cluster.url, "n") as notifier:
        notifier.info(Context(), "x", {})
        notifier.notify_batch("info", [("y", {})], Context())
    assert [each.context for each in sent_to(mock_cluster, "notifications.info")] == [{"request_id": "req-1"}] * 2


def test_each_topic_gets_each_notification_under_one_id(mock_cluster: MockCluster) -> None:
    with Notifier(mock_cluster.url, "n", topics=["a", "b"]) as notifier:
        message_id = notifier.info({}, "x", {})
    ids = [[each.message_id for each in sent_to(mock_cluster, topic)] for topic in ("a.info", "b.info")]
    assert ids == [[message_id]] * 2


def test_a_payload_that_cannot_be_encoded_raises_and_nothing_is_sent(mock_cluster: MockCluster) -> None:
    with Notifier(mock_cluster.url, "n") as notifier:
        with pytest.raises(EnvelopeError):
            notifier.info({}, "x", object())
        with pytest.raises(EnvelopeError):
            notifier.notify_batch("info", [("good", {}), ("bad", object())])
        notifier.info({}, "y", {})
    assert [each.event_type for each in sent_to(mock_cluster, "notifications.info")] == ["y"]


def test_a_bulk_has_one_outcome_for_each_notification(mock_cluster: MockCluster) -> None:
    with Notifier(mock_cluster.url, "n") as notifier:
        delivery = notifier.notify_batch("error", [(f"e{n}", {"n": n}) for n in range(100)])
        report = delivery.result(SOON)
    assert (report.total, report.delivered, report.failures) == (100, 100, [])
    assert sorted(each.payload["n"] for each in sent_to(mock_cluster, "notifications.error")) == list(range(100))


def test_an_empty_bulk_is_done(mock_cluster: MockCluster) -> None:
    for topics in (["a"], ["a", "b"]):
        with Notifier(mock_cluster.url, "n", topics=topics) as notifier:
            delivery = notifier.notify_batch("info", [])
            assert delivery.done() and delivery.result(SOON).total == 0


def test_flush_names_what_was_not_delivered_and_then_forgets_it(mock_cluster: MockCluster) -> None:
    without_leader(mock_cluster, "notifications.info")
    notifier = Notifier(mock_cluster.url, "n", delivery_timeout=0.5)
    lost = [notifier.info({}, f"e{n}", {}) for n in range(3)]
    kept = notifier.error({}, "fine", {})
    with pytest.raises(DeliveryError) as caught:
        notifier.flush(SOON)
    assert [each.message_id for each in caught.value.undelivered] == lost and kept not in str(caught.value)
    first = caught.value.undelivered[0]
    assert (first.event_type, first.topic) == ("e0", "notifications.info")
    assert first.outcome is Outcome.NOT_PERSISTED and first.error.name == "_MSG_TIMED_OUT"
    assert lost[0] in str(caught.value) and "e0" in str(caught.value)
    notifier.flush(SOON)
    notifier.close()


def test_flush_names_the_records_of_a_bulk(mock_cluster: MockCluster) -> None:
    without_leader(mock_cluster, "notifications.info")
    with Notifier(mock_cluster.url, "n", delivery_timeout=0.5) as notifier:
        delivery = notifier.notify_batch("info", [("a", {}), ("b", {})])
        with pytest.raises(DeliveryError) as caught:
            notifier.flush(SOON)
        assert [each.event_type for each in caught.value.undelivered] == ["a", "b"]
        assert delivery.result(SOON).delivered == 0


def test_the_names_kept_are_bounded_and_the_rest_is_counted(mock_cluster: MockCluster) -> None:
    without_leader(mock_cluster, "notifications.info")
    notifier = Notifier(mock_cluster.url, "n", delivery_timeout=0.5)
    for _ in range(KEPT + 5):
        notifier.info({}, "x", {})
    notifier.notify_batch("info", [("x", {})] * 10)
    with pytest.raises(DeliveryError) as caught:
        notifier.close()
    assert (len(caught.value.undelivered), caught.value.dropped) == (KEPT, 15)


def test_a_failure_is_logged_by_the_next_notification_without_a_flush(
    mock_cluster: MockCluster, caplog: pytest.LogCaptureFixture
) -> None:
    without_leader(mock_cluster, "notifications.info")
    notifier = Notifier(mock_cluster.url, "n", delivery_timeout=0.3)
    lost = notifier.info({}, "x", {})
    delivery = notifier.notify_batch("info", [("y", {})])
    assert delivery.wait(SOON)
    caplog.clear()
    notifier.error({}, "z", {})
    assert lost in "".join(record.message for record in caplog.records if record.levelno == logging.ERROR)
    with pytest.raises(DeliveryError):
        notifier.close()


def test_flush_that_is_too_short_says_so_and_loses_no_failure(mock_cluster: MockCluster) -> None:
    without_leader(mock_cluster, "notifications.info")
    notifier = Notifier(mock_cluster.url, "n", delivery_timeout=1.0)
    notifier.info({}, "x", {})
    with pytest.raises(Timeout, match="1 record"):
        notifier.flush(0.1)
    with pytest.raises(DeliveryError):
        notifier.flush(SOON)
    notifier.close()


def test_close_names_what_it_gave_up_and_is_idempotent(mock_cluster: MockCluster) -> None:
    without_leader(mock_cluster, "notifications.info")
    notifier = Notifier(mock_cluster.url, "n")
    lost = notifier.info({}, "x", {})
    with pytest.raises(DeliveryError, match=lost):
        notifier.close(0.2)
    notifier.close()
    with pytest.raises(ClosedError):
        notifier.info({}, "x", {})


def test_an_error_inside_the_with_block_is_not_replaced(mock_cluster: MockCluster) -> None:
    def fail() -> None:
        with Notifier(mock_cluster.url, "n", delivery_timeout=0.3) as notifier:
            notifier.info({}, "x", {})
            raise ZeroDivisionError

    without_leader(mock_cluster, "notifications.info")
    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.parametrize(
    ("leaderless", "outcome"),
    [(["a.info", "b.info"], Outcome.NOT_PERSISTED), (["b.info"], Outcome.POSSIBLY_PERSISTED)],
)
def test_a_bulk_to_several_topics_is_delivered_where_all_have_it(
    mock_cluster: MockCluster, leaderless: list[str], outcome: Outcome
) -> None:
    without_leader(mock_cluster, *leaderless)
    notifier = Notifier(mock_cluster.url, "n", topics=["a", "b"], delivery_timeout=0.5)
    delivery = notifier.notify_batch("info", [("x", {}), ("y", {})])
    assert (len(delivery), delivery.total) == (2, 2)
    assert not delivery.done() and delivery.poll() is None and not delivery.wait(0.01)
    with pytest.raises(Timeout):
        delivery.result(0.01)
    report = delivery.result(SOON)
    assert (report.total, report.delivered) == (2, 0)
    assert [(each.index, each.outcome) for each in report.failures] == [(0, outcome), (1, outcome)]
    polled = delivery.poll()
    assert delivery.done() and delivery.wait() and polled is not None and polled.delivered == 0
    with pytest.raises(DeliveryError):
        notifier.close()


def test_a_full_queue_raises_and_what_was_enqueued_is_accounted_for(mock_cluster: MockCluster) -> None:
    without_leader(mock_cluster, "notifications.info")
    limits: dict[str, Any] = {"max_in_flight": 5, "queue_timeout": 0.1, "delivery_timeout": 1.0}
    notifier = Notifier(mock_cluster.url, "n", **limits)
    with pytest.raises(QueueFull) as full:
        notifier.notify_batch("info", [(f"e{n}", {}) for n in range(8)])
    with pytest.raises(DeliveryError) as caught:
        notifier.close()
    named = {each.event_type for each in caught.value.undelivered}
    assert {f"e{index}" for index in full.value.enqueued} <= named


def test_threads_share_a_notifier(mock_cluster: MockCluster) -> None:
    def work(number: int) -> None:
        for n in range(500):
            ids[number].append(notifier.info({}, str(number), n))

    ids: list[list[str]] = [[] for _ in range(4)]
    with Notifier(mock_cluster.url, "n") as notifier:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    arrived = Counter(each.message_id for each in sent_to(mock_cluster, "notifications.info"))
    assert arrived == Counter(message_id for each in ids for message_id in each)


def test_memory_holds_little_more_than_what_is_in_flight(mock_cluster: MockCluster) -> None:
    with Notifier(mock_cluster.url, "n") as notifier:
        for _ in range(50):
            notifier.notify_batch("info", [("x", {})] * 100).result(SOON)
        assert len(notifier._ledger.pending) <= 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"topics": "notifications"}, "topics="),
        ({"topics": []}, "topics="),
        ({"topics": ["no spaces"]}, "no spaces"),
        ({"lingr": 1}, "linger"),
    ],
)
def test_what_is_wrong_is_named_at_construction(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Notifier("kafka://localhost", "n", **arguments)


def test_an_unknown_priority_is_named(mock_cluster: MockCluster) -> None:
    with Notifier(mock_cluster.url, "n") as notifier, pytest.raises(ConfigError, match=r"'warning'.*warn"):
        notifier.notify_batch("warning", [("x", {})])


def test_the_wire_form_is_the_envelope(mock_cluster: MockCluster) -> None:
    with Notifier(mock_cluster.url, "n") as notifier:
        notifier.info({}, "x", {"ü": 1})
    ((_, _, key, value, headers),) = read_all(mock_cluster.bootstrap_servers, "notifications.info")
    assert value is not None
    outer = json.loads(value)
    assert outer["oslo.version"] == "2.0" and json.loads(outer["oslo.message"])["payload"] == {"ü": 1}
    assert (key, headers) == (None, [])
