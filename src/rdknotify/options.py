"""Every option: one table, and what becomes of it in librdkafka's configuration.

``resolve(url, role, options, config)`` is what clients are made from. What is set later wins: our defaults,
the options, ``config`` (librdkafka properties by name), the query parameters of the URL.
``python -m rdknotify.options`` prints the table as Markdown.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from rdknotify.errors import ConfigError
from rdknotify.url import HIDDEN, TransportURL, is_secret

__all__ = ["DEFAULTS", "OPTIONS", "OWNED", "Option", "Role", "Settings", "for_role", "markdown", "resolve"]

Role: TypeAlias = Literal["producer", "consumer"]
Value: TypeAlias = str | int | float | bool | None

_BOTH: tuple[Role, ...] = ("producer", "consumer")
_PRODUCER: tuple[Role, ...] = ("producer",)
_CONSUMER: tuple[Role, ...] = ("consumer",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option, as declared in :data:`OPTIONS`.

    Attributes:
        type: ``str``, ``int``, ``float`` or ``bool``; text is converted.
        default: None means unset, or what ``help`` says.
        unit: seconds, bytes or records; empty for a pure number or text.
        property: the librdkafka property that it sets, in milliseconds where that ends in ``.ms``.
        oslo: its name in ``[oslo_messaging_kafka]``, accepted as well.
        older: spellings that are accepted with a DeprecationWarning.
        none: what an explicit None means; empty where None only means "the default".
        instead: the option that replaced this one, which then gives a DeprecationWarning.
    """

    name: str
    type: type[str | int | float | bool]
    default: Value
    help: str
    roles: tuple[Role, ...] = _BOTH
    unit: str = ""
    property: str | None = None
    oslo: str | None = None
    older: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    none: str = ""
    instead: str = ""


OPTIONS: tuple[Option, ...] = (
    # -- connection
    Option(
        name="security_protocol", oslo="security_protocol", type=str, default=None,
        property="security.protocol", choices=("PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"),
        help="How to talk to the brokers. Unset: SASL_... if the URL has credentials, ..SSL if an ssl_ "
        "option is given, else PLAINTEXT.",
    ),
    Option(
        name="sasl_mechanism", oslo="sasl_mechanism", older=("sasl_mechanisms",), type=str, default="PLAIN",
        property="sasl.mechanism",
        choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"),
        help="How to authenticate with SASL; GSSAPI only where it was built in.",
    ),
    Option(
        name="ssl", type=bool, default=None, instead="security_protocol",
        help="Whether to use TLS; older than security_protocol, gives a DeprecationWarning.",
    ),
    Option(
        name="ssl_cafile", oslo="ssl_cafile", older=("ssl_ca_file",), type=str, default=None,
        property="ssl.ca.location", help="PEM file of the CA certificates that brokers are checked against.",
    ),
    Option(
        name="ssl_client_cert_file", oslo="ssl_client_cert_file", type=str, default=None,
        property="ssl.certificate.location", help="PEM file of the client's certificate.",
    ),
    Option(
        name="ssl_client_key_file", oslo="ssl_client_key_file", type=str, default=None,
        property="ssl.key.location", help="PEM file of the client's key.",
    ),
    Option(
        name="ssl_client_key_password", oslo="ssl_client_key_password", type=str, default=None,
        property="ssl.key.password", help="Password of the client's key.",
    ),
    Option(
        name="connect_timeout", type=float, default=5.0, unit="seconds", minimum=0.001, none="do not check",
        help="At construction, how long to wait until a broker answers.",
    ),
    # -- producer
    Option(
        name="linger", oslo="producer_batch_timeout", type=float, default=0.005, unit="seconds",
        roles=_PRODUCER, property="linger.ms", minimum=0, maximum=900,
        help="How long a record waits for others to share a request with.",
    ),
    Option(
        name="producer_batch_size", oslo="producer_batch_size", type=int, default=16384, unit="records",
        roles=_PRODUCER, property="batch.num.messages", minimum=1, maximum=1_000_000,
        help="Most records in one request to a partition.",
    ),
    Option(
        name="producer_batch_bytes", type=int, default=1_000_000, unit="bytes", roles=_PRODUCER,
        property="batch.size", minimum=1, maximum=2**31 - 1, help="Most bytes in one request to a partition.",
    ),
    Option(
        name="compression_codec", oslo="compression_codec", type=str, default="none", roles=_PRODUCER,
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
        name="consumer_group", oslo="consumer_group", type=str, default="oslo_messaging_consumer",
        roles=_CONSUMER, property="group.id", help="Consumer group where no group or pool is named.",
    ),
    Option(
        name="start", oslo="auto_offset_reset", type=str, default="earliest", roles=_CONSUMER,
        property="auto.offset.reset", choices=("earliest", "latest"),
        help="Where a group begins in a partition for which it has no committed offset.",
    ),
    Option(
        name="group_protocol", type=str, default="classic", roles=_CONSUMER, property="group.protocol",
        choices=("classic", "consumer"),
        help="How members share partitions; consumer is KIP-848, Kafka 4.0 and later.",
    ),
    Option(
        name="max_poll_records", oslo="max_poll_records", type=int, default=500, unit="records",
        roles=_CONSUMER, minimum=1, maximum=2**31 - 1, help="Most records returned by one poll.",
    ),
    Option(
        name="kafka_consumer_timeout", oslo="kafka_consumer_timeout", type=float, default=1.0, unit="seconds",
        roles=_CONSUMER, minimum=0, help="How long one poll waits for a first record.",
    ),
    Option(
        name="kafka_max_fetch_bytes", oslo="kafka_max_fetch_bytes", type=int, default=1_048_576, unit="bytes",
        roles=_CONSUMER, property="max.partition.fetch.bytes", minimum=1, maximum=1_000_000_000,
        help="Most bytes fetched at once from one partition.",
    ),
    Option(
        name="enable_auto_commit", oslo="enable_auto_commit", type=bool, default=False, roles=_CONSUMER,
        help="For compatibility: offsets are committed explicitly whatever it says; true warns.",
    ),
    Option(
        name="commit_timeout", type=float, default=10.0, unit="seconds", roles=_CONSUMER, minimum=0.001,
        help="How long a synchronous commit waits for the answer.",
    ),
    Option(
        name="close_timeout", type=float, default=5.0, unit="seconds", roles=_CONSUMER, minimum=0,
        help="How long close takes at most to leave the group.",
    ),
)  # fmt: skip

