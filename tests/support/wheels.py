"""Small shared objects and wheels, good ones and bad ones, made with the compiler at hand."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from vendor.recipe import RECIPE
from wheels.assemble import Pure, assemble
from wheels.bom import bill_of_materials
from wheels.targets import PYTHONS, Python, Target, Variant

HERE = Target(platform.machine(), "glibc")
"""What the compiler at hand compiles for, where there is a glibc."""
VERSION = "{}.{}".format(*sys.version_info[:2]) + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
VARIANT = Variant(next((python for python in PYTHONS if python.serves(VERSION)), Python(VERSION)), HERE)
"""The wheel that this Python would get."""
PARTS = {"librdkafka": RECIPE["librdkafka"]["version"], "zstd": RECIPE["zstd"]["version"]}
TIME = 1_700_000_000
# Wants of its C library what glibc 2.17 has as the newest, and nothing else.
GOOD = (
    "#include <time.h>\nint PyInit__rdknotify(void) { struct timespec t; return clock_gettime(CLOCK_REALTIME, &t); }\n"
)
FLAGS = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wl,-z,relro,-z,now", "-Wl,-z,max-page-size=65536"]
EXPORT = '__attribute__((visibility("default"))) '


def shared_object(
    path: Path, more: str = "", *flags: str, core: str = EXPORT + "int PyInit__rdknotify", strip: bool = True
) -> Path:
    """A good extension, as far as a loader sees, with ``more`` C and flags that spoil it."""
    source = path.with_suffix(".c")
    source.write_text(GOOD.replace("int PyInit__rdknotify", core) + more)
    compiler = shutil.which("cc") or "gcc"
    done = subprocess.run(
        [compiler, *FLAGS, *["-s"] * strip, str(source), "-o", str(path), *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path


def pure() -> Pure:
    """What all wheels have in common, but small."""
    files = {
        "rdknotify/__init__.py": b"",
        "rdknotify-1.2.dist-info/licenses/LICENSE": b"ours",
        **{f"rdknotify-1.2.dist-info/licenses/vendor/licences/{part}/LICENSE": b"theirs" for part in PARTS},
    }
    texts = [name.partition("/licenses/")[2] for name in files if "/licenses/" in name]
    metadata = [
        "Metadata-Version: 2.4",
        "Name: rdknotify",
        "Version: 1.2",
        *(f"License-File: {text}" for text in texts),
    ]
    files["rdknotify-1.2.dist-info/METADATA"] = "\n".join([*metadata, ""]).encode()
    return Pure("rdknotify-1.2", files)


def wheel(folder: Path, extension: Path, bill: str | None = None, variant: Variant = VARIANT) -> Path:
    """A wheel in which nothing is wrong, but for what is wrong with the extension."""
    text = bill_of_materials("1.2", PARTS, ["ssl", "zstd"], RECIPE, TIME) if bill is None else bill
    named = folder / f"_rdknotify{variant.suffix}"
    if extension != named:
        shutil.copy(extension, named)
    return assemble(pure(), variant, named, text, TIME, folder)


def rewritten(wheel: Path, change: dict[str, bytes | None]) -> Path:
    """The wheel with some files changed, added or left out, and its RECORD as it was."""
    with zipfile.ZipFile(wheel) as archive:
        members = {member: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in members.items():
            new = change.pop(member.filename, content)
            if new is not None:
                archive.writestr(member, new)
        for name, added in change.items():
            archive.writestr(zipfile.ZipInfo(name, (2001, 1, 1, 0, 0, 0)), added or b"")
    return wheel
