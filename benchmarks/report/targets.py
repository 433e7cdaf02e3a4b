"""The targets P1 to P9 as data, each with how it is had from the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

from benchmarks.clients import LIMIT, OURS
from benchmarks.report.figures import (
    FLAT,
    MISSING,
    Quantity,
    Results,
    Spread,
    cost,
    figure,
    rate,
    rise,
)

Measured = Callable[[Results], Spread | None]


@dataclass(frozen=True)
class Target:
    number: str
    """``P1`` to ``P9``; a number has several targets."""
    what: str
    sign: str
    """``>=`` or ``<=``."""
    bound: float
    measured: Measured
    form: str = ".2f"
    unit: str = "x"

    def met(self, found: Spread) -> bool:
        """By the median."""
        return found.median >= self.bound if self.sign == ">=" else found.median <= self.bound


@dataclass(frozen=True)
class Row:
    """A target beside what was measured, as text."""

    number: str
    what: str
    measured: str
    target: str
    met: str
    """``yes``, ``no`` or ``not measured``."""

    @property
    def cells(self) -> tuple[str, ...]:
        return self.number, self.what, self.measured, self.target, self.met


HEAD = ("", "what", "measured", "target", "met")


def rows(results: Results) -> Iterator[Row]:
    """Every target, in order."""
    for target in TARGETS:
        found = target.measured(results)
        shown = f"{found.text(target.form)} {target.unit}" if found else MISSING
        bound = f"{target.sign} {target.bound:{target.form}} {target.unit}"
        met = ("yes" if target.met(found) else "no") if found else "not measured"
        yield Row(target.number, target.what, shown, bound, met)


def to(other: str, measure: str, variant: str, quantity: Quantity = rate, client: str = OURS) -> Measured:
    """Ours in the other's, round by round."""
    return lambda results: Spread.of(results.ratios(measure, variant, client, other, quantity))


def of(measure: str, variant: str | None, quantity: Quantity, client: str = OURS) -> Measured:
    """One client by itself, in the first variant unless one is named."""

    def measured(results: Results) -> Spread | None:
        found = [variant] if variant is not None else results.variants(measure)[:1]
        return results.spread(measure, found[0], client, quantity) if found else None

    return measured


BATCHES, CALLBACKS, CONSUMED = "confluent produce_batch", "confluent produce", "confluent consume"
DEFAULTS, GETMANY = "confluent consume, its defaults", "aiokafka"
INFO, BULK, OSLO = "rdknotify info", "rdknotify notify_batch", "oslo.messaging info"
SEND, WAITED_FOR = "rdknotify send", "rdknotify send, result each, linger {} ms"
HANDLED, BY_HAND = "rdknotify notifications", "by hand"
PAPER = 50_000
"""Records of 200 bytes a second, one by one, in Kafka's paper (NetDB 2011); 400,000 in batches of 50."""
NEAR = 0.9
STAYS = 1.02
"""Memory that grows by no more than this, while nothing moves, does not grow."""


def _produced() -> Iterator[Target]:
    bounds = {LIMIT: (0.9, 1.15), BATCHES: (1.4, 0.4), CALLBACKS: (1.8, 0.3)}
    for other, (least, _) in bounds.items():
        yield Target("P1", f"produce: rate to {other}", ">=", least, to(other, "produce", "none"))
    for other, (_, most) in bounds.items():
        yield Target("P1", f"produce: CPU a record to {other}", "<=", most, to(other, "produce", "none", cost))


def _beside_a_busy_thread() -> Iterator[Target]:
    yield Target("P2", f"busy thread, flat out: rate to {BATCHES}", ">=", 3, to(BATCHES, "busy", "flat out"))
    kept = of("busy", "50000/s", figure("kept", 100))
    yield Target("P2", "busy thread, 50,000/s: of its speed it keeps", ">=", 97, kept, ".1f", "%")


def _consumed() -> Iterator[Target]:
    bounds = {LIMIT: 0.9, CONSUMED: 4, DEFAULTS: 4, GETMANY: 3}
    for other, least in bounds.items():
        yield Target("P3", f"consume: rate to {other}", ">=", least, to(other, "consume", "none"))
    yield Target("P3", f"consume: CPU a record to {CONSUMED}", "<=", 0.65, to(CONSUMED, "consume", "none", cost))


def _notified() -> Iterator[Target]:
    for payload in ("237 bytes", "nova"):
        for other in (OSLO, f"{OSLO}, its defaults"):
            yield Target("P4", f"info, {payload}: rate to {other}", ">=", 8, to(other, "notify", payload, client=INFO))
    one_by_one, bulk = (of("notify", "200 bytes", rate, client) for client in (INFO, BULK))
    yield Target("P4", "info, 200 bytes: 4 times Kafka's paper", ">=", 4 * PAPER, one_by_one, ",.0f", "/s")
    yield Target("P4", "notify_batch of 50, 200 bytes: near Kafka's paper", ">=", NEAR * 8 * PAPER, bulk, ",.0f", "/s")
    for linger in (0, 5):
        other = WAITED_FOR.format(linger)
        times = to(other, "synchronous", "", client=SEND)
        yield Target("P5", f"asynchronous to synchronous, linger {linger} ms", ">=", 50, times, ".0f")


def _handled() -> Iterator[Target]:
    late, idle = (
        of("latency", variant, figure(share), HANDLED) for variant, share in (("10000/s", "p99"), ("idle", "p50"))
    )
    yield Target("P6", "notification handled, 10,000/s: p99", "<=", 10, late, ".1f", "ms")
    yield Target("P6", "notification handled, idle: p50", "<=", 3, idle, ".1f", "ms")


def _stored() -> Iterator[Target]:
    for database in ("SQLite", "PostgreSQL"):
        for other in (BY_HAND, f"{BY_HAND}, orjson"):
            yield Target("P7", f"Kafka to {database}: rate to {other}", ">=", 2, to(other, "persisting", database))


def _kept_in_memory() -> Iterator[Target]:
    held = of("memory", None, lambda figures: figures["after_hold"] / figures["after_fill"])
    yield Target("P8", "memory, broker down: a minute after the fill to just after it", "<=", STAYS, held)


def _scaled() -> Iterator[Target]:
    for measure in ("topics", "partitions", "payload", "batch"):
        for role in ("produce", "consume"):
            each = "byte" if measure == "payload" else "record"
            risen = partial(rise, measure=measure, role=role, client=OURS, quantity=partial(cost, of=f"{each}s"))
            yield Target("P9", f"{measure}, {role}: CPU a {each}, at most to that at a smaller size", "<=", FLAT, risen)


TARGETS = tuple(
    chain(
        _produced(),
        _beside_a_busy_thread(),
        _consumed(),
        _notified(),
        _handled(),
        _stored(),
        _kept_in_memory(),
        _scaled(),
    )
)
