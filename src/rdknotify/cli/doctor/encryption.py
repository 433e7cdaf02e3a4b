"""TLS as Python's ssl speaks it, with the trust and the certificate that librdkafka is given."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rdknotify.cli.doctor import certificate
from rdknotify.cli.doctor.certificate import Certificate
from rdknotify.cli.doctor.finding import Deadline, Finding, State
from rdknotify.errors import ConfigError

__all__ = ["SOON", "Encryption"]

SOON = 14
"""Days before a certificate's end from which on it is worth a word."""
_OFF = ("false", "f", "0")
_ALERT = re.compile("ALERT_(?!HANDSHAKE|PROTOCOL|INTERNAL|DECODE|ILLEGAL|RECORD|UNRECOGNIZED)")
"""Alerts that speak of a certificate, by OpenSSL's names."""

_VERDICTS = {
    9: ("it is not valid yet", "set the clocks of this machine and of the broker"),
    10: ("it has expired", "renew the broker's certificate; if it looks valid, set this machine's clock"),
    62: ("it is for other hosts", ""),
    64: ("it is for other addresses", ""),
}
"""By OpenSSL's number of what a verification failed for; every other means that nobody trusted vouches for it."""
_OTHER_HOST = (62, 64)


class Encryption:
    """A way to open TLS connections; made from librdkafka's properties. Safe for several threads."""

    def __init__(self, conf: Mapping[str, str]) -> None:
        """Raises ConfigError for files that cannot be read."""
        self.verifies = conf.get("enable.ssl.certificate.verification", "").lower() not in _OFF
        self._checks_host = conf.get("ssl.endpoint.identification.algorithm", "https").lower() != "none"
        self.has_unread_keystore = "ssl.keystore.location" in conf
        """librdkafka has a certificate for the broker that Python cannot read."""
        self._trusting = _context(conf, verifies=self.verifies, checks_host=self._checks_host)
        self._curious = _context(conf, verifies=False, checks_host=False)
        self.own = _own_certificate(conf)

    def begin(self, raw: socket.socket, host: str, deadline: Deadline, *, verify: bool = True) -> ssl.SSLSocket:
        """The handshake; raises OSError, of which ssl.SSLCertVerificationError says what is wrong with it."""
        context = self._trusting if verify else self._curious
        raw.settimeout(deadline.left)
        wrapped = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
        try:
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped

    def accepted(self, subject: str, connection: ssl.SSLSocket) -> Finding:
        """What is to be said of a connection that was made."""
        shown = _certificate_of(connection)
        text, facts = f"{connection.version()}", {"protocol": connection.version(), **_facts(shown)}
        if not self.verifies:
            return Finding(
                subject, "tls", State.WARNING, f"{text}; {_described(shown)}; nobody checked it",
                "leave out enable.ssl.certificate.verification=false: anyone on the way can pose as the broker", facts,
            )  # fmt: skip
        if shown is not None and shown.days_left < SOON:
            return Finding(
                subject, "tls", State.WARNING, f"{text}; {_described(shown)}",
                "renew the broker's certificate before it expires", facts,
            )  # fmt: skip
        return Finding(subject, "tls", State.OK, f"{text}; {_described(shown)}", facts=facts)


def refused(subject: str, error: ssl.SSLCertVerificationError, shown: Certificate | None, host: str) -> Finding:
    """The broker's certificate is not accepted: why, and what to do."""
    facts = {"reason": error.verify_message, **_facts(shown)}
    if error.verify_code in _OTHER_HOST and shown is not None:
        names = ", ".join(shown.names) or "no host at all"
        return Finding(
            subject, "tls", State.TROUBLE, f"the broker's certificate is for {names}, not for {host}",
            f"name the broker in the URL as its certificate does, or have one made that names {host}; "
            "advertised.listeners on the broker must have such a name, too", facts,
        )  # fmt: skip
    known = _VERDICTS.get(error.verify_code)
    if known is None:
        issuer = f"it was issued by {shown.issuer or 'nobody named'}" if shown else "its issuer is unknown"
        return Finding(
            subject, "tls", State.TROUBLE,
            f"the broker's certificate is not trusted: {issuer}, whom this client does not know "
            f"({error.verify_message})",
            "give the file with that authority's certificate: -o ssl_cafile=FILE (whoever runs the broker has it)",
            facts,
        )  # fmt: skip
    verdict, advice = known
    return Finding(
        subject, "tls", State.TROUBLE, f"the broker's certificate is not accepted: {verdict}; {_described(shown)}",
        advice, facts,
    )  # fmt: skip


