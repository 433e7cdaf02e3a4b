"""The core's way to a notification's wire form gives what the way in Python gives."""

from __future__ import annotations

import json
import math
import os
import re
import time
from datetime import datetime, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("msgspec", reason="no release for this Python, which therefore has the core only")
from support.json_library import library  # noqa: F401 - a fixture for all of them

from rdknotify import envelope
from rdknotify._rdknotify import compose
from rdknotify.testing.data import nova_notifications

names = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
contexts = st.dictionaries(st.text(max_size=5), values, max_size=3)


def made(publisher, event_type, payload, context):
    """What ``encode_new`` makes of it with the core's help, and in Python with the same ids and time."""
    message_id, value = envelope.encode_new(publisher, event_type, "INFO", payload, context, compose)
    message = json.loads(json.loads(value)["oslo.message"])
    assert message["message_id"] == message_id
    fields = {"publisher_id": publisher, "event_type": event_type, "priority": "INFO", "payload": payload}
    again = {
        "message_id": message_id, **fields, "timestamp": message["timestamp"], "_unique_id": message["_unique_id"],
        "_context": context,
    }  # fmt: skip
    return value, envelope._wrap(again)


@given(names, names, values, contexts)
def test_byte_by_byte(publisher, event_type, payload, context):
    ours, pythons = made(publisher, event_type, payload, context)
    assert ours == pythons


def test_nova_notifications_byte_by_byte():
    for line in list(nova_notifications())[:200]:
        ours, pythons = made(line["publisher_id"], line["event_type"], line["payload"], {})
        assert ours == pythons


@pytest.mark.parametrize("name", [None, 5, 'a"b', "a\\b", "a\nb", "\x00", "\ud800", b"bytes"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_name_that_it_cannot_write_is_left_to_others(name, place):
    given_names = ["p", "e", "INFO"]
    given_names[place] = name
    assert compose(tuple(given_names), {}, b"{}", {}, b"{}") is None


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": [{"b": -math.inf}]}, (None, math.nan), Decimal("NaN")])
def test_what_became_null_is_left_to_others(value):
    assert compose(("p", "e", "INFO"), value, b"null", {}, b"{}") is None
    assert compose(("p", "e", "INFO"), {}, b"{}", {"c": value}, b"null") is None
    assert compose(("p", "e", "INFO"), {"a": [None, 1.5, True, "x"]}, b"null", {}, b"{}") is not None


def test_ids_are_random_uuids_and_never_twice():
    ids = {compose(("p", "e", "INFO"), {}, b"{}", {}, b"{}")[0] for _ in range(1000)}
    assert len(ids) == 1000
    assert {UUID(text).version for text in ids} == {4}
    assert {UUID(text).variant for text in ids} == {"specified in RFC 4122"}
    assert {text[19] for text in ids} == set("89ab")


def test_a_forked_child_has_other_ids():
    compose(("p", "e", "INFO"), {}, b"{}", {}, b"{}")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, compose(("p", "e", "INFO"), {}, b"{}", {}, b"{}")[0].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert theirs != compose(("p", "e", "INFO"), {}, b"{}", {}, b"{}")[0]


def test_the_time_is_now_in_utc():
    def timestamp():
        envelope = json.loads(compose(("p", "e", "INFO"), {}, b"{}", {}, b"{}")[1])
        return json.loads(envelope["oslo.message"])["timestamp"]

    for _ in range(3):  # within a second and across
        before = datetime.now(timezone.utc).replace(tzinfo=None)
        text = timestamp()
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", text)
        assert before <= datetime.fromisoformat(text) <= datetime.now(timezone.utc).replace(tzinfo=None)
        time.sleep(0.4)
