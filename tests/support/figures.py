"""Figures that tests measure, kept for docs/reliability.md: each is recorded first, then held against its target."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

FIGURES = Path(__file__).parents[2] / "build/reliability/tests.json"
"""``{row: {what: {"value", "unit", "target", "test"}}}``, of every test that ever ran in this tree."""


class Figures:
    """Call it with a row of the page, what was measured, the value and its unit; fails when the target is missed."""

    def __init__(self, test: str) -> None:
        self._test = test
        self.seen: dict[str, dict[str, dict[str, object]]] = {}

    def __call__(
        self,
        row: str,
        what: str,
        value: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        bounds = [f"at least {at_least:g}"] * (at_least is not None) + [f"at most {at_most:g}"] * (at_most is not None)
        target = "exactly 0" if at_most == 0 and at_least is None else ", ".join(bounds)
        entry = {"value": value, "unit": unit, "target": target, "test": self._test}
        self.seen.setdefault(row, {})[what] = entry
        assert at_most is None or value <= at_most, f"{row}: {what} is {value:g} {unit}, at most {at_most:g} is wanted"
        assert at_least is None or value >= at_least, f"{row}: {what} is {value:g} {unit}, at least {at_least:g} wanted"


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """Records what this test measures."""
    figures = Figures(request.node.nodeid)
    yield figures
    if not figures.seen:
        return
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for row, entries in figures.seen.items():
        known.setdefault(row, {}).update(entries)
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.write_text(json.dumps(known, indent=1, sort_keys=True))
