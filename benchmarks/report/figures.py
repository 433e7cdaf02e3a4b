"""Runs in groups, as medians with lowest and highest, and compared pair by pair. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from benchmarks.clients.base import Figures
from benchmarks.harness import Run

Series = Mapping[int, Figures]
"""The runs of one client, by the number of their round."""
Quantity = Callable[[Figures], float | None]
"""Something to be had from one run; nothing where the run has it not."""
MISSING = "-"


@dataclass(frozen=True)
class Spread:
    """What several runs gave."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        found = list(values)
        return cls(statistics.median(found), min(found), max(found), len(found)) if found else None

    def text(self, form: str) -> str:
        """``median (lowest to highest)``; of a single run just its value."""
        shown = f"{self.median:{form}}"
        return shown if self.runs == 1 else f"{shown} ({self.low:{form}} to {self.high:{form}})"


def spread(values: Iterable[float], form: str) -> str:
    found = Spread.of(values)
    return found.text(form) if found else MISSING


def rate(figures: Figures) -> float | None:
    """Records a second."""
    return float(figures["records"] / figures["seconds"]) if figures.get("seconds") else None


def cost(figures: Figures, of: str = "records") -> float | None:
    """CPU microseconds of the client process for each: CPU seconds for a million."""
    return float(figures["cpu"] / figures[of] * 1e6) if "cpu" in figures and figures.get(of) else None


def figure(name: str, factor: float = 1.0) -> Quantity:
    """A figure as the client put it down, in another unit."""
    return lambda figures: figures[name] * factor if figures.get(name) is not None else None


def pairs(mine: Series, theirs: Series) -> Iterator[tuple[Figures, Figures]]:
    """Runs of the same round, which were made one after the other."""
    return ((mine[number], theirs[number]) for number in sorted(mine) if number in theirs)


def ratios(mine: Series, theirs: Series, quantity: Quantity) -> list[float]:
    """This client's quantity in the other's, round by round."""
    found = [(quantity(ours), quantity(base)) for ours, base in pairs(mine, theirs)]
    return [ours / base for ours, base in found if ours is not None and base]


@dataclass(frozen=True)
class Results:
    """A benchmark's results."""

    setting: Mapping[str, object]
    runs: Sequence[Run]

    @classmethod
    def load(cls, path: Path) -> Results:
        written = json.loads(path.read_text())
        return cls(written["setting"], [Run(**run) for run in written["runs"]])

    def variants(self, measure: str) -> list[str]:
        """In the order in which they were run."""
        return list(dict.fromkeys(run.variant for run in self.runs if run.measure == measure))

    def clients(self, measure: str, variant: str | None = None) -> list[str]:
        """In the order in which they were run, of one variant or of all."""
        of = (run for run in self.runs if run.measure == measure and variant in (None, run.variant))
        return list(dict.fromkeys(run.client for run in of))

    def series(self, measure: str, variant: str, client: str) -> dict[int, Figures]:
        wanted = (measure, variant, client)
        return {run.number: run.figures for run in self.runs if (run.measure, run.variant, run.client) == wanted}

    def values(self, measure: str, variant: str, client: str, quantity: Quantity) -> list[float]:
        found = map(quantity, self.series(measure, variant, client).values())
        return [value for value in found if value is not None]

    def spread(self, measure: str, variant: str, client: str, quantity: Quantity) -> Spread | None:
        return Spread.of(self.values(measure, variant, client, quantity))

    def ratios(self, measure: str, variant: str, client: str, other: str, quantity: Quantity) -> list[float]:
        return ratios(self.series(measure, variant, client), self.series(measure, variant, other), quantity)

    def sizes(self, measure: str) -> list[tuple[str, float]]:
        """The roles and sizes of a measure of scaling."""
        return [size for variant in self.variants(measure) if (size := sized(variant))]


@dataclass(frozen=True)
class Point:
    """A measure of scaling at one size."""

    at: float
    value: Spread


FLAT = 1.25
"""A cost per record that grows by no more than this is flat: less is the noise of a shared machine."""


def sized(variant: str) -> tuple[str, float] | None:
    """``produce 1,000`` is the role and the size; None for a variant that ends in no number."""
    role, _, size = variant.replace(",", "").rpartition(" ")
    try:
        return role, float(size)
    except ValueError:
        return None


def line(results: Results, measure: str, role: str, client: str, quantity: Quantity) -> list[Point]:
    """How a quantity goes with the size, from the smallest on."""
    found = []
    for variant in results.variants(measure):
        spread = results.spread(measure, variant, client, quantity)
        if (size := sized(variant)) and size[0] == role and spread:
            found.append(Point(size[1], spread))
    return sorted(found, key=lambda point: point.at)


def rise(results: Results, measure: str, role: str, client: str, quantity: Quantity) -> Spread | None:
    """By how much it rises at most from any size to any larger one, round by round."""
    sizes = {size[1]: variant for variant in results.variants(measure) if (size := sized(variant)) and size[0] == role}
    found = []
    for small, large in combinations(sorted(sizes), 2):
        smaller, larger = (results.series(measure, sizes[size], client) for size in (small, large))
        if spread := Spread.of(ratios(larger, smaller, quantity)):
            found.append(spread)
    return max(found, key=lambda spread: spread.median, default=None)


@dataclass(frozen=True)
class Bend:
    """Where a line is not flat."""

    at: float
    factor: float
    """Of what it is at the cheaper neighbour."""
    neighbour: float


def bends(points: Sequence[Point]) -> list[Bend]:
    """The points that cost more than :data:`FLAT` times their cheaper neighbour."""
    found = []
    for index, point in enumerate(points):
        neighbours = [*points[max(0, index - 1) : index], *points[index + 1 : index + 2]]
        cheapest = min(neighbours, key=lambda other: other.value.median, default=point)
        factor = point.value.median / cheapest.value.median
        if factor > FLAT:
            found.append(Bend(point.at, factor, cheapest.at))
    return found
