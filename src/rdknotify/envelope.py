"""Notifications and their wire form: oslo.messaging's version 2 envelope, bytes in and bytes out.

::

    {"oslo.version": "2.0", "oslo.message": "<JSON text of the notification>"}

The JSON is orjson's, which was the fastest on whole envelopes (``benchmarks/json_libraries.py``;
microseconds, median of 15 rounds, CPython 3.11: 140 nova notifications encode 3.1, decode 5.1; msgspec 3.8
and 6.4; ``json`` 22 and 17), or msgspec's (``fast_json``). What orjson refuses or would change (integers beyond
64 bits, NaN and infinity, lone surrogates, keys that are not text) goes through ``json``, so that the objects are
those that oslo.messaging would send and receive.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any
from uuid import UUID

import msgspec

from rdknotify import fast_json
from rdknotify.errors import EnvelopeError

__all__ = [
    "Notification",
    "decode",
    "decode_flat",
    "decode_message",
    "encode",
    "encode_message",
    "encode_new",
    "new_notification",
    "to_primitive",
]

VERSION = "2.0"
_dumps, _loads = fast_json.dumps, fast_json.loads

Compose = Callable[[tuple[Any, Any, Any], Any, bytes, Any, bytes], "tuple[str, bytes] | None"]
"""Names, payload and its JSON, context and its JSON, to a message id and a wire form; None: this is not for it."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification, as it is on the wire.

    Attributes:
        message_id: unique; consumers drop a twin by it.
        publisher_id: who sent it; oslo.messaging allows None.
        event_type: what happened, as ``compute.instance.create.end``.
        priority: upper case, as ``INFO``.
        payload: JSON values.
        timestamp: when it was made, UTC, ``YYYY-MM-DD HH:MM:SS.ffffff`` (oslo.messaging leaves out
            a fraction of zero).
        context: the request's context.
        unique_id: the transport's own id, where the sender set one.
        extra: fields that we do not know, kept for those who do.
    """

    message_id: str
    publisher_id: str | None
    event_type: str
    priority: str
    payload: Any
    timestamp: str
    context: dict[str, Any] = field(default_factory=dict)
    unique_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def new_notification(
    publisher_id: str | None, event_type: str, priority: str, payload: Any, context: Any = None
) -> Notification:
    """A notification made now, with new ids. ``context`` as in :func:`encode_new`."""
    message_id, unique_id = _new_ids()
    fields = _context_fields(context)
    return Notification(message_id, publisher_id, event_type, priority.upper(), payload, _now(), fields, unique_id)


def encode(notification: Notification) -> bytes:
    """The wire form. Raises EnvelopeError if JSON cannot hold the payload, context or an unknown field."""
    message = {
        "message_id": notification.message_id,
        "publisher_id": notification.publisher_id,
        "event_type": notification.event_type,
        "priority": notification.priority,
        "payload": notification.payload,
        "timestamp": notification.timestamp,
        **notification.extra,
    }
    if notification.unique_id is not None:
        message["_unique_id"] = notification.unique_id
    message["_context"] = notification.context
    return _wrap(message)


def encode_new(
    publisher_id: str | None,
    event_type: str,
    wire_priority: str,
    payload: Any,
    context: Any = None,
    compose: Compose | None = None,
) -> tuple[str, bytes]:
    """The message id and wire form of a notification made now; faster than ``encode(new_notification(...))``.

    ``wire_priority`` is upper case. ``context``: a dict is sent as it is; of an object (a RequestContext)
    what its ``redacted_copy()``, where it has one, returns from ``to_dict()``. ``compose``: the core's, which does
    what it can of this twice as fast. Raises EnvelopeError. Safe in threads and after fork.
    """
    fields = context if type(context) is dict else _context_fields(context)
    if compose is not None:
        try:
            payload_text = _dumps(payload, to_primitive, fast_json.PASS)
            context_text = _dumps(fields, to_primitive, fast_json.PASS) if fields else b"{}"
        except TypeError:
            pass
        else:
            made = compose((publisher_id, event_type, wire_priority), payload, payload_text, fields, context_text)
            if made is not None:
                return made
    message_id, unique_id = _new_ids()
    return message_id, _wrap(
        {
            "message_id": message_id,
            "publisher_id": publisher_id,
            "event_type": event_type,
            "priority": wire_priority,
            "payload": payload,
            "timestamp": _now(),
            "_unique_id": unique_id,
            "_context": fields,
        }
    )


def encode_message(message: Mapping[str, Any], context: Any) -> bytes:
    """The wire form of a notification that somebody else made: its fields by name, as oslo.messaging has them.

    ``context`` as in :func:`encode_new`. Raises EnvelopeError.
    """
    return _wrap({**message, "_context": context if type(context) is dict else _context_fields(context)})


def decode(value: bytes | bytearray | memoryview) -> Notification:
    """The notification in a record's value. Raises EnvelopeError, which says why without showing it."""
    message = _unwrap(value)
    take = message.pop
    try:
        message_id, publisher_id, event_type = take("message_id"), take("publisher_id"), take("event_type")
        priority, payload, timestamp = take("priority"), take("payload"), take("timestamp")
    except KeyError as missing:
        raise EnvelopeError(f"{missing.args[0]} is missing") from None
    context, unique_id = take("_context", None), take("_unique_id", None)
    _check_fields(message_id, publisher_id, event_type, priority, timestamp, unique_id)
    context = _checked_context(context)
    return Notification(message_id, publisher_id, event_type, priority, payload, timestamp, context, unique_id, message)


