"""Transport URLs: ``kafka://user:password@host1:9092,host2:9092/virtual_host?option=value``.

The forms that oslo.messaging accepts for Kafka, and ``rdkafka://`` for the same. The password is never part
of an error, of ``repr`` or of ``str``: :meth:`TransportURL.unredacted` is the one way to get it back in a
URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from rdknotify.errors import ConfigError

__all__ = ["DEFAULT_PORT", "HIDDEN", "SCHEMES", "TransportURL", "is_confidential", "is_secret"]

SCHEMES = ("kafka", "rdkafka")
DEFAULT_PORT = 9092
HIDDEN = "***"
"""What is shown in place of a secret."""

_SHAPE = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#]*)(?:/([^?#]*))?(?:\?([^#]*))?(#.*)?", re.DOTALL)
_HOST_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9._])?")
_SECRET = re.compile(
    r"password|passphrase|secret(?!_file)|token(?!\.endpoint|_url)|pem$|oauthbearer[._]config|^librdkafka$"
)
_EXAMPLE = "kafka://host1:9092,host2:9092/virtual_host"


def is_secret(name: str, value: object = None) -> bool:
    """Whether the value of an option or librdkafka property must not be shown, by its name or what it looks like."""
    return _SECRET.search(name) is not None or (isinstance(value, str) and "PRIVATE KEY" in value)


def is_confidential(address: str) -> bool:
    """Whether what is sent to a web address stays between it and us: by HTTPS, or on this machine."""
    try:
        place = urlsplit(address)
    except ValueError:
        return False
    local = place.hostname in ("localhost", "127.0.0.1", "::1")
    return place.scheme == "https" or (place.scheme == "http" and local)


@dataclass(frozen=True, slots=True)
class TransportURL:
    """Where the brokers are, who we are to them, and options that override those given otherwise.

    ``kafka://user:password@host1:9092,host2:9092/virtual-host?option=value``. Immutable. Compares by value, credentials
    included. ``str`` and ``repr`` do not show the password. Raises ConfigError for parts that no URL could have.

    Attributes:
        hosts: host and port of each broker to begin with; any of them names the others.
        username: who we are, for SASL.
        password: only with a user.
        virtual_host: the end of the topics' names; None: they have none.
        query: options by name, which win over all others.
        scheme: ``kafka``, or ``rdkafka`` where oslo.messaging chooses a driver by it.
    """

    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    virtual_host: str | None = None
    query: Mapping[str, str] = field(default_factory=dict, hash=False)
    scheme: str = "kafka"

    def __post_init__(self) -> None:
        if not self.hosts:
            raise ConfigError(f"transport URL: no host; write it as {_EXAMPLE}")
        if self.scheme not in SCHEMES:
            raise ConfigError(f"transport URL: scheme {self.scheme!r} is not one of {', '.join(SCHEMES)}")
        for number, (host, port) in enumerate(self.hosts, 1):
            _check_host(host, number)
            if not 0 < port < 65536:
                raise ConfigError(f"transport URL: port of host {number} is not within 1..65535")
        for part in (self.username, self.password, self.virtual_host, *self.query, *self.query.values()):
            _check_text(part)
        if self.password is not None and not self.username:
            raise ConfigError("transport URL: a password without a user name; write user:password@host")
        object.__setattr__(self, "query", dict(self.query))

    @classmethod
    def parse(cls, url: str | TransportURL) -> TransportURL:
        """Read a URL; a TransportURL is returned as it is.

        Credentials stand before the first host, or before each host if they are the same, as in
        oslo.messaging. ``,/?#@:`` and ``%`` in them are percent-encoded. Raises ConfigError naming the part
        that is wrong.
        """
        if isinstance(url, TransportURL):
            return url
        if not isinstance(url, str):
            raise ConfigError(f"transport URL: a str or TransportURL is needed, not {type(url).__name__}")
        shape = _SHAPE.fullmatch(url.strip())
        if shape is None:
            raise ConfigError(f"transport URL: the scheme is missing; write it as {_EXAMPLE}")
        scheme, netloc, path, query, fragment = shape.groups()
        if scheme.lower() not in SCHEMES:
            raise ConfigError(f"transport URL: scheme {scheme!r} is not one of {', '.join(SCHEMES)}")
        if fragment is not None:
            raise ConfigError("transport URL: '#' begins nothing here; write it as %23 where it is meant")
        if "@" in (path or "") + (query or ""):
            raise ConfigError(
                "transport URL: '@' after the hosts; it is written as %40 there, and '/' and '?' in "
                "credentials as %2F and %3F"
            )
        # Credentials with an unescaped delimiter are cut wrongly: the "port" may be part of a password.
        quotable = "@" not in url
        username, password, places = _split_credentials(netloc)
        return cls(
            hosts=tuple(_parse_place(place, number, quotable) for number, place in enumerate(places, 1)),
            username=username,
            password=password,
            virtual_host=_unquote(path, "virtual host") if path else None,
            query=_parse_query(query or ""),
            scheme=scheme.lower(),
        )

    @property
    def bootstrap_servers(self) -> str:
        """The brokers as librdkafka's ``bootstrap.servers`` takes them."""
        return ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)

    def unredacted(self) -> str:
        """The URL with its password: ``parse`` of it gives an equal TransportURL. Not for logs."""
        return self._text(self.password, self.query)

    def __str__(self) -> str:
        shown = {name: HIDDEN if is_secret(name, value) else value for name, value in self.query.items()}
        return self._text(None if self.password is None else HIDDEN, shown)

    def __repr__(self) -> str:
        return f"TransportURL({str(self)!r})"

    def _text(self, password: str | None, query: Mapping[str, str]) -> str:
        text = f"{self.scheme}://"
        if self.username is not None:
            secret = "" if password is None else ":" + quote(password, safe="*")
            text += f"{quote(self.username, safe='')}{secret}@"
        text += self.bootstrap_servers.replace("%", "%25")
        if self.virtual_host:
            text += "/" + quote(self.virtual_host, safe="")
        return f"{text}?{urlencode(query, safe='*')}" if query else text


