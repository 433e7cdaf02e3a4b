"""Librdkafka's own OIDC client, which wheels have: it gets tokens by HTTPS, renews them, and says what is wrong."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.endpoints import SOON
from support.token_server import TokenServer, token_server
from support.waiting import until

import rdknotify
from rdknotify import AuthenticationError, ConfigError, Consumer, Producer, ShareConsumer
from rdknotify.testing import LocalKafka
from rdknotify.testing.certificates import Authority
from rdknotify.testing.process import HOST
from rdknotify.testing.security import Security

SECRET = "open sesame"
BUILT_IN = "oidc" in rdknotify.features()
needs_it = pytest.mark.skipif(not BUILT_IN, reason="librdkafka is built without curl, and so without its OIDC client")
CLIENTS = {
    "producer": lambda url, **options: Producer(url, **options),
    "consumer": lambda url, **options: Consumer(url, ["t"], "g", **options),
    "share consumer": lambda url, **options: ShareConsumer(url, ["t"], "g", **options),
}


@pytest.fixture
def security(kafka_secure: LocalKafka) -> Security:
    return kafka_secure.security


def by_https(authority: Authority) -> ssl.SSLContext:
    pair = authority.client(HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


@pytest.fixture
def server(security: Security, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """A token server whose authority, as the brokers', is known by the environment."""
    monkeypatch.setenv("SSL_CERT_FILE", str(security.ca.file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with token_server(by_https(security.ca)) as server:
        server.answer = {"access_token": security.signed_token("alice"), "expires_in": 300}
        yield server


def oidc(url: str, **properties: Any) -> dict[str, Any]:
    given = {"method": "oidc", "client.id": "billing", "client.secret": SECRET, "token.endpoint.url": url}
    config = {f"sasl.oauthbearer.{name}": value for name, value in {**given, **properties}.items()}
    return {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "config": config}


@pytest.mark.skipif(BUILT_IN, reason="librdkafka is built with its OIDC client")
@pytest.mark.parametrize("client", CLIENTS)
def test_where_it_is_not_built_in_the_error_says_what_is(client: str) -> None:
    for url in ("https://host/token", "http://127.0.0.1/token"):
        with pytest.raises(ConfigError, match="OIDC client is not built in: use oauth_token_url"):
            CLIENTS[client]("kafka://127.0.0.1:1", ssl_cafile="ca.pem", **oidc(url))


@needs_it
def test_records_go_there_and_back(security, server, topic, group) -> None:
    options = oidc(server.url, scope="kafka")
    with Producer(security.url("OIDC"), **options) as producer:
        producer.send_batch(topic, [b"v"]).result(SOON).raise_for_failures()
    with Consumer(security.url("OIDC"), [topic], group, **options) as consumer:
        assert until(lambda: consumer.poll(timeout=1.0).values(), "it came", SOON) == [b"v"]
    asked = [(fields["grant_type"], fields["scope"]) for _, fields in server.requests]
    assert asked == [("client_credentials", "kafka")] * 2


@needs_it
@pytest.mark.parametrize("named", ["a hashed folder", "a file and a folder"])
def test_all_that_the_environment_names_is_trusted(named, security, server, tmp_path, monkeypatch) -> None:
    shutil.copy(security.ca.file, tmp_path)
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(security.stranger.file) if "file" in named else "")
    Producer(security.url("OIDC"), **oidc(server.url)).close()
    assert len(server.requests) == 1


@needs_it
def test_a_share_consumer(security, server, topic, group) -> None:
    with (
        ShareConsumer(security.url("OIDC"), [topic], group, create_topics=True, **oidc(server.url)) as consumer,
        Producer(security.url("OIDC"), **oidc(server.url)) as producer,
    ):
        producer.send_batch(topic, [b"v"]).result(SOON).raise_for_failures()
        batch = until(lambda: consumer.poll(timeout=1.0), "it came", SOON)
        assert batch.values() == [b"v"]
        consumer.accept(batch)


@needs_it
def test_tokens_are_renewed(security, server, topic) -> None:
    lifetime = 4.0
    server.answer = lambda: {"access_token": security.signed_token("alice", lifetime), "expires_in": lifetime}
    with Producer(security.url("OIDC"), **oidc(server.url)) as producer:
        deliveries, end = [], time.monotonic() + 2.5 * lifetime
        while time.monotonic() < end:
            deliveries.append(producer.send_batch(topic, [b"v"]))
            time.sleep(0.1)
        assert sum(len(delivery.result(SOON).failures) for delivery in deliveries) == 0
    assert len(server.requests) >= 3


@needs_it
def test_a_server_that_refuses_is_the_reason_and_the_secret_stays_secret(security, server, caplog) -> None:
    server.status, server.answer = 401, {"error": "invalid_client", "error_description": "who are you"}
    with pytest.raises(AuthenticationError, match="who are you") as caught:
        Producer(security.url("OIDC"), **oidc(server.url))
    assert SECRET not in str(caught.value) + caplog.text


@needs_it
@pytest.mark.parametrize("way", ["the environment", "https.ca.location", "https.ca.pem"])
def test_the_token_server_is_checked(way, security, server, monkeypatch) -> None:
    options = {**oidc(server.url), "ssl_cafile": str(security.ca.file)}
    if way == "the environment":
        monkeypatch.setenv("SSL_CERT_FILE", str(security.stranger.file))
    else:
        options["config"][way] = str(security.stranger.file) if "location" in way else security.stranger.pem
    with pytest.raises(AuthenticationError, match=r"certificate.*check .* https\.ca\.location"):
        Producer(security.url("OIDC"), **options)
    assert server.requests == []
