"""vendor/build.py as a user meets it: a process, its exit status, one line that says what to do.

It runs for real, with the real compiler, on a toy of the C sources, so that a build takes a moment.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from support.vendored import PARTS, RECIPE, VENDOR, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_build_makes_one_archive_says_where_it_is_and_what_it_has(project: Project) -> None:
    prefix, said = project.build()
    members = subprocess.run(["ar", "t", prefix / "lib" / "librdkafka.a"], capture_output=True, text=True, check=True)
    names = sorted(name.partition("-")[2] for name in members.stdout.split())
    assert names == ["rdkafka.o", "rdkafka_lz4.o", "rdkafka_zstd.o", "rdxxhash.o", "zstd_common.o"]
    assert sorted(path.name for path in (prefix / "include").iterdir()) == ["rdkafka.h", "rdkafka_mock.h"]
    assert said.splitlines()[-1] == "librdkafka 2.15.1 with " + ", ".join(RECIPE["features"] + RECIPE["always"])
    info = json.loads((prefix / "rdknotify-build.json").read_text())
    assert {"ssl", "crypto", "z"} <= set(info["libraries"])


def test_a_second_build_finds_the_first(project: Project) -> None:
    first, _ = project.build()
    compiled = project.compiled()
    (project.tools / "npm").unlink()
    started = time.monotonic()
    second, _ = project.build()
    assert second == first
    assert project.compiled() == compiled
    assert time.monotonic() - started < 5


def test_another_compiler_other_flags_and_other_features_make_another_library(project: Project) -> None:
    prefixes = [project.build()[0]]
    project.tool("cc", f'case $* in *--version) echo "cc of tomorrow"; exit;; esac; exec {shutil.which("cc")} "$@"')
    prefixes.append(project.build()[0])
    project.recipe["cflags"].append("-O1")
    prefixes.append(project.build()[0])
    prefixes.append(project.build(CFLAGS="-DMINE")[0])
    prefixes.append(project.build(RDKNOTIFY_WITHOUT="snappy")[0])
    assert len({*prefixes}) == 5
    assert all(prefix.exists() for prefix in prefixes)


def test_builds_at_the_same_time_agree(project: Project) -> None:
    builds = [project.start() for _ in range(3)]
    prefixes = {build.communicate(timeout=60)[0] for build in builds}
    assert [build.returncode for build in builds] == [0, 0, 0]
    assert len(prefixes) == 1
    assert sorted(path.name for path in (project.root / "build").iterdir() if path.name.startswith("tmp")) == []


@pytest.mark.parametrize("part", ["librdkafka", "zstd"])
def test_an_archive_with_another_checksum_is_refused(project: Project, part: str) -> None:
    published = project.recipe[part]["sha256"]
    project.recipe[part]["sha256"] = "0" * 64
    line = project.refusal()
    assert published in line
    assert "0" * 64 in line
    assert project.recipe[part]["package"] in line
    assert not list(project.root.glob(f"build/downloads/{'0' * 16}*"))
    assert project.compiled() == []


def test_a_damaged_download_is_refused_and_obtained_again(project: Project) -> None:
    project.build()
    for folder in ("librdkafka-*", "source"):
        for path in project.root.glob(f"build/{folder}"):
            shutil.rmtree(path)
    (project.root / "build" / "downloads" / f"{project.recipe['zstd']['sha256'][:16]}.tgz").write_bytes(b"half")
    assert "sha256" in project.refusal()
    project.build()


def compiling(project: Project) -> subprocess.Popen[str]:
    """A build that does not get beyond its first file."""
    project.tool("cc", f'case $* in *" -c "*) touch {project.root}/begun; exec sleep 5;; *) exec cc "$@";; esac')
    process = project.start()
    deadline = time.monotonic() + 30
    while not (project.root / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_ctrl_c_is_one_line_and_leaves_no_half_library(project: Project) -> None:
    process = compiling(project)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the compilers too
    assert project.ended(process, 130) == "vendor/build.py: interrupted"


def test_a_killed_build_leaves_nothing_that_a_later_one_would_take(project: Project) -> None:
    process = compiling(project)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not list(project.root.glob("build/librdkafka-*"))
    project.tool("cc", 'exec cc "$@"')
    prefix, _ = project.build()
    assert (prefix / "lib" / "librdkafka.a").exists()


def test_a_full_disk_is_one_line(project: Project) -> None:
    """Here full for every file of more than 1 MiB, of which the source has one."""
    project.publish("librdkafka", {**PARTS["librdkafka"], "src/large.h": "/* large */" * 200_000})
    line = project.ended(project.start(limit=1 << 20), 1)
    assert os.strerror(errno.EFBIG) in line
    assert not list(project.root.glob("build/source/librdkafka-*"))


def test_the_compilers_reason_is_told(project: Project) -> None:
    full = "/tmp/x.s: fatal error: error writing to x.o: No space left on device"
    project.tool("cc", f'case $* in *" -c "*) echo "{full}" >&2; exit 1;; *) exec cc "$@";; esac')
    line = project.refusal()
    assert ".c does not compile" in line
    assert full in line


def test_an_archive_cannot_write_elsewhere(project: Project) -> None:
    project.publish("librdkafka", {"src/../../escaped.c": "int escaped;"})
    assert "points outside" in project.refusal()
    assert not list(project.root.rglob("escaped.c"))


def test_without_npm_the_line_says_what_to_install_or_set(project: Project) -> None:
    (project.tools / "npm").unlink()
    line = project.refusal()
    assert "install npm" in line
    assert "RDKNOTIFY_LIBRDKAFKA_SRC" in line


def test_the_reason_of_npm_is_told(project: Project) -> None:
    project.tool(
        "npm", "printf 'npm error code E404\\nnpm error 404 Not Found - GET toy\\nnpm error a log\\n' >&2; exit 1"
    )
    line = project.refusal()
    assert project.recipe["librdkafka"]["package"] in line
    assert "404 Not Found - GET toy" in line


@pytest.mark.parametrize(("tool", "remedy"), [("cc", "install gcc"), ("ar", "install binutils")])
def test_a_missing_tool_is_one_line(project: Project, tool: str, remedy: str) -> None:
    (project.tools / tool).unlink()
    assert remedy in project.refusal()


def test_the_compiler_is_chosen_by_cc(project: Project) -> None:
    (project.tools / "cc").rename(project.tools / "other cc")
    assert "no C compiler (missing-cc)" in project.refusal(CC="missing-cc -m64")
    project.build(CC="'other cc' -O1")
    assert "rdkafka.c" in project.compiled()


def test_a_compiler_without_the_c_library_is_not_taken_for_missing_openssl(project: Project) -> None:
    project.tool("cc", "echo 'fatal error: stdlib.h: No such file or directory' >&2; exit 1")
    line = project.refusal()
    assert "fatal error: stdlib.h" in line
    assert "build-essential" in line
    assert "OpenSSL" not in line


def test_flags_of_the_user_reach_the_probes_and_the_library(project: Project) -> None:
    project.build(CPPFLAGS="-DMINE=1", CFLAGS="-O1", LDFLAGS="-Lmine")
    calls = project.calls.read_text().splitlines()
    assert all("-DMINE=1 -O1 -c" in call for call in calls if " -c " in call)
    assert all("-DMINE=1 -O1" in call and "-Lmine -lssl" in call for call in calls if "-lssl" in call)


@pytest.mark.parametrize(("header", "package"), [("openssl", "libssl-dev"), ("zlib.h", "zlib1g-dev")])
def test_missing_headers_are_one_line_and_never_less_features(project: Project, header: str, package: str) -> None:
    real = shutil.which("cc")
    project.tool("cc", f'grep -qs "include <{header}" "$1" && exit 1; exec {real} "$@"')
    line = project.refusal()
    assert package in line
    assert "RDKNOTIFY_WITHOUT=" in line


def test_features_are_left_out_by_name_only(project: Project) -> None:
    prefix, said = project.build(RDKNOTIFY_WITHOUT="ssl,zstd")
    info = json.loads((prefix / "rdknotify-build.json").read_text())
    assert not {"ssl", "zstd", "sasl_scram", "sasl_oauthbearer"} & set(info["features"])
    assert "ssl" not in info["libraries"]
    assert "without ssl there is no sasl_scram and no sasl_oauthbearer" in said
    assert project.compiled() == ["rdkafka.c", "rdkafka_lz4.c", "rdxxhash.c"]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("RDKNOTIFY_WITHOUT", "tls", "the features are zlib zstd"),
        ("RDKNOTIFY_LIBRDKAFKA", "static", "the only value is system"),
        ("RDKNOTIFY_LIBRDKAFKA_SRC", "nowhere", "there is no src/rdkafka.h"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(project: Project, variable: str, value: str, expected: str) -> None:
    line = project.refusal(**{variable: value})
    assert f"{variable}={value}" in line
    assert expected in line


def test_a_folder_of_the_user_comes_before_all_else(project: Project, tmp_path: Path) -> None:
    (project.tools / "npm").unlink()
    folder = project.source(tmp_path / "mine", version="0x031002ff")
    variables = {"RDKNOTIFY_LIBRDKAFKA_SRC": str(folder), "RDKNOTIFY_LIBRDKAFKA": "system"}
    prefix, said = project.build(**variables, RDKNOTIFY_WITHOUT="zstd")
    assert prefix.name.startswith("librdkafka-3.16.2-")
    assert "librdkafka 3.16.2 with" in said

    (folder / "src" / "rdkafka.c").write_text("int changed;\n")
    changed, _ = project.build(**variables, RDKNOTIFY_WITHOUT="zstd")
    assert changed != prefix


CHANGE = {"file": "rdkafka.c", "old": "rd_kafka(void)", "new": "rd_kafka_changed(void)", "why": "to be seen"}


def test_a_change_of_the_recipe_is_compiled_into_a_library_of_its_own(project: Project) -> None:
    plain, _ = project.build()
    project.recipe["librdkafka"]["changes"] = [CHANGE]
    changed, _ = project.build()
    assert changed != plain
    assert b"rd_kafka_changed" in (changed / "lib" / "librdkafka.a").read_bytes()


def test_a_change_that_has_no_place_is_refused_but_for_a_folder_of_the_user(project: Project, tmp_path: Path) -> None:
    project.recipe["librdkafka"]["changes"] = [{**CHANGE, "old": "not there"}]
    assert "rdkafka.c is not what recipe.json changes: to be seen" in project.refusal()
    folder = project.source(tmp_path / "mine")
    _, said = project.build(RDKNOTIFY_LIBRDKAFKA_SRC=str(folder))
    assert "has no place for a change of recipe.json: to be seen" in said


def test_a_folder_with_an_old_librdkafka_is_refused(project: Project, tmp_path: Path) -> None:
    folder = project.source(tmp_path / "old", version="0x020002ff")
    line = project.refusal(RDKNOTIFY_LIBRDKAFKA_SRC=str(folder))
    assert "librdkafka 2.0.2" in line
    assert RECIPE["librdkafka"]["minimum"] in line


def test_sources_of_an_sdist_need_no_npm(project: Project) -> None:
    (project.tools / "npm").unlink()
    for name in ("librdkafka", "zstd"):
        for path, text in PARTS[name].items():
            file = project.root / "vendor" / "source" / f"{name}-{RECIPE[name]['version']}" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    project.build()


class TestTheRealSource:
    """librdkafka's own src/Makefile, where a build or an sdist has put it."""

    ALWAYS: ClassVar = {"rdkafka.c", "rdkafka_mock.c", "rdkafka_lz4.c", "rdxxhash.c", "lz4.c", "lz4frame.c", "lz4hc.c"}
    BY_FEATURE: ClassVar = {
        "zlib": "rdgz.c",
        "zstd": "rdkafka_zstd.c",
        "ssl": "rdkafka_ssl.c",
        "snappy": "snappy.c",
        "sasl_scram": "rdkafka_sasl_scram.c",
        "sasl_oauthbearer": "rdkafka_sasl_oauthbearer.c",
        "hdrhistogram": "rdhdrhistogram.c",
        "curl": "rdhttp.c",
        "oauthbearer_oidc": "rdkafka_sasl_oauthbearer_oidc.c",
    }
    UNWANTED: ClassVar = {"WITH_SASL_CYRUS", "WITH_LIBDL", "WITH_PLUGINS"}

    @pytest.fixture
    def recipe(self) -> ModuleType:
        return import_module("vendor.librdkafka")

    @pytest.fixture
    def source(self) -> Path:
        name = f"librdkafka-{RECIPE['librdkafka']['version']}/src"
        for folder in (VENDOR / "source", VENDOR.parent / "build" / "source"):
            if (folder / name).exists():
                return folder / name
        return pytest.skip("librdkafka was not built from its source here")

    def test_each_feature_adds_its_file_and_no_other(self, recipe: ModuleType, source: Path) -> None:
        assert set(self.BY_FEATURE) == {*RECIPE["features"], *RECIPE["bundled_features"]}
        bare = recipe.source_files(source, [])
        assert set(bare) >= self.ALWAYS
        for feature, file in self.BY_FEATURE.items():
            assert set(recipe.source_files(source, [feature])) - set(bare) == {file}
        files = recipe.source_files(source, [*self.BY_FEATURE])
        assert len(files) == len(set(files)) == len(bare) + len(self.BY_FEATURE)
        assert [file for file in files if not (source / file).exists()] == []

    def test_no_condition_of_a_newer_librdkafka_goes_unseen(self, recipe: ModuleType, source: Path) -> None:
        conditions = set(re.findall(r"^SRCS_\$\((\w+)\)", (source / "Makefile").read_text(), re.MULTILINE))
        assert conditions == set(recipe.CONDITIONAL) | self.UNWANTED