class _Outer(msgspec.Struct, gc=False):
    version: str = msgspec.field(name="oslo.version")
    text: str = msgspec.field(name="oslo.message")


class _Inner(msgspec.Struct, gc=False):
    message_id: str
    publisher_id: str | None
    event_type: str
    priority: str
    payload: msgspec.Raw
    timestamp: str
    unique_id: str | None = msgspec.field(name="_unique_id", default=None)
    context: dict[str, msgspec.Raw] | None = msgspec.field(name="_context", default=None)


_read_outer = msgspec.json.Decoder(_Outer).decode
_read_inner = msgspec.json.Decoder(_Inner).decode
Flat = tuple[str, str, "str | None", str, str, str]


def decode_flat(value: bytes | bytearray | memoryview) -> Flat:
    """Message id, timestamp, publisher id, event type, priority, and the payload as JSON text, which it stays.

    Half the work of :func:`decode`. Where the payload has what is not JSON by the standard (NaN), the text is made
    anew, with null for it. Raises EnvelopeError as ``decode`` does.
    """
    try:
        outer = _read_outer(value)
        if outer.version == VERSION:
            found = _read_inner(outer.text)
            payload = str(found.payload, "utf-8")
            return found.message_id, found.timestamp, found.publisher_id, found.event_type, found.priority, payload
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    whole = decode(value)
    text = _json_text(whole.payload)
    return whole.message_id, whole.timestamp, whole.publisher_id, whole.event_type, whole.priority, text


def _json_text(payload: Any) -> str:
    # Of decoded JSON, orjson refuses long integers and lone surrogates only; NaN becomes null, as JSON columns need.
    try:
        return _dumps(payload).decode()
    except TypeError:
        pass
    try:
        return json.dumps(_finite(payload), separators=(",", ":"))
    except RecursionError:
        raise EnvelopeError("the payload is nested too deeply to be text") from None


def _finite(value: Any) -> Any:
    """Decoded JSON with null for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode_message(value: bytes | bytearray | memoryview) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the notification in a record's value, by name, and its context. Raises EnvelopeError."""
    message = _unwrap(value)
    context = message.pop("_context", None)
    try:
        if not (
            type(message["message_id"])
            is type(message["event_type"])
            is type(message["priority"])
            is type(message["timestamp"])
            is type(message["publisher_id"])
            is str
            and "_unique_id" not in message
        ):
            _check_fields(
                message["message_id"],
                message["publisher_id"],
                message["event_type"],
                message["priority"],
                message["timestamp"],
                message.get("_unique_id"),
            )
        message["payload"]
    except KeyError as missing:
        raise EnvelopeError(f"{missing.args[0]} is missing") from None
    return message, context if type(context) is dict else _checked_context(context)


