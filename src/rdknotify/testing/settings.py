"""What the nodes of a LocalKafka are set to, before what its user asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rdknotify.testing.node import ExtraListener, Node
from rdknotify.testing.process import HOST

__all__ = ["OURS", "node_settings"]

# Tests want an answer in seconds where production wants calm: short sessions, no waiting for members.
_FOR_TESTS: dict[str, object] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "true",
    "num.partitions": 4,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 1000,
    "group.share.min.session.timeout.ms": 1000,
    "group.share.session.timeout.ms": 6000,
    "group.share.min.heartbeat.interval.ms": 500,
    "group.share.heartbeat.interval.ms": 500,
    "group.share.min.record.lock.duration.ms": 1000,
    "offsets.topic.num.partitions": 6,
    "transaction.state.log.num.partitions": 6,
    "share.coordinator.state.topic.num.partitions": 6,
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    "controller.quorum.election.timeout.ms": 500,
    "controller.quorum.fetch.timeout.ms": 1000,
    "log.cleaner.dedupe.buffer.size": 4 << 20,  # 128 MiB of heap by default
    "log.index.size.max.bytes": 1 << 20,
}

_PROTOCOLS = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}

OURS = (
    "process.roles",
    "node.id",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "log.dirs",
    "controller.quorum.voters",
    "controller.listener.names",
)
"""Settings that belong to the kit."""


def node_settings(
    node: Node,
    nodes: Collection[Node],
    listeners: Mapping[str, ExtraListener],
    advertised: Mapping[tuple[int, str], int],
) -> dict[str, object]:
    """Settings of one of the ``nodes``; ``advertised``: ports of the further listeners, by node and name."""
    replication, in_sync = (1, 1) if len(nodes) == 1 else (3, 2)
    return {
        **_FOR_TESTS,
        "node.id": node.number,
        "controller.quorum.voters": ",".join(f"{each.number}@{HOST}:{each.controller_port}" for each in nodes),
        **_of_listeners(node, listeners, advertised),
        "log.dirs": node.folder / "data",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replication,
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def _of_listeners(
    node: Node, listeners: Mapping[str, ExtraListener], advertised: Mapping[tuple[int, str], int]
) -> dict[str, object]:
    bound = {"PLAINTEXT": node.port, **node.ports, "CONTROLLER": node.controller_port}
    told = {"PLAINTEXT": node.port, **{name: advertised[node.number, name] for name in node.ports}}
    protocols = {**_PROTOCOLS, **{name: listener.protocol for name, listener in listeners.items()}}
    own = {
        f"listener.name.{name.lower()}.{key}": value
        for name, listener in listeners.items()
        for key, value in listener.settings.items()
    }
    return {
        "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in bound.items()),
        "advertised.listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in told.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        **own,
    }
