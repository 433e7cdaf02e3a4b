"""Every option: one table, from which checks, configuration, documentation and oslo.config's options are made.

``python -m rdknotify.option_table`` prints it as Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "ALIASES",
    "CLIENTS",
    "CREDENTIALS",
    "DEFAULTS",
    "FIXED",
    "OPTIONS",
    "OWNED",
    "Option",
    "Role",
    "Value",
    "allowed_range",
    "markdown",
    "markdown_table",
]

Role: TypeAlias = Literal["producer", "consumer", "share consumer", "admin", "listener", "driver"]
Value: TypeAlias = str | int | float | bool | Mapping[str, Any] | Callable[[], Any] | None

CLIENTS: tuple[Role, ...] = ("producer", "consumer", "share consumer", "admin")
_PRODUCER: tuple[Role, ...] = ("producer",)
_CONSUMER: tuple[Role, ...] = ("consumer",)
_CONSUMERS: tuple[Role, ...] = ("consumer", "share consumer")
_SHARE: tuple[Role, ...] = ("share consumer",)
_LISTENER: tuple[Role, ...] = ("listener",)
_DRIVER: tuple[Role, ...] = ("driver",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option, as declared in :data:`OPTIONS`.

    Attributes:
        type: ``str``, ``int``, ``float``, ``bool``, ``dict`` or ``Callable`` (only for programs); text is converted to
            numbers and truth.
        default: None means unset, or what ``help`` says.
        unit: seconds, bytes or records; empty for a pure number or text.
        property: the librdkafka property that it sets, in milliseconds where that ends in ``.ms``.
        pem: the property that it sets instead when its value is no file but PEM text.
        oslo: its name in ``[oslo_messaging_kafka]``, accepted everywhere; the same one unless given.
        oslo_default: its default in the driver of oslo.messaging, where its group, or rdknotify, has another.
        several: whether choices may be combined, with commas.
        older: spellings that are accepted with a DeprecationWarning.
        none: what an explicit None means; empty where None only means "the default".
        instead: the option that replaced this one, which then gives a DeprecationWarning.
    """

    name: str
    type: Any
    default: Value
    help: str
    roles: tuple[Role, ...] = CLIENTS
    unit: str = ""
    property: str | None = None
    pem: str | None = None
    oslo: str = ""
    oslo_default: Value = None
    older: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    several: bool = False
    minimum: float | None = None
    maximum: float | None = None
    none: str = ""
    instead: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "oslo", self.oslo or self.name)


