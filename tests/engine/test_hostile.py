"""Brokers that mean harm: rubbish, damage and bombs end in typed errors, bounded memory, and go by."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Iterator

import pytest
from support import hostile
from support.figures import Figures
from support.hostile import Middle, Speech
from support.victim import Victim
from support.waiting import until

from rdknotify.testing.mock import MockCluster

SEED = int(os.environ.get("RDKNOTIFY_SEED", "20260901"))
PROOF = {"count": 20, "timeout": 40.0}
LIMIT = 10_000_000
SMALL = {"receive.message.max.bytes": LIMIT, "fetch.max.bytes": LIMIT // 2}
MIB_ALLOWED = 40.0
"""For a limit of 10 MB: lz4 grows its buffer by three quarters, and moves it."""


@pytest.fixture
def mock() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create_topic("t", 2)
        yield cluster


SPEECHES: dict[str, Speech] = {
    "rubbish": hostile.rubbish(random.Random(SEED)),
    "framed rubbish": hostile.framed_rubbish(random.Random(SEED)),
    "length 0x7fffffff": hostile.of_length(0x7FFFFFFF),
    "length -1": hostile.of_length(-1),
    "length -2147483648": hostile.of_length(-(1 << 31)),
    "length 0": hostile.of_length(0),
    "length 50 MB": hostile.of_length(50_000_000),
    "cut short": hostile.cut_short,
    "http": hostile.http,
    "mute": hostile.mute,
    "endless": hostile.endless,
}


def test_servers_that_are_no_brokers(mock: MockCluster, figure: Figures) -> None:
    with Middle(mock.bootstrap_servers) as middle, Victim(f"kafka://{middle.address}", "t") as victim:
        slowest = victim("prove", mark="first", **PROOF)
        for name, speech in SPEECHES.items():
            heard = middle.speeches
            middle.turn(speech=speech)
            victim("suffer", seconds=0.3)
            until(lambda heard=heard: middle.speeches > heard, f"{name} is heard")
            middle.turn()
            slowest = max(slowest, victim("prove", mark=name, **PROOF))
        grown, closing = victim("grown"), victim("close")
    figure("S", "connections to servers that are no brokers, none a crash", middle.speeches, at_least=len(SPEECHES))
    figure("S", "memory taken by rubbish, giant lengths and endless talk", grown, "MiB", at_most=MIB_ALLOWED)
    figure("S", "close() after it", closing, "s", at_most=10)
    figure("S", "longest way back to a good broker", slowest, "s", at_most=30)


def test_spoiled_answers_to_produce_and_fetch(mock: MockCluster, figure: Figures) -> None:
    chance = random.Random(SEED)
    with Middle(mock.bootstrap_servers) as middle, Victim(f"kafka://{middle.address}", "t") as victim:
        victim("prove", mark="first", **PROOF)
        for round_ in range(3):
            for spoil in hostile.SPOILS_OF_RECORDS:
                goal = middle.spoiled + 12
                middle.turn(spoil=spoil(chance, {hostile.PRODUCE, hostile.FETCH}))
                until(lambda goal=goal: victim("suffer", seconds=0.2) and middle.spoiled >= goal, "it is spoiled", 30)
            middle.turn()
            victim("prove", mark=f"round-{round_}", **PROOF)  # the same clients go on
        grown, closing = victim("grown"), victim("close")
    figure("S", "spoiled answers to produce and fetch without a crash", middle.spoiled, at_least=100)
    figure("S", "memory taken by them", grown, "MiB", at_most=150)
    figure("S", "close() after them", closing, "s", at_most=10)


def test_spoiled_answers_of_every_kind(mock: MockCluster, figure: Figures) -> None:
    chance = random.Random(SEED)
    closing = 0.0
    with Middle(mock.bootstrap_servers) as middle, Victim(f"kafka://{middle.address}", "t") as victim:
        victim("prove", mark="first", **PROOF)
        for round_ in range(2):
            for spoil in hostile.EVERY_SPOIL:
                goal = middle.spoiled + 12
                middle.turn(spoil=spoil(chance, None, 0.3))
                while middle.spoiled < goal:
                    victim("suffer", seconds=0.3)
                    closing = max(closing, victim("close"))  # the next learn of the cluster from such answers
            middle.turn()
            # What a client was told of leaders and epochs it keeps: a new one is needed.
            closing = max(closing, victim("close"))
            victim("prove", mark=f"round-{round_}", **PROOF)
        grown = victim("grown")
        victim("close")
    figure("S", "spoiled answers of every kind without a crash", middle.spoiled, at_least=50)
    figure("S", "memory taken by spoiled answers of every kind", grown, "MiB", at_most=150)
    figure("S", "longest close() among spoiled answers", closing, "s", at_most=15)


def test_a_batch_that_was_damaged_on_its_way_is_fetched_again_and_none_is_lost(
    mock: MockCluster, figure: Figures
) -> None:
    batches = 30
    for number in range(batches):
        hostile.store(mock.bootstrap_servers, "t", 0, hostile.record_batch(hostile.record(f"value-{number}".encode())))

    def damage(kind: int, answer: bytearray) -> None:
        place = answer.find(b"value-")
        if kind == hostile.FETCH and place >= 0 and middle.spoiled < 10:
            answer[place] ^= 1

    with Middle(mock.bootstrap_servers) as middle, Victim(f"kafka://{middle.address}", "t") as victim:
        middle.spoil = damage
        seen = victim("read", count=batches, timeout=30)
        errors = victim("errors")
        victim("close")
    lost = batches - len(seen.keys() & {f"value-{number}" for number in range(batches)})
    assert errors.get("KafkaError: _BAD_MSG", 0) > 0
    figure("S", "damaged answers, each record behind which was fetched again", middle.spoiled, at_least=10)
    figure("S", "records lost, twice or damaged by them", lost + sum(seen.values()) - batches, at_most=0)


def gzip_without_end() -> bytes:
    """So that the size of its content is what it seems to be, and nothing follows."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    return (packed.compress(random.Random(SEED).randbytes(5000)) + packed.flush())[:-1000]


