"""vendor/update.py as who keeps the parts current meets it; npm and cargo are toys on PATH, the rest is real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.vendored import BUNDLED, PARTS, Project

PROGRAM = "vendor/update.py"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    newest = tmp_path / "registry" / "newest"
    newest.mkdir()
    for package, version in {
        "openssl-src": "400.0.2+4.0.3",
        "openssl-src@300": "300.9.9+3.9.9 (latest 400.0.2+4.0.3)",
        "libz-sys": project.recipe["zlib"]["crate"].partition("@")[2],
        "curl-sys": "0.5.0+curl-9.0.0",
    }.items():
        (newest / package).write_text(f"{package}\nA toy\nversion: {version}\nlicense: MIT\n")
    for package in ("kafka-javascript", "zstd-napi"):
        (newest / package).write_text("7.7.7\n")
    return project


def run(project: Project, *arguments: str, status: int = 0) -> tuple[str, str]:
    process = project.start(program=(PROGRAM, *arguments))
    output, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "Traceback" not in said
    return output, said


def recipe(project: Project) -> str:
    return (project.root / "vendor" / "recipe.json").read_text()


def test_each_part_is_reported_with_what_is_newer(project: Project) -> None:
    lines = {line.split()[0]: line for line in run(project)[0].splitlines()}
    assert list(lines) == list(PARTS)
    assert "2.15.1" in lines["librdkafka"]
    assert "7.7.7 is newer" in lines["librdkafka"]
    assert "300.9.9+3.9.9 is newer (400.0.2+4.0.3 beyond its line)" in lines["openssl"]
    assert lines["zlib"].endswith("the newest")
    assert "0.5.0+curl-9.0.0 is newer" in lines["curl"]


def test_a_bump_pins_version_package_and_checksum_and_touches_nothing_else(project: Project) -> None:
    before = json.loads(json.dumps(project.recipe))
    newer = {**PARTS["openssl"], "VERSION.dat": "MAJOR=3\nMINOR=9\nPATCH=9\n"}
    project.publish("openssl", newer, crate="openssl-src@300.9.9+3.9.9")
    checksum, project.recipe = project.recipe["openssl"]["sha256"], before
    output, _ = run(project, "bump", "openssl")
    assert "3.6.3 -> 3.9.9" in output
    after = json.loads(recipe(project))
    pinned = {"version": "3.9.9", "crate": "openssl-src@300.9.9+3.9.9", "sha256": checksum}
    assert after == {**before, "openssl": {**before["openssl"], **pinned}}


def test_the_form_of_the_recipe_is_kept(project: Project) -> None:
    from vendor.update import repinned

    text = (Path(__file__).parents[2] / "vendor" / "recipe.json").read_text()
    old = json.loads(text)
    for name in PARTS:
        new = {**old[name], "version": "9.9.9", "sha256": "f" * 64}
        lines = zip(text.splitlines(), repinned(text, name, old[name], new).splitlines(), strict=True)
        changed = [line.strip() for was, line in lines if was != line]
        assert changed == ['"version": "9.9.9",', f'"sha256": "{"f" * 64}",']
        assert json.loads(repinned(text, name, old[name], new))[name] == new


def test_the_bumped_version_is_built(project: Project) -> None:
    project.publish("zlib", {**PARTS["zlib"], "zlib.h": '#define ZLIB_VERSION "1.4"\n'}, crate="libz-sys@1.2.0")
    project.recipe["zlib"] |= {"sha256": "0" * 64, "version": "1.3.2", "crate": "libz-sys@1.1.31"}
    run(project, "bump", "zlib", "1.2.0")
    project.recipe = json.loads(recipe(project))
    prefix, _ = project.build(**BUNDLED)
    assert json.loads((prefix / "rdknotify-build.json").read_text())["parts"]["zlib"] == "1.4"


def test_a_version_may_be_named_without_what_follows_the_plus(project: Project) -> None:
    crate = project.recipe["curl"]["crate"]
    run(project, "bump", "curl", crate.partition("@")[2].partition("+")[0])
    assert json.loads(recipe(project)) == project.recipe


@pytest.mark.parametrize(("part", "reason"), [("zstd", "toy has none"), ("openssl", "failed to select a version")])
def test_a_version_that_does_not_exist_changes_nothing(project: Project, part: str, reason: str) -> None:
    _, said = run(project, "bump", part, "9.9.9", status=1)
    assert reason in said.splitlines()[-1]
    assert "@9.9.9" in said.splitlines()[-1]
    assert json.loads(recipe(project)) == project.recipe


def test_a_package_of_another_layout_changes_nothing(project: Project) -> None:
    project.publish("curl", {"COPYING": "toy"})
    _, said = run(project, "bump", "curl", project.recipe["curl"]["crate"].partition("@")[2], status=1)
    assert "include/curl/curlver.h" in said
    assert json.loads(recipe(project)) == project.recipe


def test_a_client_that_is_missing_or_fails_is_one_line(project: Project) -> None:
    project.tool("cargo", "echo 'error: could not connect' >&2; exit 101")
    assert "could not connect" in run(project, status=1)[1].splitlines()[-1]
    (project.tools / "cargo").unlink()
    assert "install cargo" in run(project, status=1)[1].splitlines()[-1]
