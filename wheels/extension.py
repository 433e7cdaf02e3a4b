"""The extension of each wheel: C from Cython once, then compiled and linked by zig against the static parts."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from vendor.extension import DIRECTIVES, MODULE, SOURCE, compile_flags, link_flags
from wheels.commands import run
from wheels.pythons import headers
from wheels.targets import Target, Variant

__all__ = ["ROOT", "compile_extension", "static_parts", "translate"]

ROOT = Path(__file__).resolve().parents[1]

# What other builds heed, but not one whose result is to be the same everywhere and on every day.
_UNHEEDED = {"CPPFLAGS", "CFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "SOURCE_DATE_EPOCH"}
_UNHEEDED |= {"RDKNOTIFY_WITHOUT", "RDKNOTIFY_LIBRDKAFKA", "RDKNOTIFY_LIBRDKAFKA_SRC"}
# What setuptools adds to vendor/extension.py's, out of the configuration of CPython.
_AS_CPYTHON = ["-fPIC", "-DNDEBUG", "-fno-strict-overflow"]


def static_parts(target: Target) -> Path:
    """The prefix of librdkafka and all below it, compiled for a target unless it is there. Raises BuildError."""
    environment = _environment() | {
        "RDKNOTIFY_BUNDLED": "1",
        "CC": f"python -m ziglang cc -target {target.zig}",
        "AR": "python -m ziglang ar",
    }
    return Path(run(["python", "vendor/build.py"], cwd=ROOT, env=environment, show=True).split()[-1])


def translate(root: Path, work: Path) -> Path:
    """The C code of the core of the project in ``root``; its paths are relative, so it is the same everywhere."""
    made = work / f"{Path(SOURCE).stem}.c"
    options = [word for name, value in DIRECTIVES.items() for word in ("-X", f"{name}={value}")]
    run(["cython", *options, "-o", str(made), SOURCE], cwd=root, env=_environment())
    return made


def compile_extension(variant: Variant, source: Path, prefix: Path, work: Path, cache: Path | None = None) -> Path:
    """The extension for one wheel; ``cache`` is zig's, else the project's own. Raises BuildError."""
    work.mkdir(parents=True, exist_ok=True)
    environment = _environment() | ({"ZIG_GLOBAL_CACHE_DIR": str(cache)} if cache else {})
    compiler = ["python", "-m", "ziglang", "cc", "-target", variant.target.zig]
    made, code = work / f"{MODULE.rpartition('.')[2]}{variant.suffix}", work / "extension.o"
    flags = [*_AS_CPYTHON, f"-I{headers(variant.python.version)}"]
    flags += compile_flags(prefix, limited=variant.python.limited)
    run([*compiler, *flags, "-c", str(source), "-o", str(code)], env=environment)
    run([*compiler, "-shared", str(code), *link_flags(prefix), "-o", str(made)], env=environment)
    run(["patchelf", *_dependencies(variant.target), str(made)], env=environment)
    return made


def _dependencies(target: Target) -> list[str]:
    """What is otherwise called in the list of needed libraries than the linker calls it."""
    if target.libc == "musl":
        # As Alpine calls it and auditwheel wants it; musl's loader takes either name for itself.
        return ["--replace-needed", "libc.so", f"libc.musl-{target.machine}.so.1"]
    # The loader itself, which finds each thread's variables on x86-64: it is there, for libc needs it, too.
    return ["--remove-needed", "ld-linux-x86-64.so.2"]


@cache
def _environment() -> dict[str, str]:
    """Without what would make the wheel another one; the tools are those of this Python's environment."""
    kept = {name: text for name, text in os.environ.items() if name not in _UNHEEDED}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    kept["ZIG_GLOBAL_CACHE_DIR"] = str(ROOT / "build" / "zig")
    return kept