DEFAULTS: Mapping[Role, Mapping[str, tuple[str, str]]] = {
    "producer": {
        "client.id": ("rdknotify", "the name in the brokers' logs and metrics"),
        "enable.idempotence": ("true", "a retry inside librdkafka neither duplicates nor reorders"),
        "acks": ("all", "an acknowledged record survives the loss of a broker"),
        "topic.metadata.propagation.max.ms": ("10000", "an unknown topic is an error after 10 s, not 30"),
        "reconnect.backoff.max.ms": ("1000", "a broker that comes back is found within 1 s"),
        "socket.timeout.ms": ("10000", "a silent broker is given up after 10 s, not 60"),
        "statistics.interval.ms": ("0", "statistics cost time; set it to get them"),
    },
    "consumer": {
        "client.id": ("rdknotify", "the name in the brokers' logs and metrics"),
        "allow.auto.create.topics": ("false", "listening must not create a misspelt topic"),
        "topic.metadata.refresh.interval.ms": ("1000", "new topics and partitions are found within 1 s"),
        "partition.assignment.strategy": (
            "cooperative-sticky",
            "a member that joins or leaves does not stop the others (classic protocol only)",
        ),
        "fetch.queue.backoff.ms": ("10", "a full local queue is refilled at once, not after 1 s"),
        "queued.max.messages.kbytes": ("65536", "bounds the memory of records that wait to be polled"),
        "reconnect.backoff.max.ms": ("1000", "a broker that comes back is found within 1 s"),
        "socket.timeout.ms": ("10000", "a silent broker is given up after 10 s, not 60"),
        "statistics.interval.ms": ("0", "statistics cost time; set it to get them"),
    },
}  # fmt: skip
"""librdkafka properties that we set, each with its value and the reason; ``config`` may change them."""

FIXED: Mapping[Role, Mapping[str, str]] = {
    "producer": {"log.queue": "true"},
    "consumer": {"log.queue": "true", "enable.auto.commit": "false", "enable.auto.offset.store": "false"},
}
"""librdkafka properties that we set and own: see :data:`OWNED`."""

