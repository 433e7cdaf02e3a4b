"""The cluster as a client sees it that has logged in: whether it is let in, and the brokers it is sent to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rdknotify.cli.doctor.broker import Broker
from rdknotify.cli.doctor.finding import Finding, State
from rdknotify.client import connect
from rdknotify.errors import AuthenticationError, KafkaError
from rdknotify.options import Settings
from rdknotify.producer import Producer

__all__ = ["advertised", "lazy", "log_in"]

SUBJECT = "cluster"


def lazy(settings: Settings) -> Producer:
    """A client that begins to connect and waits for nothing. Raises ConfigError for files that cannot be used."""
    return Producer(replace(settings, values={**settings.values, "connect_timeout": None}))


def log_in(client: Producer, settings: Settings, brokers: Sequence[Broker], timeout: float) -> Finding:
    """Whether the cluster takes the client as who it is."""
    if not any(broker.answers for broker in brokers):
        return Finding(SUBJECT, "login", State.SKIPPED, "not tried: no broker of the URL answers, see above")
    try:
        connect(client, client, timeout, settings.conf["bootstrap.servers"])
    except KafkaError as error:
        if not isinstance(error, AuthenticationError) and not all(broker.healthy for broker in brokers):
            return Finding(SUBJECT, "login", State.SKIPPED, f"no login within {timeout:g} s: see the brokers above")
        # The client's texts end with what to check.
        cause, _, advice = error.reason.rpartition("; ")
        return Finding(SUBJECT, "login", State.TROUBLE, cause or error.reason, advice, {"error": error.name})
    return Finding(SUBJECT, "login", State.OK, f"let in {_as_whom(settings)}")


def _as_whom(settings: Settings) -> str:
    protocol = str(settings.values["security_protocol"])
    if protocol.startswith("SASL"):
        who = settings.conf.get("sasl.username")
        return f"by {settings.values['sasl_mechanism']}" + (f" as {who}" if who else "")
    if "ssl.certificate.location" in settings.conf or "ssl.certificate.pem" in settings.conf:
        return "by the client's certificate"
    return "without user and password"


def advertised(metadata: dict[str, Any], known: Sequence[Broker]) -> list[Broker]:
    """The brokers that the cluster names and the URL does not: clients must reach each of them."""
    places = {(broker.host, broker.port) for broker in known}
    return [Broker(host, port, number) for number, host, port in metadata["brokers"] if (host, port) not in places]
