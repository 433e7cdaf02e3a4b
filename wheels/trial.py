"""Each wheel in an empty environment of its Python: it is installed, and runs there; what ran goes to trial.json."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import click

from rdknotify.testing import LocalKafka, LocalKafkaError
from vendor.recipe import BuildError
from wheels.commands import Stopped
from wheels.environment import CONFLUENT, PATIENCE, Environment, installable
from wheels.extension import ROOT
from wheels.inspection import Wheel
from wheels.making import JOBS, each, say
from wheels.patterns import only
from wheels.pythons import LACKING, OLD_GLIBC, VERSIONS, interpreter, why_not
from wheels.targets import TARGETS, Python, Variant

__all__ = ["RESULT", "Check", "NotRun", "Run", "command", "record", "recorded", "runs", "summary", "try_wheel"]

RESULT = ROOT / "build" / "wheels" / "trial.json"
COUNT = 5_000
"""Notifications of the demo: an emulated processor is slow."""
WAITING = 3
"""Runs at a time for each processor: the tests of the core wait most of their time."""
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


class NotRun(Exception):
    """Why something cannot be run here."""


@dataclass
class Check:
    """One thing that was tried."""

    what: str
    outcome: str = PASSED
    detail: str = ""
    """What was counted, or why it failed or was not run."""
    seconds: float = 0.0


@dataclass
class Run:
    """One wheel on one Python."""

    wheel: str
    """Its file's name."""
    version: str
    where: str
    """A target of wheels/targets.py, or the oldest glibc."""
    python: str = ""
    machine: str = ""
    libc: str = ""
    gil: str = ""
    checks: list[Check] = field(default_factory=list)
    why_not: str = ""
    """Why nothing was run, if so."""

    @property
    def failures(self) -> list[str]:
        wrong = [check for check in self.checks if check.outcome == FAILED]
        return [f"{self.wheel}, CPython {self.version}, {self.where}: {check.what}: {check.detail}" for check in wrong]

    @contextmanager
    def check(self, what: str) -> Iterator[Check]:
        """What is done in it is timed, and an error of it recorded."""
        made, began = Check(what), time.monotonic()
        try:
            yield made
        except NotRun as reason:
            made.outcome, made.detail = NOT_RUN, str(reason)
        except BuildError as error:
            made.outcome, made.detail = FAILED, str(error)
        except Stopped:
            made.outcome, made.detail = NOT_RUN, "stopped before its end"
            self.checks.append(made)
            raise
        made.seconds = round(time.monotonic() - began, 1)
        self.checks.append(made)
        told = f"{made.outcome}{', ' * bool(made.detail)}{made.detail}"
        say(f"CPython {self.version}, {self.where}: {what}: {told}", made.seconds)


