"""CPythons to compile against and to run: pinned, verified, and made ready; here out of a small one."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from vendor.recipe import BuildError
from wheels import debian, pythons
from wheels.targets import PYTHONS, TARGETS

FOLDER = "org/bytedeco/cpython/linux-x86_64"
GIL = "/* #undef Py_GIL_DISABLED */"
CONFIG = f"#define HAVE_FORK 1\n\n/* Define if you want to disable the GIL */\n{GIL}\n"
FILES = {
    "bin/python3.13": "#!/bin/sh\necho as Python: $1\n",
    "libffi.so.8": "of ctypes",
    "lib/python3.13/lib-dynload/_ctypes.so": "",
    "include/python3.13/Python.h": '#include "pyconfig.h"\n',
    "include/python3.13/pyconfig.h": CONFIG,
}


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The jar that a stand-in for Maven gives, whatever it is asked for; an empty cache; the jar is the pinned one."""
    release = pythons.PINS["maven"]["3.13"]["release"]
    jar = tmp_path / f"cpython-{release}-linux-x86_64.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"{FOLDER}/{name}", text)
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncp {jar} .\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("RDKNOTIFY_CACHE", str(tmp_path / "cache"))
    pin(jar, monkeypatch)
    return jar


def pin(jar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checksum = hashlib.sha256(jar.read_bytes()).hexdigest()
    monkeypatch.setitem(pythons.PINS["maven"]["3.13"], "sha256", {"x86_64": checksum})


def test_every_wheel_has_headers_and_every_pin_a_checksum() -> None:
    assert {python.version for python in PYTHONS} <= set(pythons.VERSIONS)
    for version, pinned in pythons.PINS["maven"].items():
        assert pinned["release"].startswith(f"{version}.")
        assert pinned["sha256"]["x86_64"], "headers are taken from this one"
        assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in pinned["sha256"].values())


def test_what_is_fetched_can_be_run_and_compiled_against(maven: Path) -> None:
    home = pythons.python_of_maven("3.13", "x86_64")
    said = subprocess.run([home / "bin" / "python3.13", "x"], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "as Python: x\n"
    assert (home / "lib/python3.13/lib-dynload/libffi.so.8").read_text() == "of ctypes"  # where _ctypes looks
    assert (pythons.headers("3.13") / "Python.h").exists()

    maven.unlink()
    assert pythons.python_of_maven("3.13", "x86_64") == home, "it was fetched a second time"


def test_headers_without_the_gil_differ_by_that_only(maven: Path) -> None:
    folder = pythons.headers("3.13t")
    assert (folder / "pyconfig.h").read_text() == CONFIG.replace(GIL, "#define Py_GIL_DISABLED 1")
    assert (pythons.headers("3.13") / "pyconfig.h").read_text() == CONFIG


def test_a_python_that_knows_no_other_way_than_the_gil_is_refused(maven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(maven, "w") as archive:
        archive.writestr(f"{FOLDER}/bin/python3.13", "")
        archive.writestr(f"{FOLDER}/include/python3.13/pyconfig.h", "#define HAVE_FORK 1\n")
    pin(maven, monkeypatch)
    with pytest.raises(BuildError, match="without the GIL"):
        pythons.headers("3.13t")


def test_another_jar_than_the_pinned_one_is_refused_and_not_kept(maven: Path) -> None:
    maven.write_bytes(maven.read_bytes() + b"\n")
    with pytest.raises(BuildError, match=r"not the one that wheels/pythons\.json pins"):
        pythons.python_of_maven("3.13", "x86_64")
    assert not list(Path(os.environ["RDKNOTIFY_CACHE"]).glob("cpython*"))


@pytest.mark.parametrize("version", ["2.7", "3.99", "3.99t"])
def test_an_unknown_python_is_answered_with_those_that_are_known(version: str) -> None:
    with pytest.raises(BuildError, match=r"3\.13t"):
        pythons.headers(version)


def test_where_nothing_can_be_run_a_reason_is_given() -> None:
    for target in TARGETS:
        for version in pythons.VERSIONS:
            reason = pythons.why_not(version, target.name)
            if reason:
                assert pythons.interpreter(version, target.name) is None
            elif target.machine == "aarch64":
                assert "aarch64" in pythons.PINS["maven"][version]["sha256"] or version in pythons.PINS["debian"]
    for target in TARGETS[:3]:
        assert any(not pythons.why_not(version, target.name) for version in pythons.VERSIONS), target
    assert any(not pythons.why_not(version, pythons.OLD_GLIBC) for version in pythons.VERSIONS)


def test_without_apt_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="apt or Debian's keyring is missing"):
        debian.unpack(["musl"], "bookworm", "amd64", tmp_path / "root")
