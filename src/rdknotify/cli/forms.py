"""What a line of a file stands for: a notification to be made, or a record as it is; and bytes in JSON.

A notification: ``{"event_type": ..., "payload": ..., "priority": ..., "publisher_id": ..., "ctxt": ..., "key": ...}``;
only ``event_type`` must be there. With ``message_id`` (and ``timestamp``) it is one that was made before, and
keeps its identity: ``listen --json`` prints that. A record: ``{"topic": ..., "key": ..., "headers": [[name, value]],
"value": ...}``, as ``listen --raw`` prints it. Bytes are text where they are UTF-8, else ``{"base64": ...}``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from rdknotify._rdknotify import compose
from rdknotify.envelope import Notification, encode, encode_new, new_notification
from rdknotify.errors import ConfigError, EnvelopeError
from rdknotify.fast_json import dumps, loads
from rdknotify.topics import PRIORITIES, check_name, notification_topic

__all__ = ["BadLine", "Forms", "Made", "from_json", "to_json"]

Headers = list[tuple[str, "bytes | None"]]

_ORIGIN = frozenset({"topic", "partition", "offset"})
"""Where a notification was read, in the words of ``listen``: not where it goes."""
_OF_A_NOTIFICATION = _ORIGIN | {
    *("event_type", "payload", "priority", "publisher_id", "ctxt", "key"),
    *("message_id", "timestamp", "extra"),
}
_OF_A_RECORD = _ORIGIN | {"key", "headers", "value", "timestamp"}


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The fields of nearly every notification; what is JSON in them stays text."""

    event_type: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    priority: str | None = None
    publisher_id: str | None = None
    ctxt: msgspec.Raw = msgspec.Raw(b"")
    key: str | None = None


_read_plain = msgspec.json.Decoder(_Plain).decode


class BadLine(ValueError):
    """What stands in a line cannot be sent; the text says why."""


