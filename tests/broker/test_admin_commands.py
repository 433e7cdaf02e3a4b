"""``rdknotify lag`` and ``topics`` on real Kafka: what they say of groups and topics, and of a wrong password."""

from __future__ import annotations

import json
import threading
import time
from urllib.parse import quote

import pytest
from support.command import run
from support.consuming import joined
from support.main_job import SOON, Kafka
from support.waiting import until
from support.watching import at_looks, interrupt

from rdknotify import Producer
from rdknotify.testing.local import LocalKafka

COUNT = 100


def sent(kafka: Kafka, topic: str) -> None:
    with Producer(kafka.url) as producer:
        producer.send_batch(topic, [b"x"] * COUNT).result(SOON).raise_for_failures()


def test_a_topic_from_its_creation_to_its_end(kafka: Kafka, topic: str) -> None:
    settings = ("--partitions", "2", "--retention", "7 days", "--config", "max.message.bytes=2000000")
    assert run("topics", "create", topic, *settings, "--url", kafka.url)[:2] == (0, f"{topic}: 2 partitions\n")
    again = run("topics", "create", topic, "--url", kafka.url)
    assert (again.status, "--if-missing lets it be" in again.err) == (1, True)
    refused = run("topics", "create", f"{topic}-x", "--config", "no.such=1", "--url", kafka.url)
    assert (refused.status, "Unknown topic config name: no.such" in refused.err) == (1, True)
    sent(kafka, topic)
    assert [topic, "2", "1", str(COUNT), ""] in run("topics", "list", "--url", kafka.url).rows

    (told,) = map(json.loads, run("topics", "describe", topic, "--json", "--url", kafka.url).out.splitlines())
    assert told["records"] == COUNT
    assert {"max.message.bytes", "retention.ms"} == set(told["own"])
    assert told["settings"]["retention.ms"] == str(7 * 86400 * 1000)
    shown = run("topics", "describe", topic, "--url", kafka.url).out
    assert "retention.ms=604800000 (7 days), set for this topic" in shown
    assert "cleanup.policy=delete\n" in shown

    nobody = run("topics", "delete", topic, "--url", kafka.url)
    assert (nobody.status, nobody.out) == (1, "")
    assert f"{topic}: {COUNT} records" in nobody.err and "give --yes" in nobody.err
    no = run("topics", "delete", topic, "--url", kafka.url, stdin="n\n")
    assert (no.status, "nothing is deleted" in no.err) == (1, True)
    yes = run("topics", "delete", topic, f"{topic}-x", "--url", kafka.url, stdin="y\n")
    assert (yes.status, yes.out) == (3, f"{topic}: deleted\n")
    assert f"cannot delete '{topic}-x': there is none" in yes.err
    until(lambda: topic not in run("topics", "list", "--url", kafka.url).out, timeout=SOON)


def test_the_lag_of_a_group_with_a_member(kafka: Kafka, topic: str, group: str) -> None:
    kafka.create_topic(topic, 1)
    sent(kafka, topic)
    with joined(kafka, topic, group, COUNT):
        until(lambda: "Stable" in run("lag", group, "--url", kafka.url).out, timeout=SOON)
        sent(kafka, topic)
        place = [topic, "0", str(COUNT), str(2 * COUNT), str(COUNT), "rdknotify@127.0.0.1"]
        assert run("lag", group, "--url", kafka.url).rows[1:] == [[group, "Stable", *place]]
        assert [group, "Stable", *place] in run("lag", "--url", kafka.url).rows
    assert run("lag", group, "--url", kafka.url, "--fail-above", COUNT).status == 0
    late = run("lag", group, "--url", kafka.url, "--fail-above", COUNT - 1)
    assert (late.status, f"its lag is {COUNT}, above {COUNT - 1}" in late.err) == (3, True)

    mistyped = run("lag", group[:-1], "--url", kafka.url)
    assert (mistyped.status, mistyped.out) == (1, "")
    assert f"did you mean {group}?" in mistyped.err
    assert run("lag", group[:-1], group, "--url", kafka.url).status == 3


def test_watching_a_group_that_falls_behind(
    kafka: Kafka, topic: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_looks(monkeypatch, {5: interrupt})
    kafka.create_topic(topic, 1)
    sent(kafka, topic)
    with joined(kafka, topic, group, COUNT), Producer(kafka.url) as producer:
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(0.05):
                producer.send(topic, b"x").result(SOON)

        sender = threading.Thread(target=send)
        sender.start()
        ran = run("lag", group, "--watch", "--every", "500ms", "--json", "--url", kafka.url)
        stop.set()
        sender.join(SOON)
    last = json.loads(ran.out.splitlines()[-1])
    assert ran.status == 130
    assert 0 < last["grows_per_second"] <= 20
    assert (last["commits_per_second"], last["done_in"]) == (0.0, None)
    assert last["lag"] > 0


@pytest.mark.parametrize("command", [["lag"], ["topics", "list"]])
def test_a_wrong_password_is_one_line_with_the_next_step(kafka_secure: LocalKafka, command: list[str]) -> None:
    security = kafka_secure.security
    url = security.url("SASL_PLAINTEXT", "alice").replace(quote(security.users["alice"], safe=""), "mistyped")
    begun = time.monotonic()
    ran = run(*command, "--url", url)
    assert time.monotonic() - begun < 10
    assert (ran.status, ran.out) == (1, "")
    line = ran.err.splitlines()[-1]
    assert "refused the connection" in line and "password" in line
    assert "mistyped" not in ran.err
