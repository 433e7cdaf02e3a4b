"""What librdkafka says when a connection fails: whether the cluster refuses us, and which setting to look at.

Pure. librdkafka gives a code that is often the same for different things, and a text for people: so the text decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rdknotify.errors import ConfigError

__all__ = ["REFUSALS", "Certificates", "Trouble", "broker_of", "naming_options"]

REFUSALS = {"_AUTHENTICATION": -169, "_SSL": -181, "SASL_AUTHENTICATION_FAILED": 58}
"""The names, and codes, of errors that say so by themselves."""

_CERTIFICATE = re.compile(
    r"certificate verify failed|certificate is not accepted"
    r"|alert (bad certificate|certificate (required|unknown|expired|revoked)|unsupported certificate|unknown ca"
    r"|access denied)",
    re.IGNORECASE,
)
# What a listener does that speaks something else. After a longer time it is only a connection that ended.
_OTHER_PROTOCOL = re.compile(
    r"(?s)(disconnected|broken pipe|connection reset).*after \d{1,3}ms in state "
    r"(APIVERSION_QUERY|SSL_HANDSHAKE|AUTH\w*|UP)\b"
    r"|invalid response size",
    re.IGNORECASE,
)

_ADVICE = (
    (
        r"OAUTHBEARER token: (?!oauth_token)",
        "librdkafka got no token by itself: check the sasl.oauthbearer properties, and https.ca.location",
    ),
    (
        r"oauthbearer (token|authentication)|oauth_token|invalid_token",
        "check what oauth_token gives: issuer, audience and lifetime, and what the broker expects",
    ),
    (
        r"not valid in current SASL state",
        "the listener does not want SASL: check security_protocol and the port",
    ),
    (
        r"supported mechanisms",
        "the listener does not offer this sasl_mechanism: check it, security_protocol and port",
    ),
    (
        r"invalid (username|credentials)|authentication fail",
        "check the user, the password and sasl_mechanism",
    ),
    (
        r"alert certificate expired",
        "the client's certificate has expired: renew ssl_client_cert_file",
    ),
    (
        r"alert (?!handshake|protocol|internal|decode|illegal|record)",
        "the broker wants a client certificate it trusts: check ssl_client_cert_file and ssl_client_key_file",
    ),
    (
        r"has expired|not yet valid",
        "renew the broker's certificate, and check the clocks of both",
    ),
    (
        r"mismatch",
        "the certificate is for another host: use a host name in the URL that it names, also in advertised.listeners",
    ),
    (
        r"PLAINTEXT broker listener|wrong version number|packet length too long|disconnected.* in state SSL_HANDSHAKE",
        "the listener does not speak TLS: check security_protocol and the port",
    ),
    (
        r"certificate|issuer",
        "check that ssl_cafile has the CA that signed the broker's certificate",
    ),
    (
        r"response size",
        "this is not a Kafka port, or it wants TLS: check the port and security_protocol",
    ),
    (r"refused", "check host and port, and that the broker runs"),
    (r"resolve", "check the host name"),
    (
        r"^ssl://.*(disconnected|connection closed|broken pipe|connection reset)",
        "it may want a client certificate or SASL: check ssl_client_cert_file, security_protocol and port",
    ),
    (
        r"^sasl_ssl://.*(disconnected|connection closed|broken pipe|connection reset)",
        "it may not speak TLS with SASL, or want a client certificate: check security_protocol and port",
    ),
    (
        r"disconnected|connection closed|broken pipe|connection reset|APIVERSION_QUERY",
        "it may want TLS or SASL: check security_protocol and port",
    ),
)
_GENERAL_ADVICE = "check the addresses, security_protocol and what stands between (firewall, proxy)"


_SETTINGS = (
    (r"key values mismatch", "option ssl_client_key_file: it is not the key of ssl_client_cert_file"),
    (
        r"ssl\.key\.",
        "option ssl_client_key_file: a PEM file that can be read is needed, and ssl_client_key_password for it",
    ),
    (r"ssl\.certificate\.", "option ssl_client_cert_file: a PEM file that can be read is needed"),
    (r"ssl\.ca\.", "option ssl_cafile: a PEM file of certificates that can be read is needed"),
    (
        r"depends? on libcurl",
        "config: librdkafka's OIDC client is not built in: use oauth_token_url and what belongs to it, or oauth_token",
    ),
)


@contextmanager
def naming_options() -> Iterator[None]:
    """Around the making of a client: what librdkafka says of properties of TLS and OIDC is said of the options."""
    try:
        yield
    except ConfigError as error:
        for pattern, advice in _SETTINGS:
            if re.search(pattern, str(error)):
                raise ConfigError(f"{advice} ({error})") from None
        raise


class Trouble(NamedTuple):
    """An error or a log line of librdkafka worth remembering; ``name`` is the error's name or the log's facility.

    ``when`` is a monotonic time in seconds.
    """

    name: str
    text: str
    when: float = 0.0

    @property
    def is_refusal(self) -> bool:
        """The cluster does not take us, or we do not trust it: trying again does not help."""
        return self.name in REFUSALS or _CERTIFICATE.search(self.text) is not None

    @property
    def is_mismatch(self) -> bool:
        """The port seems to speak something else: TLS, SASL, or no Kafka at all."""
        return not self.is_refusal and _OTHER_PROTOCOL.search(self.text) is not None

    @property
    def advice(self) -> str:
        """Which setting to look at; empty where the text tells nothing."""
        return next((words for pattern, words in _ADVICE if re.search(pattern, self.text, re.IGNORECASE)), "")

    def __str__(self) -> str:
        return f"{self.text}; {self.advice or _GENERAL_ADVICE}"


_BROKER = re.compile(r"(?:\w+://)?(?:[A-Z]\w+: )?(?:\w+://)?(?P<broker>\[?[^\s/]+:\d+)(?:/[\w-]+)?: ")


def broker_of(text: str) -> tuple[str | None, str]:
    """``host:port`` of the broker that a line is about, and what it says of it; None where it begins with none."""
    found = _BROKER.match(text)
    return (found["broker"], text[found.end() :]) if found else (None, text)


_VERIFICATION = re.compile(r"(?s)(\S+): Certificate \((.*)\) verification callback failed: (.*)")
_HANDSHAKE = re.compile(r"(?s)(\S+): .*certificate verify failed")


class Certificates:
    """Why brokers' certificates were not accepted: OpenSSL's reasons, which librdkafka tells in a line of its own."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def learn(self, text: str) -> None:
        """A line of facility ``SSLCERTVRFY``."""
        if found := _VERIFICATION.search(text):
            broker, names, reason = found.groups()
            self._reasons[broker] = f"{reason} ({names})"

    def explain(self, text: str) -> str:
        """The text of a failed handshake with the reason, where librdkafka only has a guess."""
        found = _HANDSHAKE.search(text)
        reason = self._reasons.get(found[1]) if found else None
        if found is None or reason is None:
            return text
        return f"{found[1]}: the broker's certificate is not accepted: {reason}"