_CREDENTIALS = "credentials stand in the URL: kafka://user:password@host, or TransportURL(username=, password=)"
_COMMITS = "offsets are committed explicitly, before or after the work: use commit= or settle="
_PARTITIONS = "partitions are chosen by rdknotify"
_OUTCOMES = "every record has an outcome, which is taken from its delivery report"
OWNED: Mapping[str, str] = {
    "bootstrap.servers": "the brokers stand in the URL",
    "sasl.username": _CREDENTIALS,
    "sasl.password": _CREDENTIALS,
    "group.id": "use group=, pool= or the option consumer_group",
    "auto.offset.reset": "use start=",
    "enable.auto.commit": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "enable.partition.eof": "the end of a partition is no event here; ask lag()",
    "log.queue": "logs go to logging, logger rdknotify",
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

_ALIASES: Mapping[str, str] = {
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

_BY_NAME: Mapping[str, Option] = {
    spelling: option
    for option in OPTIONS
    for spelling in (option.name, option.oslo, *option.older)
    if spelling is not None
}
_BY_PROPERTY: Mapping[str, Option] = {option.property: option for option in OPTIONS if option.property}
_WORDS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client of one role is made from. ``repr`` hides secrets; ``conf`` holds them.

    Attributes:
        url: the brokers and the virtual host.
        values: the final value of every option of that role, by its name.
        conf: librdkafka's configuration.
    """

    url: TransportURL
    role: Role
    values: Mapping[str, Any]
    conf: dict[str, str]

    def __repr__(self) -> str:
        conf = {name: HIDDEN if is_secret(name) else value for name, value in self.conf.items()}
        values = {name: HIDDEN if is_secret(name) and value else value for name, value in self.values.items()}
        return f"Settings(url={self.url!r}, role={self.role!r}, values={values}, conf={conf})"


def resolve(
    url: str | TransportURL,
    role: Role,
    options: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Settings:
    """Check options, properties and URL, and merge them for a client of that role.

    An option of the other role is an error among ``options``; in the URL, which several clients may share, it
    is checked and left out. Raises ConfigError; warns of older spellings (DeprecationWarning) and of what
    will have no effect (UserWarning).
    """
    url = TransportURL.parse(url)
    chosen: dict[str, Value] = {}
    passed: dict[str, str] = {}
    for source, given in (("option", options or {}), ("config", config or {}), ("URL parameter", url.query)):
        read = _Read(source, role)
        for name, value in given.items():
            read.take(name, value)
        chosen |= read.options
        passed |= read.properties
    values = {each.name: chosen.get(each.name, each.default) for each in OPTIONS if role in each.roles}
    values["security_protocol"] = _security_protocol(values, url, passed)
    _check_times(values)
    _warn_of_no_effect(values, url)
    shown = {each.name: values[each.name] for each in OPTIONS if each.name in values and not each.instead}
    return Settings(url, role, MappingProxyType(shown), _conf(values, url, role, passed))


def for_role(options: Mapping[str, Any], role: Role) -> dict[str, Any]:
    """The options without those that are only of the other role: for what has a client of each role.

    Unknown names stay in, so that :func:`resolve` reports them.
    """
    return {name: value for name, value in options.items() if name not in _BY_NAME or role in _BY_NAME[name].roles}


class _Read:
    """What one source (the options, ``config``, or the URL's parameters) gives a client of one role."""

    def __init__(self, source: str, role: Role) -> None:
        self.source = source
        self.role = role
        self.options: dict[str, Value] = {}
        self.properties: dict[str, str] = {}
        self._spelt: dict[str, str] = {}

    def take(self, name: str, value: Any) -> None:
        option = _BY_NAME.get(name) if isinstance(name, str) else None
        if option is not None and self.source != "config":
            self._take_option(option, name, value)
        elif self.source == "option" or (self.source != "config" and "." not in name):
            raise ConfigError(f"{self.source} {name!r} is unknown{_hint(name)}")
        elif option is not None:
            raise ConfigError(f"config: {name} is an option, not a librdkafka property: give it as {name}=...")
        else:
            self._take_property(name, value)

    def _take_option(self, option: Option, name: str, value: Any) -> None:
        if option.instead or name in option.older:
            warnings.warn(
                f"{self.source} {name} is deprecated: use {option.instead or option.name}",
                DeprecationWarning,
                stacklevel=4,
            )
        converted = _convert(option, value, f"{self.source} {name}")
        if self.role in option.roles:
            self._once(option.name, name, converted, self.options)
        elif self.source == "option":
            raise ConfigError(f"option {name}: a {self.role} has none of this name, it is for a {option.roles[0]}")

    def _take_property(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{self.source}: {name!r} is not the name of a librdkafka property")
        canonical = _ALIASES.get(name, name)
        reason = OWNED.get(canonical, "callbacks are rdknotify's" if name.endswith("_cb") else None)
        if reason is not None:
            raise ConfigError(f"{self.source}: {name} cannot be set: {reason}")
        option = _BY_PROPERTY.get(canonical)
        if option is None:
            self._once(canonical, name, _text(f"{self.source} {name}", value), self.properties)
            return
        converted = _convert(option, value, f"{self.source} {name}", canonical.endswith(".ms"))
        if self.role in option.roles:
            self._once(option.name, name, converted, self.options)

    def _once(self, key: str, spelling: str, value: Any, into: dict[str, Any]) -> None:
        if key in into and into[key] != value:
            raise ConfigError(
                f"{self.source}: {self._spelt[key]} and {spelling} are the same setting, with different "
                "values; give one of them"
            )
        into[key] = value
        self._spelt[key] = spelling


def _convert(option: Option, value: Any, label: str, milliseconds: bool = False) -> Value:
    """The value as the option's type, checked; None where it is not set."""
    given = f"{label}={HIDDEN if is_secret(option.name) else repr(value)}"
    if value is None or (value == "" and (option.type is str or option.none)):
        return None if option.none else option.default
    try:
        converted = _typed(option.type, value)
    except (TypeError, ValueError, OverflowError, KeyError):
        kind = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[option.type]
        unit = "milliseconds" if milliseconds else option.unit
        raise ConfigError(f"{given}: {kind}{' of ' + unit if unit else ''} is needed") from None
    if option.choices:
        for choice in option.choices:
            if choice.lower() == str(converted).lower():
                return choice
        raise ConfigError(f"{given}: it is one of {', '.join(option.choices)}")
    if isinstance(converted, (int, float)) and option.type is not bool:
        converted = converted / 1000 if milliseconds else converted
        low, high = option.minimum, option.maximum
        if (low is not None and converted < low) or (high is not None and converted > high):
            raise ConfigError(f"{given}: it must be {_range(option)}{' ' + option.unit if option.unit else ''}")
    return converted


def _typed(kind: type[str | int | float | bool], value: Any) -> str | int | float | bool:
    if kind is bool:
        return _WORDS[str(value).strip().lower()]
    if isinstance(value, bool) or not isinstance(value, str if kind is str else (str, int, float)):
        raise TypeError(value)
    converted = kind(value)
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError(value)
    if isinstance(value, float) and converted != value:
        raise ValueError(value)
    return converted


def _text(label: str, value: Any) -> str:
    """A property's value as librdkafka reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ConfigError(f"{label}: a str, number or bool is needed, not {type(value).__name__}")


def _property_text(option: Option, value: Any) -> str:
    """An option's value as librdkafka reads it: whole milliseconds; only linger.ms may be a fraction."""
    if option.property is None or not option.property.endswith(".ms"):
        return _text(option.name, value)
    milliseconds = round(value * 1000, 3)
    whole = math.ceil(milliseconds)
    return str(milliseconds if option.property == "linger.ms" and milliseconds != whole else whole)


def _security_protocol(values: Mapping[str, Value], url: TransportURL, passed: Mapping[str, str]) -> str:
    """The protocol that is given or follows from what is given; raises ConfigError for what cannot work."""
    protocol, ssl = values["security_protocol"], values["ssl"]
    if protocol is None:
        tls = _ssl_options(values) or any(name.startswith("ssl.") for name in passed) if ssl is None else ssl
        protocol = ("SASL_" if url.username else "") + ("SSL" if tls else "PLAINTEXT")
    elif ssl is not None and ssl != str(protocol).endswith("SSL"):
        raise ConfigError(f"option ssl={ssl} contradicts security_protocol={protocol}: leave ssl out")
    mechanism = str(values["sasl_mechanism"])
    needs_password = mechanism == "PLAIN" or mechanism.startswith("SCRAM")
    if str(protocol).startswith("SASL") and needs_password and (not url.username or url.password is None):
        missing = "password" if url.username else "user name and password"
        raise ConfigError(
            f"option security_protocol={protocol}: sasl_mechanism {mechanism} needs a {missing}: {_CREDENTIALS}"
        )
    certificate, key = "ssl_client_cert_file", "ssl_client_key_file"
    for one, other, instead in ((key, certificate, "ssl.certificate.pem"), (certificate, key, "ssl.key.pem")):
        if values[one] and not values[other] and instead not in passed:
            raise ConfigError(f"option {one}: certificate and key belong together; give {other} too")
    return str(protocol)


def _check_times(values: Mapping[str, Any]) -> None:
    if "linger" in values and values["delivery_timeout"] <= values["linger"]:
        raise ConfigError(
            f"option delivery_timeout={values['delivery_timeout']}: a record would expire while it waits for "
            f"others; it must be more than linger={values['linger']}"
        )


def _ssl_options(values: Mapping[str, Value]) -> list[str]:
    return [name for name, value in values.items() if name.startswith("ssl_") and value]


def _warn_of_no_effect(values: Mapping[str, Value], url: TransportURL) -> None:
    protocol = str(values["security_protocol"])
    if url.username and not protocol.startswith("SASL"):
        _warn(f"the URL's credentials are not used: security_protocol={protocol}; SASL_{protocol} uses them")
    if (unused := _ssl_options(values)) and not protocol.endswith("SSL"):
        _warn(f"{', '.join(unused)} not used: security_protocol={protocol} does not encrypt")
    if values.get("enable_auto_commit"):
        _warn("enable_auto_commit=true has no effect: offsets are committed explicitly")


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)


def _conf(values: Mapping[str, Value], url: TransportURL, role: Role, passed: Mapping[str, str]) -> dict[str, str]:
    conf = {name: value for name, (value, _) in DEFAULTS[role].items()}
    if values.get("group_protocol") == "consumer":
        # Brokers assign there, and librdkafka refuses the property.
        del conf["partition.assignment.strategy"]
    for option in OPTIONS:
        value = values.get(option.name)
        if option.property and value is not None:
            conf[option.property] = _property_text(option, value)
    conf |= passed
    conf |= FIXED[role]
    conf["bootstrap.servers"] = url.bootstrap_servers
    if not str(values["security_protocol"]).startswith("SASL"):
        del conf["sasl.mechanism"]
    elif url.username is not None:
        conf["sasl.username"] = url.username
        conf["sasl.password"] = url.password or ""
    return conf


def _hint(name: object) -> str:
    if isinstance(name, str) and "." in name:
        return "; librdkafka's properties go into config={...}"
    close = get_close_matches(str(name), _BY_NAME, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(o.name for o in OPTIONS)}"


def _range(option: Option) -> str:
    low, high = option.minimum, option.maximum
    if high is None:
        return f"at least {low:g}"
    return f"within {low:.10g}..{high:.10g}"


def markdown() -> Iterator[str]:
    """The documentation of options, line by line."""
    yield from ("# Options", "")
    yield "<!-- Made from rdknotify/options.py: `python -m rdknotify.options > docs/options.md` -->"
    yield ""
    yield (
        "Options are keyword arguments of every class, or parameters of the URL "
        "(`kafka://host/?linger=0.01`). What is set later wins: the default, the keyword argument, "
        "`config`, the URL. Where the column *oslo* has a name, `[oslo_messaging_kafka]` knows the option by "
        "it, and it is accepted as well."
    )
    for title, roles in (("Connection", _BOTH), ("Sending", _PRODUCER), ("Receiving", _CONSUMER)):
        yield from ("", f"## {title}", "")
        yield from _markdown_table(
            ("option", "type", "default", "what", "sets", "oslo"),
            (_markdown_row(option) for option in OPTIONS if option.roles == roles),
        )
    yield from ("", "## librdkafka properties", "")
    yield "`config={...}` passes any other property to librdkafka. We set these, unless it says otherwise:"
    yield ""
    rows = {
        name: (f"`{name}`", f"`{value}`", " and ".join(r for r in _BOTH if name in DEFAULTS[r]), reason)
        for role in _BOTH
        for name, (value, reason) in DEFAULTS[role].items()
    }
    yield from _markdown_table(("property", "value", "for", "because"), rows.values())
    yield from ("", "These cannot be set, nor any that ends in `_cb`:", "")
    yield from _markdown_table(("property", "because"), ((f"`{name}`", reason) for name, reason in OWNED.items()))


def _markdown_row(option: Option) -> tuple[str, ...]:
    kind = f"{option.type.__name__}{', ' + option.unit if option.unit else ''}"
    if option.choices:
        kind += ": " + ", ".join(f"`{choice}`" for choice in option.choices)
    elif option.minimum is not None:
        kind += f", {_range(option)}"
    text = option.help + (f" None: {option.none}." if option.none else "")
    if option.older:
        text += f" Older: {', '.join(f'`{name}`' for name in option.older)}."
    default = "" if option.default is None else f"`{_text(option.name, option.default)}`"
    return (
        f"`{option.name}`",
        kind,
        default,
        text,
        f"`{option.property}`" if option.property else "",
        f"`{option.oslo}`" if option.oslo else "",
    )


def _markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    print(*markdown(), sep="\n")
