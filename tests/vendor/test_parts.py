"""RDKNOTIFY_BUNDLED=1: OpenSSL, zlib and curl from crates, static, for whatever the compiler compiles for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.vendored import BUNDLED, PARTS, RECIPE, VENDOR, Project

from vendor.compiler import Compiler
from vendor.librdkafka import config_h
from vendor.recipe import PARTS as NAMES
from vendor.sources import BuildError, change
from vendor.update import said


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def information(prefix: Path) -> dict[str, object]:
    return json.loads((prefix / "rdknotify-build.json").read_text())


def test_all_parts_are_built_in_and_named(project: Project) -> None:
    prefix, said = project.build(**BUNDLED)
    info = information(prefix)
    assert info["parts"] == {name: RECIPE[name]["version"] for name in PARTS}
    assert info["archives"] == ["librdkafka.a", "libcurl.a", "libssl.a", "libcrypto.a", "libz.a"]
    assert {path.name for path in (prefix / "lib").iterdir()} == set(info["archives"])
    assert not {"ssl", "crypto", "z"} & set(info["libraries"])
    assert {"curl", "oauthbearer_oidc"} <= set(info["features"])
    assert "curl, oauthbearer_oidc" in said.splitlines()[-1]
    assert {"rdhttp.c", "openssl.c", "inflate.c"} <= set(project.compiled())


def test_the_system_s_are_told_from_those_built_in(project: Project) -> None:
    info = information(project.build()[0])
    assert info["parts"] == {"librdkafka": "2.15.1", "openssl": "system", "zlib": "system", "zstd": "1.5.7"}
    assert "oauthbearer_oidc" not in info["features"]


def test_libraries_have_the_same_bytes_wherever_they_are_made(tmp_path: Path) -> None:
    folders = [tmp_path / "here", tmp_path / "quite" / "another" / "place"]
    made = []
    for folder in folders:
        folder.mkdir(parents=True)
        prefix, _ = Project(folder).build(**BUNDLED)
        made.append({path.name: path.read_bytes() for path in (prefix / "lib").iterdir()})
        assert not [name for name, content in made[-1].items() if str(tmp_path).encode() in content]
    assert len(made[0]) == 5
    assert made[0] == made[1]


def test_a_cache_serves_another_checkout(tmp_path: Path) -> None:
    projects = [Project(tmp_path / name) for name in ("one", "two") if (tmp_path / name).mkdir() is None]
    variables = {**BUNDLED, "RDKNOTIFY_CACHE": str(tmp_path / "cache")}
    prefixes = [project.build(**variables)[0] for project in projects]
    assert prefixes[0] == prefixes[1]
    assert prefixes[0].is_relative_to(tmp_path / "cache")
    assert projects[0].compiled() != []
    assert projects[1].compiled() == []


def test_what_needs_a_feature_that_is_left_out_goes_with_it(project: Project) -> None:
    prefix, said = project.build(**BUNDLED, RDKNOTIFY_WITHOUT="curl")
    assert "without curl there is no oauthbearer_oidc" in said
    assert sorted(information(prefix)["parts"]) == ["librdkafka", "openssl", "zlib", "zstd"]
    prefix, said = project.build(**BUNDLED, RDKNOTIFY_WITHOUT="ssl,zlib")
    assert "without ssl there is no sasl_scram and no sasl_oauthbearer and no curl" in said
    assert information(prefix)["archives"] == ["librdkafka.a"]


@pytest.mark.parametrize("tool", ["cargo", "perl", "make"])
def test_a_missing_tool_is_one_line(project: Project, tool: str) -> None:
    (project.tools / tool).unlink()
    line = project.refusal(**BUNDLED)
    assert f"{tool} is needed" in line
    assert "install" in line
    assert "RDKNOTIFY_BUNDLED" in line


def test_the_reason_of_cargo_is_told(project: Project) -> None:
    for crate in (project.root / "registry").glob("*.crate"):
        crate.unlink()
    line = project.refusal(**BUNDLED)
    assert RECIPE["openssl"]["crate"] in line
    assert "failed to select a version" in line
    assert "toy has none" in line


def test_a_crate_with_another_checksum_is_refused_and_cargo_s_own_copy_stays(project: Project) -> None:
    project.recipe["zlib"]["sha256"] = "0" * 64
    line = project.refusal(**BUNDLED)
    assert RECIPE["zlib"]["crate"] in line
    assert "0" * 64 in line
    assert list(project.root.glob(f".cargo/registry/cache/*/{RECIPE['zlib']['crate'].replace('@', '-')}.crate"))


def test_a_wrong_switch_is_named_with_its_value(project: Project) -> None:
    assert "RDKNOTIFY_BUNDLED=yes" in project.refusal(RDKNOTIFY_BUNDLED="yes")


def test_a_target_that_openssl_is_not_built_for_is_one_line(project: Project) -> None:
    macros = "#define __linux__ 1\\n#define __riscv 1\\n#define __GLIBC__ 2\\n#define __GLIBC_MINOR__ 36"
    project.tool("cc", f"case $* in *-dM*) printf '{macros}\\n'; exit;; esac; exec {shutil.which('cc')} \"$@\"")
    line = project.refusal(**BUNDLED)
    assert "other-glibc2.36" in line
    assert "unset RDKNOTIFY_BUNDLED" in line


LINUX = ["__linux__ 1", "__x86_64__ 1"]


@pytest.mark.parametrize(
    ("macros", "target", "has", "lacks"),
    [
        ([*LINUX, "__GLIBC__ 2", "__GLIBC_MINOR__ 17"], "x86_64-glibc2.17", "WITH_CRC32C_HW", "WITH_C11THREADS"),
        ([*LINUX, "__GLIBC__ 2", "__GLIBC_MINOR__ 28"], "x86_64-glibc2.28", "WITH_C11THREADS", "HAVE_GETENTROPY"),
        (["__linux__ 1", "__aarch64__ 1"], "aarch64-musl", "WITH_C11THREADS", "WITH_CRC32C_HW"),
        (["__APPLE__ 1", "__aarch64__ 1"], "aarch64-darwin", "HAVE_PTHREAD_SETNAME_DARWIN", "WITH_C11THREADS"),
    ],
)
def test_what_a_target_has_is_known_from_its_compiler_alone(
    macros: list[str], target: str, has: str, lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The macros are those of real cross compilers; on what machine they are said does not count."""
    defined = "\\n".join(f"#define {macro}" for macro in macros)
    cc = tmp_path / "cc"
    cc.write_text(f"#!/bin/sh\ncase $* in *-dM*) printf '{defined}\\n';; esac\n")
    cc.chmod(0o755)
    monkeypatch.setenv("CC", str(cc))
    compiler = Compiler()
    assert compiler.target == target
    names = [line.split()[1] for line in config_h(compiler, ["ssl"], static=True).splitlines() if "#define" in line]
    assert has in names
    assert lacks not in names
    assert "WITH_STATIC_LIB_libcrypto" in names
    assert "WITH_STATIC_LIB_libcrypto 1" not in config_h(compiler, ["ssl"], static=False)


