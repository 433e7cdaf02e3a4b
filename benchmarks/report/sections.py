"""The parts of the report, each with its tables and plots; a measure that was not made has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import matplotlib as mpl

from benchmarks.clients import LIMIT, OURS
from benchmarks.report import plots
from benchmarks.report.figures import (
    FLAT,
    MISSING,
    Quantity,
    Results,
    bends,
    cost,
    figure,
    line,
    rate,
    sized,
    spread,
)
from benchmarks.report.plots import COSTS, RATES, Axis
from benchmarks.setting import BATCH, LINGER_MS, PARTITIONS, SIZE

MB = 1e-6


@dataclass(frozen=True)
class Table:
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    tables: list[Table] = field(default_factory=list)
    plots: dict[str, bytes] = field(default_factory=dict)
    """PNG by name."""


@dataclass(frozen=True)
class Column:
    """What is shown of each client; a column that nobody has is left out."""

    title: str
    quantity: Quantity
    form: str


@dataclass(frozen=True)
class Beside:
    """A measure of clients beside one another."""

    measure: str
    title: str
    text: str
    mine: str = OURS
    """Whose rate is compared with everybody's."""
    columns: tuple[Column, ...] = ()
    axes: tuple[Axis, ...] = (RATES, COSTS)


@dataclass(frozen=True)
class Plain:
    """A measure of which only figures are shown."""

    measure: str
    title: str
    text: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Scaled:
    """A measure of one size that grows."""

    measure: str
    title: str
    size: str
    axis: Axis = COSTS


SPEED = (Column(RATES.title, RATES.quantity, ",.0f"), Column(COSTS.title, COSTS.quantity, ".2f"))
PEAK = Column("peak memory, MB", figure("peak", MB), ",.0f")
KEPT = Axis("of its speed the busy thread keeps, %", figure("kept", 100))

SETTING = (
    f"{SIZE}-byte records, {BATCH:,} a call, acks=all, idempotent, linger {LINGER_MS} ms, {PARTITIONS} partitions; "
    "the broker shares the CPUs"
)

BESIDE = (
    Beside(
        "produce",
        "Producing",
        f"{SETTING}. Timed until the last outcome is known; what is on the log is counted.",
        columns=(PEAK,),
    ),
    Beside("consume", "Consuming", "A backlog, values read as bytes; timed until the last was read.", columns=(PEAK,)),
    Beside(
        "busy",
        "Beside a busy thread",
        "A thread counts in pure Python in the client's process; it keeps some of the speed that it has alone. The "
        "broker takes its part, too: without CPU is the part of the time in which others had all of them.",
        columns=(
            Column(KEPT.title, KEPT.quantity, ".1f"),
            Column("it was without CPU, %", figure("starved", 100), ".1f"),
            Column("behind schedule, s", figure("behind"), ".2f"),
        ),
        axes=(RATES, KEPT),
    ),
    Beside(
        "notify",
        "Notifications",
        "Sent, delivered, read back. Kafka's paper (2011) has 50,000/s one by one, 400,000/s in batches of 50.",
        mine="rdknotify info",
    ),
    Beside(
        "synchronous",
        "Asynchronous and synchronous",
        "`send` with the outcome looked at once it is there, and `send` with `result` each.",
        mine="rdknotify send",
    ),
    Beside("persisting", "Into a database", "From Kafka into a table, beside the same loop written by hand."),
)
LATENCY = Plain(
    "latency",
    "Latency",
    "Sent at a fixed rate whatever happens (open loop); from the moment at which a record was due to the one at which "
    "it is handled, so that what had to wait for its turn counts (no coordinated omission).",
    tuple(Column(f"{name}, ms", figure(name), ".2f") for name in ("p50", "p99", "p99.9", "max")),
)
MEMORY = Plain(
    "memory",
    "Memory while the broker is down",
    "100,000 records in flight, then a minute in which nothing is taken and more is tried: all of that is refused.",
    (
        Column("before, MB", figure("before", MB), ",.1f"),
        Column("filled, MB", figure("after_fill", MB), ",.1f"),
        Column("a minute later, MB", figure("after_hold", MB), ",.1f"),
        Column("growth, MB", figure("growth", MB), ",.1f"),
        Column("bytes a record", figure("each"), ",.0f"),
        Column("refused", figure("refused"), ",.0f"),
    ),
)
REBALANCE = Plain(
    "rebalance",
    "Rebalances",
    "64 partitions, 2,000 records a second, a commit for each batch; to so many members one joins, one leaves, one "
    "is killed. A partition pauses when it brings nothing although something was sent; a record is late after 0.1 s. "
    "Lost are those that no member handled; nothing: two seconds without an event, for comparison.",
    (
        Column("assignment settled, s", figure("settled"), ".2f"),
        Column("longest pause, s", figure("pause"), ".2f"),
        Column("paused over 0.1 s, partitions", figure("paused"), ".0f"),
        Column("records late", figure("delayed"), ",.0f"),
        Column("of", figure("records"), ",.0f"),
        Column("handled twice", figure("duplicates"), ",.0f"),
        Column("lost", figure("lost"), ",.0f"),
    ),
)
BYTES = Axis(
    "client CPU, ns a byte",
    lambda figures: None if (found := cost(figures, of="bytes")) is None else found * 1e3,
)
SCALED = (
    Scaled("topics", "Topics", "topics"),
    Scaled("partitions", "Partitions", "partitions"),
    Scaled("payload", "Payload", "bytes a record", BYTES),
    Scaled("batch", "Batch", "records a call"),
    Scaled("threads", "Producing threads", "threads", RATES),
    Scaled("members", "Members of a group", "members", RATES),
    Scaled("in flight", "Records in flight", "records in flight"),
)


