"""The runs as tables in Markdown: medians, spread, ratios pair by pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.clients.base import Figures
from benchmarks.report import figures
from benchmarks.report.figures import MISSING, spread
from benchmarks.report.tables import markdown

Runs = dict[str, list[Figures]]  # by scheme, in the order in which they were made
Row = tuple[str, ...]

BASE = "kafka"
NULL = "null"


def rate(run: Figures) -> float:
    """Notifications a second, of those that arrived."""
    return figures.rate(run) or 0.0


def cost(run: Figures) -> float:
    """CPU microseconds of the client process for each notification that arrived."""
    return figures.cost(run, of="arrived") or 0.0


def quantile(run: Figures, share: float) -> float:
    """Milliseconds within which this share of the notifications arrived."""
    delays = sorted(run["delays"])
    return float(delays[min(int(len(delays) * share), len(delays) - 1)] / 1e6) if delays else float("inf")


def pairs(scheme: str, runs: Runs, other: str) -> Iterator[tuple[Figures, Figures]]:
    """This scheme's runs, each with the other's of the same round; none for a scheme beside itself."""
    numbered = {name: dict(enumerate(made)) for name, made in runs.items()}
    return iter(()) if scheme == other else figures.pairs(numbered[scheme], numbered.get(other, {}))


def losses(runs: list[Figures]) -> str:
    """What did not arrive and what came twice, in all rounds."""
    lost = sum(run["sent"] - run["arrived"] for run in runs)
    twice = sum(run.get("twice", 0) for run in runs)
    return f"{lost:,} of {sum(run['sent'] for run in runs):,}" + (f", {twice:,} twice" if twice else "")


def speed(title: str, runs: Runs) -> list[Row]:
    """Rows of one measure of speed. What a run costs beyond a null run is the driver's share, less what it spares."""
    rows = []
    for scheme, made in runs.items():
        ratios = [rate(ours) / rate(base) for ours, base in pairs(scheme, runs, BASE) if rate(base)]
        shares = [cost(ours) - cost(null) for ours, null in pairs(scheme, runs, NULL)]
        cells = [
            spread([rate(run) / 1e3 for run in made], ".1f"),
            MISSING if scheme == NULL else spread(ratios, ".2f"),
            spread([cost(run) for run in made], ".1f"),
            spread(shares, ".1f"),
            MISSING if scheme == NULL else losses(made),
        ]
        rows.append((title, scheme, *cells))
    return rows


def speeds(measures: dict[str, Runs]) -> str:
    head = (
        "measure",
        "driver",
        "thousand/s",
        f"times `{BASE}`",
        "CPU s a million",
        f"beyond `{NULL}`, µs each",
        "lost",
    )
    return _table(head, [row for title, runs in measures.items() for row in speed(title, runs)])


def until_last(measures: dict[str, Runs]) -> str:
    """The listening measures again, with whatever wait there was before the last call of the endpoint."""
    rows = []
    for title, runs in measures.items():
        rates = {
            scheme: [run["arrived"] / run["until_last"] / 1e3 for run in made if run.get("until_last")]
            for scheme, made in runs.items()
            if scheme != NULL
        }
        for scheme, values in rates.items():
            ratios = (
                () if scheme == BASE else [ours / base for ours, base in zip(values, rates.get(BASE, ()), strict=False)]
            )
            if values:
                rows.append((title, scheme, spread(values, ".1f"), spread(ratios, ".2f")))
    return _table(("measure, until the last call", "driver", "thousand/s", f"times `{BASE}`"), rows) if rows else ""


def delays(title: str, runs: Runs) -> str:
    rows = []
    for scheme, made in runs.items():
        ratios = [quantile(base, 0.5) / quantile(ours, 0.5) for ours, base in pairs(scheme, runs, BASE)]
        middle, late = ([quantile(run, share) for run in made] for share in (0.5, 0.99))
        rows.append((title, scheme, spread(middle, ".1f"), spread(late, ".1f"), spread(ratios, ".0f"), losses(made)))
    return _table(("measure", "driver", "p50, ms", "p99, ms", f"`{BASE}` to this", "lost"), rows)


def profiles(measures: dict[str, Runs]) -> str:
    """Shares of the CPU of Python threads by package, for whoever takes at least 1 %."""
    rows = []
    for title, runs in measures.items():
        for scheme, (run,) in runs.items():
            total = sum(package["seconds"] for package in run["packages"].values())
            for name, package in run["packages"].items():
                if package["seconds"] >= total / 100:
                    costliest = ", ".join(f"{what} {seconds / total:.0%}" for what, seconds in package["functions"])
                    rows.append((title, scheme, name, f"{package['seconds'] / total:.0%}", costliest))
    return _table(("path", "driver", "package", "share", "costliest functions"), rows)


def _table(head: Row, rows: Sequence[Row]) -> str:
    return f"\n{markdown(head, rows)}"
