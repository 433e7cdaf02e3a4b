"""The pages of docs/ and their fenced blocks, run or checked; tests/manual/conftest.py says what a page can ask for."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from configparser import ConfigParser
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from rdknotify.testing.cache import cache_folder

DOCS = Path(__file__).parents[2] / "docs"
SHELL, PYTHON = {"sh", "bash"}, {"python"}
ATTRIBUTES = {"until", "when", "meanwhile", "ready", "save", "continues", "prints", "exit", "no"}
DOCKERFILE = {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN"}
DOCKERFILE |= {"STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
TOOLS = ".tools"
"""Programs in this folder of a page's folder are found first."""
TIMEOUT = 60.0
"""Seconds for one block, and for a marker to show up, on a loaded machine."""
SIGNAL_EVERY = 5.0

_COMMENT = re.compile(r"^\s*<!-- run: (.*?) -->$")
_FENCE = re.compile(r"^(\s*)```(\S*)(.*)$")
_TITLE = re.compile(r' title="(\S+)"')
_SHELL_FRAME = """\
trap 'status=$?; env -0 > "$MANUAL_STATE"; exit $status' EXIT
trap : TERM  # of a program that is stopped, the end is waited for
set -e
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with what the comment above its fence says."""

    page: str
    line: int
    language: str
    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"docs/{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in SHELL | PYTHON and "no" not in self.attributes and "save" not in self.attributes


def pages() -> list[str]:
    """Names of all pages, below docs/."""
    return sorted(str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md") if not file.name.startswith("."))


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    """The page's fenced blocks, in order; ``text`` in place of the file's, for tests."""
    return list(_parse(page, (DOCS / page).read_text() if text is None else text))


def _parse(page: str, text: str) -> Iterator[Block]:
    lines = text.splitlines()
    above, number = "", 0
    while number < len(lines):
        opened = _FENCE.match(lines[number])
        if opened is None:
            above = lines[number] if lines[number].strip() else above
            number += 1
            continue
        indent, language, more = opened.groups()
        first = number + 1
        end = next((at for at in range(first, len(lines)) if lines[at] == f"{indent}```"), None)
        assert end is not None, f"docs/{page}:{number + 1}: the fence is never closed"
        said = _COMMENT.match(above)
        body = textwrap.dedent("\n".join(lines[first:end])) + "\n"
        attributes = _attributes(said[1]) if said else {}
        if more.strip():
            title = _TITLE.fullmatch(more)
            assert title, f"docs/{page}:{number + 1}: {more!r} is not understood behind ```{language}"
            attributes.setdefault("save", title[1])
        yield Block(page, number + 1, language, body, attributes)
        above, number = "", end + 1


def _attributes(said: str) -> dict[str, str]:
    if said.startswith("no: "):
        return {"no": said.removeprefix("no: ")}
    return {name: value for name, _, value in (word.partition("=") for word in shlex.split(said))}


class PageRun:
    """One page's blocks, run in order in one folder and one environment."""

    def __init__(self, folder: Path, replaced: Callable[[str], str]) -> None:
        self._folder = folder
        self._replaced = replaced
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("RDKNOTIFY_URL", "PG"))}
        path = os.pathsep.join([str(folder / TOOLS), str(Path(sys.executable).parent), os.environ["PATH"]])
        ours = {"PATH": path, "HOME": str(folder), "PWD": str(folder), "NO_COLOR": "1", "COLUMNS": "100"}
        self._environment = {**keep, **ours, "PYTHONUNBUFFERED": "1", "RDKNOTIFY_CACHE": str(cache_folder())}
        self._meanwhile: _Running | None = None
        self._before = ""

    def run(self, block: Block) -> None:
        """Run it, or save it; raises AssertionError with what it said unless it did what it should."""
        said = {name: self._replaced(value) for name, value in block.attributes.items()}
        text = self._replaced(block.text)
        if "save" in said:
            (Path(self._environment["PWD"]) / said["save"]).write_text(text)
            return
        if block.language in PYTHON:
            text = self._before + text if "continues" in said else text
            self._before = text
        assert not (self._meanwhile and "meanwhile" in said), f"{block.where}: the block above still runs"
        running = _Running(block, said, self._command(block, text), self._folder, self._environment)
        if "meanwhile" in said:
            self._meanwhile = running
            running.await_text("ready")
            return
        try:
            running.finish()
            self._environment = running.environment or self._environment
            if self._meanwhile is not None:
                self._meanwhile.finish()
                self._meanwhile = None
        finally:
            running.kill()

    def kill(self) -> None:
        """Nothing of it is left, however it went."""
        if self._meanwhile is not None:
            self._meanwhile.kill()

    def _command(self, block: Block, text: str) -> list[str]:
        script = self._folder / f".block-{block.line}"
        script.write_text(_SHELL_FRAME + text if block.language in SHELL else text)
        return ["bash" if block.language in SHELL else sys.executable, str(script)]


