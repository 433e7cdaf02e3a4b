"""TLS that fails, between a client and a server of Python's: what is said, to whom, and when."""

from __future__ import annotations

import datetime
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.waiting import until

from rdknotify import AuthenticationError, Consumer, Producer, Timeout

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA) -> dict[str, str]:
    return {"ssl_cafile": authority.cert_pem.bytes().decode()}


@contextmanager
def listening(certificate: trustme.LeafCert, **context_options: Any) -> Iterator[str]:
    """``localhost:port`` of a server that shakes hands, reads and hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    for name, value in context_options.items():
        setattr(context, name, value)
    with wanting(context) as address:
        yield address


@contextmanager
def wanting(context: ssl.SSLContext) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
                    wrapped.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"localhost:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def refused(address: str, **options: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        Producer(f"kafka://{address}", **options)
    return str(caught.value)


LIVES = {"expired": (-2, -1, "certificate has expired"), "not valid yet": (1, 2, "certificate is not yet valid")}


@pytest.mark.parametrize("life", LIVES)
def test_the_dates_of_a_certificate(life, authority, trusted):
    begin, end, reason = LIVES[life]
    certificate = authority.issue_cert("localhost", not_before=NOW + begin * DAY, not_after=NOW + end * DAY)
    with listening(certificate) as address:
        text = refused(address, **trusted)
    assert f"the broker's certificate is not accepted: {reason}" in text and " (subject=" in text
    assert "renew the broker's certificate" in text and address in text
    assert "ssl.ca.location" not in text, "librdkafka's guess, which is wrong here"


def test_a_certificate_for_another_host(authority, trusted):
    with listening(authority.issue_cert("elsewhere.example", common_name="elsewhere")) as address:
        text = refused(address, **trusted)
        assert "hostname mismatch (subject=" in text and "CN=elsewhere" in text
        assert "use a host name in the URL that it names" in text
        assert "IP address mismatch" in refused(address.replace("localhost", "127.0.0.1"), **trusted)


def test_an_authority_that_nobody_trusts(trusted):
    stranger = trustme.CA(organization_name="strangers")
    with listening(stranger.issue_cert("localhost")) as address:
        text = refused(address, **trusted)
    assert "unable to get local issuer certificate" in text and "issuer=/O=strangers" in text
    assert "check that ssl_cafile has the CA" in text


def pair(signer: trustme.CA, folder: Path, **life: Any) -> dict[str, str]:
    leaf = signer.issue_cert("client", **life)
    leaf.cert_chain_pems[0].write_to_path(str(folder / "crt"))
    leaf.private_key_pem.write_to_path(str(folder / "key"))
    return {"ssl_client_cert_file": str(folder / "crt"), "ssl_client_key_file": str(folder / "key")}


CLIENTS = ["none", "a stranger's", "expired"]
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_certificate_that_is_refused(client, version, authority, trusted, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = VERSIONS[version]
    given = {
        "none": dict,
        "a stranger's": lambda: pair(trustme.CA(), tmp_path),
        "expired": lambda: pair(authority, tmp_path, not_before=NOW - 2 * DAY, not_after=NOW - DAY),
    }[client]()
    with wanting(context) as address:
        if client == "none" and version == "1.2":
            # OpenSSL's server says it by an alert that may mean anything
            with pytest.raises((AuthenticationError, Timeout)) as caught:
                Producer(f"kafka://{address}", connect_timeout=1, **trusted, **given)
            text = str(caught.value)
        else:
            text = refused(address, **trusted, **given)
    assert "ssl_client_cert_file" in text
    assert ("has expired" in text) == (client == "expired")


def test_where_nothing_is_verified_nothing_is_told(authority, caplog):
    off = {"enable.ssl.certificate.verification": False}
    with (
        caplog.at_level(logging.DEBUG, "rdknotify"),
        listening(authority.issue_cert("elsewhere.example")) as address,
        pytest.warns(UserWarning, match="certificates are not checked"),
        pytest.raises(Timeout),
    ):
        Producer(f"kafka://{address}", connect_timeout=0.5, security_protocol="SSL", config=off)
    assert "verif" not in caplog.text and "not accepted" not in caplog.text


# -- a client that did not ask at first -------------------------------------------------------------


@pytest.fixture
def expired(authority: trustme.CA) -> Iterator[str]:
    with listening(authority.issue_cert("localhost", not_before=NOW - 2 * DAY, not_after=NOW - DAY)) as address:
        yield f"kafka://{address}?connect_timeout="


def test_it_is_told_by_whatever_waits_first(expired, trusted):
    producer = Producer(expired, **trusted)
    delivery = producer.send_batch("t", [b"v"] * 3)
    with pytest.raises(AuthenticationError, match="certificate has expired"):
        delivery.result(10)
    with pytest.raises(AuthenticationError, match="certificate has expired"):
        producer.flush(10)
    assert not delivery.wait(0) and producer.in_flight == 3, "they stay queued"
    with pytest.raises(Timeout, match=r"3 records .* were given up by close\(\).*certificate has expired"):
        producer.close(10)


def test_the_outcome_of_a_record_says_why_it_expired(expired, trusted):
    with Producer(expired, delivery_timeout=1, **trusted) as producer:
        delivery = producer.send_batch("t", [b"v"])
        assert delivery.wait(10)
        (failure,) = delivery.result().failures
    assert isinstance(failure.error, Timeout)
    assert "Message timed out; " in str(failure.error) and "certificate has expired" in str(failure.error)


def test_a_consumer_is_told_by_poll(expired, trusted):
    with Consumer(expired, ["t"], "g", close_timeout=0, **trusted) as consumer:
        with pytest.raises(AuthenticationError, match="certificate has expired"):
            consumer.poll(timeout=10)
        with pytest.raises(AuthenticationError):
            next(iter(consumer))


def test_who_was_taken_once_is_not_told_by_exceptions(mock_cluster, trusted):
    with Producer(mock_cluster.url) as producer:
        producer.send("t", b"v").result(10).raise_for_failures()
        producer.events.absorb(lambda: [("error", -169, "_AUTHENTICATION", "Invalid username or password")])
        assert producer.events.obstacle is not None
        producer.send("t", b"v").result(10).raise_for_failures()
        producer.flush(10)


def test_new_credentials_are_given_a_chance(mock_cluster):
    mock_cluster.broker_down(1)
    with Producer(mock_cluster.url, connect_timeout=None) as producer:
        delivery = producer.send("t", b"v")
        producer.events.absorb(lambda: [("error", -169, "_AUTHENTICATION", "Invalid username or password")])
        with pytest.raises(AuthenticationError, match="check the user, the password"):
            delivery.result(5)
        producer.set_credentials("user", "better")
        mock_cluster.broker_up(1)
        assert until(delivery.poll, "it is delivered").delivered == 1
