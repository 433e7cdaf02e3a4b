"""A wheel that must not be published is refused, for each reason there is; auditwheel itself is asked about the tag."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from support.wheels import HERE, PARTS, TIME, VARIANT, rewritten, shared_object, wheel

from vendor.recipe import RECIPE, BuildError
from wheels import inspection, listing
from wheels.bom import bill_of_materials
from wheels.inspection import Wheel, faults
from wheels.targets import TARGETS, Target, Variant

pytestmark = pytest.mark.skipif(
    HERE not in TARGETS or platform.libc_ver()[0] != "glibc", reason="the compiler at hand compiles for no target"
)
INFO = "rdknotify-1.2.dist-info"


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_object(tmp_path_factory.mktemp("extension") / "good.so")


@pytest.fixture
def good(extension: Path, tmp_path: Path) -> Path:
    return wheel(tmp_path, extension)


def said(path: Path, *checks: str) -> str:
    return "\n".join(fault for name in checks for fault in getattr(inspection, name)(Wheel(path)))


def test_nothing_is_wrong_with_a_good_one(good: Path) -> None:
    assert faults(good) == []


def test_an_extension_that_is_not_in_order(tmp_path: Path) -> None:
    path = wheel(tmp_path, shared_object(tmp_path / "bad.so", "", "-Wl,-rpath,/opt/lib"))
    assert "_rdknotify" in said(path, "extension") and "names folders" in said(path, "extension")


def test_an_extension_that_this_python_does_not_look_for(good: Path) -> None:
    name = f"rdknotify/_rdknotify{VARIANT.suffix}"
    changed = {name: None, "rdknotify/_rdknotify.cpython-37m.so": b""}
    assert f"not {name}" in said(rewritten(good, changed), "extension")


def test_too_large(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(good, "size") == "" and inspection.LARGEST == 6_000_000
    monkeypatch.setattr(inspection, "LARGEST", good.stat().st_size)
    assert "too many" in said(good, "size")


def test_another_tag_inside(good: Path) -> None:
    bad = rewritten(good, {f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"})
    assert "another tag" in said(bad, "tags") and "pure" in said(bad, "tags")


@pytest.mark.parametrize("change", [{"rdknotify/__init__.py": b"import os"}, {"rdknotify/new.py": b""}])
def test_content_that_record_does_not_tell(good: Path, change: dict[str, bytes | None]) -> None:
    (name,) = change
    assert said(good, "record") == ""
    assert said(rewritten(good, change), "record") == f"its RECORD does not tell {name}'s content"


def test_content_that_is_gone(good: Path) -> None:
    assert "lists what is not in it: rdknotify/__init__.py" in said(
        rewritten(good, {"rdknotify/__init__.py": None}), "record"
    )


def test_times_and_rights_that_the_next_build_has_not(good: Path) -> None:
    assert said(good, "times") == ""
    bad = said(rewritten(good, {"rdknotify/new.py": b""}), "times")
    assert "several times" in bad and "unusual rights: rdknotify/new.py" in bad


def test_a_licence_that_is_missing(good: Path) -> None:
    text = f"{INFO}/licenses/vendor/licences/zstd/LICENSE"
    bad = said(rewritten(good, {text: None, f"{INFO}/licenses/LICENSE": b""}), "licences")
    assert "the licence of zstd is missing" in bad and "of rdknotify itself" in bad and "METADATA" in bad


def test_a_part_that_is_the_machines(extension: Path, tmp_path: Path) -> None:
    bill = bill_of_materials("1.2", PARTS | {"openssl": "system"}, [], RECIPE, TIME)
    assert "openssl would be the machine's" in said(wheel(tmp_path, extension, bill), "bill")


def test_without_a_bill(good: Path) -> None:
    assert "missing" in said(rewritten(good, {f"{INFO}/sboms/rdknotify-1.2.cdx.json": None}), "bill")


def test_auditwheel_refuses_a_library_that_it_cannot_find(tmp_path: Path) -> None:
    shared_object(tmp_path / "libother.so")
    path = wheel(tmp_path, shared_object(tmp_path / "bad.so", "", f"-L{tmp_path}", "-Wl,--no-as-needed", "-lother"))
    assert "auditwheel refuses it" in said(path, "auditwheel")


def test_auditwheel_finds_a_tag_too_good(tmp_path: Path) -> None:
    newer = '__asm__(".symver getrandom, getrandom@GLIBC_2.25"); int getrandom(); int (*r)() = getrandom;'
    path = wheel(tmp_path, shared_object(tmp_path / "bad.so", newer))
    assert "auditwheel finds it fit for manylinux_2_" in said(path, "auditwheel")


def test_a_name_that_is_none_of_ours(good: Path) -> None:
    other = good.rename(good.with_name("rdknotify-1.2-cp27-cp27m-win32.whl"))
    with pytest.raises(BuildError, match="cp27-cp27m-win32"):
        faults(other)


def test_a_table_and_checksums_lie_beside(extension: Path, tmp_path: Path) -> None:
    """Of what is in the folder, whoever put it there; sha256sum agrees."""
    musl = Variant(VARIANT.python, Target("x86_64", "musl"))
    paths = [wheel(tmp_path, extension), wheel(tmp_path, extension, variant=musl)]
    for left in [*tmp_path.glob("*.so")]:
        left.unlink()
    (tmp_path / "rdknotify-1.2.tar.gz").write_bytes(b"the sdist")
    listing.write(tmp_path)
    lines = (tmp_path / "wheels.md").read_text().splitlines()
    assert len(lines) == 2 + len(paths)
    for path in paths:
        (line,) = [line for line in lines if path.name in line]
        assert f"librdkafka {PARTS['librdkafka']}" in line and "ssl, zstd" in line and VARIANT.python.version in line
    sums = (tmp_path / "SHA256SUMS").read_text()
    assert sums.count("\n") == 3 and shutil.which("sha256sum")
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=False).returncode == 0
