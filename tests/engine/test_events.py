"""librdkafka's events become log records, troubles to explain failures with, and the last statistics."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref

import pytest
from support.waiting import until

from rdknotify import events
from rdknotify.events import ClientEvents
from rdknotify.producer import Producer


def absorbed(client, *taken):
    return [line[:2] for line in client.absorb(lambda: list(taken))]


@pytest.mark.parametrize(
    ("syslog", "level"),
    [
        (0, logging.CRITICAL),
        (2, logging.CRITICAL),
        (3, logging.ERROR),
        (4, logging.WARNING),
        (5, logging.INFO),
        (6, logging.INFO),
        (7, logging.DEBUG),
    ],
)
def test_the_level_of_a_log_line_is_mapped(syslog, level):
    assert absorbed(ClientEvents("c"), ("log", syslog, "FACILITY", "text")) == [(level, "FACILITY: text")]


@pytest.mark.parametrize(("name", "level"), [("_TRANSPORT", logging.WARNING), ("_AUTHENTICATION", logging.ERROR)])
def test_an_outage_is_a_warning_and_other_errors_are_errors(name, level):
    assert absorbed(ClientEvents("c"), ("error", -1, name, "text")) == [(level, f"{name}: text")]


def test_dropped_events_are_told():
    ((level, text),) = absorbed(ClientEvents("c"), ("dropped", 17, "", ""))
    assert level == logging.WARNING
    assert "17" in text


def test_repeats_are_told_once_in_a_while_with_their_count(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: clock[0])
    client = ClientEvents("c")
    outage = ("error", -187, "_ALL_BROKERS_DOWN", "1/1 brokers are down")
    failed = [("error", -195, "_TRANSPORT", f"b:1: refused (after {n}ms in state CONNECT)") for n in range(5)]
    assert len(absorbed(client, *[outage] * 20, *failed)) == 2
    clock[0] += events.REPEAT_INTERVAL - 1
    assert absorbed(client, outage, *failed) == []
    clock[0] += 2
    lines = absorbed(client, outage, failed[0])
    assert client.troubles[-1].name == "_TRANSPORT"
    assert [text.rpartition(" (")[2] for _, text in lines] == ["20 more since last told)", "9 more since last told)"]


def test_different_troubles_are_all_told_and_remembered():
    client = ClientEvents("c")
    assert len(absorbed(client, *[("error", -195, "_TRANSPORT", f"b{n}: refused") for n in range(1000)])) == 1000
    assert client.troubles[-1][:2] == ("_TRANSPORT", "b999: refused")
    assert len(client.troubles) < 100


def test_the_last_statistics_are_parsed_once():
    client = ClientEvents("c")
    assert client.statistics is None
    assert absorbed(client, ("stats", 0, "", '{"n": 1}'), ("stats", 0, "", '{"n": 2}')) == []
    assert client.statistics == {"n": 2}
    assert client.statistics is client.statistics


def test_events_reach_logging_without_anybody_asking(caplog):
    with caplog.at_level(logging.INFO, "rdknotify"):
        producer = Producer("kafka://127.0.0.1:1", connect_timeout=None)
        record = until(lambda: next((r for r in caplog.records if "refused" in r.getMessage()), None))
    assert record.name == "rdknotify.events"
    assert record.threadName == "rdknotify-events"
    assert record.getMessage().startswith(producer.name)
    producer.close()


def test_an_outage_does_not_flood_the_log(mock_cluster, caplog):
    with Producer(mock_cluster.url, flush_timeout=0.1) as producer, caplog.at_level(logging.INFO, "rdknotify"):
        mock_cluster.broker_down(1)
        producer.send("t", b"v")
        until(lambda: caplog.records)
        time.sleep(1.5)  # for about 30 reports of _ALL_BROKERS_DOWN
        told = [record.getMessage().partition(" (after ")[0] for record in caplog.records]
        assert len(told) == len(set(told)) < 12
        mock_cluster.broker_up(1)
        assert producer.flush(10) is None


def test_the_password_is_in_no_log_line(caplog):
    with caplog.at_level(logging.DEBUG, "rdknotify"):
        config = {"debug": "all"}
        url = "kafka://user:geheim@127.0.0.1:1?sasl_mechanism=SCRAM-SHA-256"
        producer = Producer(url, connect_timeout=None, config=config, security_protocol="SASL_PLAINTEXT")
        until(lambda: "refused" in caplog.text)
        producer.close()
    assert "geheim" not in caplog.text


def test_statistics_of_a_client(mock_cluster):
    with Producer(mock_cluster.url, config={"statistics.interval.ms": 100}) as producer:
        assert until(lambda: producer.statistics)["type"] == "producer"


def test_one_thread_serves_all_clients_and_ends_with_the_last(mock_cluster):
    def threads():
        return [thread for thread in threading.enumerate() if thread.name == "rdknotify-events"]

    gc.collect()  # a client that another test left in a cycle would keep the thread
    producers = [Producer(mock_cluster.url) for _ in range(3)]
    assert len(threads()) == 1
    assert threads()[0].daemon
    for producer in producers:
        producer.close()
    del producers, producer
    until(lambda: not threads())
    with Producer(mock_cluster.url):
        assert len(threads()) == 1


def test_a_log_handler_may_make_a_client_itself(mock_cluster):
    made = []

    class Handler(logging.Handler):
        def emit(self, record):
            if not made:
                made.append(Producer(mock_cluster.url))

    handler = Handler()
    events.logger.addHandler(handler)
    try:
        with Producer("kafka://127.0.0.1:1", connect_timeout=None):
            until(lambda: made)
    finally:
        events.logger.removeHandler(handler)
        for producer in made:
            producer.close()


def test_the_thread_starts_again_in_a_forked_child(mock_cluster):
    url = mock_cluster.url
    with Producer(url):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with Producer(url, config={"statistics.interval.ms": 50}) as own:
                    deadline = time.monotonic() + 5
                    while own.statistics is None and time.monotonic() < deadline:
                        time.sleep(0.01)
                    status = 0 if own.statistics else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


class Ticker:
    def __init__(self, error=""):
        self.error = error
        self.times = []
        self.threads = set()

    def tick(self):
        self.times.append(time.monotonic())
        self.threads.add(threading.current_thread().name)
        if self.error:
            raise ZeroDivisionError(self.error)


def test_what_ticks_is_called_once_a_second_though_no_client_is_there(caplog):
    broken, whole = Ticker("tock"), Ticker()
    for ticker in (broken, whole):
        events.every_tick(ticker)
    until(lambda: min(len(broken.times), len(whole.times)) >= 2)
    for first, second, *_ in (broken.times, whole.times):
        assert 0.99 * events.TICK_INTERVAL <= second - first < 2 * events.TICK_INTERVAL
    assert broken.threads == whole.threads == {"rdknotify-events"}
    (failure,) = {record.getMessage() for record in caplog.records if record.exc_info}
    assert "Ticker" in failure
    assert "tock" in caplog.text
    caplog.clear()  # its tracebacks would keep alive what ticked


def test_ticks_go_on_while_clients_have_events(mock_cluster, monkeypatch):
    monkeypatch.setattr(events, "TICK_INTERVAL", 0.1)
    ticker = Ticker()
    with Producer(mock_cluster.url, config={"statistics.interval.ms": 1}):
        begun = time.monotonic()
        events.every_tick(ticker)
        until(lambda: len(ticker.times) >= 3)
        assert time.monotonic() - begun < 3


def test_what_ticks_is_not_kept_alive_and_the_thread_ends_with_it(monkeypatch):
    ticker = Ticker()
    monkeypatch.setattr(events, "TICK_INTERVAL", 0.1)
    gone, times = weakref.ref(ticker), ticker.times
    events.every_tick(ticker)
    until(lambda: times)
    del ticker
    gc.collect()
    until(lambda: gone() is None)
    until(lambda: "rdknotify-events" not in {thread.name for thread in threading.enumerate()})


def test_what_ticks_in_the_parent_does_not_tick_in_a_forked_child(monkeypatch):
    monkeypatch.setattr(events, "TICK_INTERVAL", 0.1)
    parents = Ticker()
    events.every_tick(parents)
    until(lambda: parents.times)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            before, own = len(parents.times), Ticker()
            events.every_tick(own)
            until(lambda: len(own.times) >= 2)
            status = 0 if len(parents.times) == before else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
