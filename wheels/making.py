"""All of ``make wheels``: static parts for each target, an extension for each wheel, the wheels, what lies beside."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import click

from vendor.extension import information
from vendor.recipe import RECIPE, BuildError
from wheels import bom, inspection, listing
from wheels.assemble import Pure, assemble, epoch, pure_part
from wheels.commands import run, stopped
from wheels.extension import ROOT, compile_extension, static_parts, translate
from wheels.pythons import headers
from wheels.targets import VARIANTS, Target, Variant

__all__ = ["JOBS", "differences", "each", "make", "missing", "say"]

# Programs that are not Python's, and in which package Debian and Ubuntu have them.
PROGRAMS = {"git": "git", "perl": "perl", "make": "make", "npm": "npm", "cargo": "cargo", "mvn": "maven"}
MODULES = ("auditwheel", "build", "Cython", "cyclonedx", "elftools", "ziglang")
JOBS = os.cpu_count() or 1

T = TypeVar("T")
R = TypeVar("R")


def missing() -> list[str]:
    """What has to be installed before wheels can be built."""
    found = [f"{name} (Debian, Ubuntu: {package})" for name, package in PROGRAMS.items() if not shutil.which(name)]
    if not all(map(find_spec, MODULES)):
        found.append("packages of Python: pip install 'rdknotify[wheels]'")
    return found


@dataclass(frozen=True)
class Workshop:
    """What the wheels of one build have in common."""

    pure: Pure
    bill: str
    seconds: int
    source: Path
    parts: dict[Target, Path]
    work: Path

    @classmethod
    def open(cls, root: Path, parts: dict[Target, Path], work: Path) -> Workshop:
        """For the project in ``root``, a copy of this one or itself. Raises BuildError."""
        bundled, features = _agreed(parts)
        seconds = epoch()
        pure = pure_part(root, sorted(bundled), work)
        bill = bom.bill_of_materials(pure.name.partition("-")[2], bundled, features, RECIPE, seconds)
        return cls(pure, bill, seconds, translate(root, work), parts, work)

    def wheel(self, variant: Variant, cache: Path | None = None) -> Path:
        """One wheel, not looked into yet; ``cache`` is the compiler's. Raises BuildError."""
        folder = self.work / variant.name
        extension = compile_extension(variant, self.source, self.parts[variant.target], folder, cache)
        return assemble(self.pure, variant, extension, self.bill, self.seconds, folder)

    def sdist(self) -> Path:
        """The source of all this. Raises BuildError."""
        command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", f"--outdir={self.work}"]
        with step("sdist"):
            run(command, cwd=ROOT, env=os.environ | {"SOURCE_DATE_EPOCH": str(self.seconds)})
        return next(self.work.glob("*.tar.gz"))


def make(variants: list[Variant], dist: Path) -> None:
    """Build wheels into ``dist``, each there only if nothing is wrong with it. Raises BuildError."""
    began = time.monotonic()
    parts: dict[Target, Path] = {}
    for target in dict.fromkeys(variant.target for variant in variants):
        with step(f"{target.name}: static parts"):
            parts[target] = static_parts(target)
    for version in dict.fromkeys(variant.python.version for variant in variants):
        with step(f"CPython {version}: headers"):
            headers(version)
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as scratch:
        with step("the part that is Python"):
            workshop = Workshop.open(ROOT, parts, Path(scratch))

        def one(variant: Variant) -> Path:
            with step(f"{variant.name}: wheel"):
                made = workshop.wheel(variant)
                if found := inspection.faults(made):
                    raise BuildError("\n".join(found))
                return made

        made = each(one, variants)
        whole = len(variants) == len(VARIANTS)
        beside = [workshop.work / f"{workshop.pure.name}.cdx.json", *([workshop.sdist()] if whole else [])]
        beside[0].write_text(workshop.bill)
        # All or nothing: what lies in dist is one set.
        dist.mkdir(parents=True, exist_ok=True)
        for old in [*dist.glob("*.whl"), *dist.glob("*.tar.gz")] if whole else []:
            old.unlink()
        for path in [*made, *beside]:
            copied = Path(shutil.copy(path, dist / f".{path.name}"))
            copied.replace(dist / path.name)
    listing.write(dist)
    say(f"{len(made)} wheels in {dist}", time.monotonic() - began)


def differences(wheels: list[Path]) -> list[str]:
    """Which wheels come out with other bytes when they are built again from a copy of the project elsewhere.

    The static parts are those that are there; the compiler begins with an empty cache. Raises BuildError.
    """
    variants = {path: inspection.Wheel(path).variant for path in wheels}
    parts = {target: static_parts(target) for target in {variant.target for variant in variants.values()}}
    with tempfile.TemporaryDirectory(prefix="a-longer-name-than-the-other-") as scratch:
        root = Path(scratch) / "project"
        for file in run(["git", "ls-files", "src", "vendor", "*.toml", "*.md", "LICENSE"], cwd=ROOT).split():
            if (ROOT / file).exists():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, root / file)
        work = Path(scratch) / "work"
        work.mkdir()
        workshop = Workshop.open(root, parts, work)
        again = each(lambda path: workshop.wheel(variants[path], work / "cache"), wheels)
        return [
            first.name for first, second in zip(wheels, again, strict=True) if first.read_bytes() != second.read_bytes()
        ]


def each(function: Callable[[T], R], arguments: Iterable[T], jobs: int = JOBS) -> list[R]:
    """As many at a time as there are processors; an error or Ctrl-C ends all of them."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(function, arguments))
        except BaseException:
            with stopped():
                pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def step(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(what, time.monotonic() - began)


def say(what: str, seconds: float) -> None:
    click.echo(f"{seconds:6.1f} s  {what}", file=sys.stderr)


def _agreed(parts: dict[Target, Path]) -> tuple[dict[str, str], list[str]]:
    """Parts and features, the same for all targets."""
    infos = {target.name: information(prefix) for target, prefix in parts.items()}
    told = {name: (info["parts"], info["features"]) for name, info in infos.items()}
    if len({repr(content) for content in told.values()}) != 1:
        raise BuildError(f"the targets do not have the same parts and features: {told}")
    bundled, features = next(iter(told.values()))
    return bundled, features
