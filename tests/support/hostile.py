"""Brokers that mean harm: what they answer, what they store, and a man in the middle who spoils what others say."""

from __future__ import annotations

import random
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import cramjam
import crc32c

Speech = Callable[[socket.socket], None]
"""What a hostile server does with a client that has connected."""

PRODUCE, FETCH, METADATA, API_VERSIONS = 0, 1, 3, 18
ADMINISTRATION = frozenset({2, 9, 15, 16, 20, 21, 32, 42, 60, 69, 75})
"""The kinds of requests that only an administrator makes, and for offsets."""
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


# -- what is stored


def varint(number: int) -> bytes:
    """Zigzag and seven bits a byte, as in Kafka's records."""
    number = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def record(value: bytes) -> bytes:
    """The first record of a batch: no key, no headers."""
    body = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


def record_batch(records: bytes, codec: str = "none", count: int = 1) -> bytes:
    """A RecordBatch (magic 2) whose header and CRC32C are right, whatever ``records`` are."""
    head = struct.pack(">hiqqqhii", CODECS[codec], count - 1, 0, 0, -1, -1, -1, count)
    checked = head + records
    return struct.pack(">qiibI", 0, 4 + 1 + 4 + len(checked), 0, 2, crc32c.crc32c(checked)) + checked


def store(server: str, topic: str, partition: int, batch: bytes) -> None:
    """Append a batch unseen: librdkafka's in-process Kafka looks at its header only."""
    name = topic.encode()
    place = struct.pack(">ih", 1, len(name)) + name + struct.pack(">iii", 1, partition, len(batch))
    request = struct.pack(">hhihhhi", PRODUCE, 3, 1, -1, -1, -1, 10_000) + place + batch
    host, _, port = server.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = frame_of(connection)
    (error,) = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(name) + 4 + 4)
    assert error == 0, f"the batch was refused with error {error}"


def frame_of(connection: socket.socket) -> bytes:
    """The next request or answer, without its length; ConnectionError at the end."""
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        if not (piece := connection.recv(min(size - len(data), 1 << 20))):
            raise ConnectionError
        data += piece
    return bytes(data)


# -- what is answered


def rubbish(chance: random.Random) -> Speech:
    """Random bytes in place of every answer."""
    return lambda client: _answer(client, lambda _: chance.randbytes(chance.randint(1, 3000)))


def framed_rubbish(chance: random.Random) -> Speech:
    """Answers of a right length to the right request, with rubbish in them."""

    def answer(request: bytes) -> bytes:
        content = request[4:8] + chance.randbytes(chance.randint(0, 500))
        return struct.pack(">i", len(content)) + content

    return lambda client: _answer(client, answer)


def of_length(length: int) -> Speech:
    """Answers that say they are so long."""
    return lambda client: _answer(client, lambda request: struct.pack(">i", length) + request[4:8] + b"\0" * 64)


def cut_short(client: socket.socket) -> None:
    """Half an answer, and the end."""
    request = frame_of(client)
    client.sendall(struct.pack(">i", 400) + request[4:8] + b"\0" * 50)


def http(client: socket.socket) -> None:
    """A web server."""
    client.recv(65536)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def mute(client: socket.socket) -> None:
    """Takes all and says nothing."""
    _answer(client, lambda _: b"")


def endless(client: socket.socket) -> None:
    """Talks without being asked, and without end."""
    while True:
        client.sendall(b"\0\0\x40\0" + b"x" * 0x4000)


