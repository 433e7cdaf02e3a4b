"""docs/platforms.md tells of the wheels that there are, and is made anew where what it tells of changes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vendor.recipe import BuildError
from wheels import page
from wheels.targets import VARIANTS

ROOT = Path(__file__).parents[2]
TEXT = page.PAGE.read_text()
AGAIN = "make it again: make wheels wheels-test wheels-docs"


RECIPE = json.loads((ROOT / "vendor/recipe.json").read_text())
PARTS = {name: part["version"] for name, part in RECIPE.items() if isinstance(part, dict) and "version" in part}


def row(name: str, size: int, parts: dict[str, str]) -> dict[str, Any]:
    return {"file": f"rdknotify-0.1.0-{name}.whl", "bytes": size, "parts": parts, "features": ["ssl", "zstd"]}


def test_what_was_built_and_what_was_run_is_shown() -> None:
    run, built, missing = (VARIANTS[number].name for number in (0, 1, -1))
    wheels = [row(run, 3_456_000, PARTS), row(built, 4_000_000, PARTS)]
    source = {"seconds": 86, "tests": "291 passed", "machine": "Debian", "cpus": 2}
    text = page.render(wheels, {wheels[0]["file"]: "core (291 passed)"}, source)
    assert f"| `{run}` | 3.46 | core (291 passed) |" in text
    assert f"| `{built}` | 4.00 | *only built* |" in text
    assert f"| `{missing}` |  | *not built* |" in text
    assert "2 wheels were built, 3.46 to 4.00 MB. In each: " in text
    assert "`ssl`, `zstd`" in text
    assert "installed in 86 s" in text


def test_nothing_is_claimed_of_what_was_not_done() -> None:
    text = page.render([], {}, None)
    assert "0 wheels were built." in text
    assert text.count("*not built*") == len(VARIANTS)
    assert "Not run on a bare machine" in text


def test_wheels_of_another_recipe_are_refused() -> None:
    with pytest.raises(BuildError, match="make wheels"):
        page.render([row(VARIANTS[0].name, 1, {**PARTS, "openssl": "1.0.0"})], {}, None)


def test_the_page_has_a_line_for_every_wheel_and_the_parts_of_the_recipe() -> None:
    assert set(re.findall(r"^\|[^|]*\| `(cp\S+)` \|", TEXT, re.MULTILINE)) == {variant.name for variant in VARIANTS}, (
        AGAIN
    )
    (parts,) = re.findall(r"In each: (.+?)(?:;|\.$)", TEXT, re.MULTILINE)
    assert dict(part.split(" ") for part in parts.split(", ")) == PARTS, AGAIN


def test_the_page_has_the_text_that_is_written_for_it() -> None:
    written = [line for line in (ROOT / "wheels/platforms.md.j2").read_text().splitlines() if "{" not in line]
    told = TEXT.splitlines()
    either = ("*Not run on a bare machine", "**Free-threaded Python**", "that says so;")
    assert [line for line in written if line not in told and not line.startswith(either)] == [], AGAIN


def test_every_variable_that_a_build_heeds_is_told() -> None:
    sources = [*ROOT.glob("vendor/*.py"), ROOT / "setup.py"]
    heeded = {name for path in sources for name in re.findall(r'"(RDKNOTIFY_\w+)"', path.read_text())}
    assert {"RDKNOTIFY_BUNDLED", "RDKNOTIFY_WITHOUT"} <= heeded
    assert {name for name in heeded if f"| `{name}` |" not in TEXT} == set()
