"""Sending through oslo.messaging's public API: what is on the log, what is raised, what is logged; in time."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.oslo import configuration, oslo_messaging, transport
from support.oslo_services import send
from support.reader import read_all
from support.waiting import until

from rdknotify._rdknotify import live_handles
from rdknotify.envelope import decode
from rdknotify.errors import ConfigError

TOO_LARGE = {"text": "x" * 2_000_000}
"""More than librdkafka takes."""
QUEUE = 20
"""Records for which the local queue has room in the tests that fill it."""
AT_ONCE = 0.4
"""Seconds within which what must not wait has answered on a busy machine."""

MessageDeliveryFailure = oslo_messaging.exceptions.MessageDeliveryFailure


def on_the_log(kafka: Any, topic: str) -> list[str]:
    """Event types, sorted."""
    return sorted(decode(row[3] or b"").event_type for row in read_all(kafka.bootstrap_servers, f"{topic}.info"))


def seconds(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


@pytest.fixture
def small_topic(kafka, topic: str) -> str:
    """Its topic for ``info`` takes records of up to 1,000 bytes."""
    kafka.create_topic(f"{topic}.info", 1, config={"max.message.bytes": "1000"})
    return topic


# -- what arrives ------------------------------------------------------------------------------------------------------


def test_with_retry_0_sending_returns_when_the_broker_has_it(oslo, kafka, topic):
    send(oslo.transport(), topic, "here", retry=0)
    assert on_the_log(kafka, topic) == ["here"]


def test_one_producer_serves_all_notifiers_of_a_transport_and_is_made_when_first_used(oslo, kafka, topic):
    before = live_handles()["clients"]
    made = oslo.transport()
    notifiers = [oslo_messaging.Notifier(made, "n", driver="messagingv2", topics=[topic]) for _ in range(8)]
    assert live_handles()["clients"] == before
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda notifier: notifier.info({}, "e", {}), notifiers))
    assert live_handles()["clients"] == before + 1
    made.cleanup()
    assert on_the_log(kafka, topic) == ["e"] * 8


def test_what_is_queued_at_the_interpreters_exit_is_delivered(oslo, kafka, topic):
    assert oslo.process("send_and_exit", topic, 2000).wait(60) == 0
    assert on_the_log(kafka, topic) == sorted(map(str, range(2000)))


def test_a_transport_that_is_dropped_delivers_what_it_queued_and_then_releases_its_producer(oslo, kafka, topic):
    before = live_handles()["clients"]
    dropped = transport(oslo.url(), configuration(oslo.file()))
    send(dropped, topic, "dropped")
    del dropped
    gc.collect()
    until(lambda: live_handles()["clients"] == before, "the producer is released")
    assert on_the_log(kafka, topic) == ["dropped"]


def test_the_command_line_tool_delivers_what_it_sends(oslo, kafka, topic):
    tool = [str(Path(sys.executable).with_name("oslo-messaging-send-notification")), "--publisher-id", "cli"]
    words = ["--transport-url", oslo.url(), "--topic", topic, "--event-type"]
    for first in range(0, 8, 2):
        pair = [subprocess.Popen([*tool, *words, f"cli.{number}", "{}"]) for number in (first, first + 1)]
        assert [each.wait(60) for each in pair] == [0, 0]
    assert on_the_log(kafka, topic) == [f"cli.{number}" for number in range(8)]


def test_a_forked_child_and_its_parent_both_deliver(oslo, kafka, topic):
    assert oslo.process("send_and_fork", topic).wait(60) == 0
    assert on_the_log(kafka, topic) == ["before", "child", "parent"]


def test_what_is_sent_while_the_broker_is_silent_arrives_when_it_is_back(oslo, kafka, topic):
    if not kafka.managed:
        pytest.skip("pauses the broker")
    kafka.create_topic(f"{topic}.info", 1)
    made = oslo.transport()
    kafka.pause()
    send(made, topic, "0")  # the first waits a little for a broker
    assert seconds(lambda: [send(made, topic, str(number)) for number in (1, 2)]) < AT_ONCE
    kafka.resume()
    made.cleanup()
    assert on_the_log(kafka, topic) == ["0", "1", "2"]


@pytest.mark.parametrize(("option", "key"), [("publisher_id", b"node1"), ("event_type", b"e"), ("none", None)])
def test_the_key_is_the_field_that_notification_key_names(oslo, kafka, topic, option, key):
    notifier = oslo.notifier(topic, publisher="node1", retry=0, notification_key=option)
    notifier.info({}, "e", {})
    ((_, _, found, _, _),) = read_all(kafka.bootstrap_servers, f"{topic}.info")
    assert found == key


def test_a_virtual_host_that_makes_an_illegal_topic_is_refused_when_the_transport_is_made(oslo, tmp_path):
    with pytest.raises(ConfigError, match="virtual_host '/'"):
        transport(oslo.url("/"), configuration(tmp_path / "conf"))


# -- what cannot be delivered ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retry", "options"), [(0, {}), (1, {}), (-1, {"notify_wait": True})])
def test_a_record_that_the_client_finds_too_large_raises(oslo, topic, retry, options):
    with pytest.raises(MessageDeliveryFailure, match="MSG_SIZE_TOO_LARGE"):
        send(oslo.transport(**options), topic, payload=TOO_LARGE, retry=retry)


@pytest.mark.parametrize(("retry", "options"), [(0, {}), (-1, {"notify_wait": True})])
def test_a_record_that_the_broker_refuses_raises(oslo, kafka, small_topic, retry, options):
    made = oslo.transport(**options)
    with pytest.raises(MessageDeliveryFailure, match=r"NOT_PERSISTED.*MSG_SIZE_TOO_LARGE"):
        send(made, small_topic, "large", {"text": "x" * 2000}, retry)
    send(made, small_topic, "small", retry=retry)
    assert on_the_log(kafka, small_topic) == ["small"]


@pytest.mark.parametrize("payload", [{"text": "x" * 2000}, TOO_LARGE], ids=["broker", "client"])
def test_what_nobody_waits_for_is_logged_by_name_soon_after_its_outcome_and_counted(oslo, small_topic, caplog, payload):
    made = oslo.transport()
    send(made, small_topic, "small", retry=0)
    message_id = send(made, small_topic, "compute.large", payload)

    def told() -> list[str]:
        return [text for record in caplog.records if message_id in (text := record.getMessage())]

    until(told, "the failure is logged", timeout=3.0)
    (text,) = told()
    assert "compute.large" in text and "MSG_SIZE_TOO_LARGE" in text
    assert made._driver.undelivered == 1


# -- a full queue, a silent broker -------------------------------------------------------------------------------------


@pytest.fixture
def full(oslo, kafka, topic: str) -> Iterator[Any]:
    """A transport whose queue is full, because the broker is silent."""
    if not kafka.managed:
        pytest.skip("pauses the broker")
    made = oslo.transport(librdkafka=f"queue.buffering.max.messages:{QUEUE}", flush_timeout=20)
    send(made, topic, "first", retry=0)
    kafka.pause()
    for number in range(QUEUE):
        send(made, topic, str(number))
    return made


def test_a_full_queue_fails_at_once_or_after_the_retries_that_are_granted(full, kafka, topic):
    def refused(retry: int) -> None:
        with pytest.raises(MessageDeliveryFailure, match="full"):
            send(full, topic, "refused", retry=retry)

    assert seconds(lambda: refused(0)) < AT_ONCE
    assert 0.9 < seconds(lambda: refused(2)) < 1.0 + AT_ONCE
    assert full._driver.undelivered == 2
    kafka.resume()
    full.cleanup()
    assert on_the_log(kafka, topic) == sorted([*map(str, range(QUEUE)), "first"])


def test_a_full_queue_is_waited_for_without_a_limit_of_retries(full, kafka, topic):
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(send, full, topic, "waited")
        with pytest.raises(TimeoutError):
            waiting.result(1.5)
        kafka.resume()
        waiting.result(20)
    full.cleanup()
    assert on_the_log(kafka, topic) == sorted([*map(str, range(QUEUE)), "first", "waited"])


def test_cleanup_while_the_broker_is_silent_ends_in_time_and_says_what_it_leaves(oslo, kafka, topic, caplog):
    if not kafka.managed:
        pytest.skip("pauses the broker")
    made = oslo.transport(flush_timeout=2)
    send(made, topic, "first", retry=0)
    kafka.pause()
    for number in range(7):
        send(made, topic, str(number))
    with caplog.at_level(logging.WARNING):
        assert seconds(made.cleanup) < 2.0 + 2 * AT_ONCE
    assert any(" 7 " in f" {record.getMessage()} " for record in caplog.records), caplog.text


def test_the_exit_of_a_process_while_the_broker_is_silent_ends_in_time(oslo, kafka, topic):
    if not kafka.managed:
        pytest.skip("pauses the broker")
    kafka.pause()
    sending = oslo.process("send_and_exit", topic, 5, flush_timeout=1)
    assert seconds(lambda: sending.wait(60)) < 10


def test_the_wire_form_is_that_of_version_2(oslo, kafka, topic):
    message_id = send(oslo.transport(), topic, "e", {"key": "välue"}, retry=0)
    ((_, _, _, value, headers),) = read_all(kafka.bootstrap_servers, f"{topic}.info")
    envelope = json.loads(value or b"")
    assert envelope["oslo.version"] == "2.0" and headers == []
    message = json.loads(envelope["oslo.message"])
    assert (message["message_id"], message["payload"], message["_context"]) == (message_id, {"key": "välue"}, {})
