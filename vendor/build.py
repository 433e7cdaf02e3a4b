#!/usr/bin/env python3
"""Obtain librdkafka's source as pinned in recipe.json, build it as one static library, print where it is.

Needs a C compiler, the headers of Python, OpenSSL and zlib, and npm unless the source is at hand.

The source is the first of:
  the folder RDKNOTIFY_LIBRDKAFKA_SRC;
  with RDKNOTIFY_LIBRDKAFKA=system none: the library that pkg-config finds is linked;
  source/ beside this file, as in an sdist;
  the npm package of the recipe, whose checksum is verified.
RDKNOTIFY_WITHOUT=ssl (or zlib, zstd ..., with commas) leaves a feature out; nothing is ever left out silently.
CC and AR name the compiler and the archiver; CPPFLAGS, CFLAGS and LDFLAGS are heeded, as setuptools heeds them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from vendor import compiler as compilers
from vendor.compiler import Compiler
from vendor.recipe import BUILD, RECIPE, BuildError, move, one_line
from vendor.sources import obtain

VERSION: str = RECIPE["librdkafka"]["version"]
INFO = "rdknotify-build.json"
"""In the prefix: what setup.py and the benchmarks need to link."""

# What must be installed for a feature that comes from the system: a probe, its libraries, the packages' names.
SYSTEM = {
    "ssl": (
        "#include <openssl/ssl.h>\nint main(void) { return SSL_CTX_new(TLS_client_method()) == 0; }",
        ["ssl", "crypto"],
        "OpenSSL's headers are missing: install libssl-dev (Debian, Ubuntu) or openssl-devel (Fedora)",
    ),
    "zlib": (
        "#include <zlib.h>\nint main(void) { return zlibVersion() == 0; }",
        ["z"],
        "zlib's headers are missing: install zlib1g-dev (Debian, Ubuntu) or zlib-devel (Fedora)",
    ),
}
GETENTROPY = "#include <unistd.h>\nint main(void) { char b[8]; return getentropy(b, sizeof(b)); }"
OWN_FLAGS = {"rdrand.c": ["-DRD_RANDOM_BY_SYSTEM"]}
# What a source file of src/Makefile needs; the others are always compiled.
CONDITIONAL = {
    "WITH_SASL_SCRAM": "sasl_scram",
    "WITH_SASL_OAUTHBEARER": "sasl_oauthbearer",
    "WITH_SNAPPY": "snappy",
    "WITH_ZLIB": "zlib",
    "WITH_ZSTD": "zstd",
    "WITH_HDRHISTOGRAM": "hdrhistogram",
    "WITH_SSL": "ssl",
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with one_line("vendor/build.py"):
        print(build())


def build() -> Path:
    """The prefix of the static library, built unless it is there; prints the features. Raises BuildError, OSError."""
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise BuildError("Python's headers are missing: install python3-dev (Debian, Ubuntu) or python3-devel (Fedora)")
    given = _given()
    way = os.environ.get("RDKNOTIFY_LIBRDKAFKA", "")
    if way not in ("", "system"):
        raise BuildError(f"RDKNOTIFY_LIBRDKAFKA={way}: the only value is system; unset it to build from source")
    if way and not given:
        return _describe(_system())
    compiler = Compiler()
    features = _features(compiler)
    version = _version(given / "src") if given else VERSION
    prefix = BUILD / f"librdkafka-{version}-{_key(compiler, features, given)}"
    if not (prefix / INFO).exists():
        _compile_all(compiler, features, given, prefix)
    return _describe(prefix)


def _describe(prefix: Path) -> Path:
    info = json.loads((prefix / INFO).read_text())
    print(f"librdkafka {info['version']} with {', '.join(info['features'])}", file=sys.stderr)
    return prefix


def _features(compiler: Compiler) -> list[str]:
    """The features to build; those from the system are probed by linking."""
    without = set(re.split(r"[,\s]+", os.environ.get("RDKNOTIFY_WITHOUT", ""))) - {""}
    if unknown := without - set(RECIPE["features"]):
        raise BuildError(
            f"RDKNOTIFY_WITHOUT={','.join(sorted(unknown))}: the features are {' '.join(RECIPE['features'])}"
        )
    features = [feature for feature in RECIPE["features"] if feature not in without]
    for feature, (probe, libraries, remedy) in SYSTEM.items():
        if feature in features and not compiler.links(probe, libraries):
            raise BuildError(f"{remedy}, or set RDKNOTIFY_WITHOUT={feature} to do without")
    if "ssl" not in features and {"sasl_scram", "sasl_oauthbearer"} & set(features):
        features = [feature for feature in features if feature not in ("sasl_scram", "sasl_oauthbearer")]
        print("without ssl there is no sasl_scram and no sasl_oauthbearer", file=sys.stderr)
    if "ssl" not in features and not compiler.links(GETENTROPY, []):
        raise BuildError(
            "this C library has no getentropy, so librdkafka gets its random numbers from OpenSSL only: keep ssl"
        )
    return features


def _key(compiler: Compiler, features: list[str], given: Path | None) -> str:
    """What the library depends on, as a short hash: also of this file, which writes config.h."""
    parts = [compiler.identity, platform.machine(), *features, *RECIPE["cflags"]]
    parts += [Path(file).read_text() for file in (__file__, compilers.__file__)]
    parts += [RECIPE[name]["sha256"] for name in ("librdkafka", "zstd")]
    parts += [json.dumps(RECIPE["changes"])]
    if given:
        sources = sorted((given / "src").rglob("*.[ch]"))
        parts += [str(given), *(f"{path.name}:{path.stat().st_mtime_ns}" for path in sources)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _given() -> Path | None:
    """The folder that the user names as librdkafka's source, if it is one and not too old."""
    text = os.environ.get("RDKNOTIFY_LIBRDKAFKA_SRC")
    if not text:
        return None
    folder = Path(text).expanduser().resolve()
    if not (folder / "src" / "rdkafka.h").exists():
        raise BuildError(f"RDKNOTIFY_LIBRDKAFKA_SRC={text}: there is no src/rdkafka.h; give librdkafka's source folder")
    version, minimum = _version(folder / "src"), RECIPE["librdkafka"]["minimum"]
    if [*map(int, version.split("."))] < [*map(int, minimum.split("."))]:
        raise BuildError(f"RDKNOTIFY_LIBRDKAFKA_SRC={text} has librdkafka {version}; {minimum} or newer is needed")
    return folder


