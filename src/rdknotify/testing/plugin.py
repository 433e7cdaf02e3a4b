"""Fixtures for tests that talk to Kafka.

``pytest_plugins = ["rdknotify.testing.plugin"]`` in the top conftest.py makes them known. A test that uses
``kafka``, ``kafka3`` or ``kafka_secure`` carries the marker ``broker``: ``pytest -m "not broker"`` runs without Java.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator

import pytest

from rdknotify.testing.jars import LocalKafkaError
from rdknotify.testing.local import LocalKafka
from rdknotify.testing.mock import MockCluster
from rdknotify.testing.proxies import ToxiproxyError
from rdknotify.testing.running import RUNNING_KAFKA, RunningKafka

_REAL = {"kafka", "kafka3", "kafka_secure"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "broker: needs real Kafka; follows from the fixtures kafka...")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _REAL & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.broker)


@pytest.fixture
def mock_cluster() -> Iterator[MockCluster]:
    """An embedded mock of one broker, new for each test."""
    with MockCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka_session() -> Iterator[LocalKafka | RunningKafka]:
    """The cluster behind ``kafka``: the running one that the environment names, else one node of our own."""
    cluster = RunningKafka() if os.environ.get(RUNNING_KAFKA) else LocalKafka()
    with _started(cluster):
        yield cluster


@pytest.fixture(scope="session")
def kafka3_session() -> Iterator[LocalKafka]:
    """The cluster behind ``kafka3``, started when the first test wants it."""
    cluster = LocalKafka(nodes=3, proxied=True)
    with _started(cluster):
        yield cluster


@pytest.fixture(scope="session")
def kafka_secure_session() -> Iterator[LocalKafka]:
    """The cluster behind ``kafka_secure``, started when the first test wants it."""
    cluster = LocalKafka(security=True)
    with _started(cluster):
        yield cluster


@pytest.fixture
def kafka(kafka_session: LocalKafka | RunningKafka) -> LocalKafka | RunningKafka:
    """Real Kafka, one node, up; shared by all tests. A test may kill it where ``kafka.managed``."""
    kafka_session.heal()
    return kafka_session


@pytest.fixture
def kafka3(kafka3_session: LocalKafka) -> LocalKafka:
    """Real Kafka, three nodes of our own, all up and in sync; shared by all tests, which may kill any."""
    kafka3_session.heal()
    return kafka3_session


@pytest.fixture
def kafka3_proxied(kafka3: LocalKafka) -> Iterator[LocalKafka]:
    """The same with its proxies, which were fetched if need be and are let be at the end: see ``proxied_url``."""
    try:
        proxies = kafka3.proxies
    except ToxiproxyError as error:
        pytest.fail(str(error), pytrace=False)
    yield kafka3
    proxies.heal()


@pytest.fixture
def kafka_secure(kafka_secure_session: LocalKafka) -> LocalKafka:
    """Real Kafka, one node of our own with all secure listeners (``kafka_secure.security``); shared by all tests."""
    kafka_secure_session.heal()
    return kafka_secure_session


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic name that nobody used before; create it, or let it come into being when first used."""
    return _fresh(request)


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    """A consumer group that nobody used before."""
    return _fresh(request)


def _fresh(request: pytest.FixtureRequest) -> str:
    # Leaves room for the suffixes of priorities, virtual hosts and retries in Kafka's 249 characters.
    test = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name).strip("-")
    return f"{test[:60]}-{uuid.uuid4().hex[:8]}"


def _started(cluster: LocalKafka | RunningKafka) -> LocalKafka | RunningKafka:
    try:
        cluster.start()
    except LocalKafkaError as error:
        pytest.fail(str(error), pytrace=False)
    return cluster
