"""What a test or a run has seen: figures with their targets, as JSON in build/reliability."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from benchmarks.machine import describe

BUILD = Path(__file__).parent.parent / "build/reliability"
TESTS = BUILD / "tests.json"
"""``{row: {what: Figure as dictionary, and "test"}}``, of every test that ever ran in this tree."""


@dataclass(frozen=True)
class Figure:
    """Something measured. Without bounds it is only reported. ``error``: its standard error."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    error: float | None = None

    @property
    def target(self) -> str:
        if self.at_most == 0 and self.at_least is None:
            return "exactly 0"
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{word} {bound:,g}" for word, bound in bounds if bound is not None)

    @property
    def met(self) -> bool:
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def seen(self) -> str:
        value = f"{self.value:,.0f}" if self.value == int(self.value) else f"{self.value:,.3g}"
        spread = "" if self.error is None else f" ± {self.error:,.2g}"
        return f"{value}{spread} {self.unit}".strip()


@dataclass
class Report:
    """One long run: its ``name`` is its row of the page and its file, ``command`` makes it again."""

    name: str
    what: str
    command: str
    figures: list[Figure] = field(default_factory=list)
    setting: dict[str, object] = field(default_factory=describe)
    began: float = field(default_factory=time.monotonic)

    def figure(
        self,
        what: str,
        value: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        error: float | None = None,
    ) -> None:
        self.figures.append(Figure(what, value, unit, at_most, at_least, error))

    @property
    def passed(self) -> bool:
        """Something was measured, and every target was met."""
        return bool(self.figures) and all(figure.met for figure in self.figures)

    def publish(self) -> int:
        """Write ``build/reliability/NAME.json``, show the figures; returns the exit status."""
        BUILD.mkdir(parents=True, exist_ok=True)
        path = BUILD / f"{self.name}.json"
        told = asdict(self) | {"seconds": round(time.monotonic() - self.began), "passed": self.passed}
        del told["began"]
        path.write_text(json.dumps(told, indent=1))
        for figure in self.figures:
            target = f" ({figure.target})" * bool(figure.target)
            click.echo(f"{'    ' if figure.met else 'MISS'} {figure.what}: {figure.seen}{target}")
        click.echo(f"{self.name} {'passed' if self.passed else 'FAILED'}: {path}")
        return 0 if self.passed else 1
