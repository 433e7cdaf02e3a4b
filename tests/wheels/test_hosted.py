"""What hosted runners build: the same as ``make wheels``, by a workflow that GitHub would take."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vendor.extension import STABLE_ABI
from wheels.pythons import VERSIONS
from wheels.targets import PYTHONS, TARGETS

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github/workflows/wheels.yml"
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
NO_MORE_BUILT = {"cp313t"}
"""By cibuildwheel; make wheels does."""

tomllib = pytest.importorskip("tomllib", reason="since Python 3.11, as cibuildwheel")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    return loaded


def identifiers(platform: str, *machines: str) -> set[str]:
    """What cibuildwheel says that it would build; it reads and checks pyproject.toml for that."""
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", f"--platform={platform}"]
    command += [f"--archs={','.join(machines)}", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def abis() -> set[str]:
    """Of all CPythons that wheels are for: cibuildwheel builds that of the stable ABI once, and tries it on each."""
    return {f"cp{version.replace('.', '')}" for version in VERSIONS} - NO_MORE_BUILT


def test_linux_wheels_are_those_of_make_wheels() -> None:
    tags = {"glibc": "manylinux", "musl": "musllinux"}
    wanted = {f"{abi}-{tags[target.libc]}_{target.machine}" for target in TARGETS for abi in abis()}
    assert identifiers("linux", *{target.machine for target in TARGETS}) == wanted
    for target in TARGETS:
        image = PROJECT["tool"]["cibuildwheel"][f"{tags[target.libc]}-{target.machine}-image"]
        assert f"{image}_{target.machine}" == target.name


def test_macos_wheels_are_of_the_same_pythons() -> None:
    machines = ("x86_64", "arm64")
    assert identifiers("macos", *machines) == {f"{abi}-macosx_{machine}" for machine in machines for abi in abis()}


def test_every_build_takes_the_libraries_of_the_recipe_and_the_stable_abi() -> None:
    settings = PROJECT["tool"]["cibuildwheel"]
    for section in (settings, settings["macos"]):  # one that has an environment of its own has no other
        asked = {"RDKNOTIFY_BUNDLED": "1", "RDKNOTIFY_STABLE_ABI": "1"}
        assert asked.items() <= section["environment"].items()
    assert [python.version for python in PYTHONS if python.limited] == ["{}.{}".format(*STABLE_ABI)]


def test_pythons_of_the_wheels_are_those_that_the_project_claims() -> None:
    claimed = [text for text in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", text)]
    assert {text.rpartition(" ")[2] for text in claimed} == {version.removesuffix("t") for version in VERSIONS}


def test_github_would_take_the_workflow() -> None:
    if not shutil.which("go"):
        pytest.skip("Go is missing, which fetches actionlint")
    command = ["go", "run", ACTIONLINT, "-no-color", str(WORKFLOW)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_on_a_machine_of_each_kind_and_every_action_is_pinned(workflow: dict[str, Any]) -> None:
    assert workflow["jobs"]["wheels"]["strategy"]["matrix"]["runner"] == [
        "ubuntu-24.04",
        "ubuntu-24.04-arm",
        "macos-15-intel",
        "macos-15",
    ]
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert len(actions) > 5
    assert [action for action in actions if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)] == []
    assert workflow["permissions"] == {"contents": "read"}


def test_its_tools_have_the_versions_of_the_developers(workflow: dict[str, Any]) -> None:
    """The workflow looks them up by these expressions."""
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    looked_up = re.findall(r"grep -oE '(\S+)' pyproject\.toml", "\n".join(steps))
    assert len(looked_up) == 2
    for expression in looked_up:
        found = re.findall(expression, (ROOT / "pyproject.toml").read_text())
        assert len(found) == 1
        assert f"\n{found[0]} " in (ROOT / "requirements/dev.lock").read_text()
