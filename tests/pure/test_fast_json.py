"""JSON is the same by orjson, and by msgspec where there is no orjson."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdknotify import fast_json
from rdknotify.fast_json import plain_dumps, plain_loads

orjson = pytest.importorskip("orjson")

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
LONG = st.integers(10**18, 10**30)


@dataclass
class Point:
    x: int = 1


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Name(str):
    pass


@given(VALUES)
def test_what_orjson_writes(value: Any) -> None:
    ours, theirs = plain_dumps(value), orjson.dumps(value)
    assert json.loads(ours) == json.loads(theirs)
    assert ours == theirs or b"e" in ours  # 1e16 and 1e+16


HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 1, 1),
        date(2024, 1, 1),
        UUID(int=1),
        Decimal(1),
        b"x",
        bytearray(b"x"),
        {1},
        frozenset(),
        Point(),
        Colour.RED,
        Level.HIGH,
        Name("x"),
        object(),
        {1: 2},
        {None: 1},
        {Name("x"): 1},
        {Colour.RED: 1},
        "\ud800",
        {"\ud800": 1},
        HOLDS_ITSELF,
    ],
    ids=repr,
)
@pytest.mark.parametrize("place", [lambda value: value, lambda value: [value], lambda value: {"a": (value,)}])
def test_what_is_not_plain_json_is_left_to_others(value: Any, place: Any) -> None:
    """msgspec would write some of them in forms of its own."""
    with pytest.raises(TypeError):
        plain_dumps(place(value), str, fast_json.PASS)


def read(loads: Any, text: bytes | str) -> str:
    try:
        return repr(loads(text))
    except ValueError:
        return "refused"


@given(VALUES)
def test_what_orjson_reads(value: Any) -> None:
    text = orjson.dumps(value)
    assert repr(plain_loads(text)) == repr(plain_loads(memoryview(text))) == repr(orjson.loads(text))
    assert read(plain_loads, text[:-1]) == read(orjson.loads, text[:-1])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" 1 ",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"[1,]",
        b"1 2",
        b"01",
        b"-0",
        b"-0.0",
        b"1e400",
        b"1e-400",
        b"+1",
        b".5",
        b"1.",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\t"',
        b'"\x00"',
        b'"\x7f"',
        b"\xef\xbb\xbf1",
        b'{"a":1,"a":2}',
        b"{'a':1}",
        b"{a:1}",
        b"nul",
        b"[" * 5000 + b"]" * 5000,
        b"9007199254740993.0",
        b"18446744073709551615",
        b"-9223372036854775808",
    ],
    ids=lambda text: repr(text)[:30],
)
def test_what_is_odd_is_read_alike(text: bytes) -> None:
    assert read(plain_loads, text) == read(orjson.loads, text)


@given(LONG)
def test_long_integers_are_read_whole(number: int) -> None:
    assert plain_loads(str(number)) == number


WITHOUT_ORJSON = """
import sys
sys.modules["orjson"] = None
from datetime import datetime
from rdknotify import fast_json
from rdknotify.envelope import decode, encode_new
assert fast_json.dumps is fast_json.plain_dumps
print(decode(encode_new("p", "e", "INFO", ["é", 1.5, 2**70, None, datetime(2024, 1, 1)])[1]).payload)
"""


def test_notifications_need_no_orjson() -> None:
    command = [sys.executable, "-X", "utf8", "-c", WITHOUT_ORJSON]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.stdout == f"{['é', 1.5, 2**70, None, '2024-01-01T00:00:00.000000']}\n", done.stderr


def test_null_stands_for_what_json_has_not() -> None:
    assert (
        plain_dumps([math.nan, math.inf, -math.inf])
        == orjson.dumps([math.nan, math.inf, -math.inf])
        == b"[null,null,null]"
    )