def _answer(client: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    while True:
        client.sendall(answer(frame_of(client)))


Spoil = Callable[[int, bytearray], None]
"""Given the kind of request (its API key) and the answer behind its length, changes the answer or does not."""


class Middle:
    """A man in the middle before one broker, on a port of his own: every answer passes here. A context manager.

    ``spoil`` changes answers; with a ``speech`` he does not ask the broker at all. The broker's own address in its
    answers is replaced by ours, so clients stay with us.
    """

    def __init__(self, broker: str) -> None:
        host, _, port = broker.rpartition(":")
        assert len(host) == len("127.0.0.1"), f"{host} is replaced by 127.0.0.1 in its place"
        self._broker = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._theirs = host.encode() + struct.pack(">i", int(port))
        self._ours = b"127.0.0.1" + struct.pack(">i", self.port)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self.spoil: Spoil | None = None
        self.speech: Speech | None = None
        self.spoiled = 0
        self.speeches = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Middle:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # close() alone leaves the thread in accept()
        self._listening.close()
        self.drop()
        self._accepting.join(5)

    def turn(self, spoil: Spoil | None = None, speech: Speech | None = None) -> None:
        """Another way from now on, with new connections."""
        self.spoil, self.speech = spoil, speech
        self.drop()

    def drop(self) -> None:
        """End all connections."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, struct.error), self._kept(client):
            if self.speech is None:
                self._pass_on(client)
            else:
                self.speeches += 1
                self.speech(client)

    @contextmanager
    def _kept(self, connection: socket.socket) -> Iterator[socket.socket]:
        with self._lock:
            self._open.add(connection)
        try:
            with connection:
                yield connection
        finally:
            with self._lock:
                self._open.discard(connection)

    def _pass_on(self, client: socket.socket) -> None:
        asked: dict[bytes, int] = {}
        with self._kept(socket.create_connection(self._broker, timeout=10)) as broker:
            broker.settimeout(None)
            back = threading.Thread(target=self._answers, args=(broker, client, asked), daemon=True)
            back.start()
            try:
                while True:
                    request = frame_of(client)
                    asked[request[4:8]] = struct.unpack_from(">h", request)[0]
                    broker.sendall(struct.pack(">i", len(request)) + request)
            finally:
                with suppress(OSError):
                    broker.shutdown(socket.SHUT_RDWR)
                back.join(5)

    def _answers(self, broker: socket.socket, client: socket.socket, asked: dict[bytes, int]) -> None:
        with suppress(OSError):
            while True:
                answer = bytearray(frame_of(broker).replace(self._theirs, self._ours))
                kind = asked.pop(bytes(answer[:4]), -1)
                if self.spoil is not None:
                    before = bytes(answer)
                    self.spoil(kind, answer)
                    self.spoiled += before != answer
                client.sendall(struct.pack(">i", len(answer)) + answer)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def flip_bits(chance: random.Random, kinds: Collection[int] | None, share: float = 0.5) -> Spoil:
    """Turns 1 to 8 bits over behind the correlation id, in this share of the answers of these kinds (None: all)."""

    def spoil(kind: int, answer: bytearray) -> None:
        if (kinds is None or kind in kinds) and len(answer) > 4 and chance.random() < share:
            for _ in range(chance.randint(1, 8)):
                answer[chance.randrange(4, len(answer))] ^= 1 << chance.randrange(8)

    return spoil


def truncate(chance: random.Random, kinds: Collection[int] | None, share: float = 0.5) -> Spoil:
    """Cuts the end off answers, whose frame then is right and whose content is not."""

    def spoil(kind: int, answer: bytearray) -> None:
        if (kinds is None or kind in kinds) and len(answer) > 8 and chance.random() < share:
            del answer[chance.randrange(4, len(answer)) :]

    return spoil


def big_numbers(chance: random.Random, kinds: Collection[int] | None, share: float = 0.5) -> Spoil:
    """Writes lengths and counts that are giant or negative over four bytes somewhere."""

    def spoil(kind: int, answer: bytearray) -> None:
        if (kinds is None or kind in kinds) and len(answer) > 12 and chance.random() < share:
            number = chance.choice((0x7FFFFFFF, -1, -2, -(1 << 31), 1 << 24))
            struct.pack_into(">i", answer, chance.randrange(4, len(answer) - 4), number)

    return spoil


def old_messages(chance: random.Random, _kinds: Collection[int] | None, share: float = 0.5) -> Spoil:
    """Calls fetched record batches messages as before Kafka 0.11, of lengths that are as a rule impossible."""
    epoch_and_magic = struct.Struct(">ib")
    todays = epoch_and_magic.pack(0, 2)

    def spoil(kind: int, answer: bytearray) -> None:
        place = answer.find(todays, 16)
        while kind == FETCH and place > 0:
            if chance.random() < share:
                length = chance.choice((-(1 << 31), -1, chance.randrange(30), chance.randrange(200), 0x7FFFFFFF))
                struct.pack_into(">ii", answer, place - 4, length, chance.getrandbits(31))
                answer[place + 4] = chance.randrange(2)
                _sign(answer, place, length)
            place = answer.find(todays, place + 5)

    return spoil


def _sign(answer: bytearray, place: int, length: int) -> None:
    """Give such a message the CRC that it should have, so that it is read on."""
    checked = answer[place + 4 : place + length]
    if length > 4:
        struct.pack_into(">I", answer, place, zlib.crc32(checked))


# -- what bursts


def bomb(codec: str, size: int) -> bytes:
    """A compressed record batch's content that expands to about ``size`` bytes: one record of zeros."""
    zeros = record(b"\0" * size)
    if codec == "gzip":
        return bytes(cramjam.gzip.compress(zeros, level=9))
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(zeros))
    return bytes(getattr(cramjam, codec).compress(zeros))


EVERY_SPOIL = (flip_bits, truncate, big_numbers)
SPOILS_OF_RECORDS = (*EVERY_SPOIL, old_messages)
