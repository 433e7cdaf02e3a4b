"""Whoever is refused hears of it within seconds, by an exception of its own that names the setting. No secret shows."""

from __future__ import annotations

import base64
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from support.endpoints import Endpoint
from support.hanging_up import hanging_up
from support.rights import Rights

from rdknotify import (
    AuthenticationError,
    AuthorizationError,
    Consumer,
    KafkaError,
    Listener,
    Outcome,
    Persister,
    Producer,
    SQLiteSink,
    Timeout,
)
from rdknotify.testing import LocalKafka
from rdknotify.testing.security import Security

WITHIN = 10.0
"""Seconds in which everybody must have been told."""


@pytest.fixture
def security(kafka_secure: LocalKafka) -> Security:
    return kafka_secure.security


def tls(security: Security, **options: Any) -> dict[str, Any]:
    return {"ssl_cafile": str(security.ca.file), **options}


def pair(security: Security, authority: str, name: str, **options: Any) -> dict[str, Any]:
    signed = getattr(security, authority).client(name)
    return tls(security, ssl_client_cert_file=str(signed.certificate), ssl_client_key_file=str(signed.key), **options)


def password(security: Security, user: str, word: str, listener: str = "SASL_SSL", **options: Any) -> tuple[str, Any]:
    place = security.url(listener).partition("//")[2]
    return f"kafka://{user}:{word}@{place}", tls(security, security_protocol="SASL_SSL", **options)


TLS_1_2 = {"ssl.cipher.suites": "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384"}

REFUSED: dict[str, tuple[Callable[[Security], tuple[str, Any]], str, str]] = {
    "wrong password, PLAIN": (
        lambda s: password(s, "alice", "wrong"),
        "Invalid username or password",
        "check the user, the password",
    ),
    "wrong password, SCRAM": (
        lambda s: password(s, "alice", "wrong", sasl_mechanism="SCRAM-SHA-512"),
        "invalid credentials",
        "check the user, the password",
    ),
    "unknown user, SCRAM": (
        lambda s: password(s, "nobody", "alice-pw", sasl_mechanism="SCRAM-SHA-256"),
        "invalid credentials",
        "check the user, the password",
    ),
    "no common mechanism": (
        lambda s: password(s, "alice", "alice-pw", "OIDC"),
        "supported mechanisms: OAUTHBEARER",
        "does not offer this sasl_mechanism",
    ),
    "a token that is none": (
        lambda s: (s.url("OIDC"), tls(s, security_protocol="SASL_SSL", **bearer(s.unsecured_token("alice")))),
        "invalid_token",
        "check what oauth_token gives",
    ),
    "a token that has expired": (
        lambda s: (s.url("OIDC"), tls(s, security_protocol="SASL_SSL", **bearer(s.signed_token("alice", -60)))),
        "invalid_token",
        "check what oauth_token gives",
    ),
    "SASL to a listener without": (
        lambda s: password(s, "alice", "alice-pw", "TLS"),
        "not valid in current SASL state",
        "does not want SASL: check security_protocol",
    ),
    "wrong CA": (
        lambda s: (s.url("TLS"), {"ssl_cafile": str(s.stranger.file)}),
        "unable to get local issuer certificate",
        "check that ssl_cafile",
    ),
    "no CA": (
        lambda s: (s.url("TLS"), {"security_protocol": "SSL"}),
        "unable to get local issuer certificate",
        "check that ssl_cafile",
    ),
    "expired certificate": (
        lambda s: (s.url("EXPIRED"), tls(s)),
        "certificate has expired",
        "renew the broker's certificate",
    ),
    "certificate for another host": (
        lambda s: (s.url("WRONGHOST"), tls(s)),
        "IP address mismatch",
        "use a host name in the URL that it names",
    ),
    "no client certificate, TLS 1.3": (
        lambda s: (s.url("MTLS"), tls(s)),
        "alert",
        "check ssl_client_cert_file",
    ),
    "no client certificate, TLS 1.2": (
        lambda s: (s.url("MTLS"), tls(s, config=TLS_1_2)),
        "alert",
        "check ssl_client_cert_file",
    ),
    "client certificate of a stranger": (
        lambda s: (s.url("MTLS"), pair(s, "stranger", "alice")),
        "alert",
        "check ssl_client_cert_file",
    ),
}

