#!/usr/bin/env python3
"""Obtain librdkafka's source as pinned in recipe.json, build it as one static library, print where it is.

Needs a C compiler, the headers of Python, OpenSSL and zlib, and npm unless the source is at hand.
With RDKNOTIFY_BUNDLED=1 OpenSSL, zlib and curl are built in too, from sources that cargo obtains; needs perl and make.

The source is the first of:
  the folder RDKNOTIFY_LIBRDKAFKA_SRC;
  with RDKNOTIFY_LIBRDKAFKA=system none: the library that pkg-config finds is linked;
  source/ beside this file, as in an sdist;
  the npm package of the recipe, whose checksum is verified.
RDKNOTIFY_WITHOUT=ssl (or zlib, zstd ..., with commas) leaves a feature out; nothing is ever left out silently.
CC and AR name the compiler and the archiver, a cross compiler too; CPPFLAGS, CFLAGS and LDFLAGS are heeded, as
setuptools heeds them. RDKNOTIFY_CACHE is the folder where bundled libraries are kept, build/ without it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from vendor import librdkafka, parts
from vendor.compiler import Compiler
from vendor.recipe import BUILD, HERE, RECIPE, BuildError, move, one_line

INFO = "rdknotify-build.json"
"""In the prefix: what is in the library, and what setup.py and the benchmarks need to link it."""

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
NEEDS = {"sasl_scram": "ssl", "sasl_oauthbearer": "ssl", "curl": "ssl", "oauthbearer_oidc": "curl"}
# The part of the recipe that a feature comes from.
PART_OF = {"zlib": "zlib", "zstd": "zstd", "ssl": "openssl", "curl": "curl"}


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
    compiler, bundled = Compiler(), _bundled()
    if way and not given:
        return _describe(_system(compiler))
    features = _features(compiler, bundled)
    below = parts.needed({PART_OF[feature] for feature in features if feature in PART_OF}) if bundled else []
    version = librdkafka.version(given / "src") if given else RECIPE["librdkafka"]["version"]
    name = f"librdkafka-{version}-" + (f"{compiler.target}-" if bundled else "")
    prefix = (parts.folder() if bundled else BUILD) / (name + _key(compiler, features, below, given))
    if not (prefix / INFO).exists():
        _build(prefix, version, compiler, features, below, given)
    return _describe(prefix)


def _build(
    prefix: Path, version: str, compiler: Compiler, features: list[str], below: list[str], given: Path | None
) -> None:
    static = {part: parts.static(part, compiler) for part in below}
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix.parent) as scratch:
        work = Path(scratch) / "prefix"
        librdkafka.compile_into(work, compiler, features, given, [*static.values()])
        archives = [path / "lib" / archive for part, path in static.items() for archive in parts.ARCHIVES[part]]
        for archive in archives:
            shutil.copy(archive, work / "lib")
        libraries = [] if below else [name for feature in SYSTEM if feature in features for name in SYSTEM[feature][1]]
        libraries += ["m", "dl", "pthread"] + ["rt"] * (compiler.system != "darwin")
        used = [*below, *(PART_OF[feature] for feature in features if feature in PART_OF)]
        own = {part: RECIPE[part]["version"] for part in (*below, "zstd")}
        info = {
            "version": version,
            "target": compiler.target,
            "features": [*features, *RECIPE["always"]],
            "archives": [librdkafka.ARCHIVE, *(path.name for path in archives)],
            "libraries": libraries,
            "library_dirs": [],
            "parts": {"librdkafka": version} | {part: own.get(part, "system") for part in sorted(used)},
        }
        (work / INFO).write_text(json.dumps(info, indent=2) + "\n")
        move(work, prefix)


def _describe(prefix: Path) -> Path:
    info = json.loads((prefix / INFO).read_text())
    print(f"librdkafka {info['version']} with {', '.join(info['features'])}", file=sys.stderr)
    return prefix


def _bundled() -> bool:
    """Whether OpenSSL, zlib and curl are those of the recipe, not the system's."""
    text = os.environ.get("RDKNOTIFY_BUNDLED", "")
    if text not in ("", "0", "1"):
        raise BuildError(f"RDKNOTIFY_BUNDLED={text}: 1 builds OpenSSL, zlib and curl in; 0 or unset: the system's")
    return text == "1"


