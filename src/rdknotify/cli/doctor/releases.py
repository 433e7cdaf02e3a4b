"""Which Kafka it is, and what it can do of what rdknotify has use for, by what a broker says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rdknotify.cli.doctor.finding import State
from rdknotify.cli.doctor.wire import Versions

__all__ = ["About", "describe"]

_LEVELS = {
    1: "3.0", 2: "3.1", 3: "3.2", 4: "3.3", 8: "3.4", 9: "3.5", 12: "3.6", 15: "3.7", 20: "3.8", 21: "3.9", 22: "4.0",
    26: "4.1", 28: "4.2", 30: "4.3", 31: "4.4",
}  # fmt: skip
"""The first level of the feature ``metadata.version`` of each release (org.apache.kafka.server.common)."""
_NEWEST = max(_LEVELS)
_OLDER = {68: "3.5", 65: "3.0", 60: "2.8", 57: "2.7", 50: "2.7", 48: "2.6", 45: "2.4", 43: "2.2"}
"""Releases of brokers with ZooKeeper, which have no levels, by a request that came with them."""
_INIT_PRODUCER, _CONSUMER_GROUP, _SHARE_GROUP = 22, 68, 76


@dataclass(frozen=True)
class About:
    """What is to be said of a broker's versions."""

    state: State
    text: str
    advice: str
    facts: Mapping[str, object]


def describe(versions: Versions) -> About:
    """In words, and for programs."""
    release, running = _release(versions)
    new_groups = _CONSUMER_GROUP in versions.apis and versions.finalized.get("group.version", 1) > 0
    share_groups = _SHARE_GROUP in versions.apis and versions.finalized.get("share.version", 0) > 0
    facts = {
        "release": release,
        "running_as": running,
        "new_group_protocol": new_groups,
        "share_groups": share_groups,
        "supported_features": dict(versions.supported),
        "finalized_features": dict(versions.finalized),
    }
    text = f"{release}; new group protocol (KIP-848): {_yes(new_groups)}, share groups: {_yes(share_groups)}"
    if _INIT_PRODUCER not in versions.apis:
        return About(
            State.TROUBLE, f"{release}: too old", "rdknotify needs Kafka 0.11 or newer: upgrade the broker", facts
        )
    if running is not None and running != release:
        return About(
            State.WARNING, f"{text}; its features are still those of {running}",
            "end the upgrade: kafka-features.sh --bootstrap-server ... upgrade --release-version", facts,
        )  # fmt: skip
    return About(State.OK, text, "", facts)


def _release(versions: Versions) -> tuple[str, str | None]:
    """The program's, and that whose features the cluster uses, where it says so."""
    supported = versions.supported.get("metadata.version")
    if supported is None:
        old = next((release for api, release in _OLDER.items() if api in versions.apis), None)
        return f"Kafka {old} or newer" if old else "an old Kafka, or another program", None
    finalized = versions.finalized.get("metadata.version")
    return _of_level(supported), _of_level(finalized) if finalized else None


def _of_level(level: int) -> str:
    if level > _NEWEST:
        return f"Kafka {_LEVELS[_NEWEST]} or newer"
    return f"Kafka {_LEVELS[max(known for known in _LEVELS if known <= max(level, 1))]}"


def _yes(can: bool) -> str:
    return "yes" if can else "no"
