"""Each way to be secure works against a real broker, and so does everything that sends and reads over it."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support.endpoints import SOON, Endpoint, until

from rdknotify import (
    AuthenticationError,
    ConfigError,
    Consumer,
    Listener,
    Notifier,
    Persister,
    Producer,
    ShareConsumer,
    SQLiteSink,
)
from rdknotify.oauth import OAuthToken
from rdknotify.testing import LocalKafka, Security

PASSPHRASE = "open sesame"
UNSECURED = {"enable.sasl.oauthbearer.unsecure.jwt": True, "sasl.oauthbearer.config": "principal=alice"}
BEARER = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
COUNT = 100

Way = Callable[[Security], "tuple[str, dict[str, Any]]"]


@pytest.fixture
def security(kafka_secure: LocalKafka) -> Security:
    return kafka_secure.security


def ca(security: Security) -> dict[str, Any]:
    return {"ssl_cafile": str(security.ca.file)}


def certificate(security: Security, password: str | None = None) -> dict[str, Any]:
    pair = security.ca.client("alice", password)
    return {**ca(security), "ssl_client_cert_file": str(pair.certificate), "ssl_client_key_file": str(pair.key)}


def sasl(listener: str, mechanism: str) -> Way:
    return lambda security: (
        security.url(listener, "alice"),
        {"sasl_mechanism": mechanism, **(ca(security) if listener == "SASL_SSL" else {})},
    )


def unsecured(listener: str) -> Way:
    given = {"security_protocol": listener, "sasl_mechanism": "OAUTHBEARER", "config": UNSECURED}
    return lambda security: (security.url(listener), {**given, **(ca(security) if listener == "SASL_SSL" else {})})


WAYS: dict[str, Way] = {
    "TLS, CA file": lambda security: (security.url("TLS"), ca(security)),
    "TLS, CA as text": lambda security: (security.url("TLS"), {"ssl_cafile": security.ca.pem}),
    "TLS, client certificate": lambda security: (security.url("MTLS"), certificate(security)),
    "TLS, client certificate, encrypted key": lambda security: (
        security.url("MTLS"),
        {**certificate(security, PASSPHRASE), "ssl_client_key_password": PASSPHRASE},
    ),
    **{f"SASL_SSL {each}": sasl("SASL_SSL", each) for each in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")},
    **{f"SASL_PLAINTEXT {each}": sasl("SASL_PLAINTEXT", each) for each in ("SCRAM-SHA-256", "SCRAM-SHA-512")},
    **{f"{each} OAUTHBEARER, unsecured token": unsecured(each) for each in ("SASL_SSL", "SASL_PLAINTEXT")},
    "SASL_SSL OAUTHBEARER, signed token": lambda security: (
        security.url("OIDC"),
        {**ca(security), **BEARER, "oauth_token": lambda: OAuthToken(security.signed_token("alice"), time.time() + 60)},
    ),
}


def arrived(url: str, topic: str, group: str, **options: Any) -> Counter[bytes | None]:
    """What a consumer reads of a hundred numbers that a producer sent, both with these options."""
    with Producer(url, **options) as producer:
        producer.send_batch(topic, [b"%d" % number for number in range(COUNT)]).result(SOON).raise_for_failures()
    found: Counter[bytes | None] = Counter()
    with Consumer(url, [topic], group, **options) as consumer:
        while found.total() < COUNT:
            batch = consumer.poll(timeout=SOON)
            assert batch, f"only {found.total()} records came"
            found.update(batch.values())
            batch.commit()
    return found


def wrong(found: Counter[bytes | None]) -> int:
    """How many of the hundred numbers did not arrive exactly once."""
    return sum(found[b"%d" % number] != 1 for number in range(COUNT))


@pytest.mark.parametrize("way", WAYS)
def test_records_go_there_and_back(way, security, topic, group, figure):
    url, options = WAYS[way](security)

    found = arrived(url, topic, group, **options)

    figure("S", f"{way}: of {COUNT} records not read exactly once", wrong(found), at_most=0)


def test_a_password_in_the_clear_works_and_is_warned_of(security, topic, group):
    url = security.url("SASL_PLAINTEXT", "alice")

    with pytest.warns(UserWarning, match=r"PLAIN.*in the clear"):
        found = arrived(url, topic, group, sasl_mechanism="PLAIN")

    assert wrong(found) == 0


# -- where credentials come from --------------------------------------------------------------------


@pytest.mark.parametrize("place", ["the environment", "a file", "a folder"])
def test_credentials_need_not_stand_in_the_url(place, security, topic, group, tmp_path, monkeypatch):
    options = {**ca(security), "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-256"}
    if place == "the environment":
        monkeypatch.setenv("RDKNOTIFY_USERNAME", "alice")
        monkeypatch.setenv("RDKNOTIFY_PASSWORD", security.users["alice"])
    elif place == "a file":
        options["credentials_file"] = str(tmp_path / "credentials")
        (tmp_path / "credentials").write_text(f"username=alice\npassword={security.users['alice']}\n")
    else:  # as secrets are mounted
        options["credentials_file"] = str(tmp_path)
        (tmp_path / "username").write_text("alice")
        (tmp_path / "password").write_text(security.users["alice"])

    assert wrong(arrived(security.url("SASL_SSL"), topic, group, **options)) == 0


def test_a_share_consumer_with_an_unsecured_token(security, topic, group):
    url, options = unsecured("SASL_SSL")(security)
    with (
        ShareConsumer(url, [topic], group, create_topics=True, **options) as consumer,
        Producer(url, **options) as producer,
    ):
        producer.send_batch(topic, [b"v"]).result(SOON).raise_for_failures()
        batch = consumer.poll(timeout=SOON)
        assert batch.values() == [b"v"]
        consumer.accept(batch)


def test_a_certificate_for_another_host_is_refused_unless_that_is_switched_off(security, topic, group):
    url = security.url("WRONGHOST")
    with pytest.raises(AuthenticationError):
        Producer(url, **ca(security))

    with pytest.warns(UserWarning, match="host names are not compared"):
        found = arrived(url, topic, group, config={"ssl.endpoint.identification.algorithm": "none"}, **ca(security))

    assert wrong(found) == 0


CLIENTS = {"producer": Producer, "consumer": lambda url, **options: Consumer(url, ["t"], "g", **options)}


@pytest.mark.parametrize("made", CLIENTS)
@pytest.mark.parametrize("given", ["shut sesame", None])
def test_the_passphrase_of_a_key_is_named_and_not_shown(made, given, security):
    options = certificate(security, PASSPHRASE)

    with pytest.raises(ConfigError, match="ssl_client_key_password") as refused:
        CLIENTS[made](security.url("MTLS"), ssl_client_key_password=given, **options)

    assert "sesame" not in str(refused.value)


def test_a_file_that_cannot_be_used_is_told_by_its_option(security, tmp_path):
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("rubbish")
    others = security.ca.client("bob")
    for option, value in (
        ("ssl_cafile", rubbish),
        ("ssl_cafile", tmp_path / "absent"),
        ("ssl_client_cert_file", rubbish),
        ("ssl_client_key_file", rubbish),
        ("ssl_client_key_file", others.key),
    ):
        options = certificate(security) | {option: str(value)}
        with pytest.raises(ConfigError, match=f"option {option}: "):
            Producer(security.url("MTLS"), **options)


# -- everything that sends and reads, over TLS with a password --------------------------------------


@pytest.fixture
def safe(security: Security) -> tuple[str, dict[str, Any]]:
    return sasl("SASL_SSL", "SCRAM-SHA-512")(security)


def test_notifications(safe, topic, group):
    url, options = safe
    endpoint = Endpoint()
    with (
        Listener(url, [topic], [endpoint], pool=group, settle="after", create_topics=True, **options),
        Notifier(url, "n", topics=[topic], **options) as notifier,
    ):
        notifier.notify_batch("info", [(str(number), {}) for number in range(COUNT)]).result(SOON).raise_for_failures()

        seen = endpoint.seen(COUNT)

    assert sorted(seen, key=int) == [str(number) for number in range(COUNT)]


def test_a_persister(safe, topic, group, tmp_path):
    url, options = safe
    with Notifier(url, "n", topics=[topic], **options) as notifier:
        notifier.notify_batch("info", [(str(number), {}) for number in range(COUNT)]).result(SOON).raise_for_failures()

    with Persister(
        url, [f"{topic}.info"], group=group, sink=SQLiteSink(tmp_path / "db"), max_wait=0.1, **options
    ) as it:
        until(lambda: it.counts.stored >= COUNT)

    with sqlite3.connect(tmp_path / "db") as database:
        stored = database.execute("SELECT count(*), count(DISTINCT event_type) FROM notifications").fetchone()
    assert stored == (COUNT, COUNT)


def test_the_driver_of_oslo_messaging(security, topic, group, tmp_path):
    from support.oslo import configuration, oslo_messaging, transport

    options = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-256", **ca(security)}
    url = security.url("SASL_SSL", "alice").replace("kafka:", "rdkafka:")
    to = transport(url, configuration(tmp_path / "conf", **options))
    endpoint = Endpoint()
    target = oslo_messaging.Target(topic=topic)
    server = oslo_messaging.get_notification_listener(to, [target], [endpoint], pool=group)
    server.start()
    try:
        oslo_messaging.Notifier(to, "n", driver="messagingv2", topics=[topic]).info({}, "0", {})

        assert endpoint.seen(1) == ["0"]
    finally:
        server.stop()
        server.wait()
        to.cleanup()
