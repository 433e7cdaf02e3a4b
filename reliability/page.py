"""docs/reliability.md: every line of the list of experiments, what was seen, and the command that makes it again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jinja2

from benchmarks.report.tables import markdown
from reliability.results import BUILD, TESTS, Figure

PAGE = Path(__file__).parent.parent / "docs/reliability.md"

HEAD = ("", "what was done", "measured", "target", "seen", "made again by")
ABSENT = "*not measured*"

TESTED = {
    "F1": "the leader killed (SIGKILL) three times while bulks are sent",
    "F2": "the leader stopped for 10 s (SIGSTOP)",
    "F3": "answers dropped for 5 s after the broker has written; the control is a producer without idempotence",
    "F4": "one broker of three mute, beyond the delivery timeout",
    "F5": "single partitions fail, on librdkafka's in-process Kafka",
    "F6": "one bad record in a batch, which a plain client loses with its neighbours",
    "F7": "connections reset once a second, and living 0.5 to 1.5 s",
    "F8": "all brokers away for 30 s",
    "F9": "members of a group join, leave and are killed all the time",
    "F10": "the node of the group's coordinator killed",
    "F11": "a consumer's process killed in mid-batch",
    "F12": "a consumer slower than `max.poll.interval.ms`",
    "F13": "a record whose handler raises every time",
    "F14": "share group: a lock expires, an acknowledgement comes late",
    "F15": "share group: a broker killed, connections reset",
    "F16": "`close()` while no broker answers",
    "F17": "a fork while the parent is sending",
    "F18": "the interpreter ends with live clients, waiting threads, daemon threads, in any order of `atexit`",
    "F19": "TLS and SASL that must be refused",
    "F20": "random sends, assignments and faults, histories judged by the checker",
    "F21": "half an hour of load and faults",
    "F22": "a thread of pure Python beside sending and polling",
    "B": "what became of each record of a bulk, compared with an independent reader",
    "P": "exactly once into PostgreSQL and SQLite",
    "S": "security",
}
ELSEWHERE = {"F20": "chaos", "F21": "endurance"}
RUNS = {
    "chaos": "random faults against every client at once",
    "endurance": "a fixed rate for long, while members and brokers come and go",
    "stress": "many senders with small queues, a broker that stops again and again",
    "rolling": "three nodes restarted one after the other, under load",
    "threads": "eight threads that share a producer and a consumer",
}


def rows(tests: dict[str, Any], runs: dict[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The table's lines: one for each figure; what it belongs to and its command only where they change."""
    for row, what in (TESTED | RUNS).items():
        run = runs.get(row, {"what": what, "figures": []})
        figures = [(Figure(**seen), f"`{run['command']}`") for seen in run["figures"]]
        by_test = sorted(tests.get(row, {}).items(), key=lambda entry: entry[1]["test"])
        figures += [(_figure(name, seen), f"`pytest {seen['test']}`") for name, seen in by_test]
        elsewhere = ELSEWHERE.get(row)
        if elsewhere in runs:
            yield row, what, f"see {elsewhere}", "", "", ""
        else:
            yield from _lines(row, run["what"], figures)


def render(tests: dict[str, Any], runs: dict[str, dict[str, Any]]) -> str:
    """The page as Markdown."""
    table = list(rows(tests, runs))
    seen = [line[4] for line in table if line[4] not in ("", ABSENT)]
    keys = ("date", "revision", "processor", "cpus", "load")
    made = [(name, f"{run['seconds']:,} s", *(str(run["setting"][key]) for key in keys)) for name, run in runs.items()]
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return page.get_template("reliability.md.j2").render(
        seen=seen,
        missed=sum("**missed**" in cell for cell in seen),
        absent=sum(line[4] == ABSENT for line in table),
        rows=len(TESTED) + len(RUNS),
        table=markdown(HEAD, table),
        runs=markdown(("", "length", "date", "revision", "processor", "CPUs", "load at its begin"), made),
    )


def _figure(what: str, seen: dict[str, Any]) -> Figure:
    return Figure(what, *(seen.get(key) for key in ("value", "unit", "at_most", "at_least")))  # type: ignore[arg-type]


def _lines(row: str, what: str, figures: list[tuple[Figure, str]]) -> Iterator[tuple[str, ...]]:
    if not figures:
        yield row, what, "", "", ABSENT, ""
    told = ""
    for number, (figure, command) in enumerate(figures):
        first = (row, what) if number == 0 else ("", "")
        seen = figure.seen if figure.met else f"{figure.seen}, **missed**"
        yield (*first, figure.what, figure.target, seen, command.replace("|", "\\|") if command != told else "")
        told = command


def exists(test: str) -> bool:
    """Whether there is still such a test; what others have measured is no longer told."""
    path, _, name = test.partition("::")
    function = re.escape(name.partition("[")[0].rpartition("::")[2])
    file = PAGE.parents[1] / path
    return file.exists() and re.search(rf"^ *def {function}\(", file.read_text(), re.MULTILINE) is not None


def load(build: Path = BUILD) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The figures of the tests, and the runs that there are."""
    tests = build / TESTS.name
    runs = {name: path for name in RUNS if (path := build / f"{name}.json").exists()}
    known = json.loads(tests.read_text()) if tests.exists() else {}
    return (
        {row: {what: seen for what, seen in entries.items() if exists(seen["test"])} for row, entries in known.items()},
        {name: json.loads(path.read_text()) for name, path in runs.items()},
    )


@click.command("page")
def command() -> None:
    """Write docs/reliability.md from what the tests and the runs have seen."""
    PAGE.write_text(render(*load()))
    click.echo(f"wrote {PAGE}")