def _features(compiler: Compiler, bundled: bool) -> list[str]:
    """The features to build; those from the system are probed by linking."""
    known = [*RECIPE["features"], *RECIPE["bundled_features"]]
    without = set(re.split(r"[,\s]+", os.environ.get("RDKNOTIFY_WITHOUT", ""))) - {""}
    if unknown := without - set(known):
        raise BuildError(f"RDKNOTIFY_WITHOUT={','.join(sorted(unknown))}: the features are {' '.join(known)}")
    features = [feature for feature in (known if bundled else RECIPE["features"]) if feature not in without]
    for feature, (probe, libraries, remedy) in SYSTEM.items():
        if feature in features and not bundled and not compiler.links(probe, libraries):
            raise BuildError(f"{remedy}, or set RDKNOTIFY_WITHOUT={feature} to do without")
    for missing in ("ssl", "curl"):
        if lost := [feature for feature in features if NEEDS.get(feature) == missing and missing not in features]:
            features = [feature for feature in features if feature not in lost]
            print(f"without {missing} there is no {' and no '.join(lost)}", file=sys.stderr)
    return features


def _key(compiler: Compiler, features: list[str], below: list[str], given: Path | None) -> str:
    """What the library depends on, as a short hash: also of the files that say how it is compiled."""
    facts = [
        compiler.identity,
        compiler.target,
        *features,
        *RECIPE["cflags"],
        json.dumps(RECIPE["librdkafka"]["changes"]),
    ]
    facts += [RECIPE[name]["sha256"] for name in ("librdkafka", "zstd")]
    facts += [parts.place(part, compiler).name for part in below]
    files = (HERE / name for name in ("build.py", "librdkafka.py", "compiler.py", "native/random.h"))
    facts += [path.read_text() for path in files]
    if given:
        sources = sorted((given / "src").rglob("*.[ch]"))
        facts += [str(given), *(f"{path.name}:{path.stat().st_mtime_ns}" for path in sources)]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]


def _given() -> Path | None:
    """The folder that the user names as librdkafka's source, if it is one and not too old."""
    text = os.environ.get("RDKNOTIFY_LIBRDKAFKA_SRC")
    if not text:
        return None
    folder = Path(text).expanduser().resolve()
    if not (folder / "src" / "rdkafka.h").exists():
        raise BuildError(f"RDKNOTIFY_LIBRDKAFKA_SRC={text}: there is no src/rdkafka.h; give librdkafka's source folder")
    version, minimum = librdkafka.version(folder / "src"), RECIPE["librdkafka"]["minimum"]
    if [*map(int, version.split("."))] < [*map(int, minimum.split("."))]:
        raise BuildError(f"RDKNOTIFY_LIBRDKAFKA_SRC={text} has librdkafka {version}; {minimum} or newer is needed")
    return folder


# ---- the library of the system


def _system(compiler: Compiler) -> Path:
    """A prefix that only says how to link the system's librdkafka."""
    minimum = RECIPE["librdkafka"]["minimum"]
    if not shutil.which("pkg-config"):
        raise BuildError("RDKNOTIFY_LIBRDKAFKA=system needs pkg-config: install it, or unset the variable")
    if subprocess.run(["pkg-config", f"--atleast-version={minimum}", "rdkafka"], check=False).returncode:
        found = _pkg_config("--modversion") or "none"
        raise BuildError(f"RDKNOTIFY_LIBRDKAFKA=system: librdkafka {found} found, {minimum} or newer is needed")
    version, include = _pkg_config("--modversion"), Path(_pkg_config("--variable=includedir")) / "librdkafka"
    libs = _pkg_config("--libs")
    key = hashlib.sha256(f"{compiler.target} {include} {libs}".encode()).hexdigest()[:12]
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
            info = {
                "version": version,
                "target": compiler.target,
                "features": ["what the system's library has"],
                "archives": [],
                "libraries": libraries,
                "library_dirs": folders,
                "parts": {"librdkafka": "system"},
            }
            (work / INFO).write_text(json.dumps(info, indent=2) + "\n")
            move(work, prefix)
    return prefix


def _pkg_config(query: str) -> str:
    return subprocess.run(["pkg-config", query, "rdkafka"], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
