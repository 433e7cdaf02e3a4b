"""Texts of librdkafka: who is refused, what only looks like another protocol, and which setting to look at."""

from __future__ import annotations

import pytest

from rdknotify.trouble import Certificates, Trouble

GUESS = "broker certificate could not be verified, verify that ssl.ca.location is correctly configured"
FAILED = "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed"


@pytest.mark.parametrize(
    ("name", "text", "advice"),
    [
        (
            "_AUTHENTICATION",
            "SASL authentication error: Invalid username or password",
            "password",
        ),
        ("_AUTHENTICATION", "SASL PLAIN mechanism handshake failed: broker's supported mechanisms: GSSAPI", "offer"),
        (
            "_AUTHENTICATION",
            "SASL handshake failed: Request not valid in current SASL state: broker's supported mechanisms: ",
            "does not want SASL",
        ),
        (
            "_AUTHENTICATION",
            "Failed to acquire SASL OAUTHBEARER token: oauth_token failed: no",
            "what oauth_token gives",
        ),
        ("_AUTHENTICATION", "Failed to acquire SASL OAUTHBEARER token: certificate problem", "https.ca.location"),
        ("_SSL", "the broker's certificate is not accepted: certificate has expired (subject=x)", "renew"),
        ("_SSL", "the broker's certificate is not accepted: certificate is not yet valid (subject=x)", "clocks"),
        ("_SSL", "the broker's certificate is not accepted: hostname mismatch (subject=x)", "host name in the URL"),
        (
            "_SSL",
            "the broker's certificate is not accepted: self-signed certificate in chain",
            "ssl_cafile",
        ),
        ("_TRANSPORT", "ssl://h:1/b: error:0A000086:SSL routines::certificate verify failed", "ssl_cafile"),
        ("_TRANSPORT", "error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42", "_client_cert"),
        ("_TRANSPORT", "error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert", "_client_cert"),
        ("FAIL", "error:0A000415:SSL routines::sslv3 alert certificate expired", "renew ssl_client_cert_file"),
        ("FAIL", "tlsv1 alert unknown ca: SSL alert number 48", "ssl_client_cert_file"),
        ("_SSL", "ssl://h:1/b: SSL handshake failed: error:0A00010B:SSL routines::wrong version number", "speak TLS"),
    ],
)
def test_who_is_refused_need_not_try_again(name: str, text: str, advice: str) -> None:
    trouble = Trouble(name, text)
    assert trouble.is_refusal and not trouble.is_mismatch
    assert advice in trouble.advice
    assert str(trouble) == f"{text}; {trouble.advice}"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("h:1/b: Disconnected: connection closed by peer (after 1ms in state APIVERSION_QUERY)", "TLS or SASL"),
        ("h:1/b: Disconnected: connection closed by peer (after 12ms in state UP)", "TLS or SASL"),
        (
            "ssl://h:1/b: Disconnected: SSL connection closed by peer (after 1ms in state UP)",
            "client certificate or SASL",
        ),
        ("ssl://h:1/b: Send failed: SSL transport error: Broken pipe (after 0ms in state UP)", "certificate or SASL"),
        ("h:1/b: Send failed: Connection reset by peer (after 3ms in state UP)", "TLS or SASL"),
        ("ssl://h:1/b: Disconnected: SSL connection closed by peer (after 0ms in state SSL_HANDSHAKE)", "speak TLS"),
        ("sasl_ssl://h:1/b: Disconnected (after 3ms in state APIVERSION_QUERY, 1 identical error(s))", "TLS with SASL"),
        ("h:1/b: Receive failed: Invalid response size 1213486160 (0..100000000)", "not a Kafka port"),
    ],
)
def test_a_port_that_speaks_something_else(text: str, advice: str) -> None:
    trouble = Trouble("FAIL", text)
    assert trouble.is_mismatch and not trouble.is_refusal
    assert advice in trouble.advice and "security_protocol" in trouble.advice


@pytest.mark.parametrize(
    "text",
    [
        "h:1/1: Disconnected: connection closed by peer (after 600123ms in state UP)",
        "h:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
        "h:1/1: 3 request(s) timed out: disconnect (average rtt 1.0ms) (after 61000ms in state UP)",
        "Failed to resolve 'h:1': Name or service not known (after 2ms in state CONNECT)",
        "ssl://h:1/1: SSL transport error: Connection reset by peer (after 9000ms in state UP)",
    ],
)
def test_an_outage_is_neither(text: str) -> None:
    trouble = Trouble("_TRANSPORT", text)
    assert not trouble.is_refusal and not trouble.is_mismatch


def test_what_tells_nothing_has_a_general_advice() -> None:
    assert Trouble("X", "hm").advice == ""
    assert "firewall" in str(Trouble("X", "hm"))


def test_the_reason_takes_the_place_of_the_guess() -> None:
    certificates = Certificates()
    names = "subject=/CN=b, issuer=/CN=ca (1)"
    certificates.learn(f"ssl://h:1/b: Certificate ({names}) verification callback failed: certificate has expired")
    explained = certificates.explain(f"ssl://h:1/b: {FAILED}: {GUESS} (after 7ms in state SSL_HANDSHAKE)")
    assert explained == f"ssl://h:1/b: the broker's certificate is not accepted: certificate has expired ({names})"


def test_each_broker_has_its_own_reason() -> None:
    certificates = Certificates()
    for broker, reason in (("ssl://h:1/1", "certificate has expired"), ("ssl://h:2/2", "hostname mismatch")):
        certificates.learn(f"{broker}: Certificate (subject=x) verification callback failed: {reason}")
    assert "expired" in certificates.explain(f"ssl://h:1/1: {FAILED}")
    assert "mismatch" in certificates.explain(f"ssl://h:2/2: {FAILED}")


@pytest.mark.parametrize("text", ["", "nothing", f"ssl://h:9/9: {FAILED}", "h:1/1: Connection refused"])
def test_what_has_no_reason_stays_as_it_is(text: str) -> None:
    certificates = Certificates()
    certificates.learn("something else")
    assert certificates.explain(text) == text
