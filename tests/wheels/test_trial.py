"""What is tried of each wheel, how it is recorded, and the programs that are run in its environment."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from rdknotify.testing import MockCluster
from vendor.recipe import BuildError
from wheels import environment, pythons, trial
from wheels.commands import Stopped
from wheels.targets import TARGETS, VARIANTS

PROGRAMS = Path(trial.__file__).parent / "programs"


def program(name: str, *arguments: str) -> str:
    command = [sys.executable, str(PROGRAMS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_wheel_is_tried_on_every_python_that_it_serves() -> None:
    tried = {variant: trial.runs(Path(f"rdknotify-0.1.0-{variant.name}.whl")) for variant in VARIANTS}
    for target in TARGETS:
        versions = [run.version for variant, runs in tried.items() for run in runs if run.where == target.name]
        assert sorted(versions) == sorted(pythons.VERSIONS), target
    assert {variant.target for variant, runs in tried.items() if pythons.OLD_GLIBC in {run.where for run in runs}} == {
        TARGETS[0]
    }


def made() -> trial.Run:
    run = trial.Run("rdknotify-0.1.0-cp311-abi3-manylinux2014_x86_64.whl", "3.12", TARGETS[0].name, libc="glibc 2.31")
    with run.check("install"):
        pass
    with run.check("core") as check:
        check.detail = "3 passed"
    with run.check("demo"):
        raise trial.NotRun("no sqlite3")
    with run.check("beside"):
        raise BuildError("2 passed, 1 failed, 1 skipped: test_this: assert False")
    with run.check("TLS"):
        raise BuildError("no certificate")
    return run


def test_what_failed_and_what_was_not_run_are_told_apart() -> None:
    run = made()
    assert [check.outcome for check in run.checks] == [
        trial.PASSED,
        trial.PASSED,
        trial.NOT_RUN,
        trial.FAILED,
        trial.FAILED,
    ]
    assert [failure.partition("TLS: ")[2] for failure in run.failures] == ["", "no certificate"]
    told = "install, core 3 passed, demo not run, beside failed (2 passed, 1 failed, 1 skipped), TLS failed"
    assert trial.summary([run]) == f"CPython 3.12, glibc 2.31: {told}"


def test_a_python_that_lacks_a_requirement_is_told_and_is_no_failure() -> None:
    version, reason = next(iter(pythons.LACKING.items()))
    path = Path(f"rdknotify-0.1.0-cp313-cp313t-{TARGETS[1].name}.whl")
    run = next(each for each in trial.runs(path) if each.version == version)
    with ExitStack() as stack:
        trial.try_wheel(path, run, trial.Kafka(stack))  # for this processor there is none to run
    assert [(check.outcome, check.detail) for check in run.checks] == [(trial.NOT_RUN, reason)] and not run.failures
    assert trial.summary([run]) == f"CPython {version} not run: {run.why_not}"


def test_who_runs_behind_others_waits_longer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment.Environment, "fetch", lambda self, *requirements: None)
    for slow in (False, True):
        made = environment.Environment([sys.executable], tmp_path / str(slow), slow=slow)
        program = "import sys; sys.path.insert(0, 'tests'); from support.waiting import PATIENCE; print(PATIENCE)"
        assert float(made.run("-c", program)) == (environment.PATIENCE if slow else 1)


def test_an_error_of_our_own_is_no_result() -> None:
    run = made()
    with pytest.raises(ZeroDivisionError), run.check("beside"):
        1 / 0  # noqa: B018


def test_what_is_stopped_is_told_as_not_run() -> None:
    run = made()
    with pytest.raises(Stopped), run.check("core"):
        raise Stopped
    assert (run.checks[-1].what, run.checks[-1].outcome) == ("core", trial.NOT_RUN)


def test_a_run_on_one_python_keeps_those_on_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "RESULT", tmp_path / "trial.json")
    monkeypatch.setattr(trial, "try_wheel", lambda path, run, kafka: setattr(run, "python", "9.9"))
    wheel = tmp_path / f"rdknotify-0.1.0-cp311-abi3-{TARGETS[1].name}.whl"
    wheel.touch()
    trial.record({wheel.name: [trial.Run(wheel.name, version, TARGETS[1].name) for version in ("3.12", "3.11")]})
    trial.command.main([str(wheel), "--python=3.11"], standalone_mode=False)
    assert {run.version: run.python for run in trial.recorded()[wheel.name]} == {"3.11": "9.9", "3.12": ""}


def test_results_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "RESULT", tmp_path / "wheels" / "trial.json")
    assert trial.recorded() == {}
    run = made()
    trial.record({run.wheel: [run]})
    assert trial.recorded() == {run.wheel: [run]}


def test_a_core_says_where_it_lies_and_what_is_in_it() -> None:
    told = json.loads(program("told.py"))
    assert Path(told["core"]).exists()
    assert told["parts"]["librdkafka"]
    assert {"python", "machine", "libc", "gil"} <= set(told)


@pytest.mark.parametrize("first", ["rdknotify", "confluent"])
@pytest.mark.parametrize("symbols", ["local", "global"])
def test_beside_confluent_kafka(first: str, symbols: str, mock_cluster: MockCluster) -> None:
    assert program("beside.py", first, symbols, mock_cluster.bootstrap_servers, "records") == "200 records\n"


def test_records_go_there_and_back(mock_cluster: MockCluster) -> None:
    url = f"kafka://{mock_cluster.bootstrap_servers}"
    assert program("secure.py", url, "records", "{}") == "100 records there and back\n"


def test_a_broker_that_wants_no_tls_fails_the_program_for_tls(mock_cluster: MockCluster) -> None:
    url, options = f"kafka://{mock_cluster.bootstrap_servers}", {"security_protocol": "SSL", "connect_timeout": 2}
    command = [sys.executable, str(PROGRAMS / "secure.py"), url, "records", json.dumps(options)]
    assert subprocess.run(command, capture_output=True, timeout=100, check=False).returncode != 0
