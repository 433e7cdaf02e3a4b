"""Kafka for tests, yours and ours: an embedded mock, a real cluster on this machine, one that runs already.

All three have ``bootstrap_servers``, ``url`` and ``create_topic``;
``pytest_plugins = ["rdknotify.testing.plugin"]`` has them as fixtures. And a PostgreSQL server, for what a persister
stores in.
"""

from rdknotify.testing.jars import LocalKafkaError
from rdknotify.testing.local import LocalKafka
from rdknotify.testing.mock import MockCluster
from rdknotify.testing.postgres import LocalPostgres, LocalPostgresError
from rdknotify.testing.running import RunningKafka

__all__ = ["LocalKafka", "LocalKafkaError", "LocalPostgres", "LocalPostgresError", "MockCluster", "RunningKafka"]