def _split_credentials(netloc: str) -> tuple[str | None, str | None, list[str]]:
    """User name, password and the places (``host[:port]``) of the part between ``//`` and the path."""
    parts = [part for part in netloc.split(",") if part]
    if not parts:
        raise ConfigError(f"transport URL: no host; write it as {_EXAMPLE}")
    given = [part.rpartition("@")[0] for part in parts if "@" in part]
    if not given:
        return None, None, parts
    if "@" not in parts[0]:
        raise ConfigError(
            "transport URL: credentials must stand before the first host; a ',' in them is written as %2C"
        )
    if len({*given}) > 1:
        raise ConfigError(
            "transport URL: the hosts have different credentials; a client has one identity: give them once"
        )
    username, colon, password = given[0].partition(":")
    if not username:
        raise ConfigError("transport URL: '@' without a user name before it; write user:password@host")
    places = [part.rpartition("@")[2] for part in parts]
    return _unquote(username, "user name"), _unquote(password, "password") if colon else None, places


def _parse_place(place: str, number: int, quotable: bool) -> tuple[str, int]:
    def shown(text: str) -> str:
        return f" {text!r}" if quotable else ""

    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", place)
    if bracketed:
        host, port = _unquote(bracketed[1], f"host {number}"), bracketed[2]
    elif place.count(":") > 1:
        raise ConfigError(
            f"transport URL: host {number}{shown(place)} has several ':'; an IPv6 address stands in "
            "brackets, as [::1]:9092; ':' and '/' in a password are written as %3A and %2F"
        )
    else:
        host, _, port = place.partition(":")
    if not port:
        return host, DEFAULT_PORT
    # str.isdigit would accept digits that int() reads but no URL has.
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        remedy = "" if quotable else "; '/', '?', '#' and ',' in a password are written as %2F, %3F, %23 and %2C"
        # Without its '@', "user:password" reads like a host and its port.
        number_only = shown(port) if port.isdigit() else ""
        raise ConfigError(f"transport URL: port{number_only} of host {number} is not within 1..65535{remedy}")
    return host, int(port)


def _check_text(part: str | None) -> None:
    """What came of bytes that are not UTF-8 (by ``os.fsdecode``) cannot be sent. Not shown: it may be a password."""
    try:
        (part or "").encode()
    except UnicodeEncodeError:
        raise ConfigError("transport URL: it holds bytes that are not UTF-8; percent-encode what is meant") from None


def _check_host(host: str, number: int) -> None:
    """The name itself is not shown: what stands there may be a misplaced password."""
    if not host:
        raise ConfigError(f"transport URL: host {number} is empty; write it as {_EXAMPLE}")
    if ":" in host:
        try:
            IPv6Address(host)
        except AddressValueError:
            raise ConfigError(f"transport URL: host {number} is not an IPv6 address") from None
    elif not _HOST_NAME.fullmatch(host):
        raise ConfigError(
            f"transport URL: host {number} is not a host name; "
            "letters, digits, '.', '-' and '_' make one, an IPv6 address stands in brackets"
        )


def _parse_query(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise ConfigError("transport URL: the part after '?' is not name=value&name=value") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(name for name in values if sum(name == other for other, _ in pairs) > 1)
        raise ConfigError(f"transport URL: {twice!r} is given twice after '?'; give it once")
    return values


def _unquote(text: str, part: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError(f"transport URL: the {part} is not percent-encoded UTF-8") from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
