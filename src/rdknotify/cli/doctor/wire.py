"""The two requests that a doctor sends by itself, over one socket: ApiVersions and SaslHandshake.

They come before any login, so they tell what stands behind a port when a login fails; a client library hides that.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rdknotify.cli.doctor.finding import Deadline

__all__ = ["SASL_HANDSHAKE", "NotKafka", "Versions", "api_versions", "sasl_mechanisms"]

SASL_HANDSHAKE, _API_VERSIONS = 17, 18
_UNSUPPORTED_VERSION, _ILLEGAL_SASL_STATE = 35, 34
_LONGEST = 10_000_000
_CLIENT = b"rdknotify-doctor"
_SOFTWARE = b"rdknotify"


class NotKafka(OSError):
    """What answers is no Kafka; ``first`` are the first bytes of its answer."""

    def __init__(self, first: bytes) -> None:
        super().__init__(f"an answer that is not Kafka's: {first[:16]!r}")
        self.first = first

    @property
    def is_tls(self) -> bool:
        """It answered with an alert of TLS: it wants to be spoken to in TLS."""
        return self.first[:2] == b"\x15\x03"


@dataclass(frozen=True)
class Versions:
    """What a broker says it can do: requests by number with the newest version, and features by name.

    Attributes:
        apis: (lowest, highest) version of each kind of request.
        supported: the highest level of each feature that the broker's program has.
        finalized: the level at which the cluster runs each.
    """

    apis: Mapping[int, tuple[int, int]]
    supported: Mapping[str, int] = field(default_factory=dict)
    finalized: Mapping[str, int] = field(default_factory=dict)


def api_versions(connection: socket.socket, deadline: Deadline, *, oldest: bool = False) -> Versions:
    """Ask for them: in the newest form, and of a broker that does not know it, or at once, in the oldest.

    Raises NotKafka, and OSError where there is no answer or the connection ends.
    """
    body = _compact(_SOFTWARE) + _compact(b"0") + b"\0"
    answer = None if oldest else _ask(connection, _API_VERSIONS, 3, b"\0" + body, deadline)
    if answer is None or answer.take("h") == _UNSUPPORTED_VERSION:
        answer = _ask(connection, _API_VERSIONS, 0, b"", deadline)
        answer.take("h")
        return Versions({answer.take("h"): (answer.take("h"), answer.take("h")) for _ in range(answer.take("i"))})
    apis = {}
    for _ in range(answer.varint() - 1):
        api = answer.take("h")
        apis[api] = (answer.take("h"), answer.take("h"))
        answer.tags({})
    answer.take("i")  # throttled for so long
    features: dict[str, dict[str, int]] = {"supported": {}, "finalized": {}}
    answer.tags(
        {
            0: lambda part: features["supported"].update(part.features(highest_first=False)),
            2: lambda part: features["finalized"].update(part.features(highest_first=True)),
        }
    )
    return Versions(apis, **features)


def sasl_mechanisms(connection: socket.socket, mechanism: str, deadline: Deadline) -> tuple[str, ...] | None:
    """The mechanisms that the listener offers, by asking for one of them; None where it knows no SASL.

    Raises as :func:`api_versions`.
    """
    name = mechanism.encode()
    answer = _ask(connection, SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name, deadline)
    if answer.take("h") == _ILLEGAL_SASL_STATE:
        return None
    return tuple(answer.text() for _ in range(answer.take("i")))


def _ask(connection: socket.socket, api: int, version: int, body: bytes, deadline: Deadline) -> _Answer:
    header = struct.pack(">hhih", api, version, 1, len(_CLIENT)) + _CLIENT
    request = header + body
    connection.settimeout(deadline.left)
    connection.sendall(struct.pack(">i", len(request)) + request)
    first = _read(connection, 4, deadline)
    (size,) = struct.unpack(">i", first)
    if not 4 <= size <= _LONGEST:
        raise NotKafka(first)
    return _Answer(_read(connection, size, deadline), 4)


def _read(connection: socket.socket, size: int, deadline: Deadline) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        connection.settimeout(deadline.left)
        chunk = connection.recv(size - len(chunks))
        if not chunk:
            if 0 < len(chunks) < 4:
                raise NotKafka(bytes(chunks))
            raise ConnectionResetError("the connection was closed")
        chunks += chunk
    return bytes(chunks)


def _compact(text: bytes) -> bytes:
    return bytes([len(text) + 1]) + text


class _Answer:
    """Reads a response; what is cut off or no text is not Kafka's."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data, self._at = data, at

    def take(self, form: str) -> int:
        try:
            (value,) = struct.unpack_from(">" + form, self._data, self._at)
        except struct.error:
            raise NotKafka(self._data) from None
        self._at += struct.calcsize(">" + form)
        return int(value)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take("B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> str:
        return self._bytes(max(self.take("h"), 0))

    def features(self, *, highest_first: bool) -> dict[str, int]:
        """Names and highest levels."""
        found = {}
        for _ in range(self.varint() - 1):
            name = self._bytes(self.varint() - 1)
            levels = (self.take("h"), self.take("h"))
            found[name] = levels[0 if highest_first else 1]
            self.tags({})
        return found

    def tags(self, known: Mapping[int, Callable[[_Answer], object]]) -> None:
        """Tagged fields; each that is known goes to its reader."""
        for _ in range(self.varint()):
            tag, size = self.varint(), self.varint()
            if tag in known:
                known[tag](_Answer(self._data[self._at : self._at + size]))
            self._at += size

    def _bytes(self, size: int) -> str:
        part = self._data[self._at : self._at + max(size, 0)]
        self._at += max(size, 0)
        return part.decode("utf-8", "replace")
