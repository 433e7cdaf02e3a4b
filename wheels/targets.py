"""What wheels are made for, as one table: every target with every Python."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from vendor.extension import STABLE_ABI

__all__ = ["PYTHONS", "TARGETS", "VARIANTS", "Python", "Target", "Variant", "select"]


@dataclass(frozen=True)
class Target:
    """A processor and a C library."""

    machine: str
    libc: str

    @property
    def name(self) -> str:
        """The platform tag, which names the oldest C library that will do."""
        return f"{'manylinux2014' if self.libc == 'glibc' else 'musllinux_1_2'}_{self.machine}"

    @property
    def zig(self) -> str:
        """The same for zig; manylinux2014 is glibc 2.17."""
        return f"{self.machine}-linux-{'gnu.2.17' if self.libc == 'glibc' else 'musl'}"


@dataclass(frozen=True)
class Python:
    """A CPython, as wheels/pythons.py names it; with ``limited``, it and all that are newer, by the stable ABI."""

    version: str
    limited: bool = False

    @property
    def tag(self) -> str:
        """The tags of Python and ABI: cp312-cp312, cp313-cp313t, cp311-abi3."""
        abi = f"cp{self.version.replace('.', '')}"
        return f"{abi.removesuffix('t')}-{'abi3' if self.limited else abi}"

    @property
    def free_threaded(self) -> bool:
        return self.version.endswith("t")

    def serves(self, version: str) -> bool:
        """Whether its wheels are for a CPython, "3.12" or "3.13t"."""
        if not self.limited:
            return version == self.version
        return not Python(version).free_threaded and _numbers(version) >= _numbers(self.version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.removesuffix("t").split(".")))


@dataclass(frozen=True)
class Variant:
    """One wheel."""

    python: Python
    target: Target

    @property
    def name(self) -> str:
        """As in the wheel's file name: cp312-cp312-manylinux2014_x86_64."""
        return f"{self.python.tag}-{self.target.name}"

    @property
    def suffix(self) -> str:
        """Of the extension's file; CPython 3.10 does not tell musl from glibc."""
        if self.python.limited:
            return ".abi3.so"
        abi = "musl" if self.target.libc == "musl" and self.python.version != "3.10" else "gnu"
        return f".cpython-{self.python.version.replace('.', '')}-{self.target.machine}-linux-{abi}.so"


TARGETS = (
    Target("x86_64", "glibc"),
    Target("aarch64", "glibc"),
    Target("x86_64", "musl"),
    Target("aarch64", "musl"),
)
PYTHONS = (
    Python("3.10"),
    Python("{}.{}".format(*STABLE_ABI), limited=True),
    Python("3.13t"),
    Python("3.14t"),
)
VARIANTS = tuple(Variant(python, target) for target in TARGETS for python in PYTHONS)


def select(patterns: str) -> list[Variant]:
    """Those whose names match one of the patterns, which are as a shell's, with commas. Raises ValueError."""
    chosen: set[Variant] = set()
    for pattern in patterns.split(","):
        matching = {variant for variant in VARIANTS if fnmatchcase(variant.name, pattern.strip())}
        if not matching:
            raise ValueError(
                f"no wheel is called {pattern.strip()!r}: expected one like {VARIANTS[0].name}, or cp31?-*"
            )
        chosen |= matching
    return [variant for variant in VARIANTS if variant in chosen]
