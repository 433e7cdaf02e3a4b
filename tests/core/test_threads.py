"""Threads that share a producer and a consumer, for a moment; `make threads` does it for ten minutes, on real Kafka."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest

from rdknotify import Consumer, Producer
from rdknotify.testing import MockCluster
from reliability.sharing import Sharing

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_eight_threads_share_a_producer_and_a_consumer(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("shared")
    with (
        Producer(mock_cluster.url) as producer,
        Consumer(mock_cluster.url, ["shared"], "g", start="earliest") as consumer,
    ):
        counts = Sharing(producer, consumer, "shared").run(5)
    assert counts.pop("sent") > 1000
    assert counts == {
        "without a good outcome": 0,
        "lost": 0,
        "received twice": 0,
        "of unknown origin": 0,
        "failures": [],
    }


@pytest.mark.skipif(not FREE_THREADED, reason="this Python always has a GIL")
def test_a_free_threaded_python_says_that_the_gil_is_enabled() -> None:
    code = "import sys, rdknotify._rdknotify; print(sys._is_gil_enabled())"
    ended = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "True"
    assert (
        "RuntimeWarning: The global interpreter lock (GIL) has been enabled to load module 'rdknotify._rdknotify'"
        in (ended.stderr)
    )
