"""What clients are made from: options and librdkafka properties, checked and merged.

``resolve(url, role, options, config)``: what is set later wins: our defaults, the options, ``config`` (librdkafka
properties by name), the query parameters of the URL. A listener and the oslo.messaging driver have options of their
own, and clients of both roles.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from rdknotify import credentials, trust
from rdknotify.errors import ConfigError
from rdknotify.option_table import (
    ALIASES,
    CLIENTS,
    CREDENTIALS,
    DEFAULTS,
    FIXED,
    OPTIONS,
    OWNED,
    Option,
    Role,
    Value,
    allowed_range,
)
from rdknotify.url import HIDDEN, TransportURL, is_confidential, is_secret

__all__ = ["Settings", "for_role", "resolve"]

_BY_NAME: Mapping[str, Option] = {
    spelling: option for option in OPTIONS for spelling in (option.name, option.oslo, *option.older)
}
_BY_PROPERTY: Mapping[str, Option] = {option.property: option for option in OPTIONS if option.property}
_KINDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping of librdkafka properties",
    Callable: "a callable (where only text can be given, use oauth_token_url)",
}
_UNSECURED = "enable.sasl.oauthbearer.unsecure.jwt"
_VERIFY = "enable.ssl.certificate.verification"
_OFF = ("false", "f", "0")
_TOKEN_URL = "sasl.oauthbearer.token.endpoint.url"
_WORDS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client of one role is made from. ``repr`` hides secrets; ``conf`` holds them.

    Attributes:
        url: the brokers and the virtual host.
        values: the final value of every option of that role, by its name.
        conf: librdkafka's configuration; empty for a role that is no client.
    """

    url: TransportURL
    role: Role
    values: Mapping[str, Any]
    conf: dict[str, str]

    def __repr__(self) -> str:
        conf = {name: HIDDEN if is_secret(name, value) else value for name, value in self.conf.items()}
        values = {name: HIDDEN if is_secret(name, value) and value else value for name, value in self.values.items()}
        return f"Settings(url={self.url!r}, role={self.role!r}, values={values}, conf={conf})"


