"""The shapes of what goes into the core and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = ["Buffer", "Event", "Headers", "Offset", "Partition", "Position"]

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
