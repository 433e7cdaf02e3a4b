"""``rdknotify bench``: figures that hang together, and no topic left behind."""

from __future__ import annotations

import json
import time

import pytest
from support.command import run

from rdknotify import Admin
from rdknotify.cli.bench import measures


def test_its_figures_hang_together() -> None:
    ran = run("bench", "--url", "mock:", "--seconds", "1", "--size", "100", "--batch", "500", "--json")
    assert ran.status == 0
    assert "embedded broker" in ran.err
    told = json.loads(ran.out)
    assert (told["size"], told["batch"], told["partitions"], told["undelivered"]) == (100, 500, 4, 0)
    for name in ("produce", "consume"):
        one = told[name]
        assert one["records"] > 0
        assert one["records_per_second"] == pytest.approx(one["records"] / one["seconds"], rel=0.1)
        assert one["megabytes_per_second"] == pytest.approx(one["records_per_second"] * 100 / 1e6, rel=0.01)
        assert one["cpu_microseconds_per_record"] > 0
    assert told["produce"]["records"] % 500 == 0
    took = told["latency_milliseconds"]
    assert 0 < took["p50"] <= took["p99"] <= took["longest"] < 10_000
    assert 0 < took["records"] <= 210  # the pace of a second


def test_people_get_three_lines() -> None:
    ran = run("bench", "--url", "mock:", "--seconds", "0.3")
    assert ran.status == 0
    assert [row[0] for row in ran.rows[1:3]] == ["sending", "reading"]
    assert "p99" in ran.rows[3][0]


@pytest.mark.parametrize("partitions", [1, 3])
def test_it_stays_within_what_the_embedded_broker_keeps(partitions: int) -> None:
    ran = run("bench", "--url", "mock:", "--seconds", "3", "--size", "5000", "--partitions", partitions, "--json")
    assert ran.status == 0
    told = json.loads(ran.out)
    assert told["undelivered"] == 0
    assert told["produce"]["records"] * 5000 <= partitions * (5 << 20)


def test_a_dead_broker_is_one_line() -> None:
    begun = time.monotonic()
    ran = run("bench", "--url", "127.0.0.1:1", "-o", "connect_timeout=1")
    assert ran.status == 1
    (line,) = ran.err.splitlines()
    assert "check host and port" in line
    assert time.monotonic() - begun < 10


def test_the_topic_goes_whatever_happens(monkeypatch: pytest.MonkeyPatch, mock_cluster) -> None:
    """The mock deletes nothing, so it is seen whether somebody asks."""
    made: list[str] = []
    deleted: list[str] = []

    def create(self: Admin, name: str, partitions: int, timeout: float) -> None:
        made.append(name)
        mock_cluster.create_topic(name, partitions)

    def delete(self: Admin, names: list[str], timeout: float) -> dict[str, None]:
        deleted.extend(names)
        return dict.fromkeys(names)

    monkeypatch.setattr(Admin, "create_topic", create)
    monkeypatch.setattr(Admin, "delete_topics", delete)
    monkeypatch.setattr("rdknotify.cli.bench._is_led", lambda *_: True)
    monkeypatch.setattr(measures, "consume", _interrupted)
    ran = run("bench", "--url", mock_cluster.url, "--seconds", "0.2", "--partitions", "1", "--batch", "10")
    assert ran.status == 130
    assert deleted == made and len(made) == 1


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
