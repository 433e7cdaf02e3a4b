"""What is measured: functions of a :class:`~benchmarks.harness.Stage`, in the order of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from benchmarks.harness import Stage

Measure = Callable[[Stage], None]

MODULES = ("throughput", "busy", "notifying", "latency", "persisting", "scaling", "memory", "rebalance")
"""Those with a function ``measure``."""


def load(name: str) -> Measure:
    """The measure of this name, which is its module's."""
    measure: Measure = import_module(f"benchmarks.measures.{name}").measure
    return measure
