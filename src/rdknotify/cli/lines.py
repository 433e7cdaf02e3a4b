"""Numbered lines of a file or of standard input, a block at a time: however large it is, memory holds one block."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from rdknotify.errors import RdNotifyError

__all__ = ["BLOCK", "LONGEST", "Chunk", "LineTooLong", "Lines"]

BLOCK = 1 << 20
"""Bytes read at a time."""
LONGEST = 64 << 20
"""Bytes of the longest line."""
_IDLE = 0.2
"""Seconds after which a pipe in which nothing comes gives an empty chunk, so that its reader can look around."""


class LineTooLong(RdNotifyError):
    """A line that memory shall not hold: this is hardly a file of lines."""

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} is longer than {LONGEST >> 20} MiB: is this a file of lines?")


class Chunk(NamedTuple):
    """Lines that follow each other; empty where nothing came for a while."""

    first: int
    """The number of the first one; they count from 1."""
    lines: list[bytes]
    """Without their ends; ``\\r`` before ``\\n`` stays."""
    end: int
    """Bytes of the file up to here."""


class Lines:
    """The lines from number ``start`` on; ``path`` None is standard input. A context manager; iterate once.

    Raises OSError, and :class:`LineTooLong`.
    """

    def __init__(self, path: Path | None, start: int = 1) -> None:
        self._own = path is not None
        self._fd = 0 if path is None else os.open(path, os.O_RDONLY)
        facts = os.fstat(self._fd)
        self._waits = not stat.S_ISREG(facts.st_mode)
        self.size = None if self._waits else facts.st_size
        """Bytes in all; None where nobody knows."""
        self._start = start

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:
            os.close(self._fd)

    def __iter__(self) -> Iterator[Chunk]:
        number, end, rest = 1, 0, b""
        for data in self._blocks():
            end += len(data)
            found = data.split(b"\n")
            found[0] = rest + found[0]
            rest = found.pop()
            if not found:
                if len(rest) > LONGEST:
                    raise LineTooLong(number)
                yield Chunk(number, [], end)
                continue
            yield self._wanted(number, found, end)
            number += len(found)
        if rest:
            yield self._wanted(number, [rest], end)

    def _wanted(self, number: int, lines: list[bytes], end: int) -> Chunk:
        early = self._start - number
        return Chunk(number, lines, end) if early <= 0 else Chunk(self._start, lines[early:], end)

    def _blocks(self) -> Iterator[bytes]:
        """Data as it comes: of a pipe at once what is there, as somebody may be typing it."""
        while True:
            if self._waits and not self._ready(_IDLE):
                yield b""
                continue
            data = os.read(self._fd, BLOCK)
            if not data:
                return
            if self._waits:
                parts = [data]
                size = len(data)
                while size < BLOCK and self._ready(0) and (more := os.read(self._fd, BLOCK - size)):
                    parts.append(more)
                    size += len(more)
                data = b"".join(parts)
            yield data

    def _ready(self, timeout: float) -> bool:
        return bool(select.select([self._fd], [], [], timeout)[0])