class _Running:
    """The process of a block, in a group of its own."""

    def __init__(
        self, block: Block, said: Mapping[str, str], command: list[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._where, self._said = block.where, said
        self._output = folder / f".output-{block.line}"
        self._state = folder / f".state-{block.line}"
        self._environment = {**environment, "MANUAL_STATE": str(self._state)}
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                command,
                cwd=environment["PWD"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def environment(self) -> dict[str, str] | None:
        """What a shell's block left, with its folder as PWD."""
        if not self._state.exists():
            return None
        return dict(pair.split("=", 1) for pair in self._state.read_text().split("\0") if "=" in pair)

    def finish(self) -> None:
        """Wait for its end, or stop it when its time has come; check how it ended, and what it said."""
        stopped = False
        if "until" in self._said or "when" in self._said:
            self.await_text("until")
            self._await_command()
            stopped = True
        status = self._ended(stopped)
        allowed = {0, -signal.SIGTERM, 128 + signal.SIGTERM} if stopped else {int(self._said.get("exit", "0"))}
        if status not in allowed:
            raise self._failure(f"ended with {status}")
        if self._said.get("prints", "") not in self._printed:
            raise self._failure(f"did not print {self._said['prints']!r}")

    def _ended(self, stopped: bool) -> int:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            if stopped:  # again and again: a program that bash has not quite begun does not get the first
                os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(SIGNAL_EVERY if stopped else TIMEOUT)
        raise self._failure(f"still runs after {TIMEOUT:g} s")

    def await_text(self, attribute: str) -> None:
        """Wait until it has printed what the attribute says, if there is one."""
        if wanted := self._said.get(attribute):
            self._await(lambda: wanted in self._printed, f"did not print {wanted!r}")

    def _await_command(self) -> None:
        if command := self._said.get("when"):
            self._await(lambda: self._succeeds(command), f"{command!r} did not succeed")

    def kill(self) -> None:
        """Nothing of it is left, nor of what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def _printed(self) -> str:
        return self._output.read_text(errors="replace")

    def _succeeds(self, command: str) -> bool:
        folder, environment = self._environment["PWD"], self._environment
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, check=False)
        return done.returncode == 0

    def _await(self, come: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not come():
            if self._process.poll() is not None and not come():
                raise self._failure(f"ended with {self._process.returncode} and {otherwise}")
            if time.monotonic() > deadline:
                raise self._failure(f"{otherwise} within {TIMEOUT:g} s")
            time.sleep(0.05)

    def _failure(self, why: str) -> AssertionError:
        return AssertionError(f"{self._where}: it {why}; it said:\n{self._printed}")


def check_syntax(block: Block) -> None:
    """Raises unless the block is what its fence calls it: also where it cannot run, or is no program."""
    checks = {**dict.fromkeys(SHELL, _check_shell), **dict.fromkeys(PYTHON, _check_python), **_CHECKS}
    assert block.language in checks, f"{block.where}: ```{block.language} is none of {', '.join(sorted(checks))}"
    try:
        checks[block.language](block.text)
    except Exception as error:
        raise AssertionError(f"{block.where}: {error}") from error


def _check_shell(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def _check_python(text: str) -> None:
    compile(text, "block", "exec")


def _check_ini(text: str) -> None:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of systemd's settings have capitals
    parser.read_string(text)
    if parser.has_section("Service") and shutil.which("systemd-analyze"):
        _check_unit(text)


def _check_unit(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder) / "manual.service"
        unit.write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    # What it starts, and who runs it, are not on this machine.
    wrong = re.findall(r".*(?:Unknown|Failed to parse|Missing '='|Invalid|not absolute).*", done.stderr)
    assert not wrong, "\n".join(wrong)


def _check_dockerfile(text: str) -> None:
    steps = re.sub(r"\\\n", " ", text).splitlines()
    words = {line.split()[0] for line in steps if line.strip() and not line.startswith("#")}
    assert "FROM" in words and words <= DOCKERFILE, f"no Dockerfile's: {words - DOCKERFILE}"


def _check_properties(text: str) -> None:
    wrong = [line for line in text.splitlines() if line.strip() and not line.startswith("#") and "=" not in line]
    assert not wrong, wrong


_CHECKS: dict[str, Callable[[str], object]] = {
    "ini": _check_ini,
    "json": json.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "dockerfile": _check_dockerfile,
    "properties": _check_properties,
    "sql": lambda text: None,
    "promql": lambda text: None,
    "text": lambda text: None,
}
"""Languages of blocks that are no programs; of the last three nothing is known."""
