"""What producers and consumers share: the check at construction, and that the exit of the process closes them."""

from __future__ import annotations

import atexit
import itertools
import logging
import math
import os
import time
import weakref
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, ClassVar, Protocol, TypeVar

from rdknotify import _rdknotify as core
from rdknotify import events, green, meters, renewal, shapes
from rdknotify.errors import AuthenticationError, ConfigError, KafkaError, RdNotifyError
from rdknotify.events import ClientEvents
from rdknotify.logged import LISTED, error_name, listed, tell
from rdknotify.options import Settings
from rdknotify.trouble import REFUSALS, Trouble

__all__ = [
    "TIMED_OUT",
    "Closing",
    "CoreClient",
    "GroupClient",
    "OpenClient",
    "admit",
    "check_accepted",
    "connect",
    "deadline_after",
    "open_clients",
    "remaining",
    "set_credentials",
]

log = logging.getLogger(__name__)

TIMED_OUT = -185
"""librdkafka's ``_TIMED_OUT``."""

_EXIT_TIMEOUT = 2.0
"""Seconds that the exit of the process waits for a member to leave its group at most."""
_FIRST_SLICE = 0.1
_LONGEST_SLICE = 1.0
_PATIENCE = 3.0
"""Seconds after which a port that seems to speak something else is not taken for one that is just starting."""


def deadline_after(timeout: float | None) -> float:
    """The monotonic time at which ``timeout`` seconds are over; None is never."""
    return math.inf if timeout is None else time.monotonic() + timeout


def remaining(deadline: float) -> float:
    """Seconds left, never negative."""
    return max(0.0, deadline - time.monotonic())


_Self = TypeVar("_Self")


class Closing:
    """A context manager that is closed at the end; what ``close()`` raises never hides what ended the block."""

    def close(self, timeout: float | None = None) -> None:
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            text = "a %s did not close well, behind another error"
            tell(log, "close_failed", text, type(self).__name__, exc_info=failure, error=error_name(failure))


class OpenClient(events.EventSource, Protocol):
    """A client that is closed when the process exits."""

    exit_rank: ClassVar[int]
    """Lower ranks are closed first: consumers, whose hooks may still send, before producers."""

    @property
    def exit_timeout(self) -> float:
        """Seconds that the exit of the process waits for this client at most."""

    @property
    def closed(self) -> bool: ...

    def close(self, timeout: float | None = None) -> None: ...


open_clients: weakref.WeakSet[OpenClient] = weakref.WeakSet()
"""The clients that the exit of the process closes."""


class CoreClient(Closing):
    """What everything around a client of the core has alike."""

    events: ClientEvents
    _core: core.Client

    @property
    def name(self) -> str:
        """librdkafka's name of this client, as in its log lines."""
        return self.events.name

    @property
    def closed(self) -> bool:
        """Closed, or in a process forked after it was made."""
        return self._core.closed

    @property
    def statistics(self) -> dict[str, Any] | None:
        """librdkafka's last statistics (``statistics.interval.ms``), parsed; None before the first."""
        return self.events.statistics

    def take_events(self) -> list[shapes.Event]:
        """librdkafka's events, for the forwarding to :mod:`logging`."""
        return self._core.take_events()

    def set_credentials(self, username: str, password: str) -> None:
        """As :meth:`Producer.set_credentials <rdknotify.Producer.set_credentials>`."""
        set_credentials(self, self._core, username, password)


class GroupClient(CoreClient):
    """What consumers of both kinds of groups have alike."""

    exit_rank: ClassVar[int] = 0
    _log: ClassVar[logging.Logger]
    _values: Mapping[str, Any]

    @property
    def exit_timeout(self) -> float:
        """Seconds that the exit of the process waits for this consumer to leave its group."""
        return min(_EXIT_TIMEOUT, float(self._values["close_timeout"]))

    def _tell(self, event: str, text: str, error: Exception | None = None, **fields: Any) -> None:
        if error is not None:
            fields["error"] = error_name(error)
        fields |= {"client": self.name, "group": self._values["consumer_group"]}
        tell(self._log, event, "%s: %s", self.name, text, **fields)

    def _tell_partitions(self, event: str, partitions: Collection[shapes.Partition]) -> None:
        if partitions:
            named = listed(partitions)
            shown = ", ".join(named["partitions"]) + (", ..." if len(partitions) > LISTED else "")
            self._tell(event, f"{event.replace('_', ' ')}, {len(partitions)}: {shown}", **named)


