"""The clients that are measured, each run in a process of its own: ``python -m benchmarks.clients NAME ROLE JOB``.

A module has functions for its clients in ``ROLES``, by role and client name; here stands which module has which client.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.clients.base import Client

LIMIT = "limit in C"
OURS = "rdknotify"
"""The one to compare: `send_batch`, `poll` with `values()`."""

MODULES = {
    OURS: "ours",
    "confluent produce": "confluent",
    "confluent produce_batch": "confluent",
    "confluent poll": "confluent",
    "confluent consume": "confluent",
    "confluent consume, its defaults": "confluent",
    "confluent asyncio": "confluent_asyncio",
    "aiokafka": "aiokafka",
    "aiokafka send": "aiokafka",
    "kafka-python": "kafka_python",
    "oslo.messaging kafka": "notifying",
    "java perf-test": "java",
    "rdknotify info": "notifying",
    "rdknotify notify_batch": "notifying",
    "oslo.messaging info": "notifying",
    "oslo.messaging info, its defaults": "notifying",
    "rdknotify send": "notifying",
    "rdknotify send, result each": "notifying",
    "rdknotify persister": "persisting",
    "by hand": "persisting",
    "by hand, orjson": "persisting",
}

ROLES = {
    "hold": "holding",
    "produce_in_threads": "scaling",
    "share": "scaling",
    "stream": "regrouping",
    "members": "regrouping",
    "latency_send": "latency",
    "latency_receive": "latency",
}
"""Roles with a module of their own, for all clients that have them."""


def find(name: str, role: str) -> Client:
    """The function of a client; its module, and with it the peer, is imported only now."""
    roles: dict[str, dict[str, Client]] = import_module(f"benchmarks.clients.{ROLES.get(role) or MODULES[name]}").ROLES
    return roles[role][name]
