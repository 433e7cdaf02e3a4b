"""One broker, from its name to what it can do: each step is a check, and the first that fails ends it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from rdknotify.cli.doctor import encryption, releases, wire
from rdknotify.cli.doctor.encryption import Encryption
from rdknotify.cli.doctor.finding import Deadline, Finding, State, side_by_side
from rdknotify.cli.doctor.wire import NotKafka, Versions
from rdknotify.options import Settings

__all__ = ["Broker", "Way", "probe"]

_ADVERTISED = (
    "the cluster tells its clients to connect to this address: set advertised.listeners on that broker to one that "
    "this machine knows and can reach, or make it known here (name service, /etc/hosts, firewall)"
)
_CONFUSION = (
    "ask whoever runs the broker for the port of the listener that fits; security_protocol says how it is spoken to"
)


@dataclass(frozen=True)
class Way:
    """How brokers are spoken to, as the client's settings say."""

    protocol: str
    mechanism: str
    encryption: Encryption

    @classmethod
    def of(cls, settings: Settings) -> Way:
        """Raises ConfigError for certificates or keys that cannot be read."""
        return cls(
            str(settings.values["security_protocol"]),
            str(settings.values["sasl_mechanism"]),
            Encryption(settings.conf),
        )

    @property
    def tls(self) -> bool:
        return self.protocol.endswith("SSL")

    @property
    def sasl(self) -> bool:
        return self.protocol.startswith("SASL")


@dataclass
class Broker:
    """An address, and what was found of it.

    Attributes:
        number: the broker's id where the cluster named it; None: it stands in the URL.
        answers: something at that port answered, so that a login makes sense.
    """

    host: str
    port: int
    number: int | None = None
    findings: list[Finding] = field(default_factory=list)
    answers: bool = False

    @property
    def subject(self) -> str:
        place = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return f"broker {place}" if self.number is None else f"broker {place} (number {self.number})"

    @property
    def healthy(self) -> bool:
        return not any(finding.state is State.TROUBLE for finding in self.findings)

    def conclude(self, seconds: float) -> None:
        """The time is over: what comes now from a check that hangs is not looked at."""
        self.findings = list(self.findings)
        if self.healthy and not any(finding.check == "versions" for finding in self.findings):
            self.note(
                "kafka", State.TROUBLE, f"not done within {seconds:g} s",
                "try again; if it stays so, the name service, the network or the broker is slow",
            )  # fmt: skip

    def note(
        self, check: str, state: State, text: str, advice: str = "", facts: Mapping[str, object] | None = None
    ) -> None:
        if self.number is not None and check in ("name", "tcp") and state is State.TROUBLE:
            advice = _ADVERTISED
        self.findings.append(Finding(self.subject, check, state, text, advice, facts or {}))


def probe(broker: Broker, way: Way, deadline: Deadline) -> None:
    """Look at it step by step, noting a finding each. Never longer than the deadline, never raises OSError."""
    addresses = _resolve(broker, deadline)
    address = addresses and _connect(broker, addresses, deadline)
    if not address:
        return
    try:
        _speak(broker, way, address, deadline)
    except TimeoutError:
        broker.note(
            "kafka", State.TROUBLE, f"it takes connections but has not answered for {deadline.seconds:g} s",
            "see the broker's log: it hangs, is overloaded or still starting; or what listens there is no Kafka",
        )  # fmt: skip
    except OSError as error:
        broker.answers = True
        broker.note(
            "kafka", State.TROUBLE, f"it takes connections, then ends them: {_words(error)}",
            "check that this is a Kafka port, and what stands between (proxy, firewall); see the broker's log",
        )  # fmt: skip


# -- name and connection -------------------------------------------------------------------------------------


def _resolve(broker: Broker, deadline: Deadline) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """The addresses that a name stands for, as sockets take them."""

    def look_up() -> object:
        try:
            return socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            return error

    (found,) = side_by_side([look_up], deadline, grace=0)
    if isinstance(found, list):
        places = {(family, place[:2]): None for family, _, _, _, place in found}
        shown = ", ".join(place[0] for _, place in places)
        text = f"stands for {shown}" if shown != broker.host else "an address, no name to look up"
        broker.note("name", State.OK, text, facts={"addresses": [place[0] for _, place in places]})
        return list(places)
    if found is None:
        text, advice = "the name service does not answer", "check /etc/resolv.conf and that its servers can be reached"
    else:
        text = f"nobody knows the name {broker.host} here ({_words(found)})"
        advice = f"check its spelling; `getent hosts {broker.host}` must know it, or the URL needs another name"
    broker.note("name", State.TROUBLE, text, advice)
    return []