class Kafka:
    """A secure broker for all wheels, started when the first asks for it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._cluster: LocalKafka | None = None
        self._topics = itertools.count()

    @property
    def cluster(self) -> LocalKafka:
        """Raises NotRun where there is no Java."""
        with self._lock:
            if self._cluster is None:
                try:
                    self._cluster = self._stack.enter_context(LocalKafka(security=True))
                except LocalKafkaError as error:
                    raise NotRun(str(error)) from None
            return self._cluster

    def topic(self) -> str:
        return f"trial-{next(self._topics)}"


def runs(path: Path) -> list[Run]:
    """What there is to be run of one wheel, nothing of it done yet."""
    python, target = Wheel(path).variant.python, Wheel(path).variant.target
    versions = [version for version in VERSIONS if python.serves(version)]
    made = [Run(path.name, version, target.name, why_not=why_not(version, target.name) or "") for version in versions]
    if target == TARGETS[0]:
        made += [Run(path.name, version, OLD_GLIBC) for version in versions if not why_not(version, OLD_GLIBC)]
    return made


def try_wheel(path: Path, run: Run, kafka: Kafka) -> None:
    """Do one of the runs of the wheel in ``path``; what is wrong stands in its checks."""
    if run.why_not:
        with run.check("pip finds all"):
            if reason := LACKING.get(run.version):
                raise NotRun(reason)
            installable(path, Python(run.version), Wheel(path).variant.target)
        return
    slow = run.where.endswith("aarch64") or os.nice(0) > 0
    with tempfile.TemporaryDirectory(prefix="trial-") as scratch:
        folder = Path(scratch)
        with run.check("environment"):
            command = interpreter(run.version, run.where)
            assert command
            environment = Environment(command, folder, slow=slow)
        if run.failures:
            return
        with run.check("install"):
            if reason := LACKING.get(run.version):
                raise NotRun(reason)
            environment.fetch(*_requirements(path))
            environment.install(path, extra="[cli]")
        if run.version in LACKING:
            with run.check("install of the core alone") as check:
                lacking = [requirement for requirement in _requirements(path) if not environment.has(requirement)]
                environment.install(path, "--no-deps")
                check.detail = f"without {', '.join(lacking)}"
        if run.failures:
            return
        with run.check("import") as check:
            told = environment.told()
            run.python, run.machine, run.libc, run.gil = (told[name] for name in ("python", "machine", "libc", "gil"))
            check.detail = ", ".join(f"{name} {version}" for name, version in told["parts"].items())
        steps: dict[str, Callable[[], str]] = {
            "demo": lambda: _demo(environment, run.version),
            "TLS": lambda: _secure(environment, kafka),
            "beside confluent-kafka": lambda: _beside(environment, kafka),
            "core": lambda: _core(environment, folder),  # takes longest
        }
        for what, step in steps.items():
            with run.check(what) as check:
                check.detail = step()


def _requirements(wheel: Path) -> list[str]:
    """What the wheel needs with its command line."""
    lines = Wheel(wheel).files[f"{Wheel(wheel).metadata}/METADATA"].decode().splitlines()
    needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    return [line.partition(";")[0] for line in needed if ";" not in line or re.search(r"extra == .cli.", line)]


def _core(environment: Environment, folder: Path) -> str:
    """The tests of the core. A slow environment misses deadlines: what fails there is tried once more, and named."""
    counts, failed = _pytest(environment, folder / "first.xml")
    if not failed:
        return counts
    again = _pytest(environment, folder / "second.xml", "--last-failed")[1] if environment.slow else failed
    if again:
        raise BuildError(f"{counts}: {'; '.join(again)}")
    return f"{counts} at first, but not once more: {'; '.join(failed)}"


def _pytest(environment: Environment, report: Path, *options: str) -> tuple[str, list[str]]:
    """What pytest counted, and what failed."""
    try:
        options = ("-q", "--continue-on-collection-errors", f"--junitxml={report}", *options)
        if environment.slow:
            options = (f"--timeout={120 * PATIENCE}", *options)
        environment.run("-m", "pytest", *options, "tests/core")
        error = None
    except BuildError as raised:
        error = raised
    suite = ElementTree.parse(report).getroot().find("testsuite") if report.exists() else None
    if suite is None:
        raise error or BuildError(f"pytest wrote no {report.name}")
    outcomes = {case: {part.tag for part in case} for case in suite.iter("testcase")}
    failed = [_reason(case) for case, tags in outcomes.items() if {"failure", "error"} & tags]
    if error and not failed:
        raise error
    skipped = sum("skipped" in tags for tags in outcomes.values())
    counts = {"passed": len(outcomes) - len(failed) - skipped, "failed": len(failed), "skipped": skipped}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count), failed


def _reason(case: ElementTree.Element) -> str:
    """The name of a test that failed, with the first line of why."""
    messages = [part.get("message", "") for part in case if part.tag in ("failure", "error")]
    return f"{case.get('name', '')}: {messages[0].partition(chr(10))[0][:200]}"


def _demo(environment: Environment, version: str) -> str:
    if version in LACKING:
        raise NotRun(LACKING[version])
    try:
        environment.run("-c", "import sqlite3")
    except BuildError:
        raise NotRun("this Python has no sqlite3, into which the demo stores") from None
    environment.run("-m", "rdknotify", "demo", "--count", str(COUNT))
    return f"{COUNT} notifications"


def _secure(environment: Environment, kafka: Kafka) -> str:
    """TLS, and SASL over it; the broker's certificate is verified."""
    security = kafka.cluster.security
    trust = {"ssl_cafile": str(security.ca.file)}
    login = {"sasl_mechanism": "SCRAM-SHA-512", **trust}
    for url, options in ((security.url("TLS"), trust), (security.url("SASL_SSL", "alice"), login)):
        environment.run("wheels/programs/secure.py", url, kafka.topic(), json.dumps(options))
    return "TLS, SCRAM-SHA-512 over TLS"


