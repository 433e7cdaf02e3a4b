"""What is collected agrees with what was sent, failed, consumed, committed, handled and buried."""

from __future__ import annotations

import gc
import logging
import os

import pytest
from support.waiting import until

from rdknotify import (
    CommitFailed,
    Consumer,
    Listener,
    NotificationResult,
    Notifier,
    Persister,
    Producer,
    SQLiteSink,
    metrics,
)
from rdknotify.metrics import collect

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def counted(request):
    """``counted(metric, *labels)``: what was counted since the test began; a test has a client.id of its own."""
    before = {sample[:2]: sample.value for sample in collect()}

    def read(metric, *labels):
        now = {sample[:2]: sample.value for sample in collect()}.get((metric, labels))
        if metric.kind == "histogram":
            earlier = before.get((metric, labels))
            return (
                now
                if earlier is None
                else metrics.Distribution(
                    tuple(a - b for a, b in zip(now.counts, earlier.counts, strict=True)), now.sum - earlier.sum
                )
            )
        return now if now is None or metric.kind == "gauge" else now - before.get((metric, labels), 0)

    return read


def test_every_record_sent_is_delivered_failed_or_in_flight(mock_cluster, counted):
    with Producer(mock_cluster.url, config={"client.id": "sending"}) as producer:
        producer.send_batch("kept", [b"v"] * 300).result(30)
        producer.send_batch("mixed", [b"v" * 2_000_000, b"v"]).result(30)
        producer.send("kept", b"v", key=b"k").result(30)
        assert counted(metrics.OPEN_CLIENTS, "sending") == 1
        assert until(lambda: counted(metrics.RECORDS_DELIVERED, "sending", "kept") == 301)
        assert counted(metrics.RECORDS_SENT, "sending", "kept") == 301
        assert counted(metrics.RECORDS_SENT, "sending", "mixed") == 2
        assert counted(metrics.RECORDS_DELIVERED, "sending", "mixed") == 1
        assert counted(metrics.RECORDS_FAILED, "sending", "mixed", "MSG_SIZE_TOO_LARGE") == 1
        assert counted(metrics.RECORDS_IN_FLIGHT, "sending") == 0
        assert counted(metrics.RECORDS_IN_FLIGHT_LIMIT, "sending") == 100_000
        sizes = counted(metrics.SEND_BATCH_RECORDS, "sending")
        assert sum(sizes.counts) == 2 and sizes.sum == 302
        latency = counted(metrics.DELIVERY_LATENCY, "sending")
        assert sum(latency.counts) == 302
        assert 0 < latency.sum < 302 * 30


def test_what_waits_is_in_flight_and_what_is_given_up_has_its_reason(mock_cluster, counted):
    with Producer(mock_cluster.url, config={"client.id": "waiting"}) as producer:
        producer.send("t", b"v").result(30)
        mock_cluster.broker_down(1)
        producer.send_batch("t", [b"v"] * 50)
        assert counted(metrics.RECORDS_IN_FLIGHT, "waiting") == 50
        assert until(lambda: counted(metrics.CLIENT_ERRORS, "waiting", "_ALL_BROKERS_DOWN"))
        producer.purge()
        assert until(lambda: counted(metrics.RECORDS_IN_FLIGHT, "waiting") == 0)
    failed = {sample.labels[2]: sample.value for sample in collect() if sample.metric is metrics.RECORDS_FAILED
              and sample.labels[0] == "waiting"}  # fmt: skip
    assert set(failed) <= {"_PURGE_QUEUE", "_PURGE_INFLIGHT"} and sum(failed.values()) == 50


def test_a_full_queue_is_a_failure_of_what_found_no_room(mock_cluster, counted):
    settings = {"max_in_flight": 10, "queue_timeout": 0.1, "config": {"client.id": "full"}}
    with Producer(mock_cluster.url, **settings) as producer:
        producer.send("t", b"v").result(30)
        mock_cluster.broker_down(1)
        with pytest.raises(BufferError):
            producer.send_batch("t", [b"v"] * 25)
        assert counted(metrics.RECORDS_FAILED, "full", "t", "_QUEUE_FULL") == 15
        assert counted(metrics.RECORDS_IN_FLIGHT, "full") == counted(metrics.RECORDS_IN_FLIGHT_LIMIT, "full") == 10
        producer.purge()


def test_counts_go_on_where_closed_and_forgotten_clients_ended(mock_cluster, counted):
    for number in (1, 2):
        with Producer(mock_cluster.url, config={"client.id": "closing"}) as producer:
            producer.send_batch("t", [b"v"] * 100).result(30)
        assert until(lambda: counted(metrics.RECORDS_DELIVERED, "closing", "t") == 100 * number)  # noqa: B023
    assert counted(metrics.OPEN_CLIENTS, "closing") is None
    forgotten = Producer(mock_cluster.url, config={"client.id": "closing"})
    forgotten.send_batch("t", [b"v"] * 50)
    del forgotten, producer
    gc.collect()
    # Delivered by a handle whose client is gone.
    assert until(lambda: counted(metrics.RECORDS_DELIVERED, "closing", "t") == 250)
    assert counted(metrics.RECORDS_SENT, "closing", "t") == 250


def test_a_forked_child_counts_nothing_of_its_parents_clients(mock_cluster, counted):
    with Producer(mock_cluster.url, config={"client.id": "parent"}) as producer:
        producer.send("t", b"v").result(30)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                gc.collect()
                status = 2 if any("parent" in sample.labels for sample in collect()) else 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        producer.send("t", b"v").result(30)
        assert until(lambda: counted(metrics.RECORDS_DELIVERED, "parent", "t") == 2)


