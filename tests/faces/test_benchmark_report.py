"""The benchmark's report, from made-up results: what is compared with what, which targets are met, what is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram

from benchmarks.clients import LIMIT, OURS
from benchmarks.harness import Run
from benchmarks.report import markdown, page, plots, scaling, targets
from benchmarks.report.figures import Results, Spread, bends, cost, line, rate, rise, sized, spread
from benchmarks.report.sections import build

PEER = "confluent produce_batch"


def run(measure: str, client: str, variant: str, number: int, seconds: float = 1.0, **figures: Any) -> Run:
    figures = {"records": 100_000, "seconds": seconds, "cpu": seconds / 10, "peak": 50_000_000, **figures}
    return Run(measure, client, variant, number, figures)


def delayed(client: str, variant: str, number: int, *milliseconds: int) -> Run:
    histogram = HdrHistogram(1, 60_000_000, 3)
    for value in milliseconds:
        histogram.record_value(1000 * value)
    share = {f"p{share}": histogram.get_value_at_percentile(share) / 1000 for share in (50, 99)}
    return run("latency", client, variant, number, histogram=histogram.encode().decode(), **share)


RUNS = [
    # Seconds of the rounds: ours always twice as fast as the peer, though the machine had a slow and a fast moment.
    *(run("produce", OURS, "none", number, seconds) for number, seconds in ((1, 1.0), (2, 9.0), (3, 2.0))),
    *(run("produce", PEER, "none", number, seconds) for number, seconds in ((3, 4.0), (1, 2.0), (2, 18.0))),
    run("produce", LIMIT, "none", 1, 1.0),
    run("produce", LIMIT, "none", 2, 8.0),
    run("consume", OURS, "lz4", 1, 0.1),
    run("partitions", OURS, "produce 1", 1, 1.0),
    run("partitions", OURS, "produce 10", 1, 0.5),
    run("partitions", OURS, "produce 1,000", 1, 0.75),
    delayed("rdknotify notifications", "10000/s", 1, 1, 1, 1, 5),
    delayed("rdknotify notifications", "10000/s", 2, 1, 1, 1, 30),
    delayed("rdknotify notifications", "10000/s", 3, 1, 1, 1, 40),
]
SETTING = {"date": "2026-11-21", "revision": "abc", "cpus": 2, "processor": "a <processor>", "kafka": "4.3.1"}


@pytest.fixture
def results() -> Results:
    return Results(SETTING, RUNS)


def rows(results: Results) -> dict[str, targets.Row]:
    return {f"{row.number} {row.what}": row for row in targets.rows(results)}


def cells(text: str) -> list[list[str]]:
    """The rows of the page's tables."""
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr.*?>(.*?)</tr>", text)]


def test_ratios_are_of_runs_of_one_round(results: Results) -> None:
    assert results.ratios("produce", "none", OURS, PEER, rate) == [2.0, 2.0, 2.0]
    assert results.ratios("produce", "none", OURS, PEER, cost) == [0.5, 0.5, 0.5]
    assert results.ratios("produce", "none", OURS, LIMIT, rate) == pytest.approx([1, 8 / 9])  # it has two rounds
    assert results.ratios("produce", "none", OURS, "nobody", rate) == []


def test_a_spread_is_the_median_with_lowest_and_highest(results: Results) -> None:
    found = results.spread("produce", "none", OURS, lambda figures: figures["seconds"])
    assert found == Spread(2.0, 1.0, 9.0, 3)
    assert found.text(".1f") == "2.0 (1.0 to 9.0)"
    assert spread([4], ".1f") == "4.0"
    assert spread([], ".1f") == "-"


def test_what_a_run_does_not_have_is_left_out(results: Results) -> None:
    assert rate({"records": 10}) is None
    assert cost({"records": 10, "seconds": 1}) is None
    assert results.spread("latency", "10000/s", "rdknotify notifications", lambda figures: figures.get("kept")) is None
    assert results.variants("memory") == []


def test_a_target_is_met_missed_or_not_measured(results: Results) -> None:
    found = rows(results)
    met = found[f"P1 produce: rate to {PEER}"]
    assert met.cells[2:] == ("2.00 (2.00 to 2.00) x", ">= 1.40 x", "yes")
    assert found[f"P1 produce: rate to {LIMIT}"].met == "yes"  # (1 + 8/9) / 2
    assert found[f"P1 produce: CPU a record to {PEER}"].met == "no"  # 0.5 is more than 0.4
    missed = found["P6 notification handled, 10,000/s: p99"]
    assert missed.met == "no" and missed.measured.startswith("30.0 (5.0 to 40.0)")  # by the median of the rounds
    elsewhere = found[f"P3 consume: rate to {LIMIT}"]
    assert elsewhere.cells[2:] == ("-", ">= 0.90 x", "not measured")  # there is a run, but with lz4
    assert {row.number for row in targets.rows(results)} == {f"P{number}" for number in range(1, 10)}


