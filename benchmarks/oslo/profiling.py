"""Where the CPU of a run goes: a profile of every Python thread, summed by package."""

from __future__ import annotations

import cProfile
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

Function = tuple[str, int, str]  # as pstats has it: file, line, name

FOREIGN = {
    "orjson": "orjson",
    "cimpl": "confluent_kafka",
    "confluent_kafka": "confluent_kafka",
    "rdknotify": "rdknotify",
}
"""C functions that are a package of their own; all others are their callers' work."""
TOP = 4
"""Functions shown of a package."""
_ROOTS = {Path(threading.__file__).parent.name, "src"}


class Profiles:
    """A context manager: profiles this thread and all that are started in it, by their CPU time.

    It makes calls dearer than they are, so read shares, not times. Native threads do not show.
    """

    def __init__(self, wanted: bool) -> None:
        if wanted and sys.version_info >= (3, 12):
            sys.exit("cProfile follows several threads on CPython 3.11 only")
        self._wanted = wanted
        self._profiles: list[cProfile.Profile] = []

    def _enable(self, *_: Any) -> None:
        """Take over from :func:`threading.setprofile`'s hook in the thread that it was called in."""
        profile = cProfile.Profile(time.thread_time)
        self._profiles.append(profile)
        profile.enable()

    def __enter__(self) -> Profiles:
        if self._wanted:
            threading.setprofile(self._enable)
            self._enable()
        return self

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            self._profiles[0].disable()
            threading.setprofile(None)

    def figures(self) -> dict[str, Any]:
        """``{"packages": {package: {"seconds": s, "functions": [[name, s], ...]}}}``, costliest first."""
        if not self._wanted:
            return {}
        functions: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for profile in self._profiles:
            profile.snapshot_stats()  # as pstats would, but by disabling it here: with this thread's clock
            _add(functions, profile.stats)
        packages: dict[str, dict[str, Any]] = {
            package: {"seconds": sum(costs.values()), "functions": costs.most_common(TOP)}
            for package, costs in functions.items()
        }
        return {"packages": dict(sorted(packages.items(), key=lambda item: -item[1]["seconds"]))}


def _add(functions: defaultdict[str, Counter[str]], stats: dict[Function, Any]) -> None:
    for function, (_, _, own, _, callers) in stats.items():
        package = _package(function)
        if package:
            functions[package][_name(function)] += own
            continue
        for caller, (_, _, seconds, _) in callers.items():
            functions[_package(caller) or "built-in"][_name(function)] += seconds


def _package(function: Function) -> str | None:
    """The package of a function; none where it is C's and whoever called it is to answer for it."""
    file, _, name = function
    if file.startswith(("~", "<")):  # C's, frozen, or made from a string
        return next((package for word, package in FOREIGN.items() if re.search(rf"\b{word}\.", name)), None)
    parts = Path(file).parts
    for root in ("site-packages", "src"):
        if root in parts:
            package, *inner = parts[parts.index(root) + 1 :]
            return f"{package}._drivers" if "_drivers" in inner else package.removesuffix(".py")
    return "the benchmark" if "benchmarks" in parts else f"stdlib {_module(file).partition('.')[0]}"


def _module(file: str) -> str:
    """``threading``, ``json.encoder``, ``json``."""
    path = Path(file)
    if path.stem == "__init__":
        return path.parent.name
    return path.stem if path.parent.name in _ROOTS else f"{path.parent.name}.{path.stem}"


def _name(function: Function) -> str:
    file, _, name = function
    if not file.startswith(("~", "<")):
        return f"{_module(file).rpartition('.')[2]}.{name}"
    if words := re.search(r"'(\w+)' of '([\w.]+)'", name) or re.search(r"(\w+) of (type) object", name):
        return f"{words[2].rpartition('.')[2]}.{words[1]}"
    return name.split()[-1].strip("<>").removeprefix("builtins.")
