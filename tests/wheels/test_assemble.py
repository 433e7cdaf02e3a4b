"""Wheels are put together from the build backend's files and the extension: the same bytes, wherever and whenever."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom
from support.wheels import PARTS, TIME, VARIANT, shared_object

from vendor.recipe import RECIPE
from vendor.sources import obtain
from wheels import pythons
from wheels.assemble import Pure, assemble, epoch, pure_part
from wheels.bom import bill_of_materials, bundled
from wheels.extension import ROOT
from wheels.targets import PYTHONS, TARGETS, VARIANTS, Python, Target, Variant, select


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Pure:
    return pure_part(ROOT, sorted(PARTS), tmp_path_factory.mktemp("pure"))


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_object(tmp_path_factory.mktemp("extension") / f"_rdknotify{VARIANT.suffix}")


def bill(**parts: str) -> str:
    return bill_of_materials("0.1.0", PARTS | parts, ["ssl", "zstd"], RECIPE, TIME)


def test_the_pure_part_is_all_of_the_package_and_nothing_else(ours: Pure) -> None:
    package = {name for name in ours.files if name.startswith("rdknotify/")}
    tracked = subprocess.check_output(["git", "ls-files", "src/rdknotify"], cwd=ROOT, text=True).split()
    assert package == {name.removeprefix("src/") for name in tracked if (ROOT / name).exists()}
    assert "rdknotify/py.typed" in package and "rdknotify/_rdknotify.pyi" in package
    metadata = ours.files[f"{ours.metadata}/METADATA"].decode()
    assert "Requires-Python: >=3.10" in metadata and "Requires-Dist: msgspec" in metadata
    assert "rdknotify = rdknotify.__main__:run" in ours.files[f"{ours.metadata}/entry_points.txt"].decode()
    for part in PARTS:
        listed = [line for line in metadata.splitlines() if line.startswith("License-File: ") and f"/{part}/" in line]
        assert len(listed) == len(RECIPE[part]["licences"])


def test_the_same_files_give_the_same_bytes(ours: Pure, extension: Path, tmp_path: Path) -> None:
    """A later time, another folder and other rights make no difference; another commit's time does."""
    twice = []
    for name, mask in (("a", 0o022), ("another", 0o077)):
        old = os.umask(mask)
        try:
            folder = tmp_path / name
            folder.mkdir()
            copy = folder / extension.name
            copy.write_bytes(extension.read_bytes())
            os.utime(copy, (mask, mask))
            twice.append(assemble(ours, VARIANT, copy, bill(), TIME, folder).read_bytes())
        finally:
            os.umask(old)
    assert twice[0] == twice[1]
    assert assemble(ours, VARIANT, extension, bill(), TIME + 2, tmp_path).read_bytes() != twice[0]


def test_pip_installs_one(ours: Pure, extension: Path, tmp_path: Path) -> None:
    if VARIANT not in VARIANTS:
        pytest.skip(f"no wheels are made for this Python, {VARIANT.name}")
    path = assemble(ours, VARIANT, extension, bill(), TIME, tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, f"--target={tmp_path / 'site'}", str(path)], check=True, timeout=100)
    installed = tmp_path / "site" / "rdknotify"
    assert (installed / extension.name).stat().st_mode & 0o777 == 0o755
    assert (installed / "about.py").read_bytes() == (ROOT / "src/rdknotify/about.py").read_bytes()


def test_a_free_threaded_python_requires_only_what_it_can_have(ours: Pure, extension: Path, tmp_path: Path) -> None:
    needed = {}
    for version in ("3.14t", "3.14"):
        path = assemble(ours, Variant(Python(version), TARGETS[0]), extension, bill(), TIME, tmp_path)
        with zipfile.ZipFile(path) as archive:
            lines = archive.read(f"{ours.metadata}/METADATA").decode().splitlines()
        needed[version] = {line for line in lines if line.startswith("Requires-Dist: ") and ";" not in line}
        assert any(line.startswith("Requires-Dist: click") for line in lines)
    assert {line[15:21] for line in needed["3.14"] - needed["3.14t"]} == {"orjson"}
    assert {line[15:22] for line in needed["3.14t"]} == {"msgspec"}


BY_ANOTHER = """
import runpy, sys, sysconfig
real = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: 1 if name == "Py_GIL_DISABLED" else real(name)
sys.argv = ["setup.py", "-q", "dist_info", "-o", sys.argv[1]]
runpy.run_path("setup.py", run_name="__main__")
"""


