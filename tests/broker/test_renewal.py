"""Who we are may change while clients work: a password's file is read again, tokens are renewed before they expire."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.endpoints import SOON
from support.rights import Rights
from support.token_server import TokenServer, token_server
from support.waiting import until

from rdknotify import AuthenticationError, Consumer, Producer, Timeout
from rdknotify.errors import TokenError
from rdknotify.oauth import OAuthToken
from rdknotify.testing import LocalKafka
from rdknotify.testing.security import REAUTHENTICATE_MS, USERS, Security

USER = "carol"
SESSION = REAUTHENTICATE_MS / 1000


@pytest.fixture
def security(kafka_secure: LocalKafka) -> Security:
    return kafka_secure.security


@pytest.fixture
def rights(kafka_secure: LocalKafka, topic: str) -> Iterator[Rights]:
    rights = Rights(kafka_secure.bootstrap_servers, USER)
    kafka_secure.create_topic(topic, 1)
    rights.give(topic=topic)
    yield rights
    rights.take_all()
    rights.password(USERS[USER])


@pytest.fixture
def filed(security: Security, tmp_path: Path) -> dict[str, Any]:
    """A client whose password stands in ``tmp_path/password``; its connections authenticate again and again."""
    (tmp_path / "password").write_text(USERS[USER])
    url = f"kafka://{USER}@{security.url('REAUTH').partition('//')[2]}"
    trusted = {"security_protocol": "SASL_SSL", "ssl_cafile": str(security.ca.file)}
    return {"url": url, "sasl_mechanism": "SCRAM-SHA-256", "credentials_file": str(tmp_path), **trusted}


def replace(file: Path, content: str) -> None:
    """As Kubernetes does: another file in its place."""
    new = file.with_name("new")
    new.write_text(content)
    new.rename(file)


def test_a_file_that_changes_keeps_a_client_going(rights, filed, topic, tmp_path, figure):
    with Producer(**filed) as producer:
        producer.send_batch(topic, [b"v"]).result(SOON).raise_for_failures()
        replace(tmp_path / "password", "another-pw")
        rights.password("another-pw")
        deliveries = []
        end = time.monotonic() + 2.5 * SESSION
        while time.monotonic() < end:
            deliveries.append(producer.send_batch(topic, [b"v"]))
            time.sleep(0.05)
        failed = sum(len(delivery.result(SOON).failures) for delivery in deliveries)
        with pytest.raises(AuthenticationError):
            Producer(**{**filed, "url": filed["url"].replace(USER, f"{USER}:{USERS[USER]}"), "credentials_file": None})
    figure("S", "password file changed under a producer: records that failed", failed, at_most=0)


def test_whoever_was_refused_goes_on_when_the_file_is_right(rights, filed, topic, tmp_path, figure):
    (tmp_path / "password").write_text("wrong")
    with Producer(connect_timeout=None, **filed) as producer:
        delivery = producer.send_batch(topic, [b"v"])
        with pytest.raises(AuthenticationError):
            delivery.result(SOON)
        replace(tmp_path / "password", USERS[USER])
        corrected = time.monotonic()

        def delivered() -> bool:
            try:
                return delivery.result(1).delivered == 1
            except (AuthenticationError, Timeout):
                return False

        until(delivered, "it is delivered", SOON)
        took = time.monotonic() - corrected
    figure("S", "password file corrected: seconds until delivered", round(took, 2), "s", at_most=10)


def test_a_file_that_becomes_wrong_is_told_and_changes_nothing(rights, filed, topic, tmp_path, caplog):
    with Producer(**filed) as producer:
        replace(tmp_path / "password", "")
        until(lambda: "no password there" in caplog.text, "it is told", SOON)
        assert "the password that was read before is used" in caplog.text
        producer.send_batch(topic, [b"v"]).result(SOON).raise_for_failures()


# -- tokens -----------------------------------------------------------------------------------------


def bearer(security: Security, listener: str, **options: Any) -> dict[str, Any]:
    trusted = {"security_protocol": "SASL_SSL", "ssl_cafile": str(security.ca.file)}
    return {"url": security.url(listener), "sasl_mechanism": "OAUTHBEARER", **trusted, **options}


def test_tokens_are_renewed_before_they_expire(security, topic, figure):
    lifetime = 4.0
    given: list[float] = []

    def token() -> OAuthToken:
        given.append(time.time())
        return OAuthToken(security.signed_token("alice", lifetime), time.time() + lifetime, "alice")

    with Producer(**bearer(security, "OIDC", oauth_token=token)) as producer:
        deliveries = []
        end = time.monotonic() + 2.5 * lifetime
        while time.monotonic() < end:
            deliveries.append(producer.send_batch(topic, [b"v"]))
            time.sleep(0.05)
        failed = sum(len(delivery.result(SOON).failures) for delivery in deliveries)
    gaps = [after - before for before, after in pairwise(given)]
    assert len(given) >= 3
    figure(
        "S", "token renewed: longest time between two, of 4 s of life", round(max(gaps), 2), "s", at_most=lifetime + 1
    )
    figure("S", "token renewed: records that failed", failed, at_most=0)


@pytest.fixture
def server(security: Security) -> Iterator[TokenServer]:
    with token_server() as server:
        server.answer = {"access_token": security.signed_token("alice"), "expires_in": 300}
        yield server


def test_tokens_of_a_server(security, server, topic, group):
    credentials = {"oauth_token_url": server.url, "oauth_client_id": "billing", "oauth_client_secret": "s"}
    options = bearer(security, "OIDC", oauth_scope="kafka", **credentials)
    with Producer(**options) as producer:
        producer.send_batch(topic, [b"v"]).result(SOON).raise_for_failures()
    with Consumer(topics=[topic], group=group, **options) as consumer:
        assert until(lambda: consumer.poll(timeout=1.0).values(), "it came", SOON) == [b"v"]
    assert [fields["scope"] for _, fields in server.requests] == ["kafka", "kafka"]


def test_a_server_that_refuses_is_the_reason(security, server):
    server.status, server.answer = 401, {"error": "invalid_client"}
    credentials = {"oauth_token_url": server.url, "oauth_client_id": "billing", "oauth_client_secret": "s"}
    with pytest.raises(AuthenticationError, match=r"no token from .*status 401, invalid_client") as caught:
        Producer(**bearer(security, "OIDC", **credentials))
    assert isinstance(caught.value.__cause__, TokenError)


WRONG = {
    "raises": (lambda: 1 / 0, "ZeroDivisionError"),
    "returns something else": (lambda: "geheim", "it returned str"),
    "returns what is no text": (lambda: OAuthToken("geheim\n", time.time() + 60), "not printable ASCII"),
    "returns what has expired": (lambda: OAuthToken("geheim", time.time() - 60), "unexpired token"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_callable_that_is_wrong(case, security, caplog, figure):
    source, reason = WRONG[case]
    begun = time.monotonic()
    with pytest.raises(AuthenticationError, match=reason) as caught:
        Producer(**bearer(security, "OIDC", oauth_token=source))
    seconds = round(time.monotonic() - begun, 2)
    assert caught.value.__cause__ is not None
    assert "geheim" not in str(caught.value) + str(caught.value.__cause__) + caplog.text
    figure("S", f"oauth_token {case}: seconds until told", seconds, "s", at_most=10)


def test_a_callable_that_hangs_holds_up_nobody_else(security, topic):
    let_go = threading.Event()

    def token() -> OAuthToken:
        let_go.wait(60)
        return OAuthToken(security.signed_token("alice"), time.time() + 60)

    options = bearer(security, "OIDC", oauth_token=token)
    with pytest.raises(Timeout, match="oauth_token has been called and has not returned"):
        Producer(connect_timeout=0.5, **options)
    with Producer(connect_timeout=None, **options) as waiting:
        delivery = waiting.send_batch(topic, [b"v"])
        with pytest.raises(Timeout, match="oauth_token has been called and has not returned"):
            delivery.result(0.5)
        with pytest.raises(AuthenticationError, match="certificate has expired"):
            Producer(security.url("EXPIRED"), ssl_cafile=str(security.ca.file))  # its events come through
        let_go.set()
        delivery.result(SOON).raise_for_failures()
