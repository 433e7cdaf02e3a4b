"""orjson, msgspec and the standard library on whole envelopes: encode, decode, and what each gets wrong.

    pip install orjson msgspec && python benchmarks/json_libraries.py

Prints microseconds for one notification: the median of the rounds, and the fastest and slowest round. The
rounds of the libraries alternate, so that a slow moment of the machine meets them all.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import orjson

NOVA = Path(__file__).parents[1] / "src/rdknotify/testing/data/nova-notifications.jsonl"
SMALL = {
    "instance_id": "5e3a2cd8-9f1b-4f0a-8a3e-1f6f2c1f6d52",
    "state": "active",
    "host": "compute-17.example.org",
    "memory_mb": 2048,
    "disk_gb": 20,
    "vcpus": 2,
    "load": 0.73,
    "image": "cirros-0.6.2",
    "tenant": "6f70656e737461636b20342065766572",
    "zone": "nova1",
}
Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any], Callable[[str], Any]]


def codecs() -> dict[str, Codec]:
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder()
    compact = json.JSONEncoder(separators=(",", ":"))
    return {
        "orjson": (orjson.dumps, orjson.loads, orjson.loads),
        "msgspec": (encoder.encode, decoder.decode, decoder.decode),
        "json": (lambda value: compact.encode(value).encode(), json.loads, json.loads),
    }


def notification(payload: Any) -> dict[str, Any]:
    return {
        "message_id": "c3cd1c5f-0a6e-4f6a-9f7c-8a1e6a4c8a55",
        "publisher_id": "compute.node1",
        "event_type": "compute.instance.update",
        "priority": "INFO",
        "payload": payload,
        "timestamp": "2024-05-01 12:00:00.123456",
        "_context": {},
        "_unique_id": "9f0b2d6e0c4a4c0fb5f3c1ad3a8e1f55",
    }


def seconds_each(work: Callable[[Any], object], items: list[Any], repeats: int) -> float:
    begin = perf_counter()
    for _ in range(repeats):
        for item in items:
            work(item)
    return (perf_counter() - begin) / (repeats * len(items))


def both_ways(codec: Codec) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    dumps, loads, loads_text = codec

    def encode(message: Any) -> bytes:
        return dumps({"oslo.version": "2.0", "oslo.message": dumps(message).decode()})

    def decode(value: bytes) -> Any:
        return loads_text(loads(value)["oslo.message"])

    return encode, decode


def measure(messages: list[dict[str, Any]], rounds: int, repeats: int) -> None:
    pairs = {name: both_ways(codec) for name, codec in codecs().items()}
    values = [pairs["json"][0](message) for message in messages]
    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, (encode, decode) in pairs.items():
            samples.setdefault((name, "encode"), []).append(seconds_each(encode, messages, repeats))
            samples.setdefault((name, "decode"), []).append(seconds_each(decode, values, repeats))
    for (name, what), times in sorted(samples.items(), key=lambda item: item[0][1]):
        shown = (f"{1e6 * value:6.2f}" for value in (median(times), min(times), max(times)))
        print(f"  {what} {name:8}" + " ".join(shown))


def faults() -> None:
    """What must not change on its way, sent and read back."""
    cases = {"nan": math.nan, "inf": math.inf, "2**70": 2**70, "surrogate": "\ud800", "int key": {1: 2}}
    for name, codec in codecs().items():
        encode, decode = both_ways(codec)
        print(f"  {name:8}" + ", ".join(f"{case}: {_fault(encode, decode, value)}" for case, value in cases.items()))


def _fault(encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], value: Any) -> str:
    try:
        return repr(decode(encode(value)))
    except (TypeError, ValueError) as error:
        return type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(f"Python {platform.python_version()}, orjson {orjson.__version__}, msgspec {msgspec.__version__}")
    print(f"payload of {len(json.dumps(SMALL, separators=(',', ':')))} bytes; us: median, fastest, slowest")
    measure([notification(SMALL)], rounds, 5000)
    nova = [json.loads(line) for line in NOVA.read_text().splitlines()]
    print(f"{len(nova)} nova notifications")
    measure([notification(line["payload"]) for line in nova], rounds, 20)
    print("sent and read back")
    faults()


if __name__ == "__main__":
    main()
