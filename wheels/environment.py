"""An empty environment of one Python, with a wheel and what its tests need; Python may be another machine's."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from vendor.recipe import BuildError
from wheels.commands import run
from wheels.extension import ROOT
from wheels.targets import Python, Target

__all__ = ["Environment", "installable"]

TOOLS = ("hypothesis", "pytest", "pytest-timeout")
CONFLUENT = "confluent-kafka"
_STAGED = (
    "pyproject.toml",
    "tests/conftest.py",
    "tests/core",
    "tests/support",
    "benchmarks",
    "reliability",
    "wheels/programs",
)
"""Of the project; its source is not among them, so that what is imported is what is installed."""
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS")


PATIENCE = 6
"""How many times as long the tests wait where the processor is emulated, or others come first."""


class Environment:
    """``folder`` will hold it; ``interpreter`` is a command as :func:`wheels.pythons.interpreter` gives it.

    ``slow``: by an emulated processor, or behind others.
    """

    def __init__(self, interpreter: list[str], folder: Path, *, slow: bool = False) -> None:
        self.slow = slow
        self.python = folder / "env" / "bin" / "python"
        self.work = folder / "work"
        run([*interpreter, "-m", "venv", "--without-pip", str(folder / "env")], env=self.variables)
        for name in _STAGED:
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.work / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, self.work / name)
        self.fetch("pip")
        for name in TOOLS:
            if not self.has(_pinned(name)):  # the newest may have no wheel for this Python
                self.fetch(name)

    @property
    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _OURS}
        return kept | ({"RDKNOTIFY_TEST_PATIENCE": str(PATIENCE)} if self.slow else {})

    def fetch(self, *requirements: str) -> None:
        """Install wheels from the index that this machine uses. Raises BuildError where there is none for this Python.

        By uv, which does it for another machine's Python without running all of it there.
        """
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--only-binary=:all:"]
        run([*uv, f"--python={self.python}", *requirements], env=self.variables)

    def has(self, requirement: str) -> bool:
        """Whether it is there or could be fetched."""
        try:
            self.fetch(requirement)
        except BuildError:
            return False
        return True

    def has_confluent(self) -> bool:
        return self.has(_pinned(CONFLUENT))

    def install(self, wheel: Path, *options: str, extra: str = "") -> None:
        """Install a wheel by this Python's own pip, which judges its tags; what it needs must be there."""
        pip = ["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", *options]
        self.run(*pip, f"{wheel.resolve()}{extra}")

    def run(self, *arguments: str) -> str:
        """What this Python prints. Raises BuildError where it fails."""
        return run([str(self.python), *arguments], cwd=self.work, env=self.variables)

    def told(self) -> dict[str, Any]:
        """What this Python and the installed core say of themselves. Raises BuildError where another core answers."""
        told: dict[str, Any] = json.loads(self.run("wheels/programs/told.py"))
        if not Path(told["core"]).resolve().is_relative_to(self.python.parents[1].resolve()):
            raise BuildError(f"not the wheel's core is imported but {told['core']}")
        return told


def installable(wheel: Path, python: Python, target: Target) -> None:
    """Raises BuildError where pip, with its own index, could not install the wheel with its command line there.

    For what cannot be run on this machine: pip judges tags and requirements, and installs nothing.
    """
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
    words = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python.version.removesuffix('t')}"]
    # On a system of today; the wheel itself is content with less.
    words += [f"--platform={name}" for name in (target.name, target.name.replace("manylinux2014", "manylinux_2_28"))]
    if python.free_threaded:
        words.append(f"--abi=cp{python.version.replace('.', '')}")
    with tempfile.TemporaryDirectory() as nowhere:
        run([*pip, f"--target={nowhere}", *words, f"{wheel.resolve()}[cli]"])


def _pinned(name: str) -> str:
    """A package with the version that our development uses."""
    for line in requires("rdknotify") or []:
        requirement = Requirement(line)
        if requirement.name == name and requirement.specifier and (not requirement.marker or _dev(requirement)):
            return f"{name}{requirement.specifier}"
    return name


def _dev(requirement: Requirement) -> bool:
    return bool(requirement.marker and requirement.marker.evaluate({"extra": "dev"}))
