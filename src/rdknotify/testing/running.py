"""A Kafka that somebody else started."""

from __future__ import annotations

import os
from typing import NoReturn

from rdknotify.errors import ConfigError
from rdknotify.testing.cluster import Address, KafkaCluster
from rdknotify.testing.jars import LocalKafkaError

__all__ = ["RUNNING_KAFKA", "RunningKafka"]

RUNNING_KAFKA = "RDKNOTIFY_KAFKA"
"""Environment variable with the address of a running Kafka, ``host:port`` or several with commas."""


class RunningKafka(KafkaCluster):
    """The Kafka at ``address`` (default: what :data:`RUNNING_KAFKA` says), which stays up whatever we do.

    Has the interface of :class:`~rdknotify.testing.LocalKafka`; what would stop, kill or pause a node raises
    :class:`~rdknotify.testing.LocalKafkaError`. Plaintext listeners only.
    """

    managed = False

    def __init__(self, address: str | None = None) -> None:
        given = os.environ.get(RUNNING_KAFKA, "") if address is None else address
        self._addresses = [_parse(part) for part in given.split(",")]

    def addresses(self) -> list[Address]:
        return list(self._addresses)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._addresses)

    def start(self, timeout: float = 10.0) -> None:
        """Wait until it answers. Raises :class:`LocalKafkaError` at the deadline (seconds)."""
        self.wait_ready(timeout)

    def heal(self, timeout: float = 10.0) -> None:
        """Wait until it answers. Raises :class:`LocalKafkaError` at the deadline (seconds)."""
        self.wait_ready(timeout)

    def stop(self, node: int | None = None) -> NoReturn:
        self._refuse("stop")

    def kill(self, node: int | None = None) -> NoReturn:
        self._refuse("kill")

    def pause(self, node: int | None = None) -> NoReturn:
        self._refuse("pause")

    def resume(self, node: int | None = None) -> NoReturn:
        self._refuse("resume")

    def restart(self, node: int | None = None) -> NoReturn:
        self._refuse("restart")

    def close(self) -> None:
        """Nothing: it goes on without us."""

    def _refuse(self, what: str) -> NoReturn:
        raise LocalKafkaError(
            f"cannot {what} the Kafka at {self.bootstrap_servers}, which runs without us: "
            f"use LocalKafka, or unset {RUNNING_KAFKA}"
        )


def _parse(address: str) -> Address:
    host, colon, port = address.strip().rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ConfigError(f"{RUNNING_KAFKA}={address!r}: expected host:port")
    return host.strip("[]"), int(port)