def test_every_target_is_there_when_nothing_was_measured() -> None:
    assert {row.met for row in targets.rows(Results({}, []))} == {"not measured"}
    assert build(Results({}, [])) == []


def test_a_cost_rises_from_a_smaller_size_to_a_larger(results: Results) -> None:
    assert sized("in flight 1,000") == ("in flight", 1000.0)
    assert sized("flat out") is None
    points = line(results, "partitions", "produce", OURS, cost)
    assert [(point.at, point.value.median) for point in points] == [(1, 1.0), (10, 0.5), (1000, 0.75)]
    found = rise(results, "partitions", "produce", OURS, cost)
    assert found and found.median == 1.5  # from 10 to 1,000; that 1 costs most of all is no rise
    assert [(bend.at, bend.neighbour) for bend in bends(points)] == [(1, 10), (1000, 10)]
    assert bends(points[:1]) == []


def test_histograms_of_all_rounds_are_one(results: Results) -> None:
    merged = plots.merged(results, "10000/s", "rdknotify notifications")
    assert merged.get_total_count() == 12
    assert merged.get_max_value() == pytest.approx(40_000, rel=0.001)
    assert plots.merged(results, "10000/s", "nobody") is None


def test_the_page_has_a_row_for_each_client_and_needs_nothing_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"setting": SETTING, "runs": [vars(run) for run in RUNS]}))
    page.publish(path)
    text = (tmp_path / "report.html").read_text()
    assert [row[1] for row in cells(text) if row and row[0] == "none"] == [OURS, PEER, LIMIT]
    assert ["processor", "a &lt;processor&gt;"] in cells(text)
    sources = re.findall(r'(?:src|href)="(.*?)"', text)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert text.index("<h2>Targets</h2>") < text.index("<h2>Producing</h2>") < text.index("<h2>Setting</h2>")
    assert "Into a database" not in text and "Rebalances" not in text
    drawn = {png.name for png in (tmp_path / "plots").iterdir()}
    assert drawn == {"produce-none.png", "consume-lz4.png", "partitions.png", "latency.png"}
    assert f"| P1 | produce: rate to {PEER} | 2.00 (2.00 to 2.00) x | >= 1.40 x | yes |" in capsys.readouterr().out


def test_the_documentation_is_made_again_in_place_of_the_earlier(results: Results, tmp_path: Path) -> None:
    images = tmp_path / markdown.IMAGES
    images.mkdir(parents=True)
    (images / "earlier.png").touch()
    pages = markdown.write(results, build(results), tmp_path)
    shown = re.findall(r"!\[.*?\]\((.*?)\)", pages[0].read_text())
    assert {tmp_path / name for name in shown} == set(images.iterdir())
    assert all(0 < png.stat().st_size < 100_000 for png in images.iterdir())
    assert "| send | `send_batch`, 200 bytes | 2.00 (1.00 to 9.00) | 500,000 | 50,000 |" in pages[1].read_text()
    assert "Not measured in this run." in pages[1].read_text()
    for made in pages:
        heads = re.findall(r"^(.*)\n\|.*\n\| ---", made.read_text(), re.MULTILINE)
        assert heads and set(heads) == {""}  # what follows a line of text directly is no table


def test_a_record_on_the_log_is_its_value_and_what_the_format_adds() -> None:
    assert [scaling.varint_bytes(number) for number in (0, 63, 64, 8191, 8192)] == [1, 1, 2, 2, 3]
    assert scaling.record_bytes(200, batch=61) == 2 + 4 + 1 + 2 + 200 + 1
    assert scaling.record_bytes(10, batch=1) == 1 + 4 + 1 + 1 + 10 + 61


def test_members_and_brokers_follow_from_cost_and_bytes() -> None:
    assert scaling.members(1_000_000, cost_us=7.0) == 10  # seven busy cores at 0.7 each
    assert scaling.members(1_000_000, cost_us=7.01) == 11
    assert scaling.partitions(11, brokers=6) == 24
    three = scaling.Cluster(3, bytes_each=210, partitions=24)
    assert (three.written, three.sent, three.replicas) == (210e6, 210e6, 24)
    assert three.cache == 210e6 * 30
    assert three.carried == pytest.approx(1_000_000 * 1.25e9 * 0.7 / 210e6)
    assert scaling.brokers_needed(210) == 3  # for the replicas; one card would nearly do
    assert scaling.brokers_needed(2_100) == 8
    assert not scaling.Cluster(7, 2_100, 24).enough and scaling.Cluster(8, 2_100, 24).enough
