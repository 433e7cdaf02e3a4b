"""The one Kafka request the kit sends by itself: Metadata, straight to one broker.

A client library would hide what readiness is about: whether *this* broker answers, whom it believes to be
alive, and which replicas are in sync. Plaintext only; every broker of the kit has such a listener.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

__all__ = ["ClusterView", "PartitionView", "ask_metadata", "read_metadata"]

_METADATA, _VERSION = 3, 1  # version 1 lists every topic and creates none
_EVERY_TOPIC = -1
_LONGEST = 10_000_000


@dataclass(frozen=True)
class PartitionView:
    """A partition as one broker sees it; ``leader`` is -1 where there is none."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True)
class ClusterView:
    """The cluster as one broker sees it: the ids of the brokers alive, and the partitions of every topic."""

    brokers: frozenset[int]
    topics: dict[str, dict[int, PartitionView]]


def ask_metadata(host: str, port: int, timeout: float) -> ClusterView:
    """Ask one broker. Raises OSError when it does not answer within ``timeout`` seconds for each step."""
    request = struct.pack(">hhih3si", _METADATA, _VERSION, 1, 3, b"kit", _EVERY_TOPIC)
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(connection, 4))
        if not 4 <= size <= _LONGEST:
            raise ConnectionError(f"an answer of {size} bytes is none of Kafka's")
        return read_metadata(_read(connection, size))


def read_metadata(answer: bytes) -> ClusterView:
    """What a broker answered, from its correlation id on. Raises ConnectionError if it is no such answer."""
    try:
        return _Answer(answer).cluster()
    except (struct.error, UnicodeDecodeError) as error:
        raise ConnectionError(f"the answer is no metadata of Kafka's: {error}") from None


def _read(connection: socket.socket, size: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        chunk = connection.recv(size - len(chunks))
        if not chunk:
            raise ConnectionError("the broker closed the connection")
        chunks += chunk
    return bytes(chunks)


class _Answer:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 4  # behind the correlation id: one request, one answer

    def _take(self, form: str) -> int:
        (value,) = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(">" + form)
        return int(value)

    def _text(self) -> str:
        size = max(self._take("h"), 0)
        self._at += size
        return self._data[self._at - size : self._at].decode()

    def _ids(self) -> tuple[int, ...]:
        return tuple(self._take("i") for _ in range(self._take("i")))

    def cluster(self) -> ClusterView:
        brokers = frozenset(self._broker() for _ in range(self._take("i")))
        self._take("i")  # the controller
        return ClusterView(brokers, dict(self._topic() for _ in range(self._take("i"))))

    def _broker(self) -> int:
        node = self._take("i")
        self._text()  # host
        self._take("i")  # port
        self._text()  # rack
        return node

    def _topic(self) -> tuple[str, dict[int, PartitionView]]:
        self._take("h")  # error
        name = self._text()
        self._take("b")  # internal
        return name, dict(self._partition() for _ in range(self._take("i")))

    def _partition(self) -> tuple[int, PartitionView]:
        self._take("h")  # error: a missing leader shows as -1
        partition, leader = self._take("i"), self._take("i")
        return partition, PartitionView(leader, self._ids(), self._ids())
