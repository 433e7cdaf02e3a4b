"""What processes hold, sampled over a run, and whether it grows: a line through the samples, with its error."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil

from reliability.crew import Client

HOUR = 3600.0


@dataclass(frozen=True)
class Slope:
    """What is gained an hour, and the standard error of that."""

    per_hour: float
    error: float


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Of the line with the least squares; times in seconds. Needs three samples."""
    line = statistics.linear_regression(times, values)
    middle = statistics.fmean(times)
    around = sum((time - middle) ** 2 for time in times)
    rest = sum((value - line.slope * time - line.intercept) ** 2 for time, value in zip(times, values, strict=True))
    return Slope(line.slope * HOUR, math.sqrt(rest / (len(times) - 2) / around) * HOUR)


class Samples:
    """Of each client resident memory (MB), file descriptors and threads."""

    COLUMNS = ("MB of resident memory", "file descriptors", "threads")

    def __init__(self) -> None:
        self._taken: dict[str, list[tuple[float, ...]]] = defaultdict(list)

    @property
    def names(self) -> list[str]:
        return list(self._taken)

    def take(self, now: float, of: str, clients: Iterable[Client]) -> None:
        """Look at those that run, whose names are told after ``of``; ``now`` in seconds."""
        for client in clients:
            try:
                process = psutil.Process(client.pid)
                with process.oneshot():
                    memory = process.memory_info().rss / 1e6
                    self._taken[f"{of} {client.name}"].append((now, memory, process.num_fds(), process.num_threads()))
            except psutil.NoSuchProcess:
                continue

    def slope(self, name: str, column: str, since: float) -> Slope | None:
        """How much a client gains; None where there are too few samples since then."""
        place = self.COLUMNS.index(column) + 1
        taken = [sample for sample in self._taken[name] if sample[0] >= since]
        return slope([each[0] for each in taken], [each[place] for each in taken]) if len(taken) > 2 else None

    def last(self, name: str, column: str) -> float:
        return self._taken[name][-1][self.COLUMNS.index(column) + 1]