class TestTheRecipe:
    def test_each_part_says_all_that_is_needed_of_it(self) -> None:
        assert list(PARTS) == NAMES
        for name in NAMES:
            part = RECIPE[name]
            assert len(part["sha256"]) == 64
            assert ("package" in part) != ("crate" in part)
            assert part["licences"]
            assert part["version"] in part.get("crate", part["version"]) or name == "zlib"

    def test_each_source_at_hand_is_of_its_version_has_its_licences_and_a_place_for_each_change(
        self, tmp_path: Path
    ) -> None:
        looked_at = []
        for name in NAMES:
            source = VENDOR.parent / "build" / "source" / f"{name}-{RECIPE[name]['version']}"
            if not source.exists():
                continue
            looked_at.append(name)
            assert said(name, source) == RECIPE[name]["version"]
            assert [file for file in RECIPE[name]["licences"] if not (source / file).read_text().strip()] == []
            if changes := RECIPE[name].get("changes", []):
                below = "src" if name == "librdkafka" else "."
                for file in {each["file"] for each in changes}:
                    (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source / below / file, tmp_path / name / file)
                change(tmp_path / name, changes)
                with pytest.raises(BuildError, match="adapt or drop the change"):
                    change(tmp_path / name / "nowhere", changes)
        if not looked_at:
            pytest.skip("nothing was built from its source here")
