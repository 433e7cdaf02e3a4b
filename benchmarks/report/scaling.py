"""What the measured costs mean for a core, a machine and a cluster: the values of ``docs/scaling.md``. Pure.

Formulas stand on the page beside their results; here they are functions, with units in the names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.clients import OURS
from benchmarks.report.figures import Results, Spread, cost, rate
from benchmarks.setting import BATCH, SIZE

GOAL = 1_000_000
"""Notifications a second that the page plans for."""
LOAD = 0.7
"""The share of a core or a network card that is planned with; the rest is for peaks and for catching up."""
REPLICATION = 3
POOLS = 1
"""Consumer groups that read everything."""
CORES = (1, 8, 32)
BROKERS = (3, 6, 12)
NETWORK_BITS = 10e9
"""Of a broker's network card, each way."""
CACHED_SECONDS = 30
RETENTION_HOURS = 24
SEGMENT_BYTES = 2**30
MAPS_OF_SEGMENT = 2
MAPS_ALLOWED = 65_530

BATCH_HEADER_BYTES = 61
"""Of a record batch; a record has what :func:`record_bytes` adds."""


def varint_bytes(number: int) -> int:
    """Of a zigzag varint, as record batches have them."""
    return max(1, -(-(2 * number).bit_length() // 7))


def record_bytes(value_bytes: int, batch: int = BATCH) -> float:
    """What a record without key and headers takes on the log, with its share of the header of a full batch."""
    fixed = 1 + 1 + 1 + 1  # attributes; deltas of time, at most; no key, no headers
    body = fixed + varint_bytes(batch) + varint_bytes(value_bytes) + value_bytes
    return varint_bytes(body) + body + BATCH_HEADER_BYTES / batch


def core_rate(cost_us: float) -> float:
    """Records a second that keep one core busy."""
    return 1e6 / cost_us


def members(goal: float, cost_us: float) -> int:
    """Processes that share the goal, each with one core at LOAD."""
    return math.ceil(goal / (core_rate(cost_us) * LOAD))


def partitions(count: int, brokers: int) -> int:
    """Twice the members, so that they may double, and as many on each broker."""
    return math.ceil(2 * count / brokers) * brokers


@dataclass(frozen=True)
class Step:
    """One thing that is done with every notification."""

    role: str
    """``send`` or ``receive``."""
    what: str
    cost: Spread
    """CPU microseconds of the client process."""
    seen: Spread | None
    """Records a second of one process, the broker on the same CPUs."""

    @property
    def core_rate(self) -> float:
        return core_rate(self.cost.median)

    @property
    def cores(self) -> float:
        """Busy ones for the goal."""
        return GOAL / self.core_rate

    @property
    def members(self) -> int:
        return members(GOAL, self.cost.median)

    def machine_rate(self, cores: int) -> float:
        return cores * LOAD * self.core_rate


STEPS = (
    ("send", f"`send_batch`, {SIZE} bytes", "produce", "none", OURS),
    ("send", "`Notifier.notify_batch`, Nova", "notify", "nova", "rdknotify notify_batch"),
    ("send", "`Notifier.info` one by one, Nova", "notify", "nova", "rdknotify info"),
    ("receive", f"`poll` and `values()`, {SIZE} bytes", "consume", "none", OURS),
    ("receive", "`Persister` into SQLite, Nova", "persisting", "SQLite", OURS),
    ("receive", "`Persister` into PostgreSQL, Nova", "persisting", "PostgreSQL", OURS),
    ("receive", "`Listener`, an endpoint's call each, 50,000/s", "latency", "50000/s", "rdknotify notifications"),
)
"""Role, name, and the measure, variant and client whose cost it is."""
PACED = ("latency",)
"""Measures that go no faster than they are told to: their rate says nothing."""


def steps(results: Results) -> list[Step]:
    """Those that were measured."""
    found = []
    for role, what, measure, variant, client in STEPS:
        if spread := results.spread(measure, variant, client, cost):
            seen = None if measure in PACED else results.spread(measure, variant, client, rate)
            found.append(Step(role, what, spread, seen))
    return found


@dataclass(frozen=True)
class Cluster:
    """What one broker of so many has to do for the goal; everything spread evenly."""

    brokers: int
    bytes_each: float
    """Of a record on the log."""
    partitions: int

    @property
    def produced(self) -> float:
        """Bytes a second of all producers."""
        return GOAL * self.bytes_each

    @property
    def written(self) -> float:
        """Bytes a second to disk, and in from the network: one part from producers, the others from leaders."""
        return self.produced * REPLICATION / self.brokers

    @property
    def sent(self) -> float:
        """Bytes a second to followers and to consumers."""
        return self.produced * (REPLICATION - 1 + POOLS) / self.brokers

    @property
    def cache(self) -> float:
        """Bytes."""
        return self.written * CACHED_SECONDS

    @property
    def kept(self) -> float:
        """Bytes on disk."""
        return self.written * RETENTION_HOURS * 3600

    @property
    def replicas(self) -> int:
        """Of partitions."""
        return math.ceil(self.partitions * REPLICATION / self.brokers)

    @property
    def maps(self) -> int:
        """Areas of memory that the indexes of all segments take."""
        return MAPS_OF_SEGMENT * (math.ceil(self.kept / SEGMENT_BYTES) + self.replicas)

    @property
    def carried(self) -> float:
        """Notifications a second that the network cards of all carry at LOAD."""
        busiest = max(self.written, self.sent)
        return GOAL * NETWORK_BITS / 8 * LOAD / busiest

    @property
    def enough(self) -> bool:
        return self.carried >= GOAL


def brokers_needed(bytes_each: float) -> int:
    """The fewest whose network cards carry the goal."""
    bytes_a_second = GOAL * bytes_each * max(REPLICATION, REPLICATION - 1 + POOLS)
    return max(REPLICATION, math.ceil(bytes_a_second * 8 / (NETWORK_BITS * LOAD)))


def context(results: Results, nova_bytes: float) -> dict[str, Any]:
    """What the page says of the measured steps; ``nova_bytes`` is what a Nova notification takes as a value."""
    found = steps(results)
    receiving = sorted((step for step in found if step.role == "receive"), key=lambda step: step.cost.median)
    most = max((step.members for step in found if step.role == "receive"), default=1)
    records: Mapping[str, float] = {
        f"{SIZE} bytes": record_bytes(SIZE),
        "Nova": record_bytes(round(nova_bytes)),
    }
    clusters = {
        name: [Cluster(count, size, partitions(most, count)) for count in BROKERS] for name, size in records.items()
    }
    return {
        "steps": found,
        "receiving": receiving,
        "most": most,
        "records": records,
        "clusters": clusters,
        "needed": {name: brokers_needed(size) for name, size in records.items()},
        "partitions": partitions(most, max(BROKERS)),
        "plan": {
            "goal": GOAL,
            "load": LOAD,
            "replication": REPLICATION,
            "pools": POOLS,
            "cores": CORES,
            "brokers": BROKERS,
            "network_bits": NETWORK_BITS,
            "cached_seconds": CACHED_SECONDS,
            "retention_hours": RETENTION_HOURS,
            "maps_allowed": MAPS_ALLOWED,
            "batch_header": BATCH_HEADER_BYTES,
            "size": SIZE,
            "batch": BATCH,
        },
    }
