"""The plots, as PNG: one colour for each client throughout, ours in front."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL import Image

from benchmarks.clients import LIMIT, OURS
from benchmarks.report.figures import Point, Quantity, Results, Spread, cost, line, rate

FAMILIES = {
    LIMIT: ("#333333",),
    OURS: ("#d1130f", "#e8736f", "#f2b3b0"),
    "confluent": ("#1f6fb2", "#6aa9d8", "#a9cfea", "#0f4c81"),
    "aiokafka": ("#2a8f57", "#7cc49c"),
    "kafka-python": ("#b7860b", "#dcb653"),
    "oslo": ("#7d4fa8", "#b495d0"),
    "java": ("#8a5a44", "#bf9a89"),
    "": ("#7f7f7f", "#a8a8a8", "#c9c9c9"),
}
"""Shades of the clients whose names begin so."""
STYLE = Path(__file__).parent / "templates" / "plots.mplstyle"
WIDTH = 9.0
LEGEND_WIDTH = 2.2
"""Inches, also of a name in the legend."""
QUANTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)
RATE = "thousand records/s"
COST = "client CPU, µs a record"


@dataclass(frozen=True)
class Axis:
    """What is shown of a run."""

    title: str
    quantity: Quantity
    cut: float | None = None
    """Bars of more than so many times the shortest are cut: what is small could not be told apart."""


RATES = Axis(RATE, lambda figures: None if (found := rate(figures)) is None else found / 1e3)
COSTS = Axis(COST, cost, cut=12)


def colours(clients: Iterable[str]) -> dict[str, str]:
    taken: dict[str, int] = {}
    found = {}
    for client in clients:
        family = next(name for name in FAMILIES if client.startswith(name))
        shades = FAMILIES[family]
        found[client] = shades[taken.get(family, 0) % len(shades)]
        taken[family] = taken.get(family, 0) + 1
    return found


def bars(results: Results, measure: str, variant: str, axes: Sequence[Axis] = (RATES, COSTS)) -> bytes | None:
    """A bar for the median of each client, a line from the lowest to the highest run."""
    clients = results.clients(measure, variant)
    shown = [axis for axis in axes if any(results.values(measure, variant, name, axis.quantity) for name in clients)]
    if not shown:
        return None
    shade = colours(results.clients(measure))
    figure, columns = _figure(len(shown), 0.9 + 0.3 * len(clients), sharey=True)
    for column, axis in zip(columns, shown, strict=True):
        spreads = {client: results.spread(measure, variant, client, axis.quantity) for client in clients}
        found = [spread for spread in spreads.values() if spread]
        end = 1.18 * max(spread.high for spread in found)
        if axis.cut:
            end = min(end, axis.cut * min(spread.median for spread in found))
        for place, (client, spread) in enumerate(spreads.items()):
            if spread:
                _bar(column, place, spread, shade[client], end)
        column.set_title(axis.title)
        column.set_xlim(0, end)
        column.grid(visible=False, axis="y")
        column.tick_params(axis="y", length=0)
    columns[0].set_yticks(range(len(clients)), clients)
    columns[0].set_ylim(len(clients) - 0.4, -0.6)
    for label, client in zip(columns[0].get_yticklabels(), clients, strict=True):
        label.set_fontweight("bold" if client.startswith(OURS) else "normal")
    return _png(figure)


def _bar(column: Axes, place: int, found: Spread, shade: str, end: float) -> None:
    text = f"{found.median:,.{0 if found.median >= 100 else 1 if found.median >= 10 else 2}f}"
    column.barh(place, found.median, height=0.62, color=shade)
    if 1.12 * found.high > end:
        column.text(end, place, f"{text} » ", va="center", ha="right", fontsize=8, color="white")
        return
    if found.runs > 1:
        column.plot([found.low, found.high], [place, place], color="#111111", linewidth=1, marker="|", markersize=5)
    column.text(found.high, place, f" {text}", va="center", fontsize=8)


def latency(results: Results) -> bytes | None:
    """Percentile curves of all runs of a client together, a panel for each rate."""
    variants = [
        variant
        for variant in results.variants("latency")
        if any(merged(results, variant, client) for client in results.clients("latency", variant))
    ]
    if not variants:
        return None
    clients = results.clients("latency")
    shade = colours(clients)
    rows = -(-len(variants) // 2)
    figure, panels = _figure(min(2, len(variants)), 2.9 * rows, rows=rows, sharey=True)
    for panel, variant in zip(panels, variants, strict=False):
        for client in results.clients("latency", variant):
            if histogram := merged(results, variant, client):
                _curve(panel, histogram, client, shade[client])
        panel.set_title(variant)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks([1 / (1 - share) for share in QUANTILES], [f"{share * 100:g} %" for share in QUANTILES])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for panel in panels[len(variants) :]:
        panel.set_visible(False)
    for panel in panels[:: min(2, len(variants))]:
        panel.set_ylabel("ms, end to end")
    _legend(figure, panels)
    return _png(figure)


def merged(results: Results, variant: str, client: str) -> HdrHistogram | None:
    """The histograms of all rounds as one."""
    whole = None
    for figures in results.series("latency", variant, client).values():
        if text := figures.get("histogram"):
            one = HdrHistogram.decode(text)
            whole = one if whole is None else whole.add(one) or whole
    return whole


def _curve(panel: Axes, histogram: HdrHistogram, client: str, shade: str) -> None:
    most = min(histogram.get_total_count(), 1 / (1 - QUANTILES[-1]))
    steps = 120
    places = [2 * (most / 2) ** (step / steps) for step in range(steps + 1)]
    values = [histogram.get_value_at_percentile(100 * (1 - 1 / place)) / HISTOGRAM_UNITS for place in places]
    panel.plot(places, values, color=shade, label=client, **_stroke(client))


HISTOGRAM_UNITS = 1000.0
"""Histograms count microseconds, what is shown are milliseconds."""


def scaling(results: Results, measure: str, axis: Axis, size: str) -> bytes | None:
    """A line for each client, a panel for each role."""
    roles = [role for role, count in Counter(role for role, _ in results.sizes(measure)).items() if count > 1]
    clients = results.clients(measure)
    shade = colours(clients)
    lines = {role: {name: line(results, measure, role, name, axis.quantity) for name in clients} for role in roles}
    if not roles:
        return None
    figure, panels = _figure(len(roles), 2.9)
    for panel, (role, by_client) in zip(panels, lines.items(), strict=True):
        for client, points in by_client.items():
            if points:
                _line(panel, points, client, shade[client])
        sizes = sorted({point.at for points in by_client.values() for point in points})
        panel.set_title(role)
        panel.set_xscale("linear" if _even(sizes) else "log")
        panel.set_yscale("log")
        panel.set_xticks(sizes, [_short(at) for at in sizes])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_ylim(*_heights(panel))
        for formatter in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            formatter(FuncFormatter(_tick))
        panel.tick_params(axis="y", which="minor", labelsize=7)
        panel.set_xlabel(size)
    panels[0].set_ylabel(axis.title)
    _legend(figure, panels)
    return _png(figure)


def _even(sizes: Sequence[float]) -> bool:
    """Whether all steps are the same, of more than one."""
    return len({after - before for before, after in pairwise(sizes)}) == 1 and len(sizes) > 2


def _line(panel: Axes, points: Sequence[Point], client: str, shade: str) -> None:
    at = [point.at for point in points]
    panel.plot(at, [point.value.median for point in points], color=shade, label=client, marker="o", **_stroke(client))
    panel.fill_between(
        at, [point.value.low for point in points], [point.value.high for point in points], color=shade, alpha=0.12
    )


def _stroke(client: str) -> dict[str, Any]:
    ours = client.startswith(OURS)
    return {
        "linewidth": 2.4 if ours else 1.3,
        "zorder": 3 if ours else 2,
        "linestyle": "--" if client == LIMIT else "-",
        "markersize": 4,
    }


def _heights(panel: Axes) -> tuple[float, float]:
    """Around all lines, and no less than a decade, lest what is flat looks steep."""
    low, high = panel.dataLim.ymin / 1.2, panel.dataLim.ymax * 1.2
    beyond = max(1.0, (10 * low / high) ** 0.5)
    return low / beyond, high * beyond


def _tick(value: float, _place: int) -> str:
    """Only ticks at 1, 2 and 5 are named."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def _short(size: float) -> str:
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{size / factor:g}{letter}"
    return f"{size:g}"


def _figure(columns: int, height: float, rows: int = 1, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH if columns > 1 else WIDTH * 0.6, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    labels = (zip(*reversed(panel.get_legend_handles_labels()), strict=True) for panel in panels)
    named = dict(chain.from_iterable(labels))
    figure.legend(
        named.values(),
        named.keys(),
        loc="outside lower center",
        ncols=min(len(named), int(figure.get_figwidth() / LEGEND_WIDTH)),
    )


def _png(figure: Figure) -> bytes:
    drawn, output = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(64).save(output, "PNG", optimize=True)  # a third of the bytes
    return output.getvalue()
