"""Wheels as files: the pure part from the build backend, once; the extension added; the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from vendor.requirements import for_free_threaded
from vendor.sources import licences
from wheels.commands import run
from wheels.extension import ROOT
from wheels.targets import Variant

__all__ = ["Pure", "assemble", "epoch", "pure_part"]

_NEEDS = "Requires-Dist: "
_STAGED = ("pyproject.toml", "README.md", "LICENSE", "vendor/LICENSES.md")


@dataclass(frozen=True)
class Pure:
    """What all wheels of a version have in common: files by their names in the wheel."""

    name: str
    """As wheels begin: rdknotify-0.1.0."""
    files: dict[str, bytes]

    @property
    def metadata(self) -> str:
        """The folder with METADATA."""
        return f"{self.name}.dist-info"


def epoch() -> int:
    """The time of all files in wheels, in seconds since 1970: SOURCE_DATE_EPOCH, else that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or run(["git", "log", "-1", "--format=%ct"], cwd=ROOT))


def pure_part(root: Path, parts: list[str], work: Path) -> Pure:
    """Made by the project's build backend from a copy without setup.py, so that nothing is compiled.

    The licences of the bundled ``parts`` are among its licence files. Raises BuildError.
    """
    stage, out = work / "stage", work / "pure"
    files = [*_STAGED, *run(["git", "ls-files", "src/rdknotify"], cwd=ROOT).split()]
    for file in files:
        (stage / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, stage / file)
    for part in parts:
        folder = stage / "vendor" / "licences" / part
        folder.mkdir(parents=True)
        for text in licences(part):
            # As license-files of pyproject.toml expects.
            shutil.copy(text, folder / (text.name if text.name.startswith("LICENSE") else f"LICENSE.{text.name}"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"]
    run([*command, f"--outdir={out}", str(stage)])
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    pure = Pure("-".join(wheel.name.split("-")[:2]), content)
    for made_anew in ("RECORD", "WHEEL"):
        del content[f"{pure.metadata}/{made_anew}"]
    return pure


def assemble(pure: Pure, variant: Variant, extension: Path, bill: str, seconds: int, folder: Path) -> Path:
    """The wheel, written into ``folder``."""
    files = dict(pure.files)
    files[f"rdknotify/{extension.name}"] = extension.read_bytes()
    files[f"{pure.metadata}/sboms/{pure.name}.cdx.json"] = bill.encode()
    files[f"{pure.metadata}/WHEEL"] = _wheel_file(variant)
    if variant.python.free_threaded:
        files[f"{pure.metadata}/METADATA"] = _without_what_is_not_released(files[f"{pure.metadata}/METADATA"])
    files[f"{pure.metadata}/RECORD"] = _record(files, f"{pure.metadata}/RECORD")
    path = folder / f"{pure.name}-{variant.name}.whl"
    moment = time.gmtime(max(seconds, 315_532_800))[:6]  # a zip knows no time before 1980
    with zipfile.ZipFile(path, "w") as archive:
        # The metadata comes last, as PEP 427 advises, and RECORD after all that it lists.
        for name in sorted(files, key=lambda name: (name.startswith(pure.metadata), name.endswith("/RECORD"), name)):
            member = zipfile.ZipInfo(name, moment)
            member.create_system = 3  # Unix, whose modes follow
            member.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(member, files[name], zipfile.ZIP_DEFLATED, 9)
    return path


def _wheel_file(variant: Variant) -> bytes:
    lines = ["Wheel-Version: 1.0", "Generator: rdknotify wheels", "Root-Is-Purelib: false", f"Tag: {variant.name}", ""]
    return "\n".join(lines).encode()


def _without_what_is_not_released(metadata: bytes) -> bytes:
    """METADATA as a free-threaded CPython can meet it."""
    head, blank, text = metadata.decode().partition("\n\n")
    lines = head.split("\n")
    needed = [line.removeprefix(_NEEDS) for line in lines if line.startswith(_NEEDS)]
    possible = set(for_free_threaded(needed))
    kept = [line for line in lines if not line.startswith(_NEEDS) or line.removeprefix(_NEEDS) in possible]
    return ("\n".join(kept) + blank + text).encode()


def _record(files: dict[str, bytes], own: str) -> bytes:
    def line(name: str) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
        return f"{name},sha256={digest},{len(files[name])}"

    return "\n".join([*map(line, sorted(files)), f"{own},,", ""]).encode()
