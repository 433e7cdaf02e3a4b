"""A service's configuration files as oslo.config reads them, without oslo: where its notifications go, and how.

Of ``[oslo_messaging_notifications]`` and ``[DEFAULT]`` the transport URL and the topics, of ``[oslo_messaging_kafka]``
the options. As with oslo.config, environment variables such as ``OS_DEFAULT__TRANSPORT_URL`` come first, then the
last file that has a value, and ``$name`` stands for another option's value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rdknotify.errors import ConfigError
from rdknotify.option_table import OPTIONS
from rdknotify.url import SCHEMES, TransportURL

__all__ = ["ServiceConf", "read"]

_DEFAULT = "DEFAULT"
_NOTIFICATIONS = "oslo_messaging_notifications"
_KAFKA = "oslo_messaging_kafka"

_Name = tuple[str, str]
"""Group and option."""
# Each with the names that older releases of oslo.messaging had for it.
_URL: tuple[_Name, ...] = ((_NOTIFICATIONS, "transport_url"), (_DEFAULT, "notification_transport_url"))
_RPC_URL: tuple[_Name, ...] = ((_DEFAULT, "transport_url"),)
_TOPICS: tuple[_Name, ...] = (
    (_NOTIFICATIONS, "topics"),
    ("rpc_notifier2", "topics"),
    (_DEFAULT, "notification_topics"),
)
_PROPERTIES = "librdkafka"
_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|(?P<named>[_a-z][._a-z0-9]*)|\{(?P<braced>[_a-z][._a-z0-9]*)\})", re.I)
_DEEPEST = 20
"""Values that stand for values, at the most: more go in a circle."""


@dataclass(frozen=True, slots=True)
class ServiceConf:
    """What one or more files say."""

    url: TransportURL
    options: Mapping[str, Any]
    config: Mapping[str, str]
    topics: tuple[str, ...]


def read(files: Sequence[Path]) -> ServiceConf:
    """Later files override earlier ones. Raises ConfigError naming file, group and option, and OSError."""
    values = _Values([_File(path, _parse(path)) for path in reversed(files)])
    url = _transport_url(values)
    options: dict[str, Any] = {}
    config: dict[str, str] = {}
    for option in OPTIONS:
        found = values.first([(_KAFKA, name) for name in (option.oslo, *option.older)])
        value = option.oslo_default if found is None else found.text
        if found is not None and option.name == _PROPERTIES:
            config = _pairs(found.text, found.place)
        elif value is not None:
            options[option.name] = value
    if _PROPERTIES in url.query:
        config = _pairs(url.query[_PROPERTIES], f"transport_url, parameter {_PROPERTIES}")
        url = replace(url, query={name: value for name, value in url.query.items() if name != _PROPERTIES})
    topics = values.first(_TOPICS)
    listed = ("notifications",) if topics is None else tuple(_items(topics.text))
    if not listed:
        raise ConfigError(f"{topics.place if topics else ''}: there is none; name one, or give --topic")
    return ServiceConf(url, options, config, listed)


def _transport_url(values: _Values) -> TransportURL:
    # What is empty is not set: then notifications take the way that everything takes.
    for names in (_URL, _RPC_URL):
        found = values.first(names)
        if found is not None and found.text.strip():
            break
    else:
        where = ", ".join(str(file.path) for file in reversed(values.files))
        raise ConfigError(
            f"{where}: no transport_url in [{_NOTIFICATIONS}] nor in [{_DEFAULT}]: name the file that has it too "
            "(--config-file may be repeated), or give --url kafka://host:9092"
        )
    scheme, separator, _ = found.text.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        shown = f"is {scheme}://" if separator and scheme.isalnum() else "has no scheme"
        raise ConfigError(
            f"{found.place} {shown}, which is not Kafka: notifications of this service do not go there. "
            "Name the file of one whose do, or give --url kafka://host:9092"
        )
    try:
        return TransportURL.parse(found.text)
    except ConfigError as error:
        raise ConfigError(f"{found.place}: {error}") from None


class _Found(NamedTuple):
    text: str
    place: str
    """File, group and option, for errors."""


class _File(NamedTuple):
    path: Path
    values: Mapping[_Name, str]


class _Values:
    """The values of files, the last one first."""

    def __init__(self, files: Sequence[_File]) -> None:
        self.files = files

    def first(self, names: Sequence[_Name]) -> _Found | None:
        """The value of an option that has these names, with what it refers to put in."""
        found = self._raw(names)
        return None if found is None else _Found(self._filled(found, names[0][0], 0), found.place)

    def _raw(self, names: Sequence[_Name]) -> _Found | None:
        for group, name in names:
            variable = f"OS_{group.upper()}__{name.upper()}"
            if variable in os.environ:
                return _Found(os.environ[variable], variable)
        for file in self.files:
            for group, name in names:
                if (group, name) in file.values:
                    return _Found(file.values[group, name], f"{file.path}: [{group}] {name}")
        return None

    def _filled(self, found: _Found, group: str, depth: int) -> str:
        if depth > _DEEPEST:
            raise ConfigError(f"{found.place}: what it refers to refers to it")

        def value_of(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "$"
            name = match["named"] or match["braced"]
            prefix, dot, rest = name.partition(".")
            places = [(_group(prefix), rest)] if dot else [(group, name)]
            other = self._raw(places) or self._raw([(_DEFAULT, name)])
            if other is None:
                raise ConfigError(
                    f"{found.place}: ${name} is set nowhere in these files, and its default is the service's own: "
                    "name the file that sets it, write the value, or $$ for a $"
                )
            return self._filled(other, places[0][0], depth + 1)

        return _VARIABLE.sub(value_of, found.text.replace(r"\$", "$$"))


def _parse(path: Path) -> dict[_Name, str]:
    """The options of one file; the last of several equal ones counts."""
    values: dict[_Name, str] = {}
    group: str | None = None
    name: str | None = None

    def wrong(what: str) -> ConfigError:
        return ConfigError(f"{path}, line {number}: {what}")

    for number, line in enumerate(_lines(path), 1):  # noqa: B007  # errors name it
        if not line:
            name = None
        elif line[0] in " \t":
            if name is None or group is None:
                raise wrong("it goes on (it begins with a blank), but nothing goes before it")
            values[group, name] += "\n" + line.lstrip()
        elif line.startswith("["):
            if not line.endswith("]") or len(line) < 3:
                raise wrong("a group is written as [name]")
            group, name = _group(line[1:-1]), None
        elif line[0] in "#;":
            name = None
        else:
            before, separator, value = _split(line)
            if not separator or not before.strip():
                raise wrong("an option is written as name = value")
            if group is None:
                raise wrong("no [group] goes before it")
            name = before.strip()
            values[group, name] = _unquoted(value.strip())
    return values


def _group(name: str) -> str:
    return name if name == _DEFAULT else name.lower()


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as lines:
            return [line.rstrip() for line in lines]
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: it is no text in UTF-8") from None


def _split(line: str) -> tuple[str, str, str]:
    match = re.search("[=:]", line)
    return (line, "", "") if match is None else (line[: match.start()], match[0], line[match.end() :])


def _unquoted(value: str) -> str:
    return value[1:-1] if value[:1] in ("'", '"') and value[0] == value[-1] else value


def _items(text: str) -> list[str]:
    text = text.strip().rstrip(",")
    return [item.strip() for item in text.split(",")] if text else []


def _pairs(text: str, place: str) -> dict[str, str]:
    """``name:value,name:value``; a value may have a comma in it. Raises ConfigError, which does not show it."""
    pairs: dict[str, str] = {}
    parts = text.strip().split(",") if text.strip() else []
    while parts:
        part = parts.pop(0)
        while ":" not in part:
            if not parts:
                raise ConfigError(f"{place}: write it as name:value,name:value")
            part += "," + parts.pop(0)
        name, _, value = part.partition(":")
        pairs[name.strip()] = value.strip()
    return pairs