def build(results: Results) -> list[Section]:
    """Those of which there is anything."""
    with mpl.rc_context(fname=plots.STYLE):
        made = [
            *(_beside(results, measure) for measure in BESIDE),
            _plain(results, LATENCY, latency=plots.latency(results)),
            *(_scaled(results, measure) for measure in SCALED),
            _plain(results, MEMORY),
            _plain(results, REBALANCE),
        ]
    return [section for section in made if section.tables]


def _beside(results: Results, measure: Beside) -> Section:
    name = measure.measure
    drawn = {
        slug(f"{name} {variant}"): plots.bars(results, name, variant, measure.axes)
        for variant in results.variants(name)
    }
    shown = _table(results, name, (*SPEED, *measure.columns), measure.mine)
    return Section(measure.title, measure.text, shown, _present(drawn))


def _plain(results: Results, measure: Plain, **drawn: bytes | None) -> Section:
    return Section(measure.title, measure.text, _table(results, measure.measure, measure.columns), _present(drawn))


def _scaled(results: Results, measure: Scaled) -> Section:
    name = measure.measure
    drawn = plots.scaling(results, name, measure.axis, measure.size)
    roles = dict.fromkeys(role for role, _ in results.sizes(name))
    shown = [_by_size(results, name, role, measure) for role in roles]
    text = " ".join(sentence for role in roles for sentence in _bends(results, role, measure))
    return Section(measure.title, text, shown, _present({slug(name): drawn}))


def _bends(results: Results, role: str, measure: Scaled) -> Iterator[str]:
    """Where the cost of ours is not flat."""
    points = line(results, measure.measure, role, OURS, measure.axis.quantity)
    if measure.axis is not RATES and len(points) > 1:
        found = [f"{bend.factor:.2f} times at {bend.at:,.0f} as at {bend.neighbour:,.0f}" for bend in bends(points)]
        flat = f"nowhere more than {FLAT} times a neighbour's"
        yield f"{role}: the cost of {OURS} is {', '.join(found) or flat}."


def _by_size(results: Results, name: str, role: str, measure: Scaled) -> Table:
    of_role = [variant for variant in results.variants(name) if (size := sized(variant)) and size[0] == role]
    clients = [
        client for client in results.clients(name) if any(client in results.clients(name, one) for one in of_role)
    ]
    rows = [
        (variant.removeprefix(f"{role} "), *(_cell(results, name, variant, client) for client in clients))
        for variant in of_role
    ]
    return Table((f"{role}: {measure.size}", *clients), rows)


def _cell(results: Results, name: str, variant: str, client: str) -> str:
    speed = results.spread(name, variant, client, rate)
    paid = results.spread(name, variant, client, cost)
    return f"{speed.median / 1e3:,.0f} k/s, {paid.median:.2f} µs" if speed and paid else MISSING


def _table(results: Results, measure: str, columns: tuple[Column, ...], mine: str | None = None) -> list[Table]:
    """A row for each client of each variant; with ``mine``, its rate and the limit's beside all, pair by pair."""
    variants = results.variants(measure)
    keys = [(variant, client) for variant in variants for client in results.clients(measure, variant)]
    if not keys:
        return []
    shown = [column for column in columns if any(results.values(measure, *key, column.quantity) for key in keys)]
    bases = [base for base in (LIMIT, mine) if base and mine and any(client == base for _, client in keys)]
    head = [*([measure] if any(variants) else []), "client", *(column.title for column in shown)]
    head += [f"rate to {base}" if base == LIMIT else f"rate of {base} to this" for base in bases]
    rows = []
    for variant, client in keys:
        cells = [spread(results.values(measure, variant, client, one.quantity), one.form) for one in shown]
        cells += [_to(results, measure, variant, client, base) for base in bases]
        rows.append((*([variant] if any(variants) else []), client, *cells))
    return [Table(tuple(head), rows)]


def _to(results: Results, measure: str, variant: str, client: str, base: str) -> str:
    if client == base:
        return MISSING
    ours, other = (client, base) if base == LIMIT else (base, client)
    return spread(results.ratios(measure, variant, ours, other, rate), ".2f")


def _present(drawn: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: png for name, png in drawn.items() if png}


def slug(text: str) -> str:
    """Fit for a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