def _beside(environment: Environment, kafka: Kafka) -> str:
    servers = kafka.cluster.bootstrap_servers
    if not environment.has_confluent():
        raise NotRun(f"{CONFLUENT} has no wheel for this Python")
    for first in ("rdknotify", "confluent"):
        for symbols in ("local", "global"):
            environment.run("wheels/programs/beside.py", first, symbols, servers, kafka.topic())
    return "either imported first, symbols local and global"


def recorded() -> dict[str, list[Run]]:
    """What was run of each wheel, by its file's name."""
    told = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    return {
        name: [Run(**{**run, "checks": [Check(**check) for check in run["checks"]]}) for run in told[name]]
        for name in told
    }


def record(results: dict[str, list[Run]]) -> None:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    told = {name: [asdict(run) for run in runs] for name, runs in results.items()}
    RESULT.write_text(json.dumps(told, indent=2) + "\n")


def summary(runs: list[Run]) -> str:
    """One line on what was run of a wheel, and what was not."""
    return "; ".join(_sentence(run) for run in sorted(runs, key=lambda run: VERSIONS.index(run.version)))


def _sentence(run: Run) -> str:
    if run.why_not:
        found = "; pip finds all" if any(check.outcome == PASSED for check in run.checks) else ""
        return f"CPython {run.version} not run: {run.why_not}{found}"
    done = [check for check in run.checks if check.outcome == PASSED and check.what not in ("environment", "import")]
    told = [f"{check.what} {check.detail}" if check.what == "core" else check.what for check in done]
    told += [f"{check.what} {_outcome(check)}" for check in run.checks if check.outcome != PASSED]
    return f"CPython {run.python or run.version}, {run.libc or run.where}: {', '.join(told)}"


def _outcome(check: Check) -> str:
    """Of tests that failed, how many."""
    counts = re.match(r"[\w ,]*\d+ failed[\w ,]*", check.detail)
    return f"{check.outcome} ({counts[0]})" if check.outcome == FAILED and counts else check.outcome


@click.command("test")
@click.argument("wheels", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@only
@click.option("--python", type=click.Choice(VERSIONS), help="On this CPython only; otherwise on all that are here.")
def command(wheels: tuple[Path, ...], only: list[Variant] | None, python: str | None) -> None:
    """Install wheels into empty environments of their Pythons and run them. Exit status 1: something failed."""
    paths = list(wheels) or sorted((ROOT / "dist").glob("*.whl"))
    paths = [path for path in paths if only is None or Wheel(path).variant in only]
    if not paths:
        sys.exit("wheels: there are none in dist, or none of these: make wheels")
    planned = [(path, run) for path in paths for run in runs(path) if python in (None, run.version)]
    anew = {(run.wheel, run.version, run.where) for _, run in planned}
    results = {
        name: [run for run in told if (run.wheel, run.version, run.where) not in anew]
        for name, told in recorded().items()
    }
    recording = threading.Lock()
    with ExitStack() as stack:
        kafka = Kafka(stack)

        def one(work: tuple[Path, Run]) -> None:
            path, run = work
            try:
                try_wheel(path, run, kafka)
            finally:
                with recording:  # at once: who stops the command keeps what has run
                    results.setdefault(path.name, []).append(run)
                    record(results)

        each(one, planned, WAITING * JOBS)
    if failures := [failure for _, run in planned for failure in run.failures]:
        sys.exit("\n".join(failures))
    click.echo(f"{len(paths)} wheels: nothing failed; {RESULT}")
