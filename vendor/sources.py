"""The C sources of the recipe, obtained as packages of npm or crates of cargo, verified by their checksums."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from vendor.recipe import BUILD, HERE, PARTS, RECIPE, BuildError, move, one_line

# What one does where the client that obtains a part cannot be installed.
OTHERWISE = {
    "librdkafka": f"RDKNOTIFY_LIBRDKAFKA_SRC to the source of librdkafka {RECIPE['librdkafka']['version']}",
    "zstd": "RDKNOTIFY_WITHOUT=zstd",
}
PATIENCE = "60"  # s, for one answer of a registry; a client's own minutes look like a hang


def bundle(parent: Path) -> None:
    """Put the sources that every build needs under ``parent``, as in an sdist. Raises BuildError, OSError."""
    for name in ("librdkafka", "zstd"):
        _unpacked(name, parent)


def obtain(name: str) -> Path:
    """The folder with the source of one part, fetched unless it is there. Raises BuildError, OSError."""
    bundled = HERE / "source" / f"{name}-{RECIPE[name]['version']}"
    return bundled if bundled.exists() else _unpacked(name, BUILD / "source")


def licences(name: str) -> list[Path]:
    """The licence texts of one part, among its source."""
    return [obtain(name) / file for file in RECIPE[name]["licences"]]


def _unpacked(name: str, parent: Path) -> Path:
    part = RECIPE[name]
    target = parent / f"{name}-{part['version']}"
    if target.exists():
        return target
    archive = _download(name, part)
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        unpack(archive, part, Path(scratch) / name)
        move(Path(scratch) / name, target)
    return target


def _download(name: str, part: dict[str, Any]) -> Path:
    """The archive of one part, verified; kept for the next time."""
    archive = BUILD / "downloads" / f"{part['sha256'][:16]}.tgz"
    if archive.exists():
        _verify(archive, part)
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        fetched = fetch(name, part, Path(scratch))
        _verify(fetched, part)
        return fetched.replace(archive)


def fetch(name: str, part: dict[str, Any], folder: Path) -> Path:
    """The archive as its registry's own client gives it, in ``folder``; not verified yet. Raises BuildError."""
    client, what = ("npm", part["package"]) if "package" in part else ("cargo", part["crate"])
    if not shutil.which(client):
        packages = {"npm": "Debian, Ubuntu: npm; Fedora: nodejs-npm", "cargo": "Debian, Ubuntu, Fedora: cargo"}
        otherwise = (
            f"set {OTHERWISE[name]}"
            if name in OTHERWISE
            else f"do without RDKNOTIFY_BUNDLED: {name} is then the system's"
        )
        raise BuildError(
            f"{client} is needed to obtain the source of {name}: install {client} ({packages[client]}), or {otherwise}"
        )
    print(f"fetching {what}", file=sys.stderr)
    return _npm_pack(what, folder) if client == "npm" else _cargo_fetch(what, folder)


def _npm_pack(package: str, folder: Path) -> Path:
    """The package's archive; npm pack runs none of its scripts."""
    patience = ["--fetch-retries=1", f"--fetch-timeout={PATIENCE}000"]
    command = ["npm", "pack", "--loglevel=error", *patience, f"--pack-destination={folder}", package]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    packed = list(folder.glob("*.tgz"))
    if done.returncode or not packed:
        reason = re.search(r"^npm (?:error|ERR!) (?!code|syscall|errno)(.+)", done.stderr, re.MULTILINE)
        raise BuildError(
            f"npm could not fetch {package}: {reason[1] if reason else 'no reason given'}; is the registry reachable?"
        )
    return packed[0]


def _cargo_fetch(crate: str, folder: Path) -> Path:
    """The crate's archive, which cargo keeps in its cache; cargo fetch runs nothing of it."""
    name, version = crate.split("@")
    manifest = ["[package]", 'name = "fetched"', 'version = "0.0.0"', 'edition = "2021"', "[lib]", 'path = "none.rs"']
    manifest += ["[workspace]", "[dependencies]", f'{name} = "={version.partition("+")[0]}"', ""]
    (folder / "Cargo.toml").write_text("\n".join(manifest))
    (folder / "none.rs").touch()
    environment = os.environ | {"CARGO_NET_RETRY": "1", "CARGO_HTTP_TIMEOUT": PATIENCE}
    command = ["cargo", "fetch", "--color=never"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        error = re.search(r"^error: (.+)", done.stderr, re.MULTILINE)
        causes = re.findall(r"^Caused by:\n +(.+)", done.stderr, re.MULTILINE)
        reason = ": ".join([error[1] if error else "no reason given", *causes[-1:]])
        raise BuildError(f"cargo could not fetch {crate}: {reason}; is the registry reachable?")
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    kept = [
        *home.glob(f"registry/cache/*/{name}-{version}.crate"),
        *home.glob(f"registry/cache/*/{name}-{version}+*.crate"),
    ]
    if not kept:
        raise BuildError(f"cargo fetched {crate}, but {home}/registry/cache does not hold it: is CARGO_HOME right?")
    return Path(shutil.copy(max(kept, key=lambda path: path.stat().st_mtime), folder))


def _verify(archive: Path, part: dict[str, Any]) -> None:
    found = checksum(archive)
    if found != part["sha256"]:
        archive.unlink()
        what = part.get("package") or part["crate"]
        raise BuildError(f"{what}: sha256 is {found}, recipe.json says {part['sha256']}; nothing was built")


def checksum(archive: Path) -> str:
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def unpack(archive: Path, part: dict[str, Any], target: Path) -> None:
    """Regular files of the archive that the recipe keeps; nothing may leave the target."""
    # The folder of a crate has its version in its name.
    folder = part["folder"] if "package" in part else f"{part['crate'].replace('@', '-')}/{part['folder']}"
    keep = tuple(part["keep"])
    with tarfile.open(archive) as tar:
        for member in tar:
            relative = member.name[len(folder) :]
            if not member.isreg() or not member.name.startswith(folder) or not relative.startswith(keep):
                continue
            if ".." in Path(relative).parts:
                raise BuildError(f"{archive.name}: {member.name} points outside of the archive")
            path = target / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            path.write_bytes(content.read())


def change(source: Path, changes: list[dict[str, Any]], given: Path | None = None) -> None:
    """Make the recipe's changes in a copy of a source, of the user's own folder if ``given``.

    Raises BuildError when one has no place there; with the user's own it only says so.
    """
    for each in changes:
        path = source / each["file"]
        text = path.read_text() if path.exists() else ""
        new = each["new"] if isinstance(each["new"], str) else "\n".join(each["new"])
        if text.count(each["old"]) == 1:
            path.write_text(text.replace(each["old"], new))
        elif given:
            place = given / "src" / path.name
            print(f"{place} has no place for a change of recipe.json: {each['why']}", file=sys.stderr)
        else:
            raise BuildError(f"{path.name} is not what recipe.json changes: {each['why']}; adapt or drop the change")


if __name__ == "__main__":
    with one_line("vendor.sources"):
        for each in PARTS:
            print(obtain(each))