SNAPPY_OF_4_GIB = b"\xff\xff\xff\xff\x0f"
BURSTING = {
    "gzip": ("gzip", lambda: hostile.bomb("gzip", 30 * LIMIT)),
    "snappy": ("snappy", lambda: hostile.bomb("snappy", 5 * LIMIT)),  # it expands 21 times at most
    "lz4": ("lz4", lambda: hostile.bomb("lz4", 30 * LIMIT)),
    "zstd": ("zstd", lambda: hostile.bomb("zstd", 30 * LIMIT)),
    "gzip without its end": ("gzip", gzip_without_end),
    "snappy that says it is of 4 GiB": ("snappy", lambda: SNAPPY_OF_4_GIB + b"\0" * 20),
    "snappy as Java frames it, of 400 TB": (
        "snappy",
        lambda: (
            b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + (struct.pack(">i", 5) + SNAPPY_OF_4_GIB) * 100_000
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BURSTING)
def test_a_batch_that_bursts_is_an_error_and_its_neighbours_arrive(
    mock: MockCluster, figure: Figures, name: str
) -> None:
    codec, make = BURSTING[name]
    with Victim(mock.url, "t", **SMALL) as victim:
        victim("prove", mark="first", **PROOF)
        hostile.store(mock.bootstrap_servers, "t", 0, hostile.record_batch(make(), codec))
        hostile.store(mock.bootstrap_servers, "t", 1, hostile.record_batch(hostile.record(b"neighbour")))
        victim("read", count=PROOF["count"] + 1, timeout=20)
        until(
            lambda: victim("suffer", seconds=0.2) and victim("errors").get("KafkaError: _BAD_COMPRESSION"),
            "the error is told",
            30,
        )
        grown, closing = victim("grown"), victim("close")
    figure("S", f"memory taken by a bomb: {name}", grown, "MiB", at_most=MIB_ALLOWED)
    figure("S", f"close() after a bomb: {name}", closing, "s", at_most=5)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_within_the_limit_is_none(mock: MockCluster, codec: str) -> None:
    content = hostile.bomb(codec, LIMIT - 1000)
    hostile.store(mock.bootstrap_servers, "t", 0, hostile.record_batch(content, codec))
    with Victim(mock.url, "t", **SMALL) as victim:
        assert [len(value) for value in victim("read", count=1, timeout=20)] == [LIMIT - 1000]
        assert victim("errors") == {}
        victim("close")