MISTAKEN: dict[str, tuple[Callable[[LocalKafka], tuple[str, Any]], str]] = {
    "plain client on a TLS port": (lambda k: (k.security.url("TLS"), {}), "it may want TLS or SASL"),
    "plain client on a SASL port": (lambda k: (k.security.url("SASL_PLAINTEXT"), {}), "it may want TLS or SASL"),
    "TLS client on a plain port": (lambda k: (k.url, tls(k.security)), "the listener does not speak TLS"),
    "TLS client on a SASL_SSL port": (
        lambda k: (k.security.url("SASL_SSL"), tls(k.security)),
        "it may want a client certificate or SASL",
    ),
    "SASL without TLS on a SASL_SSL port": (
        lambda k: (k.security.url("SASL_SSL", "alice"), {"sasl_mechanism": "SCRAM-SHA-512"}),
        "it may want TLS or SASL",
    ),
}


def bearer(token: str) -> dict[str, Any]:
    from rdknotify.oauth import OAuthToken

    return {"sasl_mechanism": "OAUTHBEARER", "oauth_token": lambda: OAuthToken(token, time.time() + 60)}


USES = ["Producer()", "Consumer()", "send", "flush", "poll"]


def use(how: str, url: str, **options: Any) -> None:
    """Do this for the first time; with the last three nobody was asked at construction."""
    if how == "Producer()":
        Producer(url, **options).close()
    elif how == "Consumer()":
        Consumer(url, ["t"], "g", **options).close()
    elif how == "poll":
        with Consumer(url, ["t"], "g", connect_timeout=None, close_timeout=0.5, **options) as consumer:
            consumer.poll(timeout=WITHIN)
    else:
        producer = Producer(url, connect_timeout=None, **options)
        try:
            delivery = producer.send_batch("t", [b"v"])
            producer.flush(WITHIN) if how == "flush" else delivery.result(WITHIN)
        finally:
            producer.purge()
            producer.shut()


@contextmanager
def told(figure: Any, case: str, kind: type[KafkaError]) -> Iterator[list[KafkaError]]:
    """The block must raise that, in time; its error is what is yielded."""
    found: list[KafkaError] = []
    begun = time.monotonic()
    with pytest.raises(kind) as caught:
        yield found
    seconds = round(time.monotonic() - begun, 2)
    assert type(caught.value) is kind
    found.append(caught.value)
    for row in ("S", "F19"):
        figure(row, f"{case}: seconds until told", seconds, "s", at_most=WITHIN)


# All that waits asks the same question: once is enough for each.
FIRST = next(iter(REFUSED))
ATTEMPTS = [(case, how) for case in REFUSED for how in (USES if case == FIRST else ("Producer()", "poll"))]


@pytest.mark.parametrize(("case", "how"), ATTEMPTS)
def test_who_is_refused(case, how, security, figure):
    make, reason, advice = REFUSED[case]
    url, options = make(security)

    with told(figure, f"{case}, {how}", AuthenticationError) as found:
        use(how, url, **options)

    assert reason in str(found[0]) and advice in str(found[0])
    assert not found[0].retriable


@pytest.mark.parametrize(("case", "how"), list(zip(MISTAKEN, itertools.cycle(["Producer()", "send", "poll"]))))
def test_who_takes_a_port_for_another(case, how, kafka_secure, figure):
    make, advice = MISTAKEN[case]
    url, options = make(kafka_secure)
    patience = {"connect_timeout": 1.0} if how == "Producer()" else {}

    with told(figure, f"{case}, {how}", Timeout) as found:
        use(how, url, **patience, **options)

    assert advice in str(found[0]) and "security_protocol" in str(found[0])


