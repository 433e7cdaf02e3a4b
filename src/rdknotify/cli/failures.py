"""The file of what could not be sent: a JSON object a line, each enough to send its record again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rdknotify.cli.forms import BadLine, Made, from_json, to_json
from rdknotify.fast_json import dumps, loads
from rdknotify.outcomes import Outcome

__all__ = ["BAD", "FailedLine", "Failures", "Resumed", "outcome_text"]

BAD = "bad line"
"""Nothing was sent: what stands in the line cannot be."""


def outcome_text(outcome: Outcome) -> str:
    """The word of the file: ``not persisted`` (safe to send again) or ``possibly persisted``."""
    return outcome.name.lower().replace("_", " ")


class FailedLine(NamedTuple):
    """A line that was not, or perhaps not, delivered."""

    number: int
    text: bytes
    outcome: str
    error: str
    made: Made | None = None
    """What was sent, where the line could be read: with its identity, so that readers can drop a twin."""


class Failures:
    """Appends to the file at ``path``; one that stays empty is removed at the end. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")

    def __enter__(self) -> Failures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._path.is_file() and not self._path.stat().st_size:
            self._path.unlink()

    def add(self, failed: list[FailedLine]) -> None:
        """Write these, and hand them to the system."""
        self._file.writelines(dumps(_entry(each)) + b"\n" for each in failed)
        self._file.flush()


def _entry(failed: FailedLine) -> dict[str, Any]:
    number, text, outcome, error, made = failed
    entry = {"line": number, "outcome": outcome, "error": error, "text": to_json(text)}
    if made is not None:
        record: dict[str, Any] = {"topic": made.topic}
        if made.key is not None:
            record["key"] = to_json(made.key)
        if made.headers is not None:
            record["headers"] = [[name, to_json(value)] for name, value in made.headers]
        if made.value != text:
            record["value"] = to_json(made.value)
        entry["record"] = record
    return entry


class Resumed:
    """Reads entries: those whose records are certainly not on the log, and with ``also_possible`` the others.

    ``read`` makes a record of a line that could not be read then, ``record`` one of an entry's record. Raises BadLine.
    """

    def __init__(
        self, read: Callable[[bytes], Made], record: Callable[[dict[str, Any]], Made], also_possible: bool
    ) -> None:
        self._read, self._record = read, record
        self._also_possible = also_possible
        self.left_out = 0
        """Entries whose records may be on the log."""

    def __call__(self, number: int, line: bytes) -> tuple[int, bytes, Made] | None:
        """Number and text of the line that failed once, and its record; None: not wanted."""
        try:
            entry = loads(line)
            number, outcome, text = entry["line"], entry["outcome"], from_json(entry["text"], "text")
            record = entry.get("record")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise BadLine("no entry of a failures file") from None
        if type(number) is not int or text is None:
            raise BadLine("no entry of a failures file")
        if outcome == outcome_text(Outcome.POSSIBLY_PERSISTED) and not self._also_possible:
            self.left_out += 1
            return None
        if record is None:
            return number, text, self._read(text)
        if type(record) is not dict:
            raise BadLine("record is not a JSON object")
        return number, text, self._record({"value": entry["text"], **record})
