"""Names of topics: which topic a notification goes to, and where retried and rejected records go.

A notification of priority ``info`` sent to ``notifications`` goes to the topic ``notifications.info``, and
with the virtual host ``blue`` to ``notifications.info.blue``: what oslo.messaging's Kafka driver writes, for
sender and listener.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from rdknotify.errors import ConfigError

__all__ = [
    "PRIORITIES",
    "TopicPartition",
    "check_name",
    "check_subscription",
    "dead_letter_topic",
    "notification_topic",
    "on_virtual_host",
    "retry_topic",
]

PRIORITIES = ("audit", "debug", "info", "warn", "error", "critical", "sample")
"""Every priority of a notification, as methods of notifiers and endpoints are named."""

_MAX_LENGTH = 249
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_HASH_DIGITS = 8


class TopicPartition(NamedTuple):
    """One partition of one topic.

    Attributes:
        topic: the topic's whole name.
        partition: its number, from 0.
    """

    topic: str
    partition: int


def check_name(name: str, **parts: str | None) -> str:
    """Return ``name`` if Kafka accepts it as a topic's name.

    ``parts`` are what the name was made of, so that the error can say which one is wrong.
    Raises ConfigError. Source: ``org.apache.kafka.common.internals.Topic``.
    """
    if not isinstance(name, str):
        raise ConfigError(f"a topic's name is a str, not {type(name).__name__}")
    bad = {part: value for part, value in parts.items() if value and not _NAME.fullmatch(value)}
    made_of = ", ".join(f"{part} {value!r}" for part, value in (bad or parts).items() if value)
    of = f" ({made_of})" if made_of else ""
    if not name:
        raise ConfigError("a topic's name is empty; name one")
    if name in (".", ".."):
        raise ConfigError(f"topic {name!r}{of}: Kafka does not allow this name; choose another")
    if len(name) > _MAX_LENGTH:
        raise ConfigError(f"topic {name!r}{of} has {len(name)} characters; Kafka allows {_MAX_LENGTH}: shorten it")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"topic {name!r}{of}: Kafka allows only letters, digits, '.', '_' and '-' (ASCII)")
    return name


def check_subscription(topics: Sequence[str]) -> list[str]:
    """The topics of a consumer: names, or regular expressions that begin with ``^``. Raises ConfigError."""
    if isinstance(topics, str) or not topics:
        raise ConfigError(f"topics={topics!r}: a list with at least one topic is needed")
    return [topic if topic.startswith("^") else check_name(topic) for topic in topics]


def notification_topic(topic: str, priority: str, vhost: str | None = None) -> str:
    """The topic of notifications of this priority: ``<topic>.<priority>[.<vhost>]``. Raises ConfigError."""
    if priority not in PRIORITIES:
        raise ConfigError(f"priority {priority!r} is unknown; it is one of {', '.join(PRIORITIES)}")
    check_name(topic)
    return on_virtual_host(f"{topic}.{priority}", vhost)


def on_virtual_host(name: str, vhost: str | None) -> str:
    """The topic that stands for ``name`` (with its priority) on a virtual host. Raises ConfigError."""
    return check_name(f"{name}.{vhost}" if vhost else name, topic=name, virtual_host=vhost)


def retry_topic(topic: str, group: str) -> str:
    """Default name of the topic in which a group keeps the records of ``topic`` that it will try again."""
    return _for_group(topic, group, "retry")


def dead_letter_topic(topic: str, group: str) -> str:
    """Default name of the topic in which a group keeps the records of ``topic`` that it gave up."""
    return _for_group(topic, group, "dead-letter")


def _for_group(topic: str, group: str, purpose: str) -> str:
    """``<topic>.<group>.<purpose>``, different for any two groups.

    A group's id may hold what a topic's name may not: that is replaced, and a hash tells the ids apart.
    """
    check_name(topic)
    room = _MAX_LENGTH - len(topic) - len(purpose) - 2
    # A dot in the group would make ("a.b", "c") and ("a", "b.c") the same name.
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", group)
    if plain != group or len(plain) > room:
        digest = sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
        plain = f"{plain[: max(room - _HASH_DIGITS - 1, 0)]}-{digest}"
    return check_name(f"{topic}.{plain}.{purpose}", topic=topic, purpose=purpose)
