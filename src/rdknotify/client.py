"""What producers and consumers share: the check at construction, and that the exit of the process closes them."""

from __future__ import annotations

import atexit
import itertools
import math
import os
import re
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Protocol, TypeVar

from rdknotify import _rdknotify as core
from rdknotify import events, green
from rdknotify.errors import AuthenticationError, KafkaError, RdNotifyError
from rdknotify.options import Settings

__all__ = ["TIMED_OUT", "Closing", "OpenClient", "admit", "connect", "deadline_after", "open_clients", "remaining"]

TIMED_OUT = -185
"""librdkafka's ``_TIMED_OUT``."""

_FIRST_SLICE = 0.1
_LONGEST_SLICE = 1.0
_REFUSALS = {"_AUTHENTICATION": -169, "_SSL": -181, "SASL_AUTHENTICATION_FAILED": 58}
_CERTIFICATE_ALERT = re.compile(
    r"alert (bad certificate|certificate required|certificate unknown|unknown ca)", re.IGNORECASE
)

_ADVICE = (
    (
        r"supported mechanisms",
        "the listener does not offer this sasl_mechanism: check it, security_protocol and port",
    ),
    (
        r"invalid (username|credentials)|authentication fail",
        "check the user, the password and sasl_mechanism",
    ),
    (r"expired", "renew the broker's certificate"),
    (r"mismatch", "the certificate is for another host: use a host name in the URL that it names"),
    (
        r"alert",
        "the broker wants a client certificate it trusts: check ssl_client_cert_file and ssl_client_key_file",
    ),
    (
        r"certificate|issuer",
        "check that ssl_cafile signed the broker's certificate, and its dates and host names",
    ),
    (
        r"PLAINTEXT broker listener|wrong version number",
        "the listener does not speak TLS: check security_protocol and the port",
    ),
    (r"response size", "this is not a Kafka port, or it wants TLS: check the port and security_protocol"),
    (r"refused", "check host and port, and that the broker runs"),
    (r"resolve", "check the host name"),
    (
        r"disconnected|connection closed|APIVERSION_QUERY",
        "it may want TLS or SASL: check security_protocol and port",
    ),
)
_GENERAL_ADVICE = "check the addresses, security_protocol and what stands between (firewall, proxy)"


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
        except Exception:
            if error is None:
                raise
            events.logger.exception("a %s did not close well, behind another error", type(self).__name__)


class OpenClient(events.EventSource, Protocol):
    """A client that is closed when the process exits."""

    exit_rank: ClassVar[int]
    """Lower ranks are closed first: consumers, whose hooks may still send, before producers."""

    @property
    def exit_timeout(self) -> float:
        """Seconds that the exit of the process waits for this client at most."""

    def close(self, timeout: float | None = None) -> None: ...


open_clients: weakref.WeakSet[OpenClient] = weakref.WeakSet()
"""The clients that the exit of the process closes."""


def admit(client: OpenClient, handle: core.Client, settings: Settings) -> None:
    """Watch a new client's events, make sure that its cluster answers, have it closed at exit.

    Raises what :func:`connect` raises, unless ``connect_timeout`` is None.
    """
    events.watch(client)
    timeout = settings.values["connect_timeout"]
    if timeout is not None:
        connect(client, handle, timeout, settings.conf["bootstrap.servers"])
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
        troubles = client.events.troubles
        for trouble in troubles:
            if trouble.name in _REFUSALS or _CERTIFICATE_ALERT.search(trouble.text):
                raise _refused(trouble, servers)
        if not remaining(deadline):
            raise _unreachable(troubles, timeout, servers)


def _refused(trouble: events.Trouble, servers: str) -> KafkaError:
    name = trouble.name if trouble.name in _REFUSALS else "_SSL"
    text = f"{servers} refused the connection: {trouble.text}; {_advice(trouble.text)}"
    return AuthenticationError(_REFUSALS[name], name, text)


def _unreachable(troubles: Sequence[events.Trouble], timeout: float, servers: str) -> KafkaError:
    reason = troubles[-1].text if troubles else "no answer"
    text = f"no Kafka at {servers} within connect_timeout={timeout:g} s: {reason}; {_advice(reason)}"
    return core.kafka_error(TIMED_OUT, text)


def _advice(reason: str) -> str:
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, reason, re.IGNORECASE)), _GENERAL_ADVICE)


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
                events.logger.error("%s at exit: %s", client.events.name, str(error) or "interrupted")
    events.stop()


atexit.register(_close_all)
os.register_at_fork(after_in_child=open_clients.clear)
