"""Dead letters in a topic; what is done with is remembered by offsets of a consumer group.

Everything before a partition's committed offset is done with. What is done with out of turn gets a *marker*: a record
without a value in the same topic, whose headers say which letter, what became of it, and for which group.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from rdknotify.cli.connection import Connection
from rdknotify.cli.dead_letter.letters import Letter, Room
from rdknotify.consumer import Consumer
from rdknotify.errors import ConfigError
from rdknotify.producer import Producer
from rdknotify.provenance import DONE, DONE_AS, GROUP
from rdknotify.topics import TopicPartition

__all__ = ["TopicPlace"]

_TIMEOUT = 5.0
_QUIET = 3.0
"""Seconds without a record after which there is no more to come, though the log's end was not seen."""
_LATEST, _EARLIEST = -1, -2

_Offsets = dict[TopicPartition, int]


class _Reader(Consumer):
    """All partitions of one topic, without being a member of the group, whose offsets it reads and commits."""

    begins: _Offsets
    ends: _Offsets
    done: _Offsets

    def __init__(self, connection: Connection, topic: str, group: str, everything: bool) -> None:
        self._everything = everything
        arguments = connection.arguments("consumer", create_topics=False)
        super().__init__(connection.url, [topic], group, start="earliest", **arguments)

    def _begin(self, subscription: Sequence[str]) -> None:
        (topic,) = subscription
        numbers = self._core.metadata(None, _TIMEOUT)["topics"].get(topic)
        if not numbers:
            raise ConfigError(
                f"--topic {topic}: there is no such topic, or this user may not see it (it takes READ on topic and "
                "group); `rdknotify topics list` shows what there is"
            )
        places = [TopicPartition(topic, number) for number in numbers]
        first = {TopicPartition(*place): offset for place, offset in self._look_up(places, _EARLIEST, _TIMEOUT).items()}
        self.ends = {TopicPartition(*place): end for place, end in self._look_up(places, _LATEST, _TIMEOUT).items()}
        committed = self.committed(places, _TIMEOUT)
        self.done = {place: max(first[place], committed[place] or 0) for place in places}
        self.begins = first if self._everything else dict(self.done)
        self._take_on([(*place, offset) for place, offset in self.begins.items()], False)


class TopicPlace:
    """Letters of a dead letter topic, numbered ``partition-offset``; as :class:`Place`.

    Raises ConfigError where there is no such topic, and what a Consumer raises.
    """

    def __init__(self, connection: Connection, topic: str, group: str, everything: bool) -> None:
        self.name, self.group = topic, group
        self.further = 0
        self._connection, self._everything = connection, everything
        self._reader = _Reader(connection, topic, group, everything)
        self._producer: Producer | None = None
        self._open: dict[TopicPartition, set[int]] = {place: set() for place in self._reader.ends}
        """Offsets of letters that nobody has dealt with."""
        self._markers: dict[TopicPartition, dict[int, tuple[TopicPartition, int]]] = {}
        """For each partition its markers, by offset, and the letter that each means."""
        self._ends: _Offsets = dict(self._reader.begins)

    def __enter__(self) -> TopicPlace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        if self._producer is not None:
            self._producer.close()

    def letters(self) -> list[Letter]:
        """Once only. Reads up to where the topic ended when this was made."""
        kept: dict[tuple[int, int], Letter] = {}
        becomes: dict[tuple[int, int], str] = {}
        further: set[tuple[int, int]] = set()
        room = Room()
        for record in self._records():
            place = TopicPartition(record.topic, record.partition)
            headers = dict(record.headers)
            if DONE in headers:
                meant = self._mark_read(place, record.offset, headers)
                if meant is not None:
                    becomes[meant] = (headers.get(DONE_AS) or b"done").decode("utf-8", "replace")
                continue
            committed = record.offset < self._reader.done[place]
            if not committed:
                self._open[place].add(record.offset)
            number = f"{record.partition}-{record.offset}"
            letter = Letter.of(record, number, record.timestamp, "done" if committed else "")
            if room.takes(letter):
                kept[record.partition, record.offset] = letter
            else:
                further.add((record.partition, record.offset))
        for (partition, offset), what in becomes.items():
            self._open[TopicPartition(self.name, partition)].discard(offset)
            if (marked := kept.pop((partition, offset), None)) and self._everything:
                kept[partition, offset] = replace(marked, done=what)
        self.further = len(further - becomes.keys())
        return [kept[place] for place in sorted(kept)]

    def mark(self, done: Sequence[Letter], what: str) -> None:
        """Markers for what is done out of turn, then the offsets. Raises KafkaError and PartialDeliveryError."""
        for letter in done:
            partition, offset = letter.sort_key
            self._open[TopicPartition(self.name, partition)].discard(offset)
        reached = self._reached()
        early = [
            letter for letter in done if letter.sort_key[1] >= reached[TopicPartition(self.name, letter.sort_key[0])]
        ]
        if early:
            self._write_markers([letter.number for letter in early], what)
        ahead = {place: offset for place, offset in reached.items() if offset > self._reader.done[place]}
        if ahead:
            self._reader.commit(ahead)
            self._reader.done |= ahead

    # -- reading ---------------------------------------------------------------------------------------------

    def _records(self) -> Any:
        ends = self._reader.ends
        quiet_since = time.monotonic()
        while any(self._ends[place] < end for place, end in ends.items()):
            batch = self._reader.poll(timeout=0.2)
            if batch:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > _QUIET:
                return  # what is between here and the end are no records
            for record in batch:
                place = TopicPartition(record.topic, record.partition)
                if record.offset < ends[place]:
                    yield record
            for topic, number, offset, _ in batch.positions():
                self._ends[TopicPartition(topic, number)] = min(offset, ends[TopicPartition(topic, number)])

    def _mark_read(
        self, place: TopicPartition, offset: int, headers: Mapping[str, bytes | None]
    ) -> tuple[int, int] | None:
        """The letter that a marker means, if it is one for our group."""
        if headers.get(GROUP) != self.group.encode():
            return None
        try:
            partition, of = (int(part) for part in (headers[DONE] or b"").split(b"-"))
            meant = TopicPartition(self.name, partition)
        except ValueError:
            return None
        self._markers.setdefault(place, {})[offset] = (meant, of)
        return (partition, of) if meant in self._open else None

    # -- remembering -----------------------------------------------------------------------------------------

    def _reached(self) -> _Offsets:
        """Up to where each partition is done with; no marker is passed whose letter is not passed itself."""
        reached = {place: min([*self._open[place], self._ends[place]]) for place in self._ends}
        changed = True
        while changed:
            changed = False
            for place, markers in self._markers.items():
                needed = [offset for offset, (of, at) in markers.items() if at >= reached.get(of, 0)]
                if needed and min(needed) < reached[place]:
                    reached[place], changed = min(needed), True
        return reached

    def _write_markers(self, numbers: Sequence[str], what: str) -> None:
        if self._producer is None:
            self._producer = Producer(self._connection.url, **self._connection.arguments("producer"))
        headers = [{DONE: number.encode(), DONE_AS: what.encode(), GROUP: self.group.encode()} for number in numbers]
        # With a key for topics that are compacted, which refuse records without.
        keys = [f"{DONE} {self.group} {number}" for number in numbers]
        self._producer.deliver(self.name, [None] * len(numbers), keys, headers).raise_for_failures()
