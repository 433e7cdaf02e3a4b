"""Records and notifications as ``listen`` prints them: a JSON object a line, or lines for people."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from rich.text import Text

from rdknotify._rdknotify import Record
from rdknotify.cli.forms import to_json
from rdknotify.envelope import Notification
from rdknotify.fast_json import dumps

__all__ = ["notification_json", "notification_text", "printable", "record_json", "record_text"]

_STYLES = {"DEBUG": "dim", "WARN": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def printable(text: str) -> str:
    """The text with what would move a terminal's cursor, or hide something, as escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def notification_json(record: Record, notification: Notification) -> bytes:
    """One line, which ``send`` takes again."""
    fields: dict[str, Any] = {
        **_origin(record),
        "key": to_json(record.key),
        "message_id": notification.message_id,
        "timestamp": notification.timestamp,
        "publisher_id": notification.publisher_id,
        "event_type": notification.event_type,
        "priority": notification.priority,
        "payload": notification.payload,
        "ctxt": notification.context,
    }
    if notification.extra:
        fields["extra"] = notification.extra
    return _line(fields)


def record_json(record: Record) -> bytes:
    """One line, which ``send`` takes again."""
    return _line(
        {
            **_origin(record),
            "timestamp": record.timestamp,
            "key": to_json(record.key),
            "headers": [[name, to_json(value)] for name, value in record.headers],
            "value": to_json(record.value),
        }
    )


def notification_text(notification: Notification, width: int) -> Text:
    """Time, priority, event type and publisher; below, as much of the payload as a line holds."""
    head = Text.assemble((printable(notification.timestamp[11:23]), "dim"))
    head.append(f" {printable(notification.priority):<8} ", _STYLES.get(notification.priority, "green"))
    head.append(printable(notification.event_type), "bold")
    head.append(f"  {printable(notification.publisher_id or '')}\n", "cyan")
    return head.append(_cut("  " + _compact(notification.payload), width))


def record_text(record: Record, width: int) -> Text:
    """Where it is, when it came, its key and headers; below, as much of the value as a line holds."""
    when = "" if record.timestamp is None else _time(record.timestamp)
    head = Text.assemble((f"{when} ", "dim"))
    head.append(f"{record.topic}[{record.partition}]@{record.offset}", "bold")
    if record.key is not None:
        head.append(f"  key {_compact(to_json(record.key))}", "cyan")
    for name, value in record.headers:
        head.append(f"  {printable(name)}={_compact(to_json(value))}", "dim")
    value = record.value
    shown = "(no value)" if value is None else printable(value.decode("utf-8", "backslashreplace"))
    return head.append("\n" + _cut("  " + shown, width))


def _origin(record: Record) -> dict[str, Any]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _line(fields: dict[str, Any]) -> bytes:
    try:
        return dumps(fields) + b"\n"
    except TypeError:  # integers beyond 64 bits, lone surrogates
        return json.dumps(fields).encode() + b"\n"


def _compact(value: Any) -> str:
    return printable(_line(value)[:-1].decode("utf-8", "backslashreplace"))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 1)] + "…"


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%H:%M:%S.%f")[:-3]