OPTIONS: tuple[Option, ...] = (
    # -- connection
    Option(
        name="security_protocol", type=str, default=None, oslo_default="PLAINTEXT",
        property="security.protocol", choices=("PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"),
        help="How to talk to the brokers. Unset: SASL_... if the URL has credentials, ..SSL if an ssl_ "
        "option is given, else PLAINTEXT.",
    ),
    Option(
        name="sasl_mechanism", older=("sasl_mechanisms",), type=str, default="PLAIN",
        property="sasl.mechanism",
        choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"),
        help="How to authenticate with SASL; GSSAPI only where it was built in.",
    ),
    Option(
        name="ssl", type=bool, default=None, instead="security_protocol",
        help="Whether to use TLS; older than security_protocol, gives a DeprecationWarning.",
    ),
    Option(
        name="ssl_cafile", older=("ssl_ca_file",), type=str, default=None,
        property="ssl.ca.location", pem="ssl.ca.pem",
        help="The CA certificates that brokers are checked against: a PEM file, or its text. Unset: those "
        "that SSL_CERT_FILE and SSL_CERT_DIR of the environment name, else the system's, else the package certifi's.",
    ),
    Option(
        name="ssl_client_cert_file", type=str, default=None,
        property="ssl.certificate.location", pem="ssl.certificate.pem",
        help="The client's certificate: a PEM file, or its text.",
    ),
    Option(
        name="ssl_client_key_file", type=str, default=None,
        property="ssl.key.location", pem="ssl.key.pem", help="The client's key: a PEM file, or its text.",
    ),
    Option(
        name="ssl_client_key_password", type=str, default=None,
        property="ssl.key.password", help="Password of the client's key.",
    ),
    Option(
        name="credentials_file", type=str, default=None,
        help="Where user and password stand that the URL does not have: a file with the lines username=... and "
        "password=..., or a folder with files of these names (a mounted secret). Read again when it changes.",
    ),
    Option(
        name="oauth_token", type=Callable, default=None,
        help="For OAUTHBEARER: a callable without arguments that returns an OAuthToken, as ClientCredentials (both in "
        "rdknotify.oauth). Called in a thread of its own, at first and before a token expires.",
    ),
    Option(
        name="oauth_token_url", type=str, default=None,
        help="For OAUTHBEARER: the token endpoint of an OAuth 2 or OIDC server, asked by the grant client_credentials.",
    ),
    Option(name="oauth_client_id", type=str, default=None, help="Who asks at oauth_token_url."),
    Option(
        name="oauth_client_secret", type=str, default=None, help="The secret of oauth_client_id.",
    ),
    Option(
        name="oauth_client_secret_file", type=str, default=None,
        help="In its place, a file with the secret, which is read anew for each token.",
    ),
    Option(
        name="oauth_scope", type=str, default=None, help="Scopes that are asked for at oauth_token_url.",
    ),
    Option(
        name="connect_timeout", type=float, default=5.0, unit="seconds", minimum=0.001, none="do not check",
        help="At construction, how long to wait until a broker answers.",
    ),
    Option(
        name="statistics_interval", type=float, default=0.0, unit="seconds", property="statistics.interval.ms",
        minimum=0, maximum=86_400,
        help="How often librdkafka reports its statistics, for the metrics of brokers and of the queue's bytes; 0: "
        "never. Its work grows with the partitions.",
    ),
    Option(
        name="debug", type=str, default=None, property="debug", several=True,
        choices=(
            "generic", "broker", "topic", "metadata", "feature", "queue", "msg", "protocol", "cgrp", "security",
            "fetch", "interceptor", "plugin", "consumer", "admin", "eos", "mock", "assignor", "conf", "telemetry",
            "all",
        ),
        help="What librdkafka tells in detail, with commas between; the lines go to logging, at DEBUG. msg, fetch and "
        "all write lines for records, which slows them down.",
    ),
    # -- producer
    Option(
        name="linger", oslo="producer_batch_timeout", type=float, default=0.0, oslo_default=0.001, unit="seconds",
        roles=_PRODUCER, property="linger.ms", minimum=0, maximum=900,
        help="How long a record waits to share a request; what comes while one is in flight shares the next anyway.",
    ),
    Option(
        name="producer_batch_size", type=int, default=16384, unit="records",
        roles=_PRODUCER, property="batch.num.messages", minimum=1, maximum=1_000_000,
        help="Most records in one request to a partition.",
    ),
    Option(
        name="producer_batch_bytes", type=int, default=1_000_000, unit="bytes", roles=_PRODUCER,
        property="batch.size", minimum=1, maximum=2**31 - 1, help="Most bytes in one request to a partition.",
    ),
    Option(
        name="compression_codec", type=str, default="none", roles=_PRODUCER,
        property="compression.codec", choices=("none", "gzip", "snappy", "lz4", "zstd"),
        help="Compression of what is sent.",
    ),
    Option(
        name="max_in_flight", type=int, default=100_000, unit="records", roles=_PRODUCER,
        property="queue.buffering.max.messages", minimum=1, maximum=2**31 - 1,
        help="Most records enqueued whose outcome is not known: bounds memory.",
    ),
    Option(
        name="queue_timeout", type=float, default=10.0, unit="seconds", roles=_PRODUCER, minimum=0,
        help="How long sending waits for room when max_in_flight is reached.",
    ),
    Option(
        name="delivery_timeout", type=float, default=120.0, unit="seconds", roles=_PRODUCER,
        property="message.timeout.ms", minimum=0.001, maximum=2_147_483,
        help="After this long a record that was not acknowledged is given up; its outcome says so.",
    ),
    Option(
        name="flush_timeout", type=float, default=30.0, unit="seconds", roles=_PRODUCER, minimum=0,
        help="How long close, and exit of the process, wait for what is in flight.",
    ),
    # -- consumer
    Option(
        name="consumer_group", type=str, default="oslo_messaging_consumer",
        roles=_CONSUMERS, property="group.id", help="Consumer group where no group or pool is named.",
    ),
    Option(
        name="start", oslo="auto_offset_reset", type=str, default="earliest", roles=_CONSUMERS,
        property="auto.offset.reset", choices=("earliest", "latest"),
        help="Where a group begins in a partition for which it has no committed offset.",
    ),
    Option(
        name="group_protocol", type=str, default="classic", roles=_CONSUMER, property="group.protocol",
        choices=("classic", "consumer"),
        help="How members share partitions; consumer is KIP-848, Kafka 4.0 and later.",
    ),
    Option(
        name="assignment_strategy", type=str, default="cooperative-sticky", oslo_default="roundrobin,range",
        roles=_CONSUMER, property="partition.assignment.strategy",
        help="How partitions are shared with the classic protocol: cooperative-sticky does not stop the members that "
        "keep theirs; the others share each topic evenly, and with members of oslo.messaging's own driver.",
    ),
    Option(
        name="create_topics", type=bool, default=False, oslo_default=True, roles=_CONSUMER,
        property="allow.auto.create.topics",
        help="Whether topics that are absent are asked for: brokers with auto.create.topics.enable then create them. "
        "Otherwise they are waited for.",
    ),
    Option(
        name="max_poll_records", type=int, default=500, unit="records",
        roles=_CONSUMERS, minimum=1, maximum=2**31 - 1, help="Most records returned by one poll.",
    ),
    Option(
        name="kafka_consumer_timeout", type=float, default=1.0, unit="seconds",
        roles=_CONSUMER, minimum=0, help="How long one poll waits for a first record.",
    ),
    Option(
        name="kafka_max_fetch_bytes", type=int, default=1_048_576, unit="bytes",
        roles=_CONSUMER, property="max.partition.fetch.bytes", minimum=1, maximum=1_000_000_000,
        help="Most bytes fetched at once from one partition.",
    ),
    Option(
        name="enable_auto_commit", type=bool, default=False, roles=_CONSUMER,
        help="For compatibility: offsets are committed explicitly whatever it says; true warns.",
    ),
    Option(
        name="commit_timeout", type=float, default=10.0, unit="seconds", roles=_CONSUMERS, minimum=0.001,
        help="How long a synchronous commit waits for the answer.",
    ),
    Option(
        name="close_timeout", type=float, default=5.0, unit="seconds", roles=_CONSUMERS, minimum=0,
        help="How long close takes at most to leave the group.",
    ),
    # -- share consumer
    Option(
        name="lock_duration", type=float, default=30.0, unit="seconds", roles=_SHARE, minimum=1, maximum=3600,
        help="How long an acquired record is its member's to settle. It becomes share.record.lock.duration.ms of the "
        "group; brokers allow 15 to 60 seconds unless told otherwise.",
    ),
    # -- listener
    Option(
        name="settle", type=str, default="before", roles=_LISTENER, choices=("before", "after", "share"),
        help="When offsets are committed: before notifications are handed out (nothing is seen twice), or after "
        "(nothing is lost, and what is wanted again is seen again). share, of a Listener only: no offsets but a share "
        "group, where each notification is settled by itself (a preview of librdkafka's).",
    ),
    Option(
        name="max_deliveries", type=int, default=5, roles=(*_LISTENER, *_SHARE), minimum=1, maximum=2**31 - 1,
        help="With settle=after, or in a share group, how often a record is handed out before it is a dead letter. "
        "In a share group brokers allow 8 at most, unless told otherwise.",
    ),
    Option(
        name="retry_delay", type=float, default=5.0, unit="seconds", roles=_LISTENER, minimum=0, maximum=2_147_483,
        help="With settle=after, how long a record that is wanted again is held back.",
    ),
    Option(
        name="dead_letter_topic", type=str, default=None, roles=_LISTENER,
        help="Where records go that are no notifications or were handed out too often. Unset: with settle=after a "
        "topic named after the record's topic and the group, with settle=before they are logged and skipped.",
    ),
    Option(
        name="stop_timeout", type=float, default=30.0, unit="seconds", roles=_LISTENER, minimum=0,
        help="How long the end of a listener waits for endpoints that are at work.",
    ),
    # -- oslo.messaging driver
    Option(
        name="requeue_unsupported", type=str, default="raise", roles=_DRIVER, choices=("raise", "warn"),
        help="What a listener made with allow_requeue=True does at start() where settle=before cannot requeue.",
    ),
    Option(
        name="notify_wait", type=bool, default=False, roles=_DRIVER,
        help="Whether sending waits for the broker's answer and raises MessageDeliveryFailure; retry=0 or more does.",
    ),
    Option(
        name="notification_key", type=str, default="none", roles=_DRIVER,
        choices=("none", "publisher_id", "event_type", "message_id"),
        help="Which field is a record's key: what has the same one is in the same partition, and seen in order.",
    ),
    Option(
        name="librdkafka", type=dict, default=None, roles=_DRIVER,
        help="Other librdkafka properties, as socket.timeout.ms:3000,client.id:nova.",
    ),
)  # fmt: skip

DEFAULTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "producer": {
        "client.id": ("rdknotify", "the name in the brokers' logs and metrics"),
        "enable.idempotence": ("true", "a retry inside librdkafka neither duplicates nor reorders"),
        "acks": ("all", "an acknowledged record survives the loss of a broker"),
        "topic.metadata.propagation.max.ms": ("10000", "an unknown topic is an error after 10 s, not 30"),
        "reconnect.backoff.max.ms": ("1000", "a broker that comes back is found within 1 s"),
        "socket.timeout.ms": ("10000", "a silent broker is given up after 10 s, not 60"),
    },
    "consumer": {
        "client.id": ("rdknotify", "the name in the brokers' logs and metrics"),
        "topic.metadata.refresh.interval.ms": ("1000", "new topics and partitions are found within 1 s"),
        "heartbeat.interval.ms": ("500", "a rebalance is noticed within 0.5 s, not 3 (classic protocol only)"),
        "check.crcs": ("true", "what was damaged on its way or on disk is an error, never a record"),
        "fetch.queue.backoff.ms": ("10", "a full local queue is refilled at once, not after 1 s"),
        "queued.max.messages.kbytes": ("65536", "bounds the memory of records that wait to be polled"),
        "reconnect.backoff.max.ms": ("1000", "a broker that comes back is found within 1 s"),
        "socket.timeout.ms": ("10000", "a silent broker is given up after 10 s, not 60"),
    },
    "share consumer": {
        "client.id": ("rdknotify", "the name in the brokers' logs and metrics"),
        "socket.timeout.ms": ("10000", "a silent broker is given up after 10 s, not 60"),
    },
    "admin": {
        "client.id": ("rdknotify", "the name in the brokers' logs and metrics"),
        "reconnect.backoff.max.ms": ("1000", "a broker that comes back is found within 1 s"),
        "socket.timeout.ms": ("10000", "a silent broker is given up after 10 s, not 60"),
    },
}  # fmt: skip
"""librdkafka properties that we set, each with its value and the reason; ``config`` may change them."""

