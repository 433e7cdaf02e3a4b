"""What the benchmarks share: real notifications, a cluster in the process, and the table of what a record costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rdknotify import Producer
from rdknotify.testing import MockCluster
from rdknotify.testing.data import nova_notifications

TOPIC = "records"
ROUNDS = 100
"""Of work that must be prepared each time."""
LONG_LINGER_MS = 10_000
"""Nothing is sent before ``flush()``: enqueueing is timed alone, and a batch stays whole on the log."""

NOVA: list[tuple[str, str, str, Any]] = [
    (nova["publisher_id"], nova["event_type"], nova["priority"].upper(), nova["payload"])
    for nova in nova_notifications()
]
"""The notifications of Nova, as :func:`~rdknotify.envelope.encode_new` takes them: 2.2 KB on the wire in the mean."""

Result = TypeVar("Result")


class Cost(NamedTuple):
    """Nanoseconds a record, over the rounds of one benchmark, and records a call."""

    name: str
    median: float
    least: float
    most: float
    records: int


COSTS = pytest.StashKey[list[Cost]]()


class Measure:
    """Times a piece of work; what it costs is told for each of its records."""

    def __init__(self, benchmark: BenchmarkFixture) -> None:
        self._benchmark = benchmark
        self._records = 0

    def __call__(self, records: int, work: Callable[[], Result]) -> Result:
        """Time ``work()`` over and over, in rounds of as many calls as the clock needs."""
        self._records = records
        result: Result = self._benchmark(work)
        return result

    def prepared(self, records: int, prepare: Callable[[], object], work: Callable[[], object]) -> None:
        """Time one ``work()`` a round, after a ``prepare()`` that is not timed."""
        self._records = records
        self._benchmark.pedantic(work, setup=prepare, rounds=ROUNDS, warmup_rounds=3)  # type: ignore[no-untyped-call]

    def cost(self) -> Cost | None:
        """What was measured, also put into the JSON; None if nothing was (``--benchmark-disable``, a failure)."""
        if self._benchmark.stats is None or self._benchmark.has_error:
            return None
        stats = self._benchmark.stats.stats
        median, least, most = (seconds / self._records * 1e9 for seconds in (stats.median, stats.min, stats.max))
        self._benchmark.extra_info.update(records=self._records, ns_per_record=median)
        return Cost(self._benchmark.fullname, median, least, most, self._records)


@pytest.fixture
def measure(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Iterator[Measure]:
    measure = Measure(benchmark)
    yield measure
    if cost := measure.cost():
        request.config.stash.setdefault(COSTS, []).append(cost)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    costs = config.stash.get(COSTS, [])
    if not costs:
        return
    width = max(len(cost.name) for cost in costs)
    terminalreporter.section("ns a record: median, least, most of the rounds")
    terminalreporter.line(f"{'':{width}}{'median':>10}{'least':>10}{'most':>12}{'records a call':>16}")
    for name, median, least, most, records in costs:
        terminalreporter.line(f"{name:{width}}{median:10,.0f}{least:10,.0f}{most:12,.0f}{records:16,}")


@pytest.fixture(scope="session")
def mock() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create_topic(TOPIC)
        yield cluster


@pytest.fixture
def producer(mock: MockCluster) -> Iterator[Producer]:
    """Sends nothing before ``flush()``."""
    with Producer(mock.url, config={"linger.ms": LONG_LINGER_MS}) as producer:
        producer.send(TOPIC, b"the first finds the leaders")
        producer.flush(10)
        yield producer
