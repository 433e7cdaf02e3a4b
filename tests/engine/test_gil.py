"""A thread of pure Python beside one that sends and polls: how long it stands still."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import pytest
from support.figures import Figures

from rdknotify import Consumer, Notifier, Producer
from rdknotify.testing.mock import MockCluster

ROUNDS, SECONDS = 5, 0.2
"""The machine may hold the thread up as well, though not in every round: the round with the shortest stall counts."""
BULK = 2000
VALUE = b"v" * 200


def waited_for_a_core(file: int) -> float:
    """Seconds that a thread was ready and the system had none for it. Keeps the GIL, as a call of ``os`` would not."""
    buffer = ctypes.create_string_buffer(100)
    ctypes.pythonapi.pread(file, buffer, len(buffer), 0)
    return int(buffer.value.split()[1]) / 1e9


def longest_stall(work: Callable[[], object]) -> float:
    """Milliseconds between two steps of a busy thread while another one works, at the longest."""
    worst, over = 0.0, threading.Event()

    def spin() -> None:
        nonlocal worst
        with open("/proc/thread-self/schedstat", "rb") as waits:
            last, waited = time.perf_counter(), waited_for_a_core(waits.fileno())
            while not over.is_set():
                now, wait = time.perf_counter(), waited_for_a_core(waits.fileno())
                worst = max(worst, now - last - (wait - waited))
                last, waited = now, wait

    thread = threading.Thread(target=spin)
    thread.start()
    until = time.monotonic() + SECONDS
    try:
        while time.monotonic() < until:
            work()
    finally:
        over.set()
        thread.join()
    return worst * 1000


@pytest.fixture
def url(mock_cluster: MockCluster) -> str:
    mock_cluster.create_topic("records", partitions=4)
    mock_cluster.create_topic("notifications.info", partitions=4)
    return mock_cluster.url


def test_sending_and_polling_let_other_threads_work(url: str, figure: Figures) -> None:
    with Producer(url) as producer, Notifier(url, "n") as notifier, Consumer(url, ["records"], "g") as consumer:
        producer.send_batch("records", [VALUE] * BULK).result(10)

        def consume() -> None:
            batch = consumer.poll(BULK, 0.1)
            batch.values()
            batch.commit()

        works: dict[str, Callable[[], object]] = {
            "nothing else": lambda: time.sleep(0.01),
            f"send_batch of {BULK:,} and their outcomes": lambda: producer.send_batch("records", [VALUE] * BULK).result(
                10
            ),
            "notifications one by one": lambda: notifier.info({}, "t", {"n": 1}),
            "notify_batch of 500": lambda: notifier.notify_batch("info", [("t", {"n": 1})] * 500).result(10),
            f"poll of up to {BULK:,}, values() and commit": consume,
        }
        stalls = {name: min(longest_stall(work) for _ in range(ROUNDS)) for name, work in works.items()}
    control = max(longest_stall(lambda: sum(range(5_000_000))) for _ in range(ROUNDS))  # it can be seen
    figure("F22", "control, longest stall beside: one call in C that keeps the GIL", control, "ms", at_least=10)
    for name, milliseconds in stalls.items():
        figure("F22", f"longest stall beside: {name}", milliseconds, "ms", at_most=10)