def wants_certificate(error: Exception) -> bool:
    """Whether the broker ended it with an alert, as it does without a client's certificate that it trusts."""
    return isinstance(error, ssl.SSLError) and _ALERT.search(error.reason or "") is not None


def own(subject: str, mine: Certificate) -> Finding:
    """The certificate that this client shows."""
    facts = _facts(mine)
    if mine.days_left < 0:
        return Finding(
            subject, "certificate", State.TROUBLE, f"the client's own certificate has expired; {_described(mine)}",
            "renew the file of ssl_client_cert_file", facts,
        )  # fmt: skip
    soon = mine.days_left < SOON
    return Finding(
        subject, "certificate", State.WARNING if soon else State.OK,
        f"the client shows a certificate; {_described(mine)}",
        "renew the file of ssl_client_cert_file before it expires" if soon else "", facts,
    )  # fmt: skip


def peek(connection: ssl.SSLSocket) -> Certificate | None:
    """The certificate that was shown, trusted or not."""
    return _certificate_of(connection)


def _certificate_of(connection: ssl.SSLSocket) -> Certificate | None:
    der = connection.getpeercert(binary_form=True)
    with suppress(ValueError):
        return certificate.read(der) if der else None
    return None


def _described(shown: Certificate | None) -> str:
    if shown is None:
        return "a certificate that cannot be read"
    left = shown.days_left
    when = f"expires on {shown.ends:%Y-%m-%d} (days left: {left})" if left >= 0 else f"expired on {shown.ends:%Y-%m-%d}"
    return (
        f"certificate for {', '.join(shown.names) or shown.subject}, issued by {shown.issuer or 'nobody named'}, {when}"
    )


def _facts(shown: Certificate | None) -> dict[str, object]:
    if shown is None:
        return {}
    return {
        "names": list(shown.names),
        "subject": shown.subject,
        "issuer": shown.issuer,
        "not_before": shown.begins.isoformat(),
        "not_after": shown.ends.isoformat(),
        "days_left": shown.days_left,
    }


def _context(conf: Mapping[str, str], *, verifies: bool, checks_host: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verifies and checks_host
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    place = conf.get("ssl.ca.location")
    with _naming("ssl_cafile: a PEM file of certificates that can be read is needed"):
        if verifies and "ssl.ca.pem" in conf:
            context.load_verify_locations(cadata=conf["ssl.ca.pem"])
        elif verifies and place:
            context.load_verify_locations(**{"capath" if os.path.isdir(place) else "cafile": place})
    pair = (
        "ssl_client_cert_file, ssl_client_key_file: PEM files that belong together are needed, and the key's password"
    )
    with _naming(pair), _as_file(conf, "ssl.certificate") as shown, _as_file(conf, "ssl.key") as key:
        if shown and key:
            # Without a password Python would ask whoever sits there.
            context.load_cert_chain(shown, key, conf.get("ssl.key.password", ""))
    return context


@contextmanager
def _naming(options: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"option {options} ({getattr(error, 'reason', None) or error.strerror or error})") from None


@contextmanager
def _as_file(conf: Mapping[str, str], what: str) -> Iterator[str | None]:
    """The path of a PEM file; where the text itself is given, of one that is in memory only."""
    text = conf.get(f"{what}.pem")
    if text is None:
        yield conf.get(f"{what}.location")
        return
    descriptor = os.memfd_create(what)
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _own_certificate(conf: Mapping[str, str]) -> Certificate | None:
    text, place = conf.get("ssl.certificate.pem"), conf.get("ssl.certificate.location")
    with suppress(OSError, ValueError):
        if text or place:
            return certificate.read_pem(text or Path(place or "").read_text(encoding="ascii", errors="replace"))
    return None
