"""One broker, from its name to what it can do: each step is a check, and the first that fails ends it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from rdknotify.cli.doctor import encryption, reaching, releases, wire
from rdknotify.cli.doctor.certificate import Certificate
from rdknotify.cli.doctor.encryption import Encryption
from rdknotify.cli.doctor.finding import Deadline, Finding, State
from rdknotify.cli.doctor.reaching import Address, words
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
        may_let_in: it answers, and in a language that the settings speak: a login makes sense.
    """

    host: str
    port: int
    number: int | None = None
    findings: list[Finding] = field(default_factory=list)
    may_let_in: bool = False

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
        self.findings.append(Finding(self.subject, check, state, text, advice, facts or {}))

    def add(self, found: Finding) -> None:
        """Of how it was reached: whose address was not given by the user gets other advice."""
        if self.number is not None and found.state is State.TROUBLE:
            found = replace(found, advice=_ADVERTISED)
        self.findings.append(found)


def probe(broker: Broker, way: Way, deadline: Deadline) -> None:
    """Look at it step by step, noting a finding each. Never longer than the deadline, never raises OSError."""
    address = _reach(broker, deadline)
    if address is None:
        return
    try:
        _speak(broker, way, address, deadline)
    except TimeoutError:
        broker.note(
            "kafka", State.TROUBLE, f"it takes connections but has not answered for {deadline.seconds:g} s",
            "see the broker's log: it hangs, is overloaded or still starting; or what listens there is no Kafka",
        )  # fmt: skip
    except OSError as error:
        broker.may_let_in = True
        broker.note(
            "kafka", State.TROUBLE, f"it takes connections, then ends them: {words(error)}",
            "check that this is a Kafka port, and what stands between (proxy, firewall); see the broker's log",
        )  # fmt: skip


def _reach(broker: Broker, deadline: Deadline) -> Address | None:
    """The name, then a connection: the first address that takes one."""
    addresses, found = reaching.resolve(broker.subject, broker.host, broker.port, deadline)
    broker.add(found)
    if not addresses:
        return None
    # Half of the time: one address may be dead, and what is behind another still wants to be asked.
    address, found = reaching.connect(broker.subject, addresses, Deadline(deadline.left / 2))
    broker.add(found)
    return address


def _speak(broker: Broker, way: Way, address: Address, deadline: Deadline) -> None:
    connection = _open(broker, way, address, deadline)
    if connection is None:
        return
    try:
        with closing(connection):
            _greet(broker, way, connection, deadline)
    except TimeoutError:
        raise
    except OSError as error:
        broker.may_let_in = True
        if not _told_apart(broker, way, address, error, deadline) and not _is_old(broker, way, address, deadline):
            raise


def _greet(broker: Broker, way: Way, connection: socket.socket, deadline: Deadline, *, oldest: bool = False) -> None:
    versions = wire.api_versions(connection, deadline, oldest=oldest)
    broker.may_let_in = True
    _sasl(broker, way, connection, versions, deadline)
    about = releases.describe(versions)
    broker.note("versions", about.state, about.text, about.advice, about.facts)


def _is_old(broker: Broker, way: Way, address: Address, deadline: Deadline) -> bool:
    """Whether it is one that hangs up on the newest form of the question and answers the oldest."""
    try:
        connection = socket.create_connection(address, deadline.left)
        with closing(way.encryption.begin(connection, broker.host, deadline) if way.tls else connection) as again:
            _greet(broker, way, again, deadline, oldest=True)
    except OSError:
        return False
    return True


def _open(broker: Broker, way: Way, address: Address, deadline: Deadline) -> socket.socket | None:
    """A connection to speak Kafka's protocol in; None where TLS failed, which is noted."""
    if not way.tls:
        return socket.create_connection(address, deadline.left)
    try:
        connection = way.encryption.begin(socket.create_connection(address, deadline.left), broker.host, deadline)
    except ssl.SSLCertVerificationError as error:
        broker.may_let_in = True
        shown = _look_at_certificate(broker, way, address, deadline)
        broker.findings.append(encryption.refused(broker.subject, error, shown, broker.host))
        return None
    except TimeoutError:
        raise
    except OSError as error:
        broker.may_let_in = True
        if not _told_apart(broker, way, address, error, deadline):
            broker.note(
                "tls", State.TROUBLE, f"the TLS handshake failed: {words(error)}",
                "check the port; with an old broker, its TLS versions (ssl.enabled.protocols) and this machine's",
            )  # fmt: skip
        return None
    broker.findings.append(way.encryption.accepted(broker.subject, connection))
    return connection


def _look_at_certificate(broker: Broker, way: Way, address: Address, deadline: Deadline) -> Certificate | None:
    """The one that is not accepted."""
    try:
        raw = socket.create_connection(address, deadline.left)
        with closing(way.encryption.begin(raw, broker.host, deadline, verify=False)) as connection:
            return encryption.peek(connection)
    except OSError:
        return None


def _told_apart(broker: Broker, way: Way, address: Address, error: OSError, deadline: Deadline) -> bool:
    """Whether it was seen why: a listener that speaks something else than the settings say."""
    if way.tls and encryption.wants_certificate(error):
        known = "the one that was shown" if way.encryption.own else "none was shown"
        if way.encryption.has_unread_keystore:
            known = "this check cannot show that of ssl.keystore.location; see the login"
        broker.note(
            "certificate", State.TROUBLE,
            f"the broker wants a client certificate that it trusts, {known} ({words(error)})",
            "give -o ssl_client_cert_file=FILE -o ssl_client_key_file=FILE, signed by an authority that it knows",
        )  # fmt: skip
        return True
    broker.may_let_in = False
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
    broker.may_let_in = True
    return False


def _speaks_plainly(address: Address, deadline: Deadline) -> bool:
    try:
        with socket.create_connection(address, deadline.left) as connection:
            wire.api_versions(connection, deadline)
    except OSError:
        return False
    return True


def _speaks_tls(way: Way, host: str, address: Address, deadline: Deadline) -> bool:
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
        broker.may_let_in = False
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