def _unwrap(value: bytes | bytearray | memoryview) -> dict[str, Any]:
    """What is in the envelope, unchecked. In one piece, as each call would slow it by 3 %."""
    try:
        envelope = _loads(value)
    except ValueError:
        envelope = _standard_loads(value, "the value")
    if type(envelope) is not dict:
        raise EnvelopeError("the value is not a JSON object")
    version, text = envelope.get("oslo.version"), envelope.get("oslo.message")
    if version != VERSION:
        _check_version(version)
    if type(text) is not str:
        raise EnvelopeError("oslo.message is not text" if "oslo.message" in envelope else "oslo.message is missing")
    # "surrogatepass" only so that encoding cannot fail: what has lone surrogates, orjson refuses.
    data = text.encode("utf-8", "surrogatepass")
    # orjson rounds integers beyond 64 bits to floats.
    if _LONG_NUMBER in data.translate(_SHAPE):
        message = _standard_loads(text, "oslo.message")
    else:
        try:
            message = _loads(data)
        except ValueError:
            message = _standard_loads(text, "oslo.message")
    if type(message) is not dict:
        raise EnvelopeError("oslo.message is not a JSON object")
    return message


def _check_fields(
    message_id: object, publisher_id: object, event_type: object, priority: object, timestamp: object, unique_id: object
) -> None:
    if not (type(message_id) is type(event_type) is type(priority) is type(timestamp) is str):
        raise EnvelopeError("message_id, event_type, priority or timestamp is not text")
    if publisher_id is not None and type(publisher_id) is not str:
        raise EnvelopeError("publisher_id is not text")
    if unique_id is not None and type(unique_id) is not str:
        raise EnvelopeError("_unique_id is not text")


def _checked_context(context: Any) -> dict[str, Any]:
    if type(context) is dict:
        return context
    if context is None:
        return {}
    raise EnvelopeError("_context is not a JSON object")


def to_primitive(value: Any) -> Any:
    """What JSON has instead of a value that it does not have; not deep. Raises TypeError if there is nothing.

    As oslo.serialization: text of bytes (UTF-8), UUID, Decimal and addresses, ``YYYY-MM-DDTHH:MM:SS.ffffff``
    of datetimes (an aware one is brought to UTC first), lists of sets. And ``to_dict()``, dataclasses, values
    of enums.
    """
    convert = _CONVERSIONS.get(type(value))
    if convert is not None:
        return convert(value)
    # By name, as netaddr is no dependency; its networks are iterable and must not be listed.
    if type(value).__module__.partition(".")[0] == "netaddr":
        return str(value)
    for kind, convert in _CONVERSIONS.items():
        if isinstance(value, kind):
            return convert(value)
    if not isinstance(value, type):
        if callable(getattr(value, "to_dict", None)):
            return value.to_dict()
        if dataclasses.is_dataclass(value):
            return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        if isinstance(value, Mapping) or callable(getattr(value, "items", None)):
            return dict(value.items())
        if isinstance(value, Collection):
            return list(value)
    kind = type(value)
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} is no JSON value; convert it, or give it to_dict()")


def _datetime_text(value: datetime) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(timezone.utc).replace(tzinfo=None)
    return value.isoformat("T", "microseconds")


def _bytes_text(value: bytes | bytearray | memoryview) -> str:
    return bytes(value).decode()


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    datetime: _datetime_text,
    date: date.isoformat,
    UUID: str,
    Decimal: str,
    bytes: _bytes_text,
    bytearray: _bytes_text,
    memoryview: _bytes_text,
    Enum: lambda member: member.value,
    # Subclasses, as numpy.float64, are not known to orjson.
    float: float,
    Exception: repr,
    **dict.fromkeys((IPv4Address, IPv4Network, IPv6Address, IPv6Network), str),
}
"""By type, subclasses before what they are derived from."""

_PLAIN = frozenset({str, int, bool, type(None)})


