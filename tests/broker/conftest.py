"""Fixtures of the tests on real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.main_job import Kafka, Sender
    from support.oslo_services import Services

    from reliability.crew import Crew


@pytest.fixture
def oslo(kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """Services on oslo.messaging; skips where that is not installed."""
    from support.oslo_services import Services

    # An idle thread of oslo.messaging's executor looks once a second whether it shall end.
    monkeypatch.setattr("futurist._thread.ThreadWorker.MAX_IDLE_FOR", 0.1)
    services = Services(kafka, tmp_path)
    yield services
    if kafka.managed:
        kafka.heal()  # what ends now may have something to deliver
    services.close()


@pytest.fixture
def sender(kafka: Kafka, topic: str) -> Iterator[Sender]:
    """Sends Nova's notifications to 8 partitions and keeps their ids."""
    from support.main_job import Sender

    sender = Sender(kafka, topic)
    yield sender
    sender.close()


@pytest.fixture
def crew(request: pytest.FixtureRequest, topic: str, tmp_path: Path) -> Iterator[Crew]:
    """Clients, in processes of their own, of a topic of six partitions on the cluster that the test asks for."""
    from reliability.crew import Crew

    kafka = request.getfixturevalue("kafka3" if "kafka3" in request.fixturenames else "kafka")
    with Crew(kafka, topic, tmp_path / "crew") as crew:
        kafka.create_topic(crew.topic, 6)
        yield crew
