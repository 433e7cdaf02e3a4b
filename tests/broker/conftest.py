"""Fixtures of the tests on real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.oslo_services import Services


@pytest.fixture
def oslo(kafka, tmp_path: Path) -> Iterator[Services]:
    """Services on oslo.messaging; skips where that is not installed."""
    from support.oslo_services import Services

    services = Services(kafka, tmp_path)
    yield services
    if kafka.managed:
        kafka.heal()  # what ends now may have something to deliver
    services.close()
