"""OpenSSL, zlib and curl as static libraries, from the sources of the recipe, for where the system's are not wanted.

Each is built once for a compiler and its target and kept in RDKNOTIFY_CACHE (build/ without it).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from vendor.compiler import Compiler, run
from vendor.recipe import BUILD, HERE, RECIPE, BuildError, move
from vendor.sources import change, obtain

NATIVE = HERE / "native"
DECISIVE = ("sha256", "folder", "keep", "changes", "without")  # of what the recipe says of a part
# OpenSSL's own name of a target, by processor and system.
OPENSSL_TARGETS = {
    ("x86_64", "glibc"): "linux-x86_64",
    ("aarch64", "glibc"): "linux-aarch64",
    ("x86_64", "musl"): "linux-x86_64",
    ("aarch64", "musl"): "linux-aarch64",
    ("x86_64", "darwin"): "darwin64-x86_64",
    ("aarch64", "darwin"): "darwin64-arm64",
}


def folder() -> Path:
    """Where libraries are kept that take long to build."""
    return Path(os.environ.get("RDKNOTIFY_CACHE") or BUILD).expanduser().resolve()


def needed(parts: set[str]) -> list[str]:
    """These of the parts built here, and what they need, in the order in which they are linked."""
    wanted = {*parts, *(below for part in parts for below in NEEDS.get(part, []))}
    return [part for part in BUILDERS if part in wanted]


@cache
def place(name: str, compiler: Compiler) -> Path:
    """Where the prefix (include/, lib/) of one part is, or will be: named by all that it depends on."""
    facts = [compiler.identity, *RECIPE["cflags"]]
    facts += [json.dumps(RECIPE[each].get(what)) for each in needed({name}) for what in DECISIVE]
    facts += [inspect.getsource(each) for each in (Compiler.compile, BUILDERS[name])]
    facts += [path.read_text() for path in sorted(NATIVE.glob(f"{name}*"))]
    key = hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]
    return folder() / f"{name}-{RECIPE[name]['version']}-{compiler.target}-{key}"


def static(name: str, compiler: Compiler) -> Path:
    """The prefix of one part, built unless it is there. Raises BuildError, OSError."""
    prefix = place(name, compiler)
    if prefix.exists():
        return prefix
    below = [static(other, compiler) for other in NEEDS.get(name, [])]
    source = obtain(name)
    began = time.monotonic()
    print(f"building {prefix.name}", file=sys.stderr)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix.parent) as scratch:
        work, copy = Path(scratch) / "prefix", Path(shutil.copytree(source, Path(scratch) / name))
        change(copy, RECIPE[name].get("changes", []))
        BUILDERS[name](compiler, copy, work, below)
        move(work, prefix)
    print(f"built {prefix.name} in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return prefix


def _openssl(compiler: Compiler, source: Path, prefix: Path, below: list[Path]) -> None:
    target = OPENSSL_TARGETS.get((compiler.machine, compiler.system))
    if not target:
        raise BuildError(f"OpenSSL is not built for {compiler.target}: unset RDKNOTIFY_BUNDLED to use the system's")
    for program in ("perl", "make"):
        if not shutil.which(program):
            raise BuildError(f"{program} is needed to build OpenSSL: install it, or unset RDKNOTIFY_BUNDLED")
    # By names without folders, for OpenSSL writes into the library with what it was compiled.
    tools = source.parent / "tools"
    tools.mkdir()
    for tool, command in {"cc": [*compiler.command, *compiler.flags], "ar": compiler.archiver}.items():
        (tools / tool).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (tools / tool).chmod(0o755)
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "CC": "cc",
        "AR": "ar",
        "SOURCE_DATE_EPOCH": "0",  # the time that OpenSSL says it was built
        # What it would take from a user's environment beside.
        **dict.fromkeys(("CFLAGS", "CPPFLAGS", "LDFLAGS", "CROSS_COMPILE", "MAKEFLAGS"), ""),
    }
    modifiers = [] if compiler.system == "darwin" else ["ARFLAGS=qcsD", "RANLIB=:"]
    # Below /etc/ssl Debian, SUSE and Alpine keep their certificates; librdkafka looks into the other places.
    places = ["--prefix=/usr", "--libdir=lib", "--openssldir=/etc/ssl"]
    without = [f"no-{what}" for what in RECIPE["openssl"]["without"]]
    configure = ["perl", "Configure", target, *without, *places, *RECIPE["cflags"], *modifiers]
    run(configure, "OpenSSL cannot be configured", source, **environment)
    run(["make", f"-j{os.cpu_count()}", "build_libs"], "OpenSSL does not compile", source, **environment)
    shutil.copytree(
        source / "include" / "openssl", prefix / "include" / "openssl", ignore=shutil.ignore_patterns("*.in")
    )
    (prefix / "lib").mkdir()
    for archive in ARCHIVES["openssl"]:
        shutil.copy(source / archive, prefix / "lib")


def _zlib(compiler: Compiler, source: Path, prefix: Path, below: list[Path]) -> None:
    files = sorted(path.name for path in source.glob("*.c") if not path.name.startswith("gz"))  # those read files
    flags = ["-DHAVE_UNISTD_H", "-D_LARGEFILE64_SOURCE"]
    compiler.compile_all(source, [(file, flags) for file in files], prefix / "lib" / "libz.a")
    (prefix / "include").mkdir()
    for header in ("zlib.h", "zconf.h"):
        shutil.copy(source / header, prefix / "include")


def _curl(compiler: Compiler, source: Path, prefix: Path, below: list[Path]) -> None:
    # All files: those of what is left out are empty but for includes.
    files = sorted(str(path.relative_to(source)) for path in (source / "lib").rglob("*.c"))
    shutil.copy(NATIVE / "curl_config.h", source / "lib")
    flags = ["-DHAVE_CONFIG_H", "-DBUILDING_LIBCURL", "-DCURL_STATICLIB", "-D_GNU_SOURCE"]
    flags += [f"-I{folder}" for folder in (source / "lib", source / "include", *(each / "include" for each in below))]
    compiler.compile_all(source, [(file, flags) for file in files], prefix / "lib" / "libcurl.a")
    shutil.copytree(source / "include" / "curl", prefix / "include" / "curl", ignore=shutil.ignore_patterns("*.am"))


# In the order in which they are linked.
BUILDERS = {"curl": _curl, "openssl": _openssl, "zlib": _zlib}
ARCHIVES = {"curl": ["libcurl.a"], "openssl": ["libssl.a", "libcrypto.a"], "zlib": ["libz.a"]}
NEEDS = {"curl": ["openssl", "zlib"]}
