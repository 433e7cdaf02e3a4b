"""What is logged: one line for each event that an operator acts on, with the same structured fields each time.

``python -m rdknotify.logged`` prints the two tables of ``docs/logging.md``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from rdknotify.option_table import markdown_table

__all__ = [
    "EVENTS",
    "FIELDS",
    "LISTED",
    "PREFIX",
    "REPEAT_INTERVAL",
    "Seldom",
    "Told",
    "error_name",
    "listed",
    "markdown",
    "place",
    "tell",
]

PREFIX = "rdknotify_"
"""Before each field's name: attributes of a LogRecord, which are those of everybody's."""

REPEAT_INTERVAL = 30.0
"""Seconds for which the same trouble of one client is told only once."""

_REMEMBERED = 256

LISTED = 50
"""Partitions that one line names at most; ``rdknotify_count`` has all."""

FIELDS: Mapping[str, str] = {
    "event": "name of the event: the first column above",
    "client": "librdkafka's name of the client, as `rdknotify#producer-1`: `client.id`, kind, number in the process",
    "broker": "`host:port` of the broker; of `connected` and `cluster_back` those of the URL",
    "group": "consumer group",
    "service": "kind and group, as `persister billing`",
    "topic": "topic of the record, or of the first of them",
    "partition": "its partition",
    "offset": "its offset",
    "partitions": f"list of `topic-partition`, {LISTED} at most",
    "count": "how many partitions, records or notifications",
    "error": "name of the error: librdkafka's, as `_TRANSPORT`, or an exception's class",
    "reason": "why a record is a dead letter",
    "message_id": "message id of the notification, or of the first of them",
    "event_type": "its event type",
    "delay": "seconds until the next try",
}
"""Names of structured fields, without :data:`PREFIX`, and what they hold."""


class Told(NamedTuple):
    """An event: its level (NOTSET: each line has its own), the fields it may have, what it means, and what to do."""

    level: int
    fields: tuple[str, ...]
    what: str
    do: str


_OWN, _I, _W, _E, _C = logging.NOTSET, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL

EVENTS: Mapping[str, Told] = {
    # -- the cluster
    "connected": Told(_I, ("client", "broker"), "the cluster has answered a new client", "nothing"),
    "disconnected": Told(
        _I, ("client", "broker", "error"), "a connection ended; WARNING while something was asked by it",
        "nothing: brokers end idle ones, and a new one is made when it is needed",
    ),
    "broker_lost": Told(
        _W, ("client", "broker", "error"), "a broker cannot be reached, or does not answer",
        "look at that broker; the others go on, and partitions that it leads wait for a new leader",
    ),
    "broker_back": Told(
        _I, ("client", "broker"), "a lost broker is connected again; only told with `statistics_interval`",
        "nothing",
    ),
    "cluster_lost": Told(
        _W, ("client", "error"), "no broker can be reached",
        "look at the network and the cluster; records wait for `delivery_timeout`, then they fail",
    ),
    "cluster_back": Told(_I, ("client", "broker"), "the cluster answers again", "nothing"),
    "refused": Told(
        _E, ("client", "broker", "error"), "a broker refuses the credentials or the certificate, or has a wrong one",
        "the line names the setting",
    ),
    "fatal": Told(
        _C, ("client", "error"), "librdkafka has given the client up",
        "make a new one; the driver of oslo.messaging does",
    ),
    "librdkafka": Told(
        _OWN, ("client", "broker", "error"),
        "any other line of librdkafka, at its own level; with option `debug` at DEBUG",
        "at WARNING and above: read it",
    ),
    "events_dropped": Told(
        _W, ("client", "count"), "lines came faster than they could be logged", "set fewer contexts of `debug`",
    ),
    "credentials_renewed": Told(_I, ("client",), "the file of `credentials_file` has new ones, now in use", "nothing"),
    "credentials_unreadable": Told(
        _E, ("client", "error"), "that file cannot be used", "mend it: the old ones are used meanwhile",
    ),
    # -- the group
    "assigned": Told(_I, ("client", "group", "partitions", "count"), "partitions came to this member", "nothing"),
    "revoked": Told(_I, ("client", "group", "partitions", "count"), "partitions went to another member", "nothing"),
    "partitions_lost": Told(
        _W, ("client", "group", "partitions", "count"),
        "they went without this member being asked: it was out of the group",
        "look for `poll_late` or `cluster_lost` before it; what was in hand is read again",
    ),
    "poll_late": Told(
        _W, ("client", "group", "error"), "one step took longer than `max.poll.interval.ms`",
        "take fewer records at a time, or look why the work is slow",
    ),
    "left_late": Told(
        _W, ("client", "group"), "the group was not left in time", "nothing: the others wait for the session to end",
    ),
    "topic_absent": Told(
        _W, ("client", "group", "error"), "a topic or partition does not exist (yet)", "create it, or mend its name",
    ),
    "access_lost": Told(
        _E, ("client", "group", "error"), "a right or password that was good is no longer",
        "give it back: work goes on by itself",
    ),
    "retrying": Told(
        _W, ("client", "group", "error"), "something failed and is tried again; ERROR where that may take long",
        "nothing, unless it goes on",
    ),
    "not_committed": Told(
        _W, ("client", "group", "count", "error"), "offsets, or records of a share group, were not settled",
        "nothing, unless it goes on: they are seen again, or the next commit covers them",
    ),
    "lock_late": Told(
        _W, ("client", "group", "count"), "records of a share group are, or were, held to the end of their lock",
        "set `max_poll_records` lower, or `lock_duration` higher",
    ),
    "group_settings": Told(
        _W, ("client", "group", "error"), "this user may not set a share group's settings", "run the command it shows",
    ),
    "unreadable": Told(_E, ("client", "group", "error"), "a record could not be read", "look at the broker's disk"),
    # -- notifications and rows
    "undelivered": Told(
        _E, ("client", "topic", "message_id", "event_type", "count", "error"),
        "notifications or records were not, or perhaps not, delivered",
        "send them again; the outcome says if that is safe",
    ),
    "endpoint_failed": Told(
        _E, ("group", "topic", "partition", "offset", "message_id", "event_type", "count", "error"),
        "an endpoint raised, or gave no answer", "mend the endpoint; with `settle=\"after\"` it is tried again",
    ),
    "requeue_refused": Told(
        _W, ("group",), "an endpoint wanted a notification again where that cannot be", 'use `settle="after"`',
    ),
    "dead_letter": Told(
        _W, ("group", "topic", "partition", "offset", "reason", "count"),
        "records were kept as dead letters, or skipped where no place is set",
        "find out why, then send them again: `rdknotify dead-letter`",
    ),
    "records_lost": Told(
        _E, ("group", "topic", "partition", "offset", "count"),
        "committed before and not handed out: the stop took too long", 'raise `stop_timeout`, or use `settle="after"`',
    ),
    "store_retried": Told(
        _W, ("group", "delay", "error"), "the database or the dead letters failed; the store is tried again",
        "look at the database; nothing is lost",
    ),
    "not_stored": Told(
        _W, ("group", "count", "error"), "records in hand were left to the next member", "nothing: they are read again",
    ),
    "records_missing": Told(
        _W, ("group", "topic", "partition", "offset"), "a partition begins after the offset that the database holds",
        "if retention took them, store sooner or keep them longer",
    ),
    # -- services
    "started": Told(_I, ("service",), "a listener or persister works", "nothing"),
    "stopped": Told(_I, ("service",), "it ended, as it was told to", "nothing"),
    "failed": Told(
        _E, ("service", "error"), "it ended by an error, which `run()` or `wait()` raises", "mend that, start it again",
    ),
    "close_failed": Told(
        _E, ("client", "group", "error"), "the end of a client or service did not go well", "read the line",
    ),
}  # fmt: skip
"""Every event by name. What is logged otherwise, without these fields, is for who looks into this package."""


def tell(
    log: logging.Logger,
    event: str,
    text: str,
    *args: object,
    level: int | None = None,
    exc_info: BaseException | None = None,
    **fields: Any,
) -> None:
    """Log one of :data:`EVENTS`; ``fields`` become attributes ``rdknotify_<name>`` of the LogRecord."""
    chosen = EVENTS[event].level if level is None else level
    if log.isEnabledFor(chosen):
        extra = {PREFIX + "event": event, **{PREFIX + name: value for name, value in fields.items()}}
        log.log(chosen, text, *args, exc_info=exc_info, extra=extra, stacklevel=2)


class Seldom:
    """Lets the same text pass once per :data:`REPEAT_INTERVAL`. Used by one thread."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def may(self, text: str) -> bool:
        """Whether to tell it now."""
        now = time.monotonic()
        if now - self._told.get(text, -REPEAT_INTERVAL) < REPEAT_INTERVAL:
            return False
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[text] = now
        return True


def place(record: Any) -> dict[str, Any]:
    """The fields ``topic``, ``partition`` and ``offset`` of a record, or of its origin."""
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def error_name(error: BaseException) -> str:
    """librdkafka's name of the error, or its class."""
    return str(getattr(error, "name", None) or type(error).__name__)


def listed(partitions: Collection[tuple[str, int]]) -> dict[str, Any]:
    """The fields ``partitions`` and ``count``."""
    named = [f"{topic}-{partition}" for topic, partition in sorted(partitions)[:LISTED]]
    return {"partitions": named, "count": len(partitions)}


def markdown() -> Iterator[str]:
    """The two tables of the page on logging, line by line."""
    rows = (
        (
            f"`{name}`",
            logging.getLevelName(told.level) if told.level else "its own",
            told.what,
            told.do,
            " ".join(f"`{field}`" for field in told.fields),
        )
        for name, told in EVENTS.items()
    )
    yield from markdown_table(("event", "level", "what", "what to do", "fields"), rows)
    yield ""
    yield from markdown_table(("field", "what"), ((f"`{PREFIX}{name}`", what) for name, what in FIELDS.items()))


if __name__ == "__main__":
    print(*markdown(), sep="\n")
