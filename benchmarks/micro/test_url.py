"""A transport URL: read, and made into a client's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from rdknotify.options import resolve
from rdknotify.url import TransportURL

if TYPE_CHECKING:
    from benchmarks.micro.conftest import Measure

URLS = {
    "short": "kafka://localhost:9092",
    "long": (
        "rdkafka://nova:s3cr%40t@kafka1.example:9093,kafka2.example:9093,[2001:db8::3]:9093/nova"
        "?security_protocol=SASL_SSL&sasl_mechanism=SCRAM-SHA-512&linger.ms=20"
    ),
}


@pytest.mark.parametrize("name", URLS)
def test_parse(measure: Measure, name: str) -> None:
    text = URLS[name]
    url = measure(1, lambda: TransportURL.parse(text))
    assert len(url.hosts) == (3 if name == "long" else 1)


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_resolve(measure: Measure, role: Literal["producer", "consumer"], name: str) -> None:
    url = TransportURL.parse(URLS[name])
    settings = measure(1, lambda: resolve(url, role))
    assert settings.conf["bootstrap.servers"] == url.bootstrap_servers
