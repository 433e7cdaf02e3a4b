"""``python -m wheels build`` says what is missing before it begins, answers Ctrl-C, and leaves no half of a set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.wheels import PARTS, VARIANT, pure, shared_object

from vendor.recipe import BuildError
from wheels import assemble, commands, making
from wheels.extension import ROOT
from wheels.targets import VARIANTS


def wheels(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PATH": path} if path is not None else {})
    command = [sys.executable, "-m", "wheels", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_missing_is_named_at_once(tmp_path: Path) -> None:
    done = wheels("build", f"--dist={tmp_path / 'dist'}", path=str(tmp_path))
    assert done.returncode == 1
    for program in ("git", "perl", "make", "npm", "cargo", "mvn (Debian, Ubuntu: maven)"):
        assert program in done.stderr
    assert not (tmp_path / "dist").exists() and "Traceback" not in done.stderr


def test_a_wheel_that_does_not_exist_is_not_built(tmp_path: Path) -> None:
    done = wheels("build", "--only=cp27-*", f"--dist={tmp_path / 'dist'}")
    assert done.returncode == 2 and "no wheel is called 'cp27-*'" in done.stderr


WAITING = """
import sys
from vendor.recipe import BuildError
from wheels.commands import heed_sigterm, run
from wheels.making import each
heed_sigterm()
def work(number):
    print("begun", flush=True)
    for attempt in range(9):
        try:
            run(["sh", "-c", "sleep 600 & sleep 600"])
        except BuildError:  # as a trial goes on with the next step
            pass
each(work, [1, 2, 3, 4, 5])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_that_runs(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        begun: list[psutil.Process] = []
        try:
            deadline = time.monotonic() + 30
            while sum(child.name() == "sleep" for child in begun) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
                begun = psutil.Process(process.pid).children(recursive=True)
            assert len(begun) >= 2
            process.send_signal(number)
            assert process.wait(30) != 0
            _, left = psutil.wait_procs(begun, timeout=10)
            assert left == []
        finally:
            for each in (*begun, process):
                with suppress(psutil.NoSuchProcess, ProcessLookupError):
                    each.kill()


def test_a_failing_command_says_why() -> None:
    with pytest.raises(BuildError, match="no such thing"):
        commands.run(["sh", "-c", "echo no such thing >&2; exit 3"])


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Everything is there but the extension, which a test brings."""
    (tmp_path / "prefix").mkdir()
    (tmp_path / "prefix" / "rdknotify-build.json").write_text(f'{{"parts": {PARTS}, "features": []}}'.replace("'", '"'))
    monkeypatch.setattr(making, "static_parts", lambda target: tmp_path / "prefix")
    monkeypatch.setattr(making, "headers", lambda version: tmp_path)
    monkeypatch.setattr(making, "pure_part", lambda root, parts, work: pure())
    monkeypatch.setattr(making, "translate", lambda root, work: work / "core.c")
    return tmp_path


def brought(more: str, *flags: str) -> object:
    def compile_extension(variant: object, source: object, prefix: object, work: Path, cache: object) -> Path:
        work.mkdir()
        return shared_object(work / f"_rdknotify{VARIANT.suffix}", more, *flags)

    return compile_extension


def test_a_set_with_a_fault_is_not_begun(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dist = workshop / "dist"
    monkeypatch.setattr(making, "compile_extension", brought("int nowhere(void); int (*f)(void) = nowhere;"))
    with pytest.raises(BuildError, match="nowhere"):
        making.make([VARIANT], dist)
    assert not dist.exists()


def test_bytes_that_differ_from_those_of_another_folder_are_told(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if VARIANT not in VARIANTS:
        pytest.skip(f"no wheels are made for this Python, {VARIANT.name}")
    monkeypatch.setattr(making, "compile_extension", brought(""))
    making.make([VARIANT], workshop / "dist")
    (made,) = (workshop / "dist").glob("*.whl")
    assert making.differences([made]) == []
    monkeypatch.setattr(making, "compile_extension", brought("const char *where = __FILE__;"))
    assert making.differences([made]) == [made.name]


def test_a_set_is_put_into_place_whole(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if VARIANT not in VARIANTS:
        pytest.skip(f"no wheels are made for this Python, {VARIANT.name}")
    dist = workshop / "dist"
    monkeypatch.setattr(making, "compile_extension", brought(""))
    making.make([VARIANT], dist)
    name = f"rdknotify-1.2-{VARIANT.name}.whl"
    assert {path.name for path in dist.iterdir()} == {
        name, "rdknotify-1.2.cdx.json", "SHA256SUMS", "wheels.md", "wheels.json"
    }  # fmt: skip
    assert name in (dist / "SHA256SUMS").read_text()
    assert assemble.epoch() > 0
