"""Real Apache Kafka on this machine, for tests: one node or three, to stop, kill, pause and revive."""

from __future__ import annotations

import atexit
import base64
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from rdknotify.errors import ConfigError
from rdknotify.testing.cluster import Address, KafkaCluster, until
from rdknotify.testing.jars import LocalKafkaError, find_jars, find_java
from rdknotify.testing.node import ExtraListener, Node, write_properties
from rdknotify.testing.process import HOST
from rdknotify.testing.proxies import Proxies
from rdknotify.testing.security import Security
from rdknotify.testing.settings import OURS, node_settings
from rdknotify.testing.wire import ClusterView

__all__ = ["LocalKafka"]

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
"""Seconds of grace before a node that ought to stop is killed."""
_FATAL_LINES = 15
"""Lines of a broker's log that an error shows."""

PROXIED = "PROXIED"
"""The listener whose advertised ports are those of the proxies."""


class LocalKafka(KafkaCluster):
    """Apache Kafka in KRaft mode on free ports of 127.0.0.1; a context manager. Not thread-safe.

    ::

        with LocalKafka(nodes=3) as kafka:
            producer = rdknotify.Producer(kafka.url)
            kafka.kill(kafka.leader_of("events", 0))

    Nodes are numbered from 1. No JVM outlives this process, however it ends; data and logs are in a
    temporary folder that :meth:`close` removes. ``config`` has broker settings of every node,
    ``node_config`` of single ones, ``listeners`` further listeners of every node by name; with ``security``
    it has those with TLS and SASL of :class:`~rdknotify.testing.Security`, which is its attribute of that name.
    With ``proxied=True`` clients of :attr:`proxied_url` reach each node through a proxy of its own, which the
    faults of :mod:`rdknotify.testing.faults` disturb; the nodes talk to each other directly.
    Needs Java and, for the first time, Maven: see :func:`rdknotify.testing.jars.find_jars`.
    """

    managed = True

    def __init__(
        self,
        nodes: int = 1,
        *,
        security: bool = False,
        config: Mapping[str, object] | None = None,
        node_config: Mapping[int, Mapping[str, object]] | None = None,
        listeners: Mapping[str, ExtraListener] | None = None,
        proxied: bool = False,
    ) -> None:
        if nodes not in (1, 3):
            raise ConfigError(f"nodes={nodes!r}: a LocalKafka has 1 or 3 nodes")
        self._count = nodes
        self._config = dict(config or {})
        self._node_config = {number: dict(settings) for number, settings in (node_config or {}).items()}
        for settings in (self._config, *self._node_config.values()):
            for name in settings.keys() & set(OURS):
                raise ConfigError(f"{name}={settings[name]!r}: a LocalKafka sets {name} itself, leave it out")
        self._more_listeners = dict(listeners or {})
        self._listeners: dict[str, ExtraListener] = {}
        self._secure = security
        self._security: Security | None = None
        self._proxied = proxied
        self._proxies: Proxies | None = None
        self._owner = os.getpid()
        self._folder: Path | None = None
        self._nodes: dict[int, Node] = {}
        self._advertised: dict[tuple[int, str], int] = {}
        self._command: list[str] = []

    @property
    def nodes(self) -> list[int]:
        """Numbers of the nodes, up or down."""
        return list(range(1, self._count + 1))

    @property
    def up(self) -> list[int]:
        """Numbers of the nodes that run and are not paused."""
        return [node.number for node in self._nodes.values() if node.running and not node.paused]

    def is_paused(self, node: int) -> bool:
        """The node runs, and is paused."""
        (chosen,) = self._chosen(node)
        return chosen.running and chosen.paused

    @property
    def folder(self) -> Path:
        """Where the nodes' data and logs are, until :meth:`close`."""
        if self._folder is None:
            raise LocalKafkaError("this LocalKafka is closed or was not started: start() it, or use it in a with block")
        return self._folder

    @property
    def bootstrap_servers(self) -> str:
        assert self.folder
        return ",".join(f"{HOST}:{node.port}" for node in self._nodes.values())

    def bootstrap_of(self, listener: str) -> str:
        """``host:port,...`` of one of the further listeners, as clients are told it."""
        assert self.folder
        if listener not in self._listeners:
            known = ", ".join(self._listeners) or "none"
            raise ConfigError(f"listener={listener!r}: the further listeners are: {known}")
        return ",".join(f"{HOST}:{self._advertised[node.number, listener]}" for node in self._nodes.values())

    @property
    def security(self) -> Security:
        """Certificates, users and URLs of the secure listeners, while it is started."""
        if self._security is None:
            raise LocalKafkaError("nothing is secure here: LocalKafka(security=True), and start() it")
        return self._security

    @property
    def proxies(self) -> Proxies:
        """The proxies before the nodes, named ``node 1`` ...; their process is started when first asked for."""
        if self._proxies is None:
            raise LocalKafkaError("no proxies are here: LocalKafka(proxied=True), and start() it")
        self._proxies.start()
        return self._proxies

    @property
    def proxied_url(self) -> str:
        """Transport URL by way of the proxies."""
        assert self.proxies
        return f"kafka://{self.bootstrap_of(PROXIED)}"

    def addresses(self) -> list[Address]:
        return [(HOST, self._nodes[number].port) for number in self.up]

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start every node that is down and wait until all are ready. Raises :class:`LocalKafkaError`."""
        fresh = self._folder is None
        try:
            if fresh:
                self._prepare(timeout)
            for node in self._nodes.values():
                self._launch(node)
            self.wait_ready(timeout)
        except BaseException:
            if fresh:
                self.close()
            raise

    def stop(self, node: int | None = None, timeout: float = STOP_TIMEOUT) -> None:
        """Stop a node (or all) with SIGTERM, data kept; what runs after ``timeout`` seconds is killed."""
        chosen = [each for each in self._chosen(node) if each.running]
        for each in chosen:
            if each.paused:
                each.send(signal.SIGCONT)
            each.send(signal.SIGTERM)
        deadline = time.monotonic() + timeout
        for each in chosen:
            if not each.wait(max(deadline - time.monotonic(), 0)):
                each.kill()

    def kill(self, node: int | None = None) -> None:
        """SIGKILL a node (or all): its data stay, :meth:`restart` brings it back."""
        for each in self._chosen(node):
            each.kill()

    def pause(self, node: int | None = None) -> None:
        """SIGSTOP a node (or all): it keeps its connections and says nothing. Raises if it is down."""
        for each in self._chosen(node):
            each.send(signal.SIGSTOP)

    def resume(self, node: int | None = None) -> None:
        """SIGCONT a node (or all). Raises if it is down."""
        for each in self._chosen(node):
            each.send(signal.SIGCONT)

    def restart(self, node: int | None = None, timeout: float = START_TIMEOUT) -> None:
        """Start a node (or all) again, stopping it first if it runs, and wait until the cluster is ready."""
        self.stop(node)
        for each in self._chosen(node):
            self._launch(each)
        self.wait_ready(timeout)

    def revive(self, *nodes: int, timeout: float = START_TIMEOUT) -> None:
        """Start those of the nodes that are down, and wait until the cluster is ready."""
        for number in nodes:
            for each in self._chosen(number):
                self._launch(each)
        self.wait_ready(timeout)

    def heal(self, timeout: float = START_TIMEOUT) -> None:
        """Resume what is paused, start what is down, heal the proxies, wait until every replica is in sync."""
        if self._proxies is not None and self._proxies.running:
            self._proxies.heal()
        for each in self._chosen(None):
            if each.paused:
                each.send(signal.SIGCONT)
        self.start(timeout)
        self.wait_in_sync(timeout)

    def wait_in_sync(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until every replica of every partition is in sync. Raises :class:`LocalKafkaError`."""
        until(self._seen_alike(_in_sync), timeout, "the replicas were not in sync", self._tails)

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until every node that is up answers and sees all of them. Raises :class:`LocalKafkaError`.

        The error shows the log's end of the nodes that ended or do not answer.
        """
        expected = set(self.up)
        if not expected:
            raise LocalKafkaError("no node is up: start() or resume() them first")

        def ready() -> bool | None:
            if gone := expected - set(self.up):
                raise LocalKafkaError(f"node {min(gone)} ended while starting{self._tails(gone)}")
            return self._seen_alike(lambda view: view.brokers >= expected)()

        until(ready, timeout, "Kafka did not get ready", self._tails)

    def log_tail(self, node: int, lines: int = 50) -> str:
        """The last lines of a node's log."""
        (chosen,) = self._chosen(node)
        return chosen.log_tail(lines)

    def close(self) -> None:
        """Kill every node and remove data and logs. Idempotent; :meth:`start` would begin anew.

        In a forked child it only forgets them: they are the parent's.
        """
        folder, self._folder = self._folder, None
        for node in self._nodes.values():
            node.close()
        if self._proxies is not None:
            self._proxies.close()
            self._proxies = None
        self._nodes, self._security = {}, None
        atexit.unregister(self.close)
        if folder is not None and os.getpid() == self._owner:
            shutil.rmtree(folder, ignore_errors=True)

    def _proxy_of(self, node: int, port: int) -> int:
        assert self._proxies is not None
        return self._proxies.add(f"node {node}", port)

    def _may_lead(self, node: int) -> bool:
        return node in self.up

    def _chosen(self, node: int | None) -> list[Node]:
        assert self.folder
        if node is not None and node not in self._nodes:
            raise ConfigError(f"node={node!r}: the nodes are {', '.join(map(str, self.nodes))}")
        return [each for each in self._nodes.values() if node in (None, each.number)]

    def _launch(self, node: Node) -> None:
        node.start([*self._command, "kafka.Kafka", str(node.properties)])

    def _prepare(self, timeout: float) -> None:
        """Folders, ports, settings, formatted storage."""
        self._owner = os.getpid()
        heap = "-Xmx512m" if self._count == 1 else "-Xmx384m"
        self._command = [find_java(), heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        self._command += ["-Djava.net.preferIPv4Stack=true", "-Dlog4j2.level=INFO"]
        self._command += [f"-Drdknotify.owner={self._owner}", "-cp", f"{find_jars()}/*"]
        self._folder = Path(tempfile.mkdtemp(prefix="rdknotify-kafka-"))
        atexit.register(self.close)
        self._listeners = dict(self._more_listeners)
        if self._secure:
            self._security = Security(self._folder / "security", self.bootstrap_of)
            self._listeners |= self._security.listeners
            self._command[1:1] = self._security.jvm_options
        if self._proxied:
            self._proxies = Proxies(self._folder / "proxies")
            self._listeners[PROXIED] = ExtraListener(advertise=self._proxy_of)
        self._nodes = {number: Node(number, self._folder / f"node{number}", self._listeners) for number in self.nodes}
        self._advertised = {
            (node.number, name): listener.advertise(node.number, node.ports[name])
            for node in self._nodes.values()
            for name, listener in self._listeners.items()
        }
        secure = self._security.config if self._security else {}
        for number, node in self._nodes.items():
            first = node_settings(node, self._nodes.values(), self._listeners, self._advertised)
            write_properties(node.properties, {**first, **secure, **self._config, **self._node_config.get(number, {})})
        self._format(timeout)

    def _format(self, timeout: float) -> None:
        """Format the storage of all nodes at once: each is a JVM of its own."""
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # With "=", for one in 64 of these ids begins with "-".
        tool = [*self._command, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}"]
        tool += self._security.format_options if self._security else []
        for node in self._nodes.values():
            node.start([*tool, "-c", str(node.properties)])
        deadline = time.monotonic() + timeout
        for node in self._nodes.values():
            if not node.wait(max(deadline - time.monotonic(), 0)):
                raise LocalKafkaError(f"formatting node {node.number} took more than {timeout:g} s")
        failed = [node.number for node in self._nodes.values() if not (node.folder / "data/meta.properties").exists()]
        if failed:
            raise LocalKafkaError(f"StorageTool formatted nothing{self._tails(failed)}")

    def _tails(self, numbers: Iterable[int] | None = None) -> str:
        wanted = self.nodes if numbers is None else numbers
        return "".join(
            f"\n--- node {number}, end of its log:\n{self._nodes[number].log_tail(_FATAL_LINES)}" for number in wanted
        )


def _in_sync(view: ClusterView) -> bool:
    partitions = (partition for topic in view.topics.values() for partition in topic.values())
    return all(len(partition.in_sync) == len(partition.replicas) for partition in partitions)
