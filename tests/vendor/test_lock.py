"""requirements/dev.lock holds what pyproject.toml asks for, each package by its hashes: make lock, where this fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements/dev.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))

tomllib = pytest.importorskip("tomllib", reason="since Python 3.11")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def wanted(texts: list[str]) -> Iterator[Requirement]:
    """What is asked for on CPython 3.11; the project's own extras are followed."""
    environment = {**default_environment(), "python_version": "3.11", "python_full_version": "3.11.7", "extra": ""}
    for requirement in map(Requirement, texts):
        if requirement.name == PROJECT["name"]:
            for extra in requirement.extras:
                yield from wanted(PROJECT["optional-dependencies"][extra])
        elif requirement.marker is None or requirement.marker.evaluate(environment):
            yield requirement


def test_everything_is_locked_in_a_version_that_will_do() -> None:
    asked = [*wanted(PROJECT["dependencies"]), *wanted(["rdknotify[dev]"])]
    assert len(asked) > 20
    for requirement in asked:
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in LOCKED, f"{requirement} is not locked: make lock"
        assert requirement.specifier.contains(LOCKED[name], prereleases=True), (
            f"{requirement}: {LOCKED[name]} is locked"
        )


def test_every_package_has_hashes_and_no_index_is_named() -> None:
    packages = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(packages) == len(LOCKED)
    assert [package.split("==")[0] for package in packages if "--hash=sha256:" not in package] == []
    assert "://" not in LOCK and "--index" not in LOCK