def _version(source: Path) -> str:
    """The version that a header says, 0x020f01ff for 2.15.1."""
    number = re.search(
        r"^#define RD_KAFKA_VERSION +0x(\w\w)(\w\w)(\w\w)", (source / "rdkafka.h").read_text(), re.MULTILINE
    )
    if not number:
        raise BuildError(f"{source}/rdkafka.h says no version; is this librdkafka?")
    return ".".join(str(int(part, 16)) for part in number.groups())


def _compile_all(compiler: Compiler, features: list[str], given: Path | None, prefix: Path) -> None:
    original = (given or obtain("librdkafka")) / "src"
    version = _version(original)
    zstd = obtain("zstd") / "lib" if "zstd" in features else None
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        work = Path(scratch) / "prefix"
        for folder in (work / "include", work / "lib"):
            folder.mkdir(parents=True)
        # A copy, because librdkafka includes "../config.h", and a configured tree has one of its own.
        source = Path(shutil.copytree(original, Path(scratch) / "src"))
        (Path(scratch) / "config.h").write_text(_config_h(compiler, features))
        _change(source, given)
        flags = ["-D_GNU_SOURCE", f"-I{source}", *([f"-I{zstd}"] if zstd else [])]
        jobs = [(source / name, [*flags, *OWN_FLAGS.get(name, [])]) for name in _sources(source, features)]
        if zstd:
            jobs += [(path, ["-DZSTD_DISABLE_ASM=1"]) for path in sorted(zstd.glob("*/*.c"))]
        targets = [Path(scratch) / f"{number}-{path.stem}.o" for number, (path, _) in enumerate(jobs)]
        print(f"building librdkafka {version}: {len(jobs)} files, about a minute", file=sys.stderr)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda job, target: compiler.compile(job[0], target, job[1]), jobs, targets))
        compiler.archive(targets, work / "lib" / "librdkafka.a")
        for header in RECIPE["headers"]:
            shutil.copy(source / header, work / "include")
        libraries = [name for feature in SYSTEM if feature in features for name in SYSTEM[feature][1]]
        libraries += ["m", "dl", "pthread"] + ["rt"] * (sys.platform == "linux")
        _write_info(work, version, [*features, *RECIPE["always"]], libraries)
        move(work, prefix)


def _change(source: Path, given: Path | None) -> None:
    """Make the recipe's changes in the copy that is compiled. Raises BuildError when one has no place there."""
    for change in RECIPE["changes"]:
        path = source / change["file"]
        text = path.read_text() if path.exists() else ""
        new = change["new"] if isinstance(change["new"], str) else "\n".join(change["new"])
        if text.count(change["old"]) == 1:
            path.write_text(text.replace(change["old"], new))
        elif given:
            print(
                f"{given / 'src' / path.name} has no place for a change of recipe.json: {change['why']}",
                file=sys.stderr,
            )
        else:
            raise BuildError(f"{path.name} is not what recipe.json changes: {change['why']}; adapt or drop the change")


def _write_info(
    prefix: Path, version: str, features: list[str], libraries: list[str], folders: list[str] | None = None
) -> None:
    info = {"version": version, "features": features, "libraries": libraries, "library_dirs": folders or []}
    (prefix / INFO).write_text(json.dumps(info, indent=2) + "\n")


