"""``rdknotify doctor`` on real Kafka: who is refused learns why and what to do; who is not, that all is well."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from support.command import run
from support.rights import Rights
from test_security_errors import MISTAKEN, REFUSED, tls

from rdknotify import Admin, Consumer, Producer
from rdknotify.testing import LocalKafka
from rdknotify.testing.cluster import until
from rdknotify.testing.security import Security

WITHIN = 10.0


@pytest.fixture
def security(kafka_secure: LocalKafka) -> Security:
    return kafka_secure.security


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch):
    """Runs the doctor with such a URL and options; returns the findings, which must come in time."""

    def examine(url: str, options: Mapping[str, Any], *more: str, status: int = 3) -> list[dict[str, Any]]:
        monkeypatch.setenv("RDKNOTIFY_URL", url)
        given = {**options, **options.get("config", {})}
        pairs = [part for name, value in given.items() if name != "config" for part in ("-o", f"{name}={value}")]
        begun = time.monotonic()
        ran = run("doctor", "--json", *pairs, *more)
        assert time.monotonic() - begun < WITHIN
        findings: list[dict[str, Any]] = json.loads(ran.out)["findings"]
        assert ran.status == status, [finding for finding in findings if finding["state"] == "trouble"]
        return findings

    return examine


def by_check(findings: list[dict[str, Any]], subject: str = "") -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in findings if finding["subject"].startswith(subject)}


# What the client's own words say is expected there already: here it is what the doctor adds.
EXPECTED = {
    "wrong password, PLAIN": ("login", "Invalid username or password", "check the user, the password"),
    "wrong password, SCRAM": ("login", "invalid credentials", "check the user, the password"),
    "unknown user, SCRAM": ("login", "invalid credentials", "check the user, the password"),
    "no common mechanism": ("sasl", "offers OAUTHBEARER, not PLAIN", "sasl_mechanism="),
    "SASL to a listener without": ("sasl", "knows no users and passwords", "leave out the user"),
    "wrong CA": ("tls", "is not trusted: it was issued by O=rdknotify tests, ca", "-o ssl_cafile=FILE"),
    "no CA": ("tls", "is not trusted", "-o ssl_cafile=FILE"),
    "expired certificate": ("tls", "it has expired", "renew the broker's certificate"),
    "certificate for another host": ("tls", "is for elsewhere.example, not for 127.0.0.1", "advertised.listeners"),
    "no client certificate, TLS 1.3": ("certificate", "none was shown", "ssl_client_cert_file=FILE"),
    "client certificate of a stranger": ("certificate", "the one that was shown", "that it knows"),
    "plain client on a TLS port": ("tls", "speaks TLS, and the settings want none", "security_protocol=SSL"),
    "plain client on a SASL port": ("sasl", "wants a login", "user:password@"),
    "TLS client on a plain port": ("tls", "without TLS, and the settings want TLS", "security_protocol=PLAINTEXT"),
    "TLS client on a SASL_SSL port": ("sasl", "wants a login", "user:password@"),
    "SASL without TLS on a SASL_SSL port": ("tls", "speaks TLS", "security_protocol=SASL_SSL"),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_the_first_trouble_is_the_cause(case: str, kafka_secure: LocalKafka, examined) -> None:
    url, options = REFUSED[case][0](kafka_secure.security) if case in REFUSED else MISTAKEN[case][0](kafka_secure)
    findings = examined(url, options)

    first = next(finding for finding in findings if finding["state"] == "trouble")
    check, text, advice = EXPECTED[case]
    assert first["check"] == check
    assert text in first["text"]
    assert advice in first["advice"]


def test_a_broker_that_is_well_tells_what_it_is(security: Security, topic: str, examined) -> None:
    url, options = security.url("SASL_SSL", "alice"), tls(security, sasl_mechanism="SCRAM-SHA-512")
    with Admin(url, **options) as admin:
        admin.create_topic(topic, 3, config={"max.message.bytes": "500000"})
    findings = examined(url, options, "--topic", topic, status=0)

    broker = by_check(findings, "broker")
    assert {check: finding["state"] for check, finding in broker.items()} == dict.fromkeys(
        ("name", "tcp", "tls", "sasl", "versions"), "ok"
    )
    shown = broker["tls"]["facts"]
    assert set(shown["names"]) == {"127.0.0.1", "localhost"}
    assert 28 <= shown["days_left"] <= 30
    assert shown["protocol"] == "TLSv1.3"
    assert {"PLAIN", "SCRAM-SHA-512"} <= set(broker["sasl"]["facts"]["mechanisms"])
    assert broker["versions"]["facts"]["release"] == "Kafka 4.3"
    assert broker["versions"]["facts"]["share_groups"] is True
    cluster = by_check(findings, "cluster")
    assert cluster["login"]["text"] == "let in by SCRAM-SHA-512 as alice"
    assert (cluster["brokers"]["facts"]["controller"], len(cluster["brokers"]["facts"]["brokers"])) == (1, 1)
    looked_at = by_check(findings, f"topic {topic}")
    assert looked_at["partitions"]["facts"]["partitions"] == 3
    assert looked_at["settings"]["state"] == "warning"
    assert "max.message.bytes=500000" in looked_at["settings"]["text"]


def test_a_client_certificate_is_shown_and_described(security: Security, examined) -> None:
    alice = security.ca.client("alice")
    files = tls(security, ssl_client_cert_file=str(alice.certificate), ssl_client_key_file=str(alice.key))
    findings = by_check(examined(security.url("MTLS"), files, status=0))
    assert findings["certificate"]["facts"]["names"] == ["alice"]
    assert findings["login"]["text"] == "let in by the client's certificate"


def test_brokers_by_another_name_are_looked_at_too(kafka_secure: LocalKafka, examined) -> None:
    """The URL says localhost; clients are sent to 127.0.0.1."""
    findings = examined(kafka_secure.url.replace("127.0.0.1", "localhost"), {}, status=0)
    subjects = {finding["subject"] for finding in findings if finding["subject"].startswith("broker")}
    port = kafka_secure.bootstrap_servers.rpartition(":")[2]
    assert subjects == {f"broker localhost:{port}", f"broker 127.0.0.1:{port} (number 1)"}


@pytest.fixture
def rights(kafka_secure: LocalKafka) -> Iterator[Rights]:
    rights = Rights(kafka_secure.bootstrap_servers, "bob")
    yield rights
    rights.take_all()


def test_missing_rights_are_told_apart_from_what_is_not_there(
    kafka_secure: LocalKafka, rights: Rights, topic: str, group: str, examined
) -> None:
    security = kafka_secure.security
    bob = security.url("SASL_SSL", "bob"), tls(security, sasl_mechanism="SCRAM-SHA-256")
    kafka_secure.create_topic(topic, 1)
    looking = ("--topic", topic, "--group", group)

    findings = examined(*bob, *looking)
    for subject in (f"topic {topic}", f"group {group}"):
        refused = by_check(findings, subject)["rights"]
        assert "may not see it" in refused["text"] and "kafka-acls.sh" in refused["advice"]

    rights.give(topic=topic, operations=["READ"])
    rights.give(group=group)
    found = by_check(examined(*bob, *looking), f"topic {topic}")
    assert found["partitions"]["state"] == "ok"
    assert "DESCRIBE_CONFIGS" in found["settings"]["text"]

    unknown = by_check(examined(kafka_secure.url, {}, "--topic", f"{topic}-typo"), "topic")
    assert "there is no such topic" in unknown["there"]["text"]


def test_a_group_is_told_by_what_it_does(kafka_secure: LocalKafka, topic: str, group: str, examined) -> None:
    kafka_secure.create_topic(topic, 1)
    looking = (kafka_secure.url, {}, "--topic", topic, "--group", group)
    assert "no such group" in by_check(examined(*looking), "group")["state"]["text"]

    with Producer(kafka_secure.url) as producer:
        producer.send_batch(topic, [b"x"] * 10).result(10).raise_for_failures()
    with Consumer(kafka_secure.url, [topic], group) as consumer:
        batch = consumer.poll(4, timeout=30)
        assert len(batch) == 4
        batch.commit()
        busy = by_check(examined(*looking, status=0), "group")
    assert (busy["state"]["text"], busy["state"]["state"]) == ("Stable, 1 member", "ok")
    assert busy["lag"]["facts"] == {"lag": 6, "not_moving": [f"{topic}-0"], "missed": {}}
    assert busy["lag"]["state"] == "warning" and "rdknotify lag --watch" in busy["lag"]["advice"]

    idle = by_check(examined(*looking), "group")
    assert "it has no members" in idle["state"]["text"]
    assert "6 records wait" in idle["lag"]["text"]


@pytest.mark.parametrize(("shift", "state"), [(0.0, "ok"), (10.0, "warning"), (-100.0, "trouble")])
def test_clocks_are_compared_by_a_record(
    shift: float, state: str, kafka_secure: LocalKafka, topic: str, examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Admin(kafka_secure.url) as admin:
        admin.create_topic(topic, 1, config={"message.timestamp.type": "LogAppendTime"})
    now = time.time
    monkeypatch.setattr("rdknotify.cli.doctor.writing._now", lambda: now() + shift)
    findings = by_check(
        examined(kafka_secure.url, {}, "--topic", topic, "--write", topic, status=3 if state == "trouble" else 0)
    )
    assert findings["record"]["state"] == "ok"
    assert findings["skew"]["state"] == state
    assert findings["skew"]["facts"]["broker_ahead_seconds"] == pytest.approx(-shift, abs=1.5)


def test_a_topic_with_the_senders_times_tells_nothing_of_clocks(kafka_secure: LocalKafka, topic: str, examined) -> None:
    kafka_secure.create_topic(topic, 1)
    skew = by_check(examined(kafka_secure.url, {}, "--topic", topic, "--write", topic, status=0))["skew"]
    assert skew["state"] == "skipped" and "LogAppendTime" in skew["text"]


def test_a_topic_is_not_made_by_looking_at_it(kafka_secure: LocalKafka, topic: str, examined) -> None:
    findings = examined(kafka_secure.url, {}, "--topic", f"{topic}-a", "--write", f"{topic}-b")
    written = by_check(findings, f"topic {topic}-b")["record"]
    assert "no such topic" in written["text"] and "LogAppendTime" in written["advice"]
    with Admin(kafka_secure.url) as admin:
        assert not {f"{topic}-a", f"{topic}-b"} & set(admin.topics())


def test_a_frozen_broker_is_told_in_time(kafka_secure: LocalKafka, examined) -> None:
    url, options = kafka_secure.security.url("SASL_SSL", "alice"), tls(kafka_secure.security)
    kafka_secure.pause(1)
    try:
        findings = examined(url, options)
    finally:
        kafka_secure.resume(1)
    (trouble,) = [finding for finding in findings if finding["state"] == "trouble"]
    assert "has not answered" in trouble["text"] and "broker's log" in trouble["advice"]


def test_a_lost_broker_and_what_it_means_for_topics(kafka3: LocalKafka, topic: str, examined) -> None:
    with Admin(kafka3.url) as admin:
        admin.create_topic(f"{topic}-safe", 3, 3, {"min.insync.replicas": "2"})
        admin.create_topic(f"{topic}-strict", 3, 3, {"min.insync.replicas": "3"})
        admin.create_topic(f"{topic}-single", 6, 1)
    names = [f"{topic}-{kind}" for kind in ("safe", "strict", "single")]
    until(lambda: all(view.topics.keys() >= {*names} for view in kafka3.views()), 30, "not all nodes know the topics")
    looking = (kafka3.url, {}, *(part for name in names for part in ("--topic", name)))
    well = examined(*looking, status=0)
    assert "copies: 3, in step" in by_check(well, f"topic {topic}-safe")["partitions"]["text"]
    assert "while one broker is down" in by_check(well, f"topic {topic}-strict")["settings"]["text"]

    kafka3.kill(2)
    deadline = time.monotonic() + 60
    while True:
        findings = examined(*looking)
        untold = {"state": "untold"}  # while the cluster finds itself again
        found = {
            name: by_check(findings, f"topic {topic}-{name}").get("partitions", untold)
            for name in ("safe", "strict", "single")
        }
        if found["safe"]["state"] == "warning" and found["single"]["state"] == "trouble":
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert sum(finding["check"] == "tcp" and finding["state"] == "trouble" for finding in findings) == 1
    assert "broker 2 is down or behind" in found["safe"]["text"]
    assert "min.insync.replicas=3" in found["strict"]["text"] and "other copies: 2" in found["strict"]["advice"]
    assert len(found["single"]["facts"]["without_leader"]) == 2
    assert "nothing can be sent there or read" in found["single"]["text"]