def test_pip_asks_no_more_of_one_either(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BY_ANOTHER, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (metadata,) = tmp_path.glob("*.dist-info/METADATA")
    needed = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist: ")]
    assert [line[15:22] for line in needed if ";" not in line] == ["msgspec"]


def test_times_before_zips_had_any(ours: Pure, extension: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(assemble(ours, VARIANT, extension, bill(), 0, tmp_path)) as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_the_time_is_that_of_the_commit_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert epoch() == int(subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    assert epoch() == 1234567890


def test_the_bill_lists_versions_licences_and_checksums() -> None:
    every = {name: RECIPE[name]["version"] for name in ("librdkafka", "zstd", "openssl", "zlib", "curl")}
    text = bill(**every)
    assert bundled(text).parts == every and bundled(text).features == ["ssl", "zstd"]
    read = Bom.from_json(json.loads(text))  # type: ignore[attr-defined]  # made by a decorator
    for component in read.components:
        entry = RECIPE[component.name]
        (source,) = component.external_references
        assert [each.content for each in source.hashes] == [entry["sha256"]]
        assert entry["version"] in str(source.url) or "package" in entry or component.name == "zlib"
        assert [each.value for each in component.licenses] == [entry["spdx"]]
    assert read.metadata.component is not None and read.metadata.component.version == "0.1.0"


def test_the_bill_lists_what_librdkafka_carries() -> None:
    read = Bom.from_json(json.loads(bill()))  # type: ignore[attr-defined]  # made by a decorator
    (librdkafka,) = [component for component in read.components if component.name == "librdkafka"]
    carried = {component.name: component for component in librdkafka.components}
    assert carried.keys() == RECIPE["librdkafka"]["carries"].keys() > {"lz4", "snappy", "cjson"}
    for name in ("lz4", "snappy", "cjson"):
        assert re.fullmatch(r"\d+\.\d+\.\d+", str(carried[name].version))
        assert str(carried[name].version) in str(carried[name].cpe)
    texts = (obtain("librdkafka") / "LICENSES.txt").read_text()
    told = set(re.findall(r"^LICENSE\.(\w+)$", texts, re.MULTILINE)) - {"wingetopt"}  # which is Windows' only
    assert {name.removesuffix("-proto") for name in carried} - {"xxhash"} == told  # xxhash is told with lz4


def test_the_bill_is_another_for_other_parts_only() -> None:
    assert bill() == bill()
    numbers = {json.loads(text)["serialNumber"] for text in (bill(), bill(zstd="9.9.9"))}
    assert len(numbers) == 2


def test_every_python_of_the_table_is_pinned() -> None:
    assert {python.version for python in PYTHONS} <= set(pythons.VERSIONS)
    assert len({variant.name for variant in VARIANTS}) == len(TARGETS) * len(PYTHONS)


@pytest.mark.parametrize(
    ("python", "target", "name", "suffix"),
    [
        (Python("3.12"), Target("aarch64", "glibc"), "cp312-cp312-manylinux2014_aarch64",
         ".cpython-312-aarch64-linux-gnu.so"),
        (Python("3.13t"), Target("x86_64", "musl"), "cp313-cp313t-musllinux_1_2_x86_64",
         ".cpython-313t-x86_64-linux-musl.so"),
        (Python("3.10"), Target("x86_64", "musl"), "cp310-cp310-musllinux_1_2_x86_64",
         ".cpython-310-x86_64-linux-gnu.so"),
        (Python("3.11", limited=True), Target("x86_64", "glibc"), "cp311-abi3-manylinux2014_x86_64", ".abi3.so"),
    ],
)  # fmt: skip
def test_names(python: Python, target: Target, name: str, suffix: str) -> None:
    variant = Variant(python, target)
    assert (variant.name, variant.suffix) == (name, suffix)


def test_every_cpython_gets_one_wheel() -> None:
    for version in (*pythons.VERSIONS, "3.15"):
        assert sum(python.serves(version) for python in PYTHONS) == 1, version
    assert not any(python.serves(version) for version in ("3.9", "3.15t") for python in PYTHONS)


def test_some_are_chosen_by_their_names() -> None:
    assert select("*") == list(VARIANTS)
    assert {variant.target.libc for variant in select("*-musllinux_*")} == {"musl"}
    with pytest.raises(ValueError, match="no wheel is called 'cp27"):
        select("*x86_64, cp27-*")
