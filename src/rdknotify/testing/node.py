"""One Kafka node: its files, its ports and its process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rdknotify.testing.jars import LocalKafkaError
from rdknotify.testing.process import GuardedProcess, reserve_port

__all__ = ["Node", "write_properties"]


def write_properties(path: Path, settings: Mapping[str, object]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


class Node(GuardedProcess):
    """A broker and controller in one JVM. Not thread-safe."""

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(f"node {number}", folder, LocalKafkaError)
        self.number = number
        self.folder.mkdir()
        self._ports = (reserve_port(), reserve_port())
        self.port, self.controller_port = (int(holder.getsockname()[1]) for holder in self._ports)
        self.properties = folder / "server.properties"

    def close(self) -> None:
        self.kill()
        for holder in self._ports:
            holder.close()
