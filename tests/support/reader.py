"""What is really on the log, told by a client that is not ours."""

from __future__ import annotations

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

Row = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""Partition, offset, key, value, headers."""


def read_all(bootstrap: str, topic: str, timeout: float = 30.0) -> list[Row]:
    """Every committed record of a topic, by partition and offset, up to the ends as they were at the call.

    Raises TimeoutError with what is missing at the deadline (seconds); KafkaException for an unknown topic.
    """
    deadline = time.monotonic() + timeout
    conf = {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False}
    conf |= {"enable.partition.eof": False, "isolation.level": "read_committed", "check.crcs": True}
    consumer = Consumer(conf)
    try:
        missing = _ends(consumer, topic, deadline)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in missing])
        rows: list[Row] = []
        while missing:
            for message in consumer.consume(10_000, 0.1):
                if message.error():
                    raise KafkaException(message.error())
                rows.append(_row(message))
            for position in consumer.position([TopicPartition(topic, partition) for partition in missing]):
                # The position also passes what is not a record, as the markers of transactions.
                if position.offset >= missing[position.partition]:
                    del missing[position.partition]
            if missing and time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: {len(rows)} records read, still short of the ends {missing}")
        return sorted(rows, key=lambda row: row[:2])
    finally:
        consumer.close()


def _ends(consumer, topic: str, deadline: float) -> dict[int, int]:
    """The end offset of each partition that has any records."""
    left = max(deadline - time.monotonic(), 0.1)
    described = consumer.list_topics(topic, left).topics[topic]
    if described.error:
        raise KafkaException(described.error)
    ends = {}
    for partition in described.partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), left)
        if high > low:
            ends[partition] = high
    return ends


def _row(message) -> Row:
    return (message.partition(), message.offset(), message.key(), message.value(), message.headers() or [])
