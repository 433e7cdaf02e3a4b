"""How long a record is under way, end to end, at fixed rates and on an idle topic (P6).

Both ends are processes of one machine; a round of a client is one sender and one receiver, which go through all rates,
from the lowest on. They begin with records that do not count, and only when these have arrived are asked for more.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from subprocess import Popen

from hdrh.histogram import HdrHistogram

from benchmarks.clients import LIMIT
from benchmarks.clients.base import Figures
from benchmarks.clients.latency import NOTIFYING, RECEIVE, SEND
from benchmarks.clients.notifying import ENDING
from benchmarks.harness import Failed, Stage, ended, go, reached

RATES = {"idle": 50, "1000/s": 1_000, "10000/s": 10_000, "50000/s": 50_000}
"""Records a second, by variant."""
SECONDS = {"idle": 1.6, "1000/s": 1.4, "10000/s": 1.4, "50000/s": 1.4}
"""Of a phase."""
WARMING = (1_000, 500)
"""The rate and records of the phase in which clients connect; figures do not have it."""
UNCOUNTED = 0.1
"""The first of each phase."""

_MAIN = {"idle": 5, "1000/s": 3, "10000/s": 5, "50000/s": 3}
_DEFAULTS = {"idle": 3, "10000/s": 3}
_PEER = {"idle": 1, "1000/s": 1, "10000/s": 1}
ROUNDS = {
    LIMIT: dict.fromkeys(RATES, 3),
    "rdknotify": _MAIN,
    "rdknotify notifications": _MAIN,
    "confluent": _MAIN,
    "rdknotify, its defaults": _DEFAULTS,
    "confluent, its defaults": _DEFAULTS,
    "aiokafka": {**_PEER, "50000/s": 1},
    "kafka-python": {**_PEER, "50000/s": 1},
    "oslo.messaging kafka": _PEER,
    "oslo.messaging rdkafka": _PEER,
}
"""How often each client runs at each rate."""
QUICK = {client: {"10000/s": 1} for client, rounds in ROUNDS.items() if rounds is not _DEFAULTS}
"""When it is only to be seen that all works."""

PATIENCE = 60.0
"""Seconds that a phase may take: much more than it does with a client that falls behind."""
LOWEST, HIGHEST, DIGITS = 1, int(PATIENCE * 1_000_000), 3
"""Of the histograms, in microseconds."""


def measure(stage: Stage) -> None:
    clients = QUICK if stage.plan.quick else ROUNDS
    if not stage.plan.quick:
        list(_round(stage, LIMIT, ["50000/s"]))  # warms up the broker: whoever came first would be charged for it
    for number in range(1, max(max(rounds.values()) for rounds in clients.values()) + 1):
        for client, rounds in clients.items():
            variants = [variant for variant in RATES if rounds.get(variant, 0) >= number]
            for variant, figures in zip(variants, _round(stage, client, variants), strict=True):
                stage.record("latency", client, variant, number, figures)


def _round(stage: Stage, client: str, variants: list[str]) -> Iterator[Figures]:
    """The figures of each variant. Raises Failed unless every record arrived exactly once, and in time."""
    if not variants:
        return
    phases = [WARMING] + [_phase(stage, variant) for variant in variants]
    records = sum(count for _, count in phases)
    with stage.topic(ending=ENDING if client in NOTIFYING else "") as topic:
        job = stage.job(topic, records, group=f"benchmark-{uuid.uuid4().hex[:8]}", more={"phases": phases})
        with stage.started(client, RECEIVE, job) as receiver, stage.started(client, SEND, job) as sender:
            for number, (rate, count) in enumerate(phases):
                if number:
                    go(sender)
                last = number == len(phases) - 1
                figures = _said(sender, last) | _said(receiver, last)
                if figures.pop("twice"):
                    raise Failed(f"{client}: records arrived twice at {rate}/s")
                if number:
                    yield figures | _spread(figures.pop("delays")[int(count * UNCOUNTED) :])
        if (stored := stage.on_log(topic)) != records:
            raise Failed(f"{client}: {stored} records on the log, {records} were sent")


def _phase(stage: Stage, variant: str) -> tuple[int, int]:
    rate = RATES[variant]
    return rate, int(rate * stage.plan.seconds(SECONDS[variant]))


def _said(process: Popen[str], last: bool) -> Figures:
    """What it prints at the end of a phase, or of its life."""
    figures: Figures = ended(process, PATIENCE) if last else json.loads(reached(process, PATIENCE))
    return figures


def _spread(delays: list[int]) -> Figures:
    """Percentiles in milliseconds of delays in microseconds, and the histogram for whoever wants to know more."""
    histogram = HdrHistogram(LOWEST, HIGHEST, DIGITS)
    for delay, count in Counter(delays).items():
        if not histogram.record_value(delay, count):
            raise Failed(f"a record was under way for {delay} us")
    return {
        **{f"p{share:g}": histogram.get_value_at_percentile(share) / 1000 for share in (50, 99, 99.9)},
        "max": histogram.get_max_value() / 1000,
        "histogram": histogram.encode().decode(),
    }
