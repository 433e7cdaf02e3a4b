"""Kafka for tests, yours and ours: an embedded mock, a real cluster on this machine, one that runs already.

All three have ``bootstrap_servers``, ``url`` and ``create_topic``;
``pytest_plugins = ["rdknotify.testing.plugin"]`` has them as fixtures. And a PostgreSQL server, for what a persister
stores in; faults of network, nodes and processes: ``rdknotify.testing.faults``. The names are loaded on first use:
``rdknotify.testing.checker`` needs neither the extension nor Kafka.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdknotify.testing.jars import LocalKafkaError
    from rdknotify.testing.local import LocalKafka
    from rdknotify.testing.mock import MockCluster
    from rdknotify.testing.postgres import LocalPostgres, LocalPostgresError
    from rdknotify.testing.proxies import Proxies, ToxiproxyError
    from rdknotify.testing.running import RunningKafka
    from rdknotify.testing.security import Security

__all__ = [
    "LocalKafka",
    "LocalKafkaError",
    "LocalPostgres",
    "LocalPostgresError",
    "MockCluster",
    "Proxies",
    "RunningKafka",
    "Security",
    "ToxiproxyError",
]

_HOME_OF = {
    "LocalKafka": "local",
    "LocalKafkaError": "jars",
    "LocalPostgres": "postgres",
    "LocalPostgresError": "postgres",
    "MockCluster": "mock",
    "Proxies": "proxies",
    "RunningKafka": "running",
    "Security": "security",
    "ToxiproxyError": "proxies",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rdknotify.testing' has no attribute {name!r}")
    value = getattr(import_module(f"rdknotify.testing.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
