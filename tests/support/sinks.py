"""A small schema and its rows, for tests of the sinks alone."""

from __future__ import annotations

from rdknotify.sinks.schema import Column, Schema
from rdknotify.topics import TopicPartition

SCHEMA = Schema(own=(Column("id", "text"), Column("size", "integer")), fill=lambda record: (), message_id="id")
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def rows(start: int, stop: int, partition: int = 0) -> list[tuple[object, ...]]:
    return [(f"{partition}-{offset}", offset * 2, "t", partition, offset) for offset in range(start, stop)]