def test_a_consumer_counts_what_it_polled_where_it_stands_and_its_commits(mock_cluster, counted):
    mock_cluster.create_topic("one", 1)
    mock_cluster.create_topic("two", 1)
    with Producer(mock_cluster.url) as producer:
        for topic in ("one", "two"):
            producer.send_batch(topic, [b"v"] * 200).result(30)
    labels = "consuming", "readers"
    with Consumer(mock_cluster.url, ["one", "two"], "readers", config={"client.id": "consuming"}) as consumer:
        taken = 0
        while taken < 400:
            batch = consumer.poll(50, timeout=10)
            taken += len(batch)
            batch.commit()
        assert counted(metrics.RECORDS_CONSUMED, *labels, "one") == counted(metrics.RECORDS_CONSUMED, *labels, "two")
        assert counted(metrics.RECORDS_CONSUMED, *labels, "one") == 200
        polls = counted(metrics.POLL_RECORDS, *labels)
        assert polls.sum == 400
        assert sum(counted(metrics.COMMIT_LATENCY, *labels).counts) == sum(polls.counts)
        assert counted(metrics.ASSIGNED_PARTITIONS, *labels) == 2
        assert counted(metrics.REBALANCES, *labels, "assigned") == 1
        consumer.seek("one", 0, 150)
        assert counted(metrics.LAG_RECORDS, *labels, "one", "0") == 50
        assert counted(metrics.LAG_RECORDS, *labels, "two", "0") == 0
        mock_cluster.fail_next("OffsetCommit", *["UNKNOWN_MEMBER_ID"] * 2)
        with pytest.raises(CommitFailed):
            consumer.commit({("one", 0): 10})
        assert counted(metrics.COMMIT_FAILURES, *labels, "UNKNOWN_MEMBER_ID") == 1
    assert counted(metrics.LAG_RECORDS, *labels, "one", "0") is None


def test_librdkafkas_statistics_tell_of_brokers_and_bytes(mock_cluster, counted):
    options = {"statistics_interval": 0.1, "linger": 0.5, "config": {"client.id": "statistics"}}
    with Producer(mock_cluster.url, **options) as producer:
        producer.send("t", b"v").result(30)
        mock_cluster.delay(0.2)
        assert until(lambda: counted(metrics.BROKER_CONNECTED, "statistics", "1") == 1)
        delivery = producer.send_batch("t", [b"v" * 1000] * 20)
        assert until(lambda: (counted(metrics.QUEUE_BYTES, "statistics") or 0) >= 20_000)
        assert counted(metrics.QUEUE_LIMIT_BYTES, "statistics") == 2**30
        delivery.result(30)
        assert until(lambda: (counted(metrics.BROKER_ROUND_TRIP, "statistics", "1", "0.99") or 0) > 0.1)
        assert counted(metrics.BROKER_THROTTLE, "statistics", "1") == 0
        mock_cluster.broker_down(1)
        producer.send("t", b"v")
        assert until(lambda: counted(metrics.BROKER_CONNECTED, "statistics", "1") == 0)
        producer.purge()


class Picky:
    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        if event_type == "again":
            return NotificationResult.REQUEUE
        if event_type == "broken":
            raise RuntimeError("as asked for")
        return NotificationResult.HANDLED


def test_a_listener_counts_what_became_of_notifications(mock_cluster, counted):
    with Notifier(mock_cluster.url, publisher_id="p", topics=["n"]) as notifier:
        for event_type in ("fine", "fine", "again", "broken"):
            notifier.info({}, event_type, {})
        notifier.flush(30)
    with Producer(mock_cluster.url) as producer:
        producer.send("n.info", b"not a notification").result(30)
    options = {"pool": "picky", "settle": "after", "max_deliveries": 2, "retry_delay": 0}
    with Listener(mock_cluster.url, ["n"], [Picky()], dead_letter="buried", **options) as listener:
        assert counted(metrics.RECORDS_DEAD_LETTERED, "picky") == 0  # from the beginning: the first is an increase
        assert until(lambda: listener.counts.dead_lettered == 3)
        assert counted(metrics.RECORDS_DEAD_LETTERED, "picky") == 3
        assert counted(metrics.NOTIFICATIONS_HANDLED, "picky") == 2
        assert counted(metrics.NOTIFICATIONS_FAILED, "picky") == 2  # it failed twice
        assert counted(metrics.RECORDS_REQUEUED, "picky") == 2
        assert counted(metrics.RECORDS_SKIPPED, "picky") == 0
        assert counted(metrics.RECORDS_CONSUMED, "rdknotify", "picky", "n.info") == 5
    counts = listener.counts
    assert (counts.handled, counts.failed, counts.requeued) == (2, 2, 2)


def test_a_persister_counts_rows_and_transactions(mock_cluster, counted, tmp_path, caplog):
    caplog.set_level(logging.ERROR, "rdknotify")
    with Notifier(mock_cluster.url, publisher_id="p", topics=["n"]) as notifier:
        notifier.notify_batch("info", [("event", {"n": n}) for n in range(30)]).result(30)
    with Producer(mock_cluster.url) as producer:
        producer.send("n.info", b"poison").result(30)
    sink = SQLiteSink(tmp_path / "rows.db", table="rows")
    with Persister(mock_cluster.url, ["n.info"], group="storing", sink=sink, max_wait=0.1) as persister:
        assert until(lambda: persister.counts.stored == 30 and persister.counts.poison == 1)
    assert counted(metrics.RECORDS_STORED, "storing") == 30
    assert counted(metrics.RECORDS_DUPLICATE, "storing") == 0
    assert counted(metrics.RECORDS_SKIPPED, "storing") == 1
    assert counted(metrics.RECORDS_DEAD_LETTERED, "storing") == 0
    assert sum(counted(metrics.STORE_LATENCY, "storing").counts) == persister.counts.commits > 0
