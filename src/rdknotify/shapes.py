"""The shapes of what goes into the core and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

__all__ = [
    "LATENCY_BOUNDS",
    "SIZE_BOUNDS",
    "Buffer",
    "Counted",
    "Event",
    "Headers",
    "Offset",
    "Partition",
    "Position",
]

Buffer: TypeAlias = "bytes | bytearray | memoryview | str"
"""Bytes of a key or value; text is sent as UTF-8."""
Headers: TypeAlias = "Mapping[str, Buffer | None] | Sequence[tuple[str, Buffer | None]]"
"""Names and values of one record's headers; a sequence may repeat a name."""
Partition: TypeAlias = "tuple[str, int]"
"""Topic and partition."""
Offset: TypeAlias = "tuple[str, int, int]"
"""Topic, partition, offset."""
Position: TypeAlias = "tuple[str, int, int, int]"
"""Topic, partition, next offset, leader epoch (-1: unknown)."""
Event: TypeAlias = "tuple[str, int, str, str]"
"""``("log", level, facility, text)``, ``("error", code, name, reason)``, ``("stats", 0, "", json)``,
``("token", 0, "", "")`` (a new OAuth token is wanted) or ``("dropped", count, "", "")``; level is syslog's (3 error ...
7 debug)."""

LATENCY_BOUNDS = (
    *(500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 120_000_000),
)
"""Upper bounds of the buckets in which times are counted, in microseconds."""
SIZE_BOUNDS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
"""Upper bounds of the buckets in which batches are counted, in records."""


class Counted(NamedTuple):
    """What the core has counted for one client.

    Attributes:
        sending: of each topic, the records handed over, those delivered, and those that failed, by the error's name.
        consumed: of each topic, the records that polls have returned.
        in_flight: the records whose outcome is not known.
        sizes: how many batches were sent or polled in each bucket of :data:`SIZE_BOUNDS`, and the records in them.
        latency: how many records were delivered in each bucket of :data:`LATENCY_BOUNDS`, and their time in all.
    """

    sending: dict[str, tuple[int, int, dict[str, int]]]
    consumed: dict[str, int]
    in_flight: int
    sizes: tuple[tuple[int, ...], int]
    latency: tuple[tuple[int, ...], int]


Node: TypeAlias = "tuple[int, str, int]"
"""A broker's id, host and port."""
Member: TypeAlias = "tuple[str, str, str, str, list[Partition]]"
"""A group's member: its id, client id, instance id (empty without one), host, and what it is assigned."""
