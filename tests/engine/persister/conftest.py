"""Fixtures of the tests of persisters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.persisting import TOPIC

from rdknotify.producer import Producer
from rdknotify.testing import MockCluster


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create_topic(TOPIC, partitions=2)
        yield cluster


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


@pytest.fixture
def producer(cluster: MockCluster) -> Iterator[Producer]:
    with Producer(cluster.url) as producer:
        yield producer
