"""What a finished wheel must be: each check is a function that yields what is wrong with the file."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vendor.recipe import BuildError
from wheels import elf
from wheels.bom import Bundled, bundled
from wheels.commands import run
from wheels.targets import VARIANTS, Variant

__all__ = ["CHECKS", "LARGEST", "Wheel", "faults"]

LARGEST = 6_000_000
"""Bytes of a wheel."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that was built."""

    path: Path

    @cached_property
    def files(self) -> dict[str, bytes]:
        with zipfile.ZipFile(self.path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    @cached_property
    def variant(self) -> Variant:
        """By its name. Raises BuildError where it is none of ours."""
        for variant in VARIANTS:
            if self.path.stem.endswith(f"-{variant.name}"):
                return variant
        raise BuildError(f"{self.path.name} is not called as a wheel of wheels/targets.py is")

    @property
    def metadata(self) -> str:
        return "-".join(self.path.name.split("-")[:2]) + ".dist-info"

    @cached_property
    def bundled(self) -> Bundled:
        """What its bill of materials lists; nothing, where it has none."""
        bills = [content for name, content in self.files.items() if name.startswith(f"{self.metadata}/sboms/")]
        return bundled(bills[0].decode()) if bills else Bundled({}, [])


def size(wheel: Wheel) -> Iterator[str]:
    if wheel.path.stat().st_size >= LARGEST:
        yield f"it has {wheel.path.stat().st_size:,} bytes; {LARGEST:,} are too many"


def extension(wheel: Wheel) -> Iterator[str]:
    """One, under the name that this Python looks for, and in order itself."""
    modules = [name for name in wheel.files if ".so" in Path(name).suffixes]
    expected = f"rdknotify/_rdknotify{wheel.variant.suffix}"
    if modules != [expected]:
        yield f"its shared objects are {modules}, not {expected}"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(expected).name
        path.write_bytes(wheel.files[expected])
        yield from (f"{expected}: {fault}" for fault in elf.faults(path, wheel.variant.target))


def tags(wheel: Wheel) -> Iterator[str]:
    lines = wheel.files.get(f"{wheel.metadata}/WHEEL", b"").decode().splitlines()
    if [line for line in lines if line.startswith("Tag: ")] != [f"Tag: {wheel.variant.name}"]:
        yield f"its WHEEL has another tag than its name, {wheel.variant.name}"
    if "Root-Is-Purelib: false" not in lines:
        yield "its WHEEL calls it pure"


def record(wheel: Wheel) -> Iterator[str]:
    """RECORD lists each file but itself with its checksum: what an installer compares."""
    own = f"{wheel.metadata}/RECORD"
    lines = [line.rsplit(",", 2) for line in wheel.files.get(own, b"").decode().splitlines()]
    listed = {name: (digest, size) for name, digest, size in lines}
    for name, content in wheel.files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        expected = ("", "") if name == own else (f"sha256={digest}", str(len(content)))
        if listed.get(name) != expected:
            yield f"its RECORD does not tell {name}'s content"
    missing = set(listed) - set(wheel.files)
    if missing:
        yield f"its RECORD lists what is not in it: {', '.join(sorted(missing))}"


def times(wheel: Wheel) -> Iterator[str]:
    """One time and the plain rights for all files, or the next build gives other bytes."""
    with zipfile.ZipFile(wheel.path) as archive:
        members = archive.infolist()
    if len({member.date_time for member in members}) != 1:
        yield "its files have several times"
    modes = {member.filename: member.external_attr >> 16 & 0o777 for member in members}
    odd = [name for name, mode in modes.items() if mode != (0o755 if name.endswith(".so") else 0o644)]
    if odd:
        yield f"unusual rights: {', '.join(odd[:3])}"


def licences(wheel: Wheel) -> Iterator[str]:
    """The text of every part's licence, and the project's own, as METADATA lists them."""
    folder = f"{wheel.metadata}/licenses/"
    texts = {name.removeprefix(folder) for name, content in wheel.files.items() if name.startswith(folder) and content}
    lines = wheel.files.get(f"{wheel.metadata}/METADATA", b"").decode().splitlines()
    if {line.removeprefix("License-File: ") for line in lines if line.startswith("License-File: ")} != texts:
        yield "METADATA lists other licences than it has"
    if "LICENSE" not in texts:
        yield "the licence of rdknotify itself is missing"
    for part in wheel.bundled.parts:
        if not any(text.startswith(f"vendor/licences/{part}/") for text in texts):
            yield f"the licence of {part} is missing"


def bill(wheel: Wheel) -> Iterator[str]:
    parts = wheel.bundled.parts
    if "librdkafka" not in parts:
        yield "its bill of materials is missing, or lists no librdkafka"
    system = [name for name, version in parts.items() if version == "system"]
    if system:
        yield f"{', '.join(system)} would be the machine's, whatever version that is"


def auditwheel(wheel: Wheel) -> Iterator[str]:
    """auditwheel finds the tag right, and nothing to repair."""
    program = [sys.executable, "-m", "auditwheel"]
    try:
        told = json.loads(run([*program, "show", "--json", str(wheel.path)]))
        with tempfile.TemporaryDirectory() as folder:
            run([*program, "repair", f"--wheel-dir={folder}", str(wheel.path)])
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as repaired:
                added = [name for name in repaired.namelist() if name not in wheel.files and not name.endswith("/")]
    except BuildError as error:
        yield f"auditwheel refuses it: {error}"
        return
    if told["overall_tag"] != wheel.variant.target.name.replace("manylinux2014", "manylinux_2_17"):
        yield f"auditwheel finds it fit for {told['overall_tag']}"
    if added:
        yield f"auditwheel adds {', '.join(added)}"


CHECKS: tuple[Callable[[Wheel], Iterator[str]], ...] = (
    size,
    extension,
    tags,
    record,
    times,
    licences,
    bill,
    auditwheel,
)


def faults(path: Path) -> list[str]:
    """What is wrong with a wheel; nothing, if it may be published. Raises BuildError for what is no wheel of ours."""
    wheel = Wheel(path)
    return [f"{path.name}: {fault}" for check in CHECKS for fault in check(wheel)]
