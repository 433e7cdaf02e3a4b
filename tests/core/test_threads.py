"""Threads that share a producer and a consumer, for a moment; `make threads` does it for ten minutes, on real Kafka."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter

import pytest

from rdknotify import Consumer, Producer
from rdknotify.testing import MockCluster
from reliability.sharing import Sharing

AGAIN = 0.01
"""The share of the records that may come twice: polls and pauses take turns, but on a busy machine a few still do."""
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_eight_threads_share_a_producer_and_a_consumer(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("shared")
    with (
        Producer(mock_cluster.url) as producer,
        Consumer(mock_cluster.url, ["shared"], "g", start="earliest") as consumer,
    ):
        counts = Sharing(producer, consumer, "shared").run(5)
    sent = counts.pop("sent")
    assert sent > 1000
    assert counts.pop("received twice") <= sent * AGAIN  # of its pauses
    assert counts == {
        "without a good outcome": 0,
        "lost": 0,
        "of unknown origin": 0,
        "failures": [],
    }


def test_a_pause_beside_a_poll_loses_none_and_brings_few_twice(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("shared")
    with (
        Producer(mock_cluster.url) as producer,
        Consumer(mock_cluster.url, ["shared"], "g", start="earliest") as consumer,
    ):
        ended = threading.Event()

        def pause() -> None:
            while not ended.wait(0.001):
                consumer.pause()
                consumer.resume()

        thread = threading.Thread(target=pause)
        thread.start()
        sent, taken, deadline = 0, Counter[bytes | None](), time.monotonic() + 60
        try:
            while (sent < 40_000 or len(taken) < sent) and time.monotonic() < deadline:
                if sent < 40_000:
                    producer.send_batch("shared", [b"%d" % (sent + number) for number in range(100)])
                    sent += 100
                taken.update(consumer.poll(500, 0.05).values())
        finally:
            ended.set()
            thread.join()
    assert len(taken) == sent == 40_000
    assert sum(taken.values()) <= sent * (1 + AGAIN)


@pytest.mark.skipif(not FREE_THREADED, reason="this Python always has a GIL")
def test_a_free_threaded_python_says_that_the_gil_is_enabled() -> None:
    code = "import sys, rdknotify._rdknotify; print(sys._is_gil_enabled())"
    ended = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "True"
    assert (
        "RuntimeWarning: The global interpreter lock (GIL) has been enabled to load module 'rdknotify._rdknotify'"
        in (ended.stderr)
    )