FIXED: Mapping[str, Mapping[str, str]] = {
    "producer": {"log.queue": "true"},
    "consumer": {"log.queue": "true", "enable.auto.commit": "false", "enable.auto.offset.store": "false"},
    "share consumer": {"log.queue": "true"},
    "admin": {"log.queue": "true"},
}
"""librdkafka properties that we set and own: see :data:`OWNED`."""

CREDENTIALS = (
    "credentials stand in the URL: kafka://user:password@host, or TransportURL(username=, password=); in the option "
    "credentials_file; or in RDKNOTIFY_USERNAME and RDKNOTIFY_PASSWORD"
)
_COMMITS = "offsets are committed explicitly, before or after the work: use commit= or settle="
_PARTITIONS = "partitions are chosen by rdknotify"
_OUTCOMES = "every record has an outcome, which is taken from its delivery report"
OWNED: Mapping[str, str] = {
    "bootstrap.servers": "the brokers stand in the URL",
    "sasl.username": CREDENTIALS,
    "sasl.password": CREDENTIALS,
    "group.id": "use group=, pool= or the option consumer_group",
    "auto.offset.reset": "use start=",
    "enable.auto.commit": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "share.acknowledgement.mode": "each record of a share group is settled: accept(), release() or reject()",
    "enable.partition.eof": "the end of a partition is no event here; ask lag()",
    "log.queue": "logs go to logging, logger rdknotify.events",
    "enabled_events": "events are taken by rdknotify",
    "delivery.report.only.error": _OUTCOMES,
    "produce.offset.report": _OUTCOMES,
    "transactional.id": "there are no transactions; a Persister writes rows and offsets together",
    "partitioner": _PARTITIONS,
    "sticky.partitioning.linger.ms": _PARTITIONS,
    "opaque": "it is a C pointer",
    "default_topic_conf": "it is a C pointer; give the topic's properties themselves",
    "ssl_engine_callback_data": "it is a C pointer",
}
"""librdkafka properties that ``config`` and the URL may not set, and why; so is any that ends in ``_cb``."""

