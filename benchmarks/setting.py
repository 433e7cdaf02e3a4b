"""What every client is told: the same for all, written once, and the words of librdkafka for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "benchmarks"

PARTITIONS = 4
SIZE = 200
"""Bytes of a record's value."""
BATCH = 1000
"""Records a call, where a client has calls for several; the most that one poll takes."""
LINGER_MS = 5
IN_FLIGHT = 100_000
"""Records that a producer has in flight at most."""
BATCH_BYTES = 1_000_000
"""What a request takes of one partition, where a client has such a setting; librdkafka comes with it."""
FETCH_BYTES = 4 << 20
"""What is fetched of one partition at a time by the clients without librdkafka: most are faster than with 1 MiB."""
RUN_TIMEOUT = 300.0
"""Seconds after which a client is killed and the benchmark ends in error."""


def librdkafka_producing(compression: str = "none") -> dict[str, str]:
    """For the limit, rdknotify and confluent-kafka alike."""
    return {
        "acks": "all",
        "enable.idempotence": "true",
        "linger.ms": str(LINGER_MS),
        "queue.buffering.max.messages": str(IN_FLIGHT),
        "compression.codec": compression,
    }


def librdkafka_consuming(group: str) -> dict[str, str]:
    """For the limit, rdknotify and confluent-kafka alike: as it comes, librdkafka sleeps a second over a full queue."""
    return {
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
        "fetch.queue.backoff.ms": "10",
        "queued.max.messages.kbytes": "65536",
    }


def python_producing(brokers: str, compression: str) -> dict[str, Any]:
    """For kafka-python, and aiokafka, which took over its names."""
    return {
        "bootstrap_servers": brokers,
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": LINGER_MS,
        "compression_type": None if compression == "none" else compression,
    }


def python_consuming(brokers: str, group: str) -> dict[str, Any]:
    """As :func:`python_producing`."""
    return {
        "bootstrap_servers": brokers,
        "group_id": group,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "max_partition_fetch_bytes": FETCH_BYTES,
    }
