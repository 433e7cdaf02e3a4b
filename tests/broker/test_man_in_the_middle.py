"""A man in the middle before real Kafka: what he spoils never crashes, hangs or bloats a client, nor is it a record."""

from __future__ import annotations

import os
import random

from support import hostile
from support.figures import Figures
from support.hostile import Middle
from support.victim import Victim
from support.waiting import until

SEED = int(os.environ.get("RDKNOTIFY_SEED", "20260901"))
PROOF = {"count": 50, "timeout": 60.0}


def test_spoiled_answers_of_real_kafka(kafka, topic: str, figure: Figures) -> None:
    chance = random.Random(SEED)
    with Middle(kafka.bootstrap_servers) as middle, Victim(f"kafka://{middle.address}", topic) as victim:
        slowest = victim("prove", mark="first", **PROOF)
        for round_ in range(2):
            for spoil in hostile.SPOILS_OF_RECORDS:
                goal = middle.spoiled + 8
                middle.turn(spoil=spoil(chance, {hostile.PRODUCE, hostile.FETCH}))
                until(lambda goal=goal: victim("suffer", seconds=0.2) and middle.spoiled >= goal, "it is spoiled", 30)
            middle.turn()
            slowest = max(slowest, victim("prove", mark=f"round-{round_}", **PROOF))
        for spoil in hostile.EVERY_SPOIL:
            middle.turn(spoil=spoil(chance, None, 0.3))
            victim("suffer", seconds=0.7)
            victim("close")
        middle.turn()
        victim("prove", mark="new clients", **PROOF)
        grown, closing = victim("grown"), victim("close")
    figure("S", "spoiled answers of real Kafka without a crash", middle.spoiled, at_least=50)
    figure("S", "memory taken by spoiled answers of real Kafka", grown, "MiB", at_most=150)
    figure("S", "longest way back to real Kafka, unspoiled", slowest, "s", at_most=45)
    figure("S", "close() after spoiled answers of real Kafka", closing, "s", at_most=10)


def test_spoiled_answers_to_an_administrator(kafka, topic: str, figure: Figures) -> None:
    chance = random.Random(SEED)
    with Middle(kafka.bootstrap_servers) as middle, Victim(f"kafka://{middle.address}", topic) as victim:
        victim("prove", mark="a group to be asked about", **PROOF)
        victim("administer", wait=20)
        assert victim("errors") == {}, "unspoiled, all is answered"
        for spoil in hostile.EVERY_SPOIL:
            goal = middle.spoiled + 60
            middle.turn(spoil=spoil(chance, hostile.ADMINISTRATION, 0.7))
            until(lambda goal=goal: victim("administer", wait=0.3) or middle.spoiled >= goal, "it is spoiled", 60)
        middle.turn()
        victim("prove", mark="after it", **PROOF)
        grown = victim("grown")
        victim("close")
    figure("S", "spoiled answers to an administrator without a crash", middle.spoiled, at_least=180)
    figure("S", "memory taken by them", grown, "MiB", at_most=150)


def test_no_bit_that_was_turned_over_on_the_way_is_in_a_record(kafka, topic: str, figure: Figures) -> None:
    sent = {f"record-{number}" for number in range(100)}
    chance = random.Random(SEED)

    def damage(kind: int, answer: bytearray) -> None:
        places = [place for place in range(len(answer)) if answer.startswith(b"record-", place)]
        if kind == hostile.FETCH and places and middle.spoiled < 15:
            answer[chance.choice(places)] ^= 1 << chance.randrange(8)

    with Middle(kafka.bootstrap_servers) as middle, Victim(f"kafka://{middle.address}", topic) as victim:
        victim("send", values=sorted(sent))
        middle.spoil = damage
        seen = victim("read", count=len(sent), timeout=60)
        victim("close")
    figure("S", "fetch answers of real Kafka damaged within a record", middle.spoiled, at_least=15)
    figure(
        "S",
        "records lost, twice or damaged by that",
        len(sent - seen.keys()) + sum(seen.values()) - len(sent),
        at_most=0,
    )
