"""One line, with its fields, for each event that an operator acts on; seen with librdkafka's in-process Kafka."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.endpoints import Endpoint
from support.waiting import until

from rdknotify import ConfigError, Consumer, DeliveryError, KafkaError, Listener, Notifier, Persister, Producer
from rdknotify.deadletter import DeadLetters
from rdknotify.logged import EVENTS, PREFIX
from rdknotify.option_table import OPTIONS
from rdknotify.testing import MockCluster

SOON = 30.0

Lines = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    """The fields, without their prefix, of what was told of an event; and that none has others than documented."""

    def fields(record: logging.LogRecord) -> dict[str, Any]:
        return {name.removeprefix(PREFIX): value for name, value in vars(record).items() if name.startswith(PREFIX)}

    with caplog.at_level(logging.DEBUG, "rdknotify"):
        yield lambda event: [found for each in list(caplog.records) if (found := fields(each)).get("event") == event]
    for record in caplog.records:
        found = fields(record)
        if "event" in found:
            told = EVENTS[found["event"]]
            assert set(found) - {"event"} <= set(told.fields)
            assert record.levelno == told.level or found["event"] in ("librdkafka", "disconnected", "retrying")
            assert record.name.startswith("rdknotify.")


def polled_until(consumer: Consumer, wanted: Callable[[], Any]) -> Any:
    def poll() -> Any:
        consumer.poll(timeout=0.1)
        return wanted()

    return until(poll, timeout=SOON)


def test_a_client_is_connected_once(mock_cluster: MockCluster, lines: Lines) -> None:
    with Producer(mock_cluster.url) as producer:
        producer.send("t", b"v")
        producer.flush(SOON)
        assert lines("connected") == [
            {"event": "connected", "client": producer.name, "broker": mock_cluster.bootstrap_servers}
        ]


def test_a_client_that_was_not_checked_is_connected_when_the_cluster_answers(lines: Lines) -> None:
    with MockCluster() as cluster:
        cluster.broker_down(1)
        with Producer(cluster.url, connect_timeout=None) as producer:
            until(lambda: lines("broker_lost"), timeout=SOON)
            assert not lines("connected")
            cluster.broker_up(1)
            until(lambda: lines("connected"), timeout=SOON)
            assert not lines("cluster_back")
            assert producer.accepted


def test_a_cluster_is_lost_and_back_though_the_client_does_nothing(mock_cluster: MockCluster, lines: Lines) -> None:
    with Producer(mock_cluster.url) as producer:
        mock_cluster.broker_down(1)
        until(lambda: lines("cluster_lost"), timeout=SOON)
        (lost,) = lines("broker_lost")
        assert lost["broker"] == mock_cluster.bootstrap_servers
        assert (lost["client"], lost["error"]) == (producer.name, "_TRANSPORT")
        mock_cluster.broker_up(1)
        until(lambda: lines("cluster_back"), timeout=SOON)
        assert len(lines("cluster_lost")) == len(lines("cluster_back")) == len(lines("connected")) == 1
        mock_cluster.broker_down(1)
        until(lambda: len(lines("cluster_lost")) == 2, timeout=SOON)  # the last line is true


def test_a_lost_broker_is_told_once_and_with_statistics_that_it_is_back(
    mock_cluster: MockCluster, lines: Lines
) -> None:
    with Producer(mock_cluster.url, config={"statistics.interval.ms": 100}) as producer:
        mock_cluster.broker_down(1)
        producer.send("t", b"v")
        until(lambda: lines("broker_lost"), timeout=SOON)
        mock_cluster.broker_up(1)
        until(lambda: lines("broker_back"), timeout=SOON)
        producer.flush(SOON)
        (lost,), (back,) = lines("broker_lost"), lines("broker_back")
        assert lost["broker"] == back["broker"] == mock_cluster.bootstrap_servers


def test_partitions_are_assigned_and_revoked(mock_cluster: MockCluster, lines: Lines) -> None:
    mock_cluster.create_topic("t", 4)
    with Consumer(mock_cluster.url, ["t"], "g") as consumer:
        polled_until(consumer, lambda: lines("assigned"))
        name = consumer.name
    expected = {"client": name, "group": "g", "partitions": ["t-0", "t-1", "t-2", "t-3"], "count": 4}
    assert lines("assigned") == [{"event": "assigned", **expected}]
    assert lines("revoked") == [{"event": "revoked", **expected}]


def test_partitions_are_lost_when_the_member_is_put_out(mock_cluster: MockCluster, lines: Lines) -> None:
    mock_cluster.create_topic("t", 2)
    with Consumer(mock_cluster.url, ["t"], "g") as consumer:
        polled_until(consumer, lambda: lines("assigned"))
        mock_cluster.fail_next("Heartbeat", *["UNKNOWN_MEMBER_ID"] * 2)
        polled_until(consumer, lambda: lines("partitions_lost"))
        (lost,) = lines("partitions_lost")
        assert (lost["partitions"], lost["group"]) == (["t-0", "t-1"], "g")


def test_a_topic_that_is_absent_is_told_once(mock_cluster: MockCluster, lines: Lines) -> None:
    mock_cluster.fail_topic("none", "UNKNOWN_TOPIC_OR_PART")
    with Consumer(mock_cluster.url, ["none"], "g") as consumer:
        polled_until(consumer, lambda: lines("topic_absent"))
        for _ in range(15):
            consumer.poll(timeout=0.1)
    (absent,) = lines("topic_absent")
    assert absent["error"] == "UNKNOWN_TOPIC_OR_PART"


def test_what_is_fatal_is_told_once(mock_cluster: MockCluster, lines: Lines) -> None:
    with Producer(mock_cluster.url) as producer:
        producer.send_batch("t", [b"v"]).result(SOON)
        mock_cluster.fail_next("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER")
        producer.send_batch("t", [b"v"] * 3).wait(SOON)
        until(lambda: lines("fatal"), timeout=SOON)
        with pytest.raises(KafkaError):
            producer.send("t", b"v")
        assert [line["client"] for line in lines("fatal")] == [producer.name]


def test_dead_letters_of_one_step_are_one_line(mock_cluster: MockCluster, lines: Lines) -> None:
    with Producer(mock_cluster.url) as producer, Consumer(mock_cluster.url, ["t"], "g") as consumer:
        producer.send_batch("t", [b"no JSON"] * 20, [b"k"] * 20).result(SOON)
        records = list(until(lambda: consumer.poll(20, 1.0), timeout=SOON))
        DeadLetters(producer, "dead").send(records, "not a notification", "g")
        (line,) = lines("dead_letter")
        assert (line["count"], line["topic"], line["reason"]) == (len(records), "t", "not a notification")
        assert line["offset"] == records[0].offset


def test_a_listener_tells_its_life_its_endpoints_failure_and_what_it_skips(
    mock_cluster: MockCluster, lines: Lines
) -> None:
    class Broken:
        def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
            raise ZeroDivisionError(event_type)

    with (
        Listener(mock_cluster.url, ["n"], [Broken()], pool="billing"),
        Notifier(mock_cluster.url, "p", ["n"]) as sender,
    ):
        message_id = sender.info({}, "compute.end", {})
        until(lambda: lines("endpoint_failed"), timeout=SOON)
    (failed,) = lines("endpoint_failed")
    assert failed["message_id"] == message_id
    assert (failed["group"], failed["event_type"], failed["topic"]) == ("billing", "compute.end", "n.info")
    assert (failed["error"], failed["count"]) == ("ZeroDivisionError", 1)
    assert [line["service"] for line in lines("started") + lines("stopped")] == ["listener billing"] * 2


def test_a_service_that_ends_by_itself_says_so(mock_cluster: MockCluster, lines: Lines) -> None:
    mock_cluster.broker_down(1)
    with pytest.raises(KafkaError):
        Listener(mock_cluster.url, ["n"], [Endpoint()], pool="g", connect_timeout=0.2).start()
    (failed,) = lines("failed")
    assert (failed["service"], failed["error"]) == ("listener g", "Timeout")


def test_a_store_that_fails_is_told_with_its_delay(mock_cluster: MockCluster, lines: Lines) -> None:
    class Sink:
        tries = 0

        def open(self, schema: Any) -> None: ...
        def close(self) -> None: ...
        def restore(self, group: str, partitions: Any) -> dict[Any, int]:
            return {}

        def store(self, group: str, rows: Any, spans: Any) -> int:
            self.tries += 1
            if self.tries == 1:
                raise ConnectionResetError("the database went")
            return len(rows)

    sink = Sink()
    persister = Persister(mock_cluster.url, ["n.info"], sink=sink, group="g", max_wait=0.1)
    with Notifier(mock_cluster.url, "p", ["n"]) as sender, persister:
        sender.info({}, "compute.end", {})
        until(lambda: sink.tries > 1, timeout=SOON)
    (retried,) = lines("store_retried")
    assert (retried["group"], retried["error"]) == ("g", "ConnectionResetError")
    assert retried["delay"] > 0


def test_what_was_not_delivered_is_told_by_name(mock_cluster: MockCluster, lines: Lines) -> None:
    with Notifier(mock_cluster.url, "p", ["n"]) as sender:
        mock_cluster.fail_next("Produce", *["TOPIC_AUTHORIZATION_FAILED"] * 4)
        message_id = sender.info({}, "compute.end", {})
        with pytest.raises(DeliveryError):
            sender.flush(SOON)
    (line,) = lines("undelivered")
    expected = {"message_id": message_id, "event_type": "compute.end", "topic": "n.info", "count": 1}
    assert line == {"event": "undelivered", "error": "TOPIC_AUTHORIZATION_FAILED", **expected}


def test_librdkafkas_debug_lines_come_at_debug(mock_cluster: MockCluster, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "rdknotify"), Producer(mock_cluster.url, debug="Broker, security") as producer:
        until(lambda: "CONNECTED" in caplog.text, timeout=SOON)
    found = [each for each in caplog.records if getattr(each, "rdknotify_error", None) == "CONNECTED"]
    assert found and {(each.levelno, each.name) for each in found} == {(logging.DEBUG, "rdknotify.events")}
    assert {each.rdknotify_client for each in found} == {producer.name}  # type: ignore[attr-defined]


def test_every_context_of_debug_is_librdkafkas(mock_cluster: MockCluster) -> None:
    (option,) = [each for each in OPTIONS if each.name == "debug"]
    Producer(mock_cluster.url, debug=",".join(option.choices)).close()
    with pytest.raises(ConfigError, match=r"debug='brokers': it is names"):
        Producer(mock_cluster.url, debug="brokers")