def _connect(
    broker: Broker, addresses: list[tuple[socket.AddressFamily, tuple[str, int]]], deadline: Deadline
) -> tuple[str, int] | None:
    """The first address that takes a connection."""

    def try_one(family: socket.AddressFamily, place: tuple[str, int]) -> float | OSError:
        begun = time.monotonic()
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(deadline.left)
                connection.connect(place)
        except OSError as error:
            return error
        return time.monotonic() - begun

    tried: list[Callable[[], float | OSError]] = [lambda each=each: try_one(*each) for each in addresses]  # type: ignore[misc]
    outcomes = side_by_side(tried, deadline)
    good = {place: taken for (_, place), taken in zip(addresses, outcomes, strict=True) if isinstance(taken, float)}
    bad = [f"{place[0]}: {_words(error)}" for (_, place), error in zip(addresses, outcomes, strict=True)
           if not isinstance(error, float)]  # fmt: skip
    facts = {"seconds": {place[0]: round(seconds, 4) for place, seconds in good.items()}, "failed": bad}
    times = ", ".join(f"{place[0]} in {seconds * 1000:.1f} ms" for place, seconds in good.items())
    if good:
        wrong = f"; not {', '.join(bad)}" if bad else ""
        advice = "clients try the addresses in turn: take away those where no broker listens" if bad else ""
        broker.note("tcp", State.WARNING if bad else State.OK, f"connected to {times}{wrong}", advice, facts)
        return next(iter(good))
    refused = any(isinstance(error, ConnectionRefusedError) for error in outcomes)
    advice = (
        "start the broker, or correct the port of the URL"
        if refused
        else "check that the machine is up and that no firewall is in the way; `nc -vz HOST PORT` shows it, too"
    )
    broker.note("tcp", State.TROUBLE, f"cannot connect to port {broker.port}: {', '.join(bad)}", advice, facts)
    return None


def _words(error: object) -> str:
    if error is None or isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "refused, nobody listens there"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(getattr(error, "strerror", None) or error)


# -- what is spoken ------------------------------------------------------------------------------------------


def _speak(broker: Broker, way: Way, address: tuple[str, int], deadline: Deadline) -> None:
    connection = _open(broker, way, address, deadline)
    if connection is None:
        return
    try:
        with closing(connection):
            _greet(broker, way, connection, deadline)
    except TimeoutError:
        raise
    except OSError as error:
        broker.answers = True
        if not _told_apart(broker, way, address, error, deadline) and not _is_old(broker, way, address, deadline):
            raise


def _greet(broker: Broker, way: Way, connection: socket.socket, deadline: Deadline, *, oldest: bool = False) -> None:
    versions = wire.api_versions(connection, deadline, oldest=oldest)
    broker.answers = True
    _sasl(broker, way, connection, versions, deadline)
    about = releases.describe(versions)
    broker.note("versions", about.state, about.text, about.advice, about.facts)


def _is_old(broker: Broker, way: Way, address: tuple[str, int], deadline: Deadline) -> bool:
    """Whether it is one that hangs up on the newest form of the question and answers the oldest."""
    try:
        connection = socket.create_connection(address, deadline.left)
        with closing(way.encryption.begin(connection, broker.host, deadline) if way.tls else connection) as again:
            _greet(broker, way, again, deadline, oldest=True)
    except OSError:
        return False
    return True


def _open(broker: Broker, way: Way, address: tuple[str, int], deadline: Deadline) -> socket.socket | None:
    """A connection to speak Kafka's protocol in; None where TLS failed, which is noted."""
    if not way.tls:
        return socket.create_connection(address, deadline.left)
    try:
        connection = way.encryption.begin(socket.create_connection(address, deadline.left), broker.host, deadline)
    except ssl.SSLCertVerificationError as error:
        broker.answers = True
        with closing(
            way.encryption.begin(socket.create_connection(address, deadline.left), broker.host, deadline, verify=False)
        ) as curious:
            broker.findings.append(encryption.refused(broker.subject, error, encryption.peek(curious), broker.host))
        return None
    except TimeoutError:
        raise
    except OSError as error:
        broker.answers = True
        if not _told_apart(broker, way, address, error, deadline):
            broker.note(
                "tls", State.TROUBLE, f"the TLS handshake failed: {_words(error)}",
                "check the port; with an old broker, its TLS versions (ssl.enabled.protocols) and this machine's",
            )  # fmt: skip
        return None
    broker.findings.append(way.encryption.accepted(broker.subject, connection))
    return connection