def _wrap(message: dict[str, Any]) -> bytes:
    try:
        text = _dumps(message, to_primitive, fast_json.PASS)
    except TypeError:
        text = _standard_dumps(message)
    else:
        # orjson writes null for NaN and infinity, too.
        if b"null" in text and not _exact(message.values()):
            text = _standard_dumps(message)
    return b'{"oslo.version":"2.0","oslo.message":' + _dumps(text.decode()) + b"}"


def _exact(values: Iterable[Any]) -> bool:
    """Whether orjson keeps the values for certain: plain JSON, and no number that it would make null."""
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is dict:
            if not _exact(value.values()):
                return False
        elif kind is list or kind is tuple:
            if not _exact(value):
                return False
        elif kind is not float or value - value != 0.0:
            return False
    return True


def _standard_dumps(message: dict[str, Any]) -> bytes:
    try:
        return json.dumps(_primitives(message), separators=(",", ":")).encode()
    except RecursionError:
        raise EnvelopeError("the notification is nested too deeply, or holds itself") from None
    except (TypeError, ValueError) as error:
        # The text of a UnicodeDecodeError would show the bytes.
        reason = "bytes that are not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise EnvelopeError(f"the notification cannot be JSON: {reason}") from error


def _primitives(value: Any) -> Any:
    if isinstance(value, Enum):
        return _primitives(value.value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, dict):
        return {_key(key): _primitives(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_primitives(each) for each in value]
    return _primitives(to_primitive(value))


def _key(key: Any) -> Any:
    """A key as ``json`` takes it: it writes numbers, booleans and None as text."""
    if isinstance(key, Enum):
        return _key(key.value)
    return key if key is None or isinstance(key, (str, int, float)) else to_primitive(key)


# Any digit becomes 0, what may stand before a number becomes a colon: a plain search then finds a long one.
_SHAPE = bytes.maketrans(b"0123456789:,[- \t\r\n", b"0000000000::::::::")
_LONG_NUMBER = b":" + b"0" * 19


def _standard_loads(source: bytes | bytearray | memoryview | str, part: str) -> Any:
    try:
        return json.loads(source if isinstance(source, str) else bytes(source).decode())
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"{part} is not {'UTF-8' if isinstance(error, UnicodeError) else 'JSON'}") from None


def _check_version(version: object) -> None:
    if not isinstance(version, str):
        raise EnvelopeError("oslo.version is missing" if version is None else "oslo.version is not text")
    major, _, minor = version.partition(".")
    if major != "2" or not (minor.isascii() and minor.isdigit()):
        raise EnvelopeError(f"oslo.version is {version[:16]!r}, not {VERSION}")


def _context_fields(context: Any) -> dict[str, Any]:
    if context is None:
        return {}
    redact = getattr(context, "redacted_copy", None)
    if callable(redact):
        context = redact()
    to_dict = getattr(context, "to_dict", None)
    fields = to_dict() if callable(to_dict) else context
    if not isinstance(fields, Mapping):
        raise EnvelopeError(f"context: a dict or an object with to_dict() is needed, not {type(context).__name__}")
    return dict(fields)


# Random hexadecimal digits for one notification each, made many at a time: taking one is atomic. One call of
# os.urandom a notification would give the GIL away each time.
_digits: list[str] = []
_DIGITS = 64
_DIGITS_MADE = 256
# A forked child must not use its parent's.
os.register_at_fork(after_in_child=_digits.clear)


def _new_ids() -> tuple[str, str]:
    """A message id (a random UUID, RFC 9562 version 4) and a transport's id."""
    try:
        text = _digits.pop()
    except IndexError:
        made = os.urandom(_DIGITS // 2 * _DIGITS_MADE).hex(" ", _DIGITS // 2).split()
        text = made.pop()
        _digits.extend(made)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:32]}", text[32:]


_seconds: dict[str, str] = {}


def _now() -> str:
    """The time in UTC with microseconds; the text of the second is kept until the next one."""
    digits = str(time.time_ns())
    second = digits[:-9]
    text = _seconds.get(second)
    if text is None:
        _seconds.clear()
        text = _seconds[second] = time.strftime("%Y-%m-%d %H:%M:%S.", time.gmtime(int(second)))
    return text + digits[-9:-3]