class TestTheSystemsLibrary:
    """RDKNOTIFY_LIBRDKAFKA=system, by the real pkg-config."""

    @pytest.fixture
    def installed(self, project: Project, tmp_path: Path) -> Path:
        if not (real := shutil.which("pkg-config")):
            pytest.skip("pkg-config is not installed")
        project.tool("pkg-config", f'exec {real} "$@"')
        headers = project.source(tmp_path / "headers") / "src"
        (tmp_path / "usr" / "librdkafka").mkdir(parents=True)
        for name in RECIPE["headers"]:
            shutil.copy(headers / name, tmp_path / "usr" / "librdkafka")
        return tmp_path / "usr"

    def variables(self, installed: Path, version: str) -> dict[str, str]:
        lines = ["Name: rdkafka", "Description: toy", f"Version: {version}", f"includedir={installed}"]
        (installed / "rdkafka.pc").write_text("\n".join([*lines, f"Libs: -L{installed}/lib64 -lrdkafka", ""]))
        return {"RDKNOTIFY_LIBRDKAFKA": "system", "PKG_CONFIG_PATH": str(installed)}

    def test_it_is_linked_and_nothing_is_compiled(self, project: Project, installed: Path) -> None:
        prefix, said = project.build(**self.variables(installed, "2.15.3"))
        info = json.loads((prefix / "rdknotify-build.json").read_text())
        assert info["libraries"] == ["rdkafka"]
        assert info["library_dirs"] == [f"{installed}/lib64"]
        assert not list(prefix.rglob("*.a"))
        assert "librdkafka 2.15.3" in said
        assert project.compiled() == []

    def test_an_old_one_is_refused(self, project: Project, installed: Path) -> None:
        line = project.refusal(**self.variables(installed, "2.0.2"))
        assert "librdkafka 2.0.2 found" in line
        assert RECIPE["librdkafka"]["minimum"] in line

    def test_missing_headers_are_named(self, project: Project, installed: Path) -> None:
        (installed / "librdkafka" / "rdkafka_mock.h").unlink()
        assert "rdkafka_mock.h is missing: install librdkafka-dev" in project.refusal(
            **self.variables(installed, "2.15.1")
        )

    def test_without_pkg_config_the_line_says_so(self, project: Project) -> None:
        assert "install it" in project.refusal(RDKNOTIFY_LIBRDKAFKA="system")