class Made(NamedTuple):
    """A record to be sent."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers | None = None


def to_json(data: bytes | None) -> str | dict[str, str] | None:
    """Bytes as JSON has them: text, or ``{"base64": ...}``."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def from_json(value: Any, name: str) -> bytes | None:
    """The reverse of :func:`to_json`. Raises BadLine naming the field."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict) and isinstance(text := value.get("base64"), str) and len(value) == 1:
            return base64.b64decode(text, validate=True)
    except (binascii.Error, UnicodeError):
        pass
    raise BadLine(f'{name} is neither text nor {{"base64": ...}}')


@dataclass
class Forms:
    """Reads lines; what a line does not say comes from here.

    ``topic`` is a notification topic without priority; ``chosen`` tells whether somebody named it, so that records go
    there too, and not to the topics they were read from. Raises ConfigError for what cannot be a topic.
    """

    topic: str
    chosen: bool
    virtual_host: str | None
    priority: str
    publisher_id: str
    key: bytes | None = None
    ctxt: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self._ctxt = dumps(dict(self.ctxt or {}))
        # By each spelling that a line may have: the wire's is in capitals.
        self._topics = {
            spelling: notification_topic(self.topic, priority, self.virtual_host)
            for priority in PRIORITIES
            for spelling in (priority, priority.upper())
        }

    def read(self, line: bytes) -> Made:
        """The record that a line stands for. Raises BadLine."""
        return self._read_plain(line) or self._read_any(line)

    def _read_plain(self, line: bytes) -> Made | None:
        """What is JSON is not read but only looked at, which takes half the time; None: this is not for it."""
        try:
            plain = _read_plain(line)
            if not line.isascii():
                line.decode()  # what stays text is not looked at
        except ValueError:
            return None
        payload, ctxt = bytes(plain.payload), bytes(plain.ctxt) or self._ctxt
        priority = plain.priority or self.priority
        topic = self._topics.get(priority)
        # Inside a string of JSON, white space other than blanks would need escaping.
        if topic is None or ctxt[:1] != b"{" or b"\t" in line or b"\r" in line:
            return None
        names = (plain.publisher_id or self.publisher_id, plain.event_type, priority.upper())
        made = compose(names, None, payload, None, ctxt)
        if made is None:
            return None
        return Made(topic, made[1], self.key if plain.key is None else plain.key.encode())

    def _read_any(self, line: bytes) -> Made:
        try:
            fields = loads(line)
        except ValueError as error:
            raise BadLine(f"not JSON: {error}") from None
        if type(fields) is not dict:
            raise BadLine("not a JSON object")
        if "event_type" in fields:
            return self.notification(fields)
        if "value" in fields:
            return self.record(fields)
        if "oslo.message" in fields:
            raise BadLine("an envelope, as it is on the wire: send it with --raw --topic")
        if "outcome" in fields:
            raise BadLine("an entry of a failures file: give that to --resume")
        raise BadLine('neither "event_type", of a notification, nor "value", of a record, is there')

    def notification(self, fields: dict[str, Any]) -> Made:
        """The record of a notification. Raises BadLine."""
        if not fields.keys() <= _OF_A_NOTIFICATION:
            raise _unknown(fields, _OF_A_NOTIFICATION)
        get = fields.get
        made_before = "message_id" in fields
        event_type, priority, publisher_id = fields["event_type"], get("priority"), get("publisher_id")
        priority = self.priority if priority is None else priority
        if publisher_id is None and not (made_before and "publisher_id" in fields):
            publisher_id = self.publisher_id
        context = self.ctxt if get("ctxt") is None else fields["ctxt"]
        if type(event_type) is not str:
            raise BadLine("event_type is not text")
        topic = self._topics.get(priority) if type(priority) is str else None
        if topic is None:
            raise BadLine(f"priority is none of {', '.join(PRIORITIES)}")
        if publisher_id is not None and type(publisher_id) is not str:
            raise BadLine("publisher_id is not text")
        if context is not None and not isinstance(context, Mapping):
            raise BadLine("ctxt is not a JSON object")
        payload = get("payload", _NOTHING)
        try:
            if made_before:
                value = _made_before(fields, new_notification(publisher_id, event_type, priority, payload, context))
            else:
                value = encode_new(publisher_id, event_type, priority.upper(), payload, context, compose)[1]
        except EnvelopeError as error:
            raise BadLine(str(error)) from None
        key = get("key")
        return Made(topic, value, self.key if key is None else from_json(key, "key"))

    def record(self, fields: dict[str, Any]) -> Made:
        """The record of a record. Raises BadLine."""
        if not fields.keys() <= _OF_A_RECORD:
            raise _unknown(fields, _OF_A_RECORD)
        topic = self.topic if self.chosen else fields.get("topic")
        if topic is None:
            raise BadLine("a record without a topic: name one with --topic")
        try:
            check_name(topic)
        except ConfigError as error:
            raise BadLine(str(error)) from None
        key = fields.get("key")
        return Made(
            topic,
            from_json(fields["value"], "value"),
            self.key if key is None else from_json(key, "key"),
            _headers(fields.get("headers")),
        )


_NOTHING: dict[str, Any] = {}


def _made_before(fields: dict[str, Any], new: Notification) -> bytes:
    message_id, timestamp = fields["message_id"], fields.get("timestamp", new.timestamp)
    extra = fields.get("extra", {})
    if type(message_id) is not str or type(timestamp) is not str:
        raise BadLine("message_id or timestamp is not text")
    if type(extra) is not dict:
        raise BadLine("extra is not a JSON object")
    return encode(
        Notification(
            message_id,
            new.publisher_id,
            new.event_type,
            new.priority,
            new.payload,
            timestamp,
            new.context,
            new.unique_id,
            extra,
        )
    )


def _headers(given: Any) -> Headers | None:
    if not given:
        return None
    pairs = given.items() if isinstance(given, dict) else given
    wrong = BadLine("headers are not [[name, value], ...]")
    if not isinstance(given, (dict, list)):
        raise wrong
    headers: Headers = []
    for pair in pairs:
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)):
            raise wrong
        headers.append((pair[0], from_json(pair[1], f"header {pair[0]}")))
    return headers


def _unknown(fields: dict[str, Any], known: frozenset[str]) -> BadLine:
    names = ", ".join(sorted(fields.keys() - known))
    return BadLine(f"unknown field {names}; known are {', '.join(sorted(known))}")