def admit(client: OpenClient, handle: core.Client, settings: Settings) -> None:
    """Watch a new client's events, make sure that its cluster answers, have it closed at exit.

    Raises what :func:`connect` raises, unless ``connect_timeout`` is None.
    """
    renewal.keep(client.events, handle, settings)
    meters.watch(client, handle, settings)
    events.watch(client)
    servers = settings.conf["bootstrap.servers"]
    client.events.meet(handle, servers)
    timeout = settings.values["connect_timeout"]
    if timeout is not None:
        connect(client, handle, timeout, servers)
    open_clients.add(client)


def connect(client: events.EventSource, handle: core.Client, timeout: float, servers: str) -> None:
    """Wait until the cluster answers.

    Raises:
        AuthenticationError: at once when the credentials or a certificate are refused.
        Timeout: nobody answered within ``timeout`` seconds; the text has the last reason and what to check.
    """
    deadline = deadline_after(timeout)
    # Short at first, to see a refusal soon; longer then, for an answer may take longer than the first slices.
    slices = (min(_FIRST_SLICE * 2**number, _LONGEST_SLICE) for number in itertools.count())
    while not green.call(handle.cluster_reachable, min(next(slices), remaining(deadline))):
        events.forward(client)
        obstacle = client.events.obstacle
        if obstacle is not None and obstacle.is_refusal:
            raise _refused(obstacle, servers) from client.events.cause
        if not remaining(deadline):
            raise _unreachable(obstacle or client.events.last, client.events.waits_for, timeout, servers)
    events.forward(client)  # what went wrong before
    client.events.answered()


def check_accepted(client: events.EventSource, handle: core.Client) -> None:
    """Raise what the cluster has against a client that it has never taken so far: one that was not checked at first.

    A client that was taken once only logs such things: they may concern one broker, or pass. Never waits.

    Raises:
        AuthenticationError: the credentials or a certificate are refused.
        Timeout: the port has been speaking something else for some seconds.
    """
    obstacle = client.events.obstacle
    if obstacle is None or handle.accepted:
        return
    if obstacle.is_refusal:
        raise _refused(obstacle, "the cluster") from client.events.cause
    if time.monotonic() - obstacle.when > _PATIENCE:
        client.events.obstacle = None  # so that it is raised once each time that librdkafka tells it
        raise core.kafka_error(TIMED_OUT, f"no Kafka was found so far: {obstacle}")


def set_credentials(client: events.EventSource, handle: core.Client, username: str, password: str) -> None:
    """New ones for the client's next connections. Raises ConfigError for what cannot be credentials."""
    if not username or not password or "\0" in username + password:
        raise ConfigError("credentials: a user name and a password are needed, without NUL characters")
    core.Client.set_credentials(handle, username, password)
    client.events.obstacle = None


def _refused(trouble: Trouble, by: str) -> KafkaError:
    name = trouble.name if trouble.name in REFUSALS else "_SSL"
    return AuthenticationError(REFUSALS[name], name, f"{by} refused the connection: {trouble}")


def _unreachable(trouble: Trouble | None, waits_for: str, timeout: float, servers: str) -> KafkaError:
    reason = waits_for or trouble or Trouble("", "no answer")
    return core.kafka_error(TIMED_OUT, f"no Kafka at {servers} within connect_timeout={timeout:g} s: {reason}")


def _close_all() -> None:
    """Close what is still open, lower ranks first, each rank within its longest exit timeout."""
    green.leave_pool()
    clients = list(open_clients)
    for rank in sorted({client.exit_rank for client in clients}):
        peers = [client for client in clients if client.exit_rank == rank]
        deadline = deadline_after(max(client.exit_timeout for client in peers))
        for client in peers:
            try:
                client.close(min(client.exit_timeout, remaining(deadline)))
            except (RdNotifyError, KeyboardInterrupt) as error:
                name, text = client.events.name, str(error) or "interrupted"
                tell(log, "close_failed", "%s at exit: %s", name, text, client=name, error=error_name(error))
    events.stop()


atexit.register(_close_all)
os.register_at_fork(after_in_child=open_clients.clear)