@pytest.mark.parametrize("how", ["Producer()", "send", "poll"])
def test_a_port_that_is_not_kafkas(how, figure):
    patience = {"connect_timeout": 1.0} if how == "Producer()" else {}
    with (
        hanging_up(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        told(figure, f"HTTP port, {how}", Timeout) as found,
    ):
        use(how, f"kafka://{address}", **patience)

    assert "not a Kafka port" in str(found[0]) and "check the port" in str(found[0])


# -- rights -----------------------------------------------------------------------------------------


@pytest.fixture
def rights(kafka_secure: LocalKafka, topic: str) -> Iterator[Rights]:
    """Bob's, who has none at first."""
    kafka_secure.create_topic(topic, 1)
    rights = Rights(kafka_secure.bootstrap_servers, "bob")
    yield rights
    rights.take_all()


@pytest.fixture
def bob(security: Security) -> dict[str, Any]:
    return {"url": security.url("SASL_SSL", "bob"), **tls(security, sasl_mechanism="SCRAM-SHA-256")}


def test_no_right_to_send(rights, bob, topic, figure):
    rights.give(topic=f"{topic}-another", operations=["WRITE"])  # else he gets no producer's id
    with Producer(**bob) as producer:
        begun = time.monotonic()
        report = producer.send_batch(topic, [b"a", b"b"]).result(WITHIN)
        seconds = time.monotonic() - begun

    assert [failure.outcome for failure in report.failures] == [Outcome.NOT_PERSISTED] * 2
    for failure in report.failures:
        assert type(failure.error) is AuthorizationError and "WRITE on the topic" in str(failure.error)
    figure("S", "no ACL for the topic, send: seconds until told", round(seconds, 2), "s", at_most=WITHIN)


def test_no_right_to_send_anything(rights, bob, topic, figure):
    producer = Producer(**bob)
    try:
        with told(figure, "no ACL to send at all", AuthorizationError) as found:
            report = producer.send_batch(topic, [b"a"]).result(WITHIN)
            producer.send_batch(topic, [b"b"])
            raise report.failures[0].error
    finally:
        producer.shut()
    assert "WRITE on" in str(found[0])


@pytest.mark.parametrize("missing", ["topic", "group"])
def test_no_right_to_read(missing, rights, bob, topic, group, figure):
    rights.give(**({"group": group} if missing == "topic" else {"topic": topic}))
    with (
        Consumer(topics=[topic], group=group, **bob) as consumer,
        told(figure, f"no ACL for the {missing}, poll", AuthorizationError) as found,
    ):
        consumer.poll(timeout=WITHIN)

    assert found[0].name == f"{missing.upper()}_AUTHORIZATION_FAILED"
    assert {"topic": "READ", "group": "consumer group"}[missing] in str(found[0])


# -- what stands above ------------------------------------------------------------------------------


def listener(url: str, sink: Any, **options: Any) -> None:
    Listener(url, ["t"], [Endpoint()], pool="g", **options).run()


def persister(url: str, sink: Any, **options: Any) -> None:
    Persister(url, ["t"], group="g", sink=sink, **options).run()


@pytest.mark.parametrize("lazy", [False, True], ids=["checked", "lazy"])
@pytest.mark.parametrize("work", [listener, persister], ids=lambda work: work.__name__)
def test_a_service_ends_with_the_reason(work, lazy, security, tmp_path, figure):
    url, options = password(security, "alice", "wrong")
    options |= {"connect_timeout": None} if lazy else {}

    with told(figure, f"wrong password, {work.__name__}{', lazy' * lazy}", AuthenticationError):
        work(url, SQLiteSink(tmp_path / "db"), **options)


@pytest.mark.parametrize("case", ["wrong password", "no client certificate"])
def test_the_driver_says_it_at_start_and_when_it_sends(case, security, figure):
    oslo_messaging = pytest.importorskip("oslo_messaging")
    from oslo_config import cfg

    if case == "wrong password":
        url, options = password(security, "alice", "wrong")
    else:
        url, options = security.url("MTLS"), tls(security, security_protocol="SSL")
    url = f"{url.replace('kafka://', 'rdkafka://')}/?{urlencode(options)}"
    transport = oslo_messaging.get_notification_transport(cfg.ConfigOpts(), url=url)
    target = oslo_messaging.Target(topic="t")
    server = oslo_messaging.get_notification_listener(transport, [target], [Endpoint()], executor="threading")
    message = {"message_id": "m", "publisher_id": "p", "event_type": "e", "priority": "INFO", "payload": {}}

    with told(figure, f"{case}, start() of the driver's listener", AuthenticationError):
        server.start()
    begun = time.monotonic()
    with pytest.raises(oslo_messaging.MessageDeliveryFailure, match=r"refused the connection.*check"):
        transport._send_notification(target, {}, message, 2.0, retry=0)
    seconds = time.monotonic() - begun
    transport._driver._sender._producer.purge()  # what stays queued would be waited for
    transport.cleanup()
    figure("S", f"{case}, the driver with retry=0: seconds until told", round(seconds, 2), "s", at_most=WITHIN)


# -- secrets ----------------------------------------------------------------------------------------

MARKER = "geheimnis7"
SCRIPT = """
import logging, pathlib, sys, time, warnings
logging.basicConfig(level=1, format="%(name)s %(levelname)s %(message)s")
warnings.simplefilter("always")
import rdknotify
from rdknotify import oauth
from rdknotify.options import resolve

secret, place, cafile, folder = sys.stdin.readline().split()
config = {"debug": "all", "statistics.interval.ms": "50"}
common = {"security_protocol": "SASL_SSL", "ssl_cafile": cafile, "config": config}
file = pathlib.Path(folder, "credentials")
file.write_text(f"username=alice\\npassword={secret}\\n")
ways = [
    {"url": f"kafka://alice:{secret}@{place}"},
    {"url": f"kafka://alice:{secret}@{place}", "sasl_mechanism": "SCRAM-SHA-512"},
    {"url": f"kafka://{place}", "credentials_file": str(file)},
    {"url": f"kafka://{place}", "sasl_mechanism": "OAUTHBEARER", "oauth_token_url": "http://127.0.0.1:1/token",
     "oauth_client_id": "c", "oauth_client_secret": secret},
    {"url": f"kafka://{place}", "sasl_mechanism": "OAUTHBEARER",
     "oauth_token": lambda: oauth.OAuthToken(secret, time.time() + 60)},
    {"url": f"kafka://{place}", "sasl_mechanism": "OAUTHBEARER",
     "oauth_token": lambda: oauth.OAuthToken(secret + "\\n", time.time() + 60)},
    {"url": f"kafka://alice:{secret}@{place}", "ssl_client_key_password": secret,
     "ssl_client_cert_file": "-----BEGIN CERTIFICATE-----",
     "ssl_client_key_file": "-----BEGIN PRIVATE KEY-----" + secret},
    {"url": f"kafka://alice:{secret}@{place}?oauth_client_secret={secret}&ssl_key_password={secret}"},
    {"url": f"kafka://alice:{secret}/{place}"},
]
for way in ways:
    for make in (lambda **o: rdknotify.Producer(**o), lambda **o: rdknotify.Consumer(topics=["t"], group="g", **o)):
        given = {**common, **way}
        try:
            print(resolve(given.pop("url"), "producer", {k: v for k, v in given.items() if k != "config"}))
        except Exception:
            logging.exception("settings")
        try:
            make(**{**common, **way})
            print("connected")
        except Exception as error:
            logging.exception("%r", error)
lazy = rdknotify.Producer(connect_timeout=None, **{**common, **ways[0]})
delivery = lazy.send_batch("t", [b"v"])
try:
    delivery.result(10)
except Exception as error:
    logging.exception("%r %s", error, lazy)
lazy.set_credentials("alice", secret + "2")
time.sleep(0.5)
print(lazy.statistics, lazy.events.troubles, vars(lazy), rdknotify.TransportURL.parse(ways[0]["url"]), flush=True)
print(pathlib.Path("/proc/self/cmdline").read_bytes())
lazy.purge(); lazy.close()
"""


@pytest.mark.parametrize("right", [False, True], ids=["refused", "taken"])
def test_no_secret_is_told_anywhere(right, security, tmp_path):
    secret = security.users["alice"] if right else MARKER
    place = security.url("SASL_SSL").partition("//")[2]
    command = [sys.executable, "-c", SCRIPT]
    told = subprocess.run(
        command,
        input=f"{secret} {place} {security.ca.file} {tmp_path}\n",
        env={"RDKNOTIFY_PASSWORD": secret},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    output = told.stdout + told.stderr
    assert told.returncode == 0, output[-3000:]
    assert ("connected" in told.stdout.splitlines()) == right
    assert "AuthenticationError" in output and "SASL" in output and "***" in output
    assert [line for line in output.splitlines() if secret in line] == []
    if right:
        assert base64.b64encode(f"\0alice\0{secret}".encode()).decode() not in output
