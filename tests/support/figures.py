"""Figures that tests measure, kept for docs/reliability.md: each is recorded first, then held against its target."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from reliability.results import TESTS, Figure

UNDER_TOOL = "RDKNOTIFY_UNDER" in os.environ
"""A sanitizer or valgrind runs us, and has times and memory of its own: only what has no unit is held to its target."""


class Figures:
    """Call it with a row of the page, what was measured, the value and its unit; fails when the target is missed.

    ``bears``: more than the target of the page, and what fails instead of ``at_most``: a busy machine is no defect.
    """

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
        bears: float | None = None,
    ) -> None:
        figure = Figure(what, value, unit, at_most if bears is None else bears, at_least)
        entry = {"value": value, "unit": unit, "at_most": at_most, "at_least": at_least, "test": self._test}
        self.seen.setdefault(row, {})[what] = entry
        assert figure.met or (UNDER_TOOL and unit), f"{row}: {what}: {figure.seen}, wanted: {figure.target}"


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """Records what this test measures."""
    figures = Figures(request.node.nodeid)
    yield figures
    if not figures.seen or UNDER_TOOL:
        return
    known = json.loads(TESTS.read_text()) if TESTS.exists() else {}
    for row, entries in known.items():  # what it measured before, and perhaps calls otherwise now
        known[row] = {what: entry for what, entry in entries.items() if entry["test"] != request.node.nodeid}
    for row, entries in figures.seen.items():
        known.setdefault(row, {}).update(entries)
    TESTS.parent.mkdir(parents=True, exist_ok=True)
    TESTS.write_text(json.dumps(known, indent=1, sort_keys=True))