def _sources(source: Path, features: list[str]) -> list[str]:
    """The files to compile, read out of librdkafka's own src/Makefile."""
    makefile = (source / "Makefile").read_text().replace("\\\n", " ")
    names = re.search(r"^SRCS=\s*(.*)$", makefile, re.MULTILINE)
    if not names:
        raise BuildError(f"{source}/Makefile has no list of sources; is this librdkafka {VERSION}?")
    files = [word for word in names[1].split() if word.endswith(".c")]
    files += re.findall(r"^SRCS_y \+=\s*(\S+\.c) \$\(SRCS_LZ4\)", makefile, re.MULTILINE)
    files += [word for line in re.findall(r"^SRCS_LZ4 \+?=(.*)$", makefile, re.MULTILINE) for word in line.split()]
    for condition, name in re.findall(r"^SRCS_\$\((\w+)\) \+=\s*(\S+\.c)", makefile, re.MULTILINE):
        if CONDITIONAL.get(condition) in features:
            files.append(name)
    return files


def _config_h(compiler: Compiler, features: list[str]) -> str:
    """What librdkafka's configure would write for these features."""
    macros = {f"WITH_{feature.upper()}": "1" for feature in features}
    known = "REGEX RAND_R STRNDUP STRERROR_R STRCASESTR ATOMICS_32 ATOMICS_32_ATOMIC ATOMICS_64 ATOMICS_64_ATOMIC"
    macros.update({f"HAVE_{name}": "1" for name in known.split()})
    if "-fsanitize=thread" not in compiler.flags:  # ThreadSanitizer knows POSIX threads only
        macros["WITH_C11THREADS"] = "1"
    macros["HAVE_PTHREAD_SETNAME_DARWIN" if sys.platform == "darwin" else "HAVE_PTHREAD_SETNAME_GNU"] = "1"
    if platform.machine() in ("x86_64", "AMD64"):
        macros["WITH_CRC32C_HW"] = "1"
    if compiler.links(GETENTROPY, []):
        macros["HAVE_GETENTROPY"] = "1"
    if "ssl" in features:
        macros["OPENSSL_SUPPRESS_DEPRECATED"] = '"OPENSSL_SUPPRESS_DEPRECATED"'
    macros["BUILT_WITH"] = f'"{" ".join(feature.upper() for feature in features)}"'
    macros.update(SOLIB_EXT='".so"', ENABLE_DEVEL="0")
    lines = [f"#define {name} {value}" for name, value in macros.items()]
    if "HAVE_GETENTROPY" in macros:
        # Each thread seeds its random numbers when it begins. OpenSSL's lock around that, held by a thread while
        # another one forks, stays locked in the child for ever; the system's numbers need none.
        lines += ["#ifdef RD_RANDOM_BY_SYSTEM", "#undef WITH_SSL", "#endif"]
    atomic = "__atomic_ ## OP1 ## _ ## OP2(PTR, VAL, __ATOMIC_SEQ_CST)"
    lines += [f"#define {name}(OP1, OP2, PTR, VAL) {atomic}" for name in ("ATOMIC_OP32", "ATOMIC_OP64", "ATOMIC_OP")]
    return "\n".join(["#pragma once", *lines, ""])


# ---- the library of the system


def _system() -> Path:
    """A prefix that only says how to link the system's librdkafka."""
    minimum = RECIPE["librdkafka"]["minimum"]
    if not shutil.which("pkg-config"):
        raise BuildError("RDKNOTIFY_LIBRDKAFKA=system needs pkg-config: install it, or unset the variable")
    if subprocess.run(["pkg-config", f"--atleast-version={minimum}", "rdkafka"], check=False).returncode:
        found = _pkg_config("--modversion") or "none"
        raise BuildError(f"RDKNOTIFY_LIBRDKAFKA=system: librdkafka {found} found, {minimum} or newer is needed")
    version, include = _pkg_config("--modversion"), Path(_pkg_config("--variable=includedir")) / "librdkafka"
    libs = _pkg_config("--libs")
    key = hashlib.sha256(f"{include} {libs}".encode()).hexdigest()[:12]
    prefix = BUILD / f"librdkafka-{version}-system-{key}"
    if not (prefix / INFO).exists():
        BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            work = Path(scratch) / "prefix"
            (work / "include").mkdir(parents=True)
            for header in RECIPE["headers"]:
                if not (include / header).exists():
                    raise BuildError(
                        f"{include / header} is missing: install librdkafka-dev (Fedora: librdkafka-devel)"
                    )
                shutil.copy(include / header, work / "include")
            words = shlex.split(libs)
            libraries, folders = ([word[2:] for word in words if word.startswith(option)] for option in ("-l", "-L"))
            _write_info(work, version, ["what the system's library has"], libraries, folders)
            move(work, prefix)
    return prefix


def _pkg_config(query: str) -> str:
    return subprocess.run(["pkg-config", query, "rdkafka"], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
