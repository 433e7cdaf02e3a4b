"""Dead letters in a file; what is done with stands in a second one beside it, which is only ever added to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rdknotify.cli.dead_letter.letters import Letter, Room
from rdknotify.deadletter import read_dead_letters
from rdknotify.errors import ConfigError
from rdknotify.provenance import TIMESTAMP, HeaderList

__all__ = ["FilePlace"]

ENDING = ".done"


class _Entry:
    """An entry of the file, as a record."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.topic: str = entry["topic"]
        self.partition: int = entry["partition"]
        self.offset: int = entry["offset"]
        self.key: bytes | None = entry["key"]
        self.value: bytes | None = entry["value"]
        self.headers: HeaderList = entry["headers"]
        self.timestamp: int | None = next(
            (int(value) for name, value in self.headers if name == TIMESTAMP and value), None
        )


class FilePlace:
    """Letters of a :class:`~rdknotify.deadletter.DeadLetterFile`, numbered from 1; as :class:`Place`."""

    def __init__(self, path: Path, everything: bool) -> None:
        self.name, self.further = str(path), 0
        self._path, self._everything = path, everything
        self._beside = path.with_name(path.name + ENDING)

    def __enter__(self) -> FilePlace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def letters(self) -> list[Letter]:
        """Raises ConfigError for a file that is none of dead letters, OSError for one that cannot be read."""
        done, room = self._done(), Room()
        found = []
        try:
            for number, entry in enumerate(map(_Entry, read_dead_letters(self._path)), 1):
                letter = Letter.of(entry, str(number), entry.timestamp, done.get(_identity(str(number), entry), ""))
                if letter.done and not self._everything:
                    continue
                if room.takes(letter):
                    found.append(letter)
                else:
                    self.further += 1
        except (KeyError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise ConfigError(f"--file {self._path}: is no file of dead letters ({why})") from None
        return found

    def mark(self, done: Sequence[Letter], what: str) -> None:
        """Appended and synced. Raises OSError."""
        lines = [json.dumps({"number": letter.number, **_place(letter.origin), "done": what}) + "\n" for letter in done]
        with open(self._beside, "a", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())

    def _done(self) -> dict[tuple[Any, ...], str]:
        """By number and origin: a file that was made anew has the same numbers."""
        found = {}
        if self._beside.exists():
            for line in self._beside.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    found[entry["number"], entry["topic"], entry["partition"], entry["offset"]] = str(entry["done"])
                except (ValueError, KeyError, TypeError):
                    continue  # torn by a crash: it may be done again
        return found


def _identity(number: str, entry: _Entry) -> tuple[Any, ...]:
    place = _place(Letter.of(entry, number, None).origin)
    return (number, place["topic"], place["partition"], place["offset"])


def _place(origin: Any) -> dict[str, Any]:
    return {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