ALIASES: Mapping[str, str] = {
    "metadata.broker.list": "bootstrap.servers",
    "queue.buffering.max.ms": "linger.ms",
    "delivery.timeout.ms": "message.timeout.ms",
    "request.required.acks": "acks",
    "message.send.max.retries": "retries",
    "compression.type": "compression.codec",
    "max.in.flight.requests.per.connection": "max.in.flight",
    "sasl.mechanisms": "sasl.mechanism",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "auto.commit.enable": "enable.auto.commit",
    "sasl.oauthbearer.client.credentials.client.id": "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.secret": "sasl.oauthbearer.client.secret",
}
"""librdkafka's second names, so that ownership and precedence hold whichever name is used."""


def allowed_range(option: Option) -> str:
    """The values that it takes, in words."""
    low, high = option.minimum, option.maximum
    if high is None:
        return f"at least {low:g}"
    return f"within {low:.10g}..{high:.10g}"


def markdown() -> Iterator[str]:
    """The documentation of options, line by line."""
    yield from ("# Options", "")
    yield "<!-- Made from rdknotify/option_table.py: `python -m rdknotify.option_table > docs/options.md` -->"
    yield ""
    yield (
        "Options are keyword arguments of every class, or parameters of the URL "
        "(`kafka://host/?linger=0.01`). What is set later wins: the default, the keyword argument, "
        "`config`, the URL. The column *oslo* has the name in `[oslo_messaging_kafka]`, which is accepted "
        "everywhere as well."
    )
    yield ""
    yield (
        "User and password come from the URL, else from `credentials_file`, else from the environment: "
        "`RDKNOTIFY_USERNAME` and `RDKNOTIFY_PASSWORD`. A password is used only with the user it belongs to."
    )
    sections = (
        ("Connection", CLIENTS),
        ("Sending", _PRODUCER),
        ("Receiving", _CONSUMER),
        ("Share groups", _SHARE),
        ("Listening to notifications", _LISTENER),
        ("The driver of oslo.messaging only", _DRIVER),
    )
    for title, roles in sections:
        yield from ("", f"## {title}", "")
        yield from markdown_table(
            ("option", "type", "default", "what", "sets", "oslo"),
            (_markdown_row(option) for option in OPTIONS if roles == _section(option)),
        )
    yield from ("", "## librdkafka properties", "")
    yield "`config={...}` passes any other property to librdkafka. We set these, unless it says otherwise:"
    yield ""
    rows = {
        name: (f"`{name}`", f"`{value}`", " and ".join(r for r in CLIENTS if name in DEFAULTS[r]), reason)
        for role in CLIENTS
        for name, (value, reason) in DEFAULTS[role].items()
    }
    yield from markdown_table(("property", "value", "for", "because"), rows.values())
    yield from ("", "These cannot be set, nor any that ends in `_cb`:", "")
    yield from markdown_table(("property", "because"), ((f"`{name}`", reason) for name, reason in OWNED.items()))


def _section(option: Option) -> tuple[Role, ...]:
    return CLIENTS if option.roles == CLIENTS else option.roles[:1]


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _markdown_row(option: Option) -> tuple[str, ...]:
    kind = f"{option.type.__name__}{', ' + option.unit if option.unit else ''}"
    if option.choices:
        kind += ", any of: " if option.several else ": "
        kind += ", ".join(f"`{choice}`" for choice in option.choices)
    elif option.minimum is not None:
        kind += f", {allowed_range(option)}"
    text = option.help + (f" None: {option.none}." if option.none else "")
    if _SHARE[0] in option.roles and _section(option) not in (CLIENTS, _SHARE):
        text += " Also a share consumer's."
    if option.older:
        text += f" Older: {', '.join(f'`{name}`' for name in option.older)}."
    default = "" if option.default is None else f"`{_shown(option.default)}`"
    if option.oslo_default not in (None, option.default):
        default += f"; oslo: `{_shown(option.oslo_default)}`"
    return (
        f"`{option.name}`",
        kind,
        default,
        text,
        f"`{option.property}`" if option.property else "",
        "" if option.instead or option.roles == _SHARE or option.type is Callable else f"`{option.oslo}`",
    )


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table in Markdown, line by line."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    print(*markdown(), sep="\n")
