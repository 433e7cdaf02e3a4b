"""What is really on the log, told by a client that is not ours."""

from __future__ import annotations

import time
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

Row = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""Partition, offset, key, value, headers."""

_HOPELESS = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
}


def read_all(bootstrap: str, topic: str, timeout: float = 30.0) -> list[Row]:
    """Every record of a topic, by partition and offset, up to the ends that its leaders told at the call.

    Goes on through elections and restarts. Raises TimeoutError with what is missing at the deadline
    (seconds), KafkaException for an unknown topic.
    """
    deadline = time.monotonic() + timeout
    conf = {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False}
    consumer = Consumer({**conf, "enable.partition.eof": True, "reconnect.backoff.max.ms": 500, "log_level": 2})
    try:
        # The ends first: a new leader may let a reader stop short of records that its predecessor had
        # acknowledged, but does not tell an end before it knows better (KIP-207).
        missing = _ends(consumer, topic, deadline)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in missing])
        rows: list[Row] = []
        trouble: KafkaError | None = None
        while missing:
            for message in consumer.consume(10_000, 0.1):
                error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
                if error is None:
                    rows.append(_row(message))
                    offset += 1
                elif error.code() != KafkaError._PARTITION_EOF:
                    trouble = error
                    continue
                if offset >= missing.get(partition, offset + 1):
                    del missing[partition]
            if missing and time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: read {len(rows)} records, not up to the ends {missing}; {trouble}")
        return sorted(rows, key=lambda row: row[:2])
    finally:
        consumer.close()


def _ends(consumer: Consumer, topic: str, deadline: float) -> dict[int, int]:
    """The end of each partition that has any records, asked again while leaders are missing."""
    while True:
        try:
            described = consumer.list_topics(topic, 2.0).topics[topic]
            if described.error:
                raise KafkaException(described.error)
            ends = {}
            for partition in described.partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), 2.0)
                if high > low:
                    ends[partition] = high
            return ends
        except KafkaException as error:
            if error.args[0].code() in _HOPELESS or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _row(message: Message) -> Row:
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return (message.partition() or 0, message.offset() or 0, message.key(), message.value(), headers)
