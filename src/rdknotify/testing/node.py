"""One Kafka node: its files, its ports and its process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rdknotify.testing.jars import LocalKafkaError
from rdknotify.testing.process import GuardedProcess, reserve_port

__all__ = ["ExtraListener", "Node", "write_properties"]


def write_properties(path: Path, settings: Mapping[str, object]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


@dataclass(frozen=True)
class ExtraListener:
    """A listener that every node has beside its plaintext one.

    Attributes:
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        settings: its own broker settings, without ``listener.name.<name>.``.
        advertise: makes the port that clients are told, of the node's number and the listener's own port.
    """

    protocol: str = "PLAINTEXT"
    settings: Mapping[str, object] = field(default_factory=dict)
    advertise: Callable[[int, int], int] = lambda node, port: port


class Node(GuardedProcess):
    """A broker and controller in one JVM; ``extra``: names of further listeners. Not thread-safe."""

    def __init__(self, number: int, folder: Path, extra: Iterable[str] = ()) -> None:
        super().__init__(f"node {number}", folder, LocalKafkaError)
        self.number = number
        self.folder.mkdir()
        self._ports = [reserve_port(), reserve_port()]
        self.port, self.controller_port = (int(holder.getsockname()[1]) for holder in self._ports)
        self.ports: dict[str, int] = {}
        for name in extra:
            self._ports.append(reserve_port())
            self.ports[name] = int(self._ports[-1].getsockname()[1])
        self.properties = folder / "server.properties"

    def close(self) -> None:
        self.kill()
        for holder in self._ports:
            holder.close()
