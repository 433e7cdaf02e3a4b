"""Pairs of a sender and a receiver: how long is a record under way? A module has both ends of its pairs.

A run has phases, each of so many records at a fixed rate (``Job.more["phases"]``); the first one warms up. A sender
waits for a line on stdin before each of the others. Both ends print one line of figures when a phase is over.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

from benchmarks.clients.base import Client, Job

SEND, RECEIVE = "latency_send", "latency_receive"
"""Roles."""

MODULES = {
    "rdknotify": "ours",
    "rdknotify, its defaults": "ours",
    "rdknotify notifications": "notifications",
    "confluent": "confluent",
    "confluent, its defaults": "confluent",
    "aiokafka": "aiokafka",
    "kafka-python": "kafka_python",
    "oslo.messaging kafka": "oslo",
    "oslo.messaging rdkafka": "oslo",
}
"""A module, and with it the peer, is imported only by its clients."""
NOTIFYING = tuple(name for name, module in MODULES.items() if module in ("notifications", "oslo"))
"""Those whose topic has the ending ``.info``."""


def _run(name: str, role: str, job: Job) -> None:
    client: Client = import_module(f"{__name__}.{MODULES[name]}").ROLES[role][name]
    client(job)


ROLES = {role: {name: partial(_run, name, role) for name in MODULES} for role in (SEND, RECEIVE)}
