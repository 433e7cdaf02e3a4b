"""The cluster as a client sees it that has logged in: whether it is let in, and the brokers it is sent to."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from rdknotify.admin import Admin, Node
from rdknotify.cli.connection import Connection
from rdknotify.cli.doctor.broker import Broker
from rdknotify.cli.doctor.finding import Finding, State
from rdknotify.errors import AuthenticationError, KafkaError
from rdknotify.options import Settings

__all__ = ["SUBJECT", "describe", "further", "log_in"]

SUBJECT = "cluster"


def log_in(
    connection: Connection, settings: Settings, brokers: Sequence[Broker], timeout: float
) -> tuple[Finding, Admin | None]:
    """Whether the cluster takes the client as who it is, and then that client. Raises ConfigError."""
    if not any(broker.may_let_in for broker in brokers):
        return Finding(SUBJECT, "login", State.SKIPPED, "not tried: see the brokers above"), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are findings already
            client = Admin(connection.url, **connection.arguments("admin", connect_timeout=timeout))
    except KafkaError as error:
        return _refused(error, brokers, timeout), None
    return Finding(SUBJECT, "login", State.OK, f"let in {_as_whom(settings)}"), client


def _refused(error: KafkaError, brokers: Sequence[Broker], timeout: float) -> Finding:
    if not isinstance(error, AuthenticationError) and not all(broker.healthy for broker in brokers):
        return Finding(SUBJECT, "login", State.SKIPPED, f"no login within {timeout:g} s: see the brokers above")
    # The client's texts end with what to check.
    cause, _, advice = error.reason.rpartition("; ")
    return Finding(SUBJECT, "login", State.TROUBLE, cause or error.reason, advice, {"error": error.name})


def _as_whom(settings: Settings) -> str:
    protocol = str(settings.values["security_protocol"])
    if protocol.startswith("SASL"):
        who = settings.conf.get("sasl.username")
        return f"by {settings.values['sasl_mechanism']}" + (f" as {who}" if who else "")
    if "ssl.certificate.location" in settings.conf or "ssl.certificate.pem" in settings.conf:
        return "by the client's certificate"
    return "without user and password"


def describe(client: Admin, timeout: float) -> tuple[Finding, tuple[Node, ...]]:
    """Its id, controller and brokers."""
    try:
        cluster = client.cluster(timeout)
    except KafkaError as error:
        return Finding(
            SUBJECT, "brokers", State.TROUBLE, f"it does not tell its brokers: {error}",
            "try again; see the brokers' logs, above all the controller's",
        ), ()  # fmt: skip
    facts = {
        "id": cluster.id,
        "controller": cluster.controller.id if cluster.controller else None,
        "brokers": [node._asdict() for node in cluster.nodes],
    }
    text = f"id {cluster.id}; {len(cluster.nodes)} broker{'s' if len(cluster.nodes) != 1 else ''}"
    if cluster.controller is None:
        return Finding(
            SUBJECT, "brokers", State.WARNING, f"{text}, no controller is known",
            "no topic can be made and no leader elected without one: look at the controllers' logs", facts,
        ), cluster.nodes  # fmt: skip
    return Finding(
        SUBJECT, "brokers", State.OK, f"{text}, controller {cluster.controller.id}", "", facts
    ), cluster.nodes


def further(nodes: Sequence[Node], known: Sequence[Broker]) -> list[Broker]:
    """The brokers that the cluster names and the URL does not: clients must reach each of them."""
    places = {(broker.host, broker.port) for broker in known}
    return [Broker(node.host, node.port, node.id) for node in nodes if (node.host, node.port) not in places]