def resolve(
    url: str | TransportURL,
    role: Role,
    options: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Settings:
    """Check options, properties and URL, and merge them for that role.

    An option of another role is an error among ``options``; in the URL, which several clients may share, it
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
    if role not in CLIENTS:
        return Settings(url, role, MappingProxyType(values), {})
    file = values["credentials_file"]
    identity = credentials.find(url, None if file is None else str(file))
    values["security_protocol"] = _security_protocol(values, identity, passed)
    _check_sasl(values, identity, passed)
    _check_times(values)
    _warn_of_no_effect(values, url)
    _warn_of_trust(values, passed)
    shown = {each.name: values[each.name] for each in OPTIONS if each.name in values and not each.instead}
    conf = _conf(values, role, passed) | {"bootstrap.servers": url.bootstrap_servers}
    if str(values["security_protocol"]).startswith("SASL") and identity.username is not None:
        conf |= {"sasl.username": identity.username, "sasl.password": identity.password or ""}
    return Settings(url, role, MappingProxyType(shown), conf)


def for_role(options: Mapping[str, Any], role: Role) -> dict[str, Any]:
    """The options without those that are only of other roles: for what has clients of several roles.

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
        elif option is not None and option.property != name:
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
            article = "an" if self.role == "admin" else "a"
            raise ConfigError(
                f"option {name}: {article} {self.role} has none of this name, it is for a {option.roles[0]}"
            )

    def _take_property(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{self.source}: {name!r} is not the name of a librdkafka property")
        canonical = ALIASES.get(name, name)
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
    given = f"{label}={HIDDEN if is_secret(option.name, value) else repr(value)}"
    if value is None or (value == "" and (option.type is str or option.none)):
        return None if option.none else option.default
    try:
        converted = _typed(option.type, value)
    except (TypeError, ValueError, OverflowError, KeyError):
        kind = _KINDS[option.type]
        unit = "milliseconds" if milliseconds else option.unit
        raise ConfigError(f"{given}: {kind}{' of ' + unit if unit else ''} is needed") from None
    if option.choices:
        known = {choice.lower(): choice for choice in option.choices}
        named = [name.strip().lower() for name in (str(converted).split(",") if option.several else [str(converted)])]
        if not known.keys() >= set(named):
            kind = "names, with commas between," if option.several else "one"
            raise ConfigError(f"{given}: it is {kind} of {', '.join(option.choices)}")
        return ",".join(known[name] for name in named)
    if isinstance(converted, (int, float)) and option.type is not bool:
        converted = converted / 1000 if milliseconds else converted
        low, high = option.minimum, option.maximum
        if (low is not None and converted < low) or (high is not None and converted > high):
            raise ConfigError(f"{given}: it must be {allowed_range(option)}{' ' + option.unit if option.unit else ''}")
    return converted


def _typed(kind: Any, value: Any) -> Value:
    if kind is Callable:
        if not callable(value):
            raise TypeError(value)
        function: Callable[[], Any] = value
        return function
    if kind is bool:
        return _WORDS[str(value).strip().lower()]
    if kind is dict:
        if not isinstance(value, Mapping):
            raise TypeError(value)
        return dict(value)
    if isinstance(value, bool) or not isinstance(value, str if kind is str else (str, int, float)):
        raise TypeError(value)
    converted: str | int | float = kind(value)
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


def _security_protocol(
    values: Mapping[str, Value], identity: credentials.Credentials, passed: Mapping[str, str]
) -> str:
    """The protocol that is given or follows from what is given; raises ConfigError for what cannot work."""
    protocol, ssl = values["security_protocol"], values["ssl"]
    if protocol is None:
        tls = _ssl_options(values) or any(name.startswith("ssl.") for name in passed) if ssl is None else ssl
        sasl = identity.username or values["sasl_mechanism"] == "OAUTHBEARER"
        protocol = ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT")
    elif ssl is not None and ssl != str(protocol).endswith("SSL"):
        raise ConfigError(f"option ssl={ssl} contradicts security_protocol={protocol}: leave ssl out")
    certificate, key = "ssl_client_cert_file", "ssl_client_key_file"
    for one, other, instead in ((key, certificate, "ssl.certificate.pem"), (certificate, key, "ssl.key.pem")):
        if values[one] and not values[other] and instead not in passed:
            raise ConfigError(f"option {one}: certificate and key belong together; give {other} too")
    return str(protocol)


def _check_sasl(values: Mapping[str, Value], identity: credentials.Credentials, passed: Mapping[str, str]) -> None:
    """Raises ConfigError where the mechanism misses something."""
    protocol, mechanism = str(values["security_protocol"]), str(values["sasl_mechanism"])
    if not protocol.startswith("SASL"):
        return
    needs_password = mechanism == "PLAIN" or mechanism.startswith("SCRAM")
    if needs_password and (not identity.username or identity.password is None):
        missing = "password" if identity.username else "user name and password"
        raise ConfigError(
            f"option security_protocol={protocol}: sasl_mechanism {mechanism} needs a {missing}: {CREDENTIALS}"
        )
    if mechanism != "OAUTHBEARER":
        return
    if _by_oidc(values, passed):
        if given := [name for name, value in values.items() if name.startswith("oauth_") and value]:
            raise ConfigError(
                f"option {given[0]}: with sasl.oauthbearer.method=oidc librdkafka gets the tokens: give one"
            )
        return
    if values["oauth_token"] or _UNSECURED in passed:
        return
    if not values["oauth_token_url"]:
        raise ConfigError(
            "option sasl_mechanism=OAUTHBEARER: it needs oauth_token, a callable, or oauth_token_url, oauth_client_id "
            "and oauth_client_secret"
        )
    if not values["oauth_client_id"] or not (values["oauth_client_secret"] or values["oauth_client_secret_file"]):
        raise ConfigError("option oauth_token_url: it needs oauth_client_id, and oauth_client_secret or its file, too")


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
    if (unused := [name for name in values if name.startswith("oauth_") and values[name]]) and not (
        protocol.startswith("SASL") and values["sasl_mechanism"] == "OAUTHBEARER"
    ):
        _warn(f"{', '.join(unused)} not used: that takes sasl_mechanism=OAUTHBEARER")
    if values["credentials_file"] and url.password is not None:
        _warn("credentials_file not used: the URL has a password, which comes first")
    if (unused := _ssl_options(values)) and not protocol.endswith("SSL"):
        _warn(f"{', '.join(unused)} not used: security_protocol={protocol} does not encrypt")
    if values.get("enable_auto_commit"):
        _warn("enable_auto_commit=true has no effect: offsets are committed explicitly")


def _warn_of_trust(values: Mapping[str, Value], passed: Mapping[str, str]) -> None:
    protocol = values["security_protocol"]
    if _by_oidc(values, passed) and not is_confidential(passed.get(_TOKEN_URL, "https:")):
        _warn(f"{_TOKEN_URL}: the client's secret is sent in the clear: use https")
    if protocol == "SASL_PLAINTEXT" and values["sasl_mechanism"] == "OAUTHBEARER" and _UNSECURED not in passed:
        _warn("sasl_mechanism OAUTHBEARER sends the token in the clear: use security_protocol=SASL_SSL")
    if protocol == "SASL_PLAINTEXT" and values["sasl_mechanism"] == "PLAIN":
        _warn("sasl_mechanism PLAIN sends the password in the clear: use security_protocol=SASL_SSL, or SCRAM-SHA-512")
    if not str(protocol).endswith("SSL"):
        return
    for name, off, unchecked in (
        (_VERIFY, _OFF, "certificates are not checked"),
        ("ssl.endpoint.identification.algorithm", ("none",), "host names are not compared with their certificates"),
    ):
        if (value := passed.get(name, "").lower()) in off:
            _warn(f"{name}={value}: brokers' {unchecked}, so that anyone on the way can pose as one; leave it out")


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)


def _conf(values: Mapping[str, Value], role: Role, passed: Mapping[str, str]) -> dict[str, str]:
    conf = {name: value for name, (value, _) in DEFAULTS[role].items()}
    for option in OPTIONS:
        value = values.get(option.name)
        if option.property and value is not None:
            text = _property_text(option, value)
            conf[option.pem if option.pem and text.lstrip().startswith("-----BEGIN") else option.property] = text
    if values.get("group_protocol") == "consumer":
        # Brokers decide on these there, and librdkafka refuses the properties.
        del conf["partition.assignment.strategy"]
        del conf["heartbeat.interval.ms"]
    conf |= _trust(values, passed)
    if role == "share consumer":
        del conf["auto.offset.reset"]  # the group's, kept by the brokers
        conf["max.poll.records"] = str(values["max_poll_records"])
    conf |= passed
    conf |= FIXED[role]
    if not str(values["security_protocol"]).startswith("SASL"):
        del conf["sasl.mechanism"]
    return conf


def _trust(values: Mapping[str, Value], passed: Mapping[str, str]) -> dict[str, str]:
    """Whom to trust where nobody says: librdkafka's OpenSSL may have been built for another distribution's layout."""
    found: dict[str, str] = {}
    verifies = str(values["security_protocol"]).endswith("SSL") and passed.get(_VERIFY, "").lower() not in _OFF
    if verifies and values["ssl_cafile"] is None and "ssl.ca.pem" not in passed:
        found |= trust.find("ssl_cafile").properties("ssl")
    https = _by_oidc(values, passed) and not passed.get(_TOKEN_URL, "").startswith("http:")
    if https and not {"https.ca.location", "https.ca.pem"} & passed.keys():
        found |= trust.find("https.ca.location").properties("https")
    return found


def _by_oidc(values: Mapping[str, Value], passed: Mapping[str, str]) -> bool:
    """Whether librdkafka is to get tokens by itself. Where that is not built in, it refuses the properties."""
    sasl = str(values["security_protocol"]).startswith("SASL") and values["sasl_mechanism"] == "OAUTHBEARER"
    return sasl and passed.get("sasl.oauthbearer.method", "").lower() == "oidc"


def _hint(name: object) -> str:
    if isinstance(name, str) and "." in name:
        return "; librdkafka's properties go into config={...}"
    close = get_close_matches(str(name), _BY_NAME, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(o.name for o in OPTIONS)}"