def _told_apart(broker: Broker, way: Way, address: tuple[str, int], error: OSError, deadline: Deadline) -> bool:
    """Whether it was seen why: a listener that speaks something else than the settings say."""
    if way.tls and encryption.wants_certificate(error):
        known = "the one that was shown" if way.encryption.own else "none was shown"
        if way.encryption.has_unread_keystore:
            known = "this check cannot show that of ssl.keystore.location; see the login"
        broker.note(
            "certificate", State.TROUBLE,
            f"the broker wants a client certificate that it trusts, {known} ({_words(error)})",
            "give -o ssl_client_cert_file=FILE -o ssl_client_key_file=FILE, signed by an authority that it knows",
        )  # fmt: skip
        return True
    if way.tls and _speaks_plainly(address, deadline):
        other = way.protocol.replace("SSL", "PLAINTEXT")
        broker.note(
            "tls", State.TROUBLE, "this port speaks Kafka without TLS, and the settings want TLS",
            f"give the port of a TLS listener, or -o security_protocol={other}, unencrypted; {_CONFUSION}",
        )  # fmt: skip
        return True
    if not way.tls and _speaks_tls(way, broker.host, address, deadline):
        other = way.protocol.replace("PLAINTEXT", "SSL")
        broker.note(
            "tls", State.TROUBLE, "this port speaks TLS, and the settings want none",
            f"give -o security_protocol={other} (and -o ssl_cafile=FILE where its authority is your own); {_CONFUSION}",
        )  # fmt: skip
        return True
    if isinstance(error, NotKafka):
        seen = error.first.decode("ascii", "replace").strip()
        what = f"its answer begins with {seen!r}" if seen.isprintable() else "its answer has another form"
        broker.note("kafka", State.TROUBLE, f"what listens there is no Kafka: {what}", "correct the port of the URL")
        return True
    return False


def _speaks_plainly(address: tuple[str, int], deadline: Deadline) -> bool:
    try:
        with socket.create_connection(address, deadline.left) as connection:
            wire.api_versions(connection, deadline)
    except OSError:
        return False
    return True


def _speaks_tls(way: Way, host: str, address: tuple[str, int], deadline: Deadline) -> bool:
    try:
        raw = socket.create_connection(address, deadline.left)
        way.encryption.begin(raw, host, deadline, verify=False).close()
    except OSError:
        return False
    return True


def _sasl(broker: Broker, way: Way, connection: socket.socket, versions: Versions, deadline: Deadline) -> None:
    knows_sasl = wire.SASL_HANDSHAKE in versions.apis
    offered = wire.sasl_mechanisms(connection, way.mechanism, deadline) if knows_sasl else None
    facts = {"mechanisms": list(offered or ())}
    if offered is None:
        if way.sasl:
            other = way.protocol.removeprefix("SASL_")
            broker.note(
                "sasl", State.TROUBLE, "this listener knows no users and passwords (SASL), and the settings have some",
                f"give the port of a SASL listener, or leave out the user with -o security_protocol={other}; "
                f"{_CONFUSION}", facts,
            )  # fmt: skip
        else:
            broker.note("sasl", State.OK, "none is asked for", facts=facts)
        return
    listed = ", ".join(offered)
    if not way.sasl:
        broker.note(
            "sasl", State.TROUBLE, f"this listener wants a login (SASL: {listed}), and the settings have none",
            "put user:password@ before the host in RDKNOTIFY_URL, and the mechanism into -o sasl_mechanism=NAME", facts,
        )  # fmt: skip
    elif way.mechanism not in offered:
        broker.note(
            "sasl", State.TROUBLE, f"the listener offers {listed}, not {way.mechanism}",
            f"give -o sasl_mechanism=, one of {listed}", facts,
        )  # fmt: skip
    else:
        broker.note("sasl", State.OK, f"offers {listed}; {way.mechanism} is used", facts=facts)
