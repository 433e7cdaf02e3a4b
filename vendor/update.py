#!/usr/bin/env python3
"""Report, for each bundled part, the pinned and the newest version; or bump one to the newest or to a given version.

The registries' own clients, npm and cargo, are asked. A crate's newest is that of its line (300 of openssl-src is
OpenSSL 3); newer lines are named beside it. VERSION is the package's, as the report has it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from vendor import librdkafka
from vendor.recipe import HERE, PARTS, RECIPE, BuildError, one_line
from vendor.sources import PATIENCE, checksum, fetch, unpack

# Where a source says its version: a file, and what stands before each number of it or before the whole.
SAID_IN = {
    "zstd": ("lib/zstd.h", r"ZSTD_VERSION_(?:MAJOR|MINOR|RELEASE) +(\d+)"),
    "openssl": ("VERSION.dat", r"^(?:MAJOR|MINOR|PATCH)=(\d+)"),
    "zlib": ("zlib.h", r'ZLIB_VERSION "([\d.]+)'),
    "curl": ("include/curl/curlver.h", r'LIBCURL_VERSION "([\d.]+)'),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers()
    bumping = commands.add_parser("bump", help="pin another version of one part, with its checksum")
    bumping.add_argument("part", choices=PARTS)
    bumping.add_argument("version", nargs="?", help="of its package; the newest without it")
    arguments = parser.parse_args()
    with one_line("vendor/update.py"):
        if "part" in arguments:
            print(bump(arguments.part, arguments.version))
        else:
            for name in PARTS:
                print(report(name))


def report(name: str) -> str:
    """A line: the part, its version, its package as pinned, the newest. Raises BuildError."""
    package, pinned = _package(RECIPE[name]).rsplit("@", 1)
    newest = _newest(RECIPE[name])
    verdict = "the newest" if newest[0] == pinned else f"{newest[0]} is newer"
    beyond = f" ({newest[1]} beyond its line)" if newest[1:] else ""
    return f"{name:11}{RECIPE[name]['version']:9}{package} {pinned}: {verdict}{beyond}"


def bump(name: str, version: str | None) -> str:
    """Pin a version of one part's package in recipe.json; what was done, as a line. Raises BuildError, OSError."""
    part = RECIPE[name]
    package = f"{_package(part).rsplit('@', 1)[0]}@{version or _newest(part)[0]}"
    wanted = {**part, ("package" if "package" in part else "crate"): package}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fetched"
        folder.mkdir()
        archive = fetch(name, wanted, folder)
        if "crate" in part:  # in full: 300.6.1 is 300.6.1+3.6.3
            crate = package.partition("@")[0]
            wanted["crate"] = f"{crate}@{archive.name.removeprefix(f'{crate}-').removesuffix('.crate')}"
        unpack(archive, wanted, Path(scratch) / name)
        wanted |= {"sha256": checksum(archive), "version": said(name, Path(scratch) / name)}
    path = HERE / "recipe.json"
    path.write_text(repinned(path.read_text(), name, part, wanted))
    return f"{name} {part['version']} -> {wanted['version']} ({_package(wanted)}): README.md says what comes next"


def repinned(text: str, name: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    """The recipe's text with another version, package and checksum of one part, and not a space else."""
    begin = text.index(f'\n  "{name}": {{')
    end = text.index("\n  }", begin)
    block = text[begin:end]
    for what in ("version", "package", "crate", "sha256"):
        if what in old:
            was, becomes = (f'"{what}": {json.dumps(each[what])}' for each in (old, new))
            block = block.replace(was, becomes, 1)
    return text[:begin] + block + text[end:]


def said(name: str, source: Path) -> str:
    """The version that a part's own source says. Raises BuildError."""
    if name not in SAID_IN:
        return librdkafka.version(source / "src")
    file, pattern = SAID_IN[name]
    path = source / file
    numbers = re.findall(pattern, path.read_text() if path.exists() else "", re.MULTILINE)
    if not numbers:
        raise BuildError(
            f"{name} says no version in {file}: has its package another layout now? recipe.json is as it was"
        )
    return ".".join(numbers)


def _package(part: dict[str, Any]) -> str:
    return str(part.get("package") or part["crate"])


def _newest(part: dict[str, Any]) -> list[str]:
    """The newest version of a part's package; for a crate that of its line, then a newer line's. Raises BuildError."""
    package, pinned = _package(part).rsplit("@", 1)
    if "package" in part:
        return [_asked(["npm", "view", f"--fetch-timeout={PATIENCE}000", package, "version"], r"^(\d\S*)$", package)]
    command, line = ["cargo", "info", "--color=never"], pinned.partition(".")[0]
    newest = _asked([*command, package], r"^version: (\S+)", package)
    if newest.partition(".")[0] == line:
        return [newest]
    return [_asked([*command, f"{package}@{line}"], r"^version: (\S+)", package), newest]


def _asked(command: list[str], pattern: str, package: str) -> str:
    """What a registry's client says, run where no project of the user's is. Raises BuildError."""
    if not shutil.which(command[0]):
        raise BuildError(f"{command[0]} is needed to look for a newer {package}: install {command[0]}")
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout, re.MULTILINE)
    if done.returncode or not found:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1].strip()
        raise BuildError(f"{command[0]} knows nothing of {package}: {last}; is the registry reachable?")
    return found[1]


if __name__ == "__main__":
    main()
