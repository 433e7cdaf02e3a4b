"""Envelopes: we read what oslo.messaging sends, it reads what we send, and anything else is refused.

``tests/data/oslo-envelopes.jsonl`` holds what oslo.messaging 18.3.1 sent through its Kafka driver and what
its listener made of that (``tests/data/oslo.py record``). The reverse, ``tests/data/oslo.py check`` with
oslo.messaging installed, sends the same cases through ``encode_new`` and lets oslo.messaging read them: all
11 were equal. All tests run by orjson, and by msgspec, which does its work where there is no orjson.
"""

import itertools
import json
import math
import os
import re
import threading
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.json_library import library  # noqa: F401 - a fixture for all of them

from rdknotify import envelope
from rdknotify.envelope import Notification, decode, decode_flat, encode, encode_new, new_notification
from rdknotify.errors import EnvelopeError
from rdknotify.topics import notification_topic

ROOT = Path(__file__).parents[2]
RECORDED = [json.loads(line) for line in (ROOT / "tests/data/oslo-envelopes.jsonl").read_text("utf-8").splitlines()]
NOVA = [
    json.loads(line)
    for line in (ROOT / "src/rdknotify/testing/data/nova-notifications.jsonl").read_text("utf-8").splitlines()
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def fields(notification: Notification) -> dict[str, Any]:
    """As oslo.messaging names them."""
    named = {
        "message_id": notification.message_id,
        "publisher_id": notification.publisher_id,
        "event_type": notification.event_type,
        "priority": notification.priority,
        "payload": notification.payload,
        "timestamp": notification.timestamp,
        "_context": notification.context,
        **notification.extra,
    }
    return named if notification.unique_id is None else {**named, "_unique_id": notification.unique_id}


def as_oslo_reads(value: bytes) -> Any:
    """What oslo.messaging's ``unpack_message`` does: two times ``json.loads``."""
    outer = json.loads(value)
    assert outer.keys() == {"oslo.version", "oslo.message"} and outer["oslo.version"] == "2.0"
    return json.loads(outer["oslo.message"])


def sent(payload: Any, context: Any = None) -> Any:
    return as_oslo_reads(encode_new("p", "e", "INFO", payload, context)[1])["payload"]


def wrapped(inner: str | dict[str, Any], version: Any = "2.0") -> bytes:
    text = inner if isinstance(inner, str) else json.dumps(inner)
    return json.dumps({"oslo.version": version, "oslo.message": text}).encode()


# -- with oslo.messaging


@pytest.mark.parametrize(
    "recorded", RECORDED, ids=lambda recorded: f"{recorded['received']['event_type']} {recorded['topic']}"
)
def test_what_oslo_messaging_sent_is_read_as_its_listener_reads_it(recorded: dict[str, Any]) -> None:
    notification = decode(recorded["value"].encode())
    # As text: NaN is not equal to itself.
    assert json.dumps(fields(notification), sort_keys=True) == json.dumps(recorded["received"], sort_keys=True)
    again = as_oslo_reads(encode(notification))
    assert json.dumps(again, sort_keys=True) == json.dumps(recorded["received"], sort_keys=True)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["topic"])
def test_it_was_sent_to_the_topic_that_we_would_send_it_to(recorded: dict[str, Any]) -> None:
    priority = recorded["received"]["priority"].lower()
    assert recorded["topic"] == notification_topic("notifications", priority, recorded["vhost"])


def test_a_timestamp_without_a_fraction_is_among_the_recorded() -> None:
    assert "2024-01-01 00:00:00" in {recorded["received"]["timestamp"] for recorded in RECORDED}


def test_nova_notifications_survive() -> None:
    for line in NOVA:
        _, value = encode_new(line["publisher_id"], line["event_type"], line["priority"].upper(), line["payload"])
        assert decode(value).payload == as_oslo_reads(value)["payload"] == line["payload"]


# -- there and back


@given(JSON_VALUES, st.dictionaries(st.text(), JSON_VALUES), st.text(), st.none() | st.text())
def test_encode_and_decode_are_inverse(
    payload: Any, context: dict[str, Any], event_type: str, publisher: str | None
) -> None:
    made = new_notification(publisher, event_type, "info", payload, context)
    assert decode(encode(made)) == made
    assert decode(memoryview(encode(made))) == decode(bytearray(encode(made))) == made
    assert as_oslo_reads(encode(made)) == fields(made)


@given(JSON_VALUES)
def test_unknown_fields_survive(extra: Any) -> None:
    message = {**as_oslo_reads(encode_new("p", "e", "INFO", {})[1]), "later": extra}
    notification = decode(wrapped(message))
    assert notification.extra == {"later": extra}
    assert as_oslo_reads(encode(notification)) == message


def test_a_new_notification() -> None:
    before = datetime.now(timezone.utc).replace(tzinfo=None)
    message_id, value = encode_new("compute.node1", "compute.update", "WARN", {"a": 1}, {"user": "u"})
    after = datetime.now(timezone.utc).replace(tzinfo=None)
    found = decode(value)
    assert (found.publisher_id, found.event_type, found.priority) == (
        "compute.node1",
        "compute.update",
        "WARN",
    )
    assert (found.payload, found.context, found.extra) == ({"a": 1}, {"user": "u"}, {})
    assert found.message_id == message_id == str(UUID(message_id))
    assert UUID(message_id).version == 4 and found.unique_id is not None and len(found.unique_id) == 32
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", found.timestamp)
    assert before <= datetime.fromisoformat(found.timestamp) <= after
    assert new_notification("p", "e", "warn", {}).priority == "WARN"


def test_time_goes_on_within_and_across_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    for nanoseconds, text in (
        (1_700_000_000_000_001_000, "2023-11-14 22:13:20.000001"),
        (1_700_000_000_999_999_999, "2023-11-14 22:13:20.999999"),
        (1_700_000_001_000_000_000, "2023-11-14 22:13:21.000000"),
        (1_700_000_000_500_000_000, "2023-11-14 22:13:20.500000"),
    ):
        monkeypatch.setattr("time.time_ns", lambda now=nanoseconds: now)
        assert new_notification("p", "e", "info", {}).timestamp == text


def ids(count: int) -> list[str]:
    made = [new_notification("p", "e", "info", None) for _ in range(count)]
    return [each.message_id for each in made] + [str(each.unique_id) for each in made]


def test_ids_of_threads_never_meet() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(ids(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(found)) == len(found) == 4 * 4000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_ids_of_a_forked_child_never_meet_its_parents() -> None:
    ids(1)  # some are left over, made before the fork
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, "\n".join(ids(300)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)
    ours = ids(300)
    assert len(theirs) == len(ours) == 600
    assert not set(ours) & set(theirs)


# -- what JSON does not have


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    pass


class Number(float):
    pass


class Server:
    def to_dict(self) -> dict[str, Any]:
        return {"at": datetime(2024, 1, 1)}


@dataclass
class Flavor:
    vcpus: int
    id: UUID


Point = namedtuple("Point", "x y")
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (datetime(2024, 2, 29, 12), "2024-02-29T12:00:00.000000"),
        (datetime(24, 2, 29, 12, 0, 0, 5), "0024-02-29T12:00:00.000005"),
        (datetime(2024, 2, 29, 12, tzinfo=EAST), "2024-02-29T10:00:00.000000"),
        (date(2024, 2, 29), "2024-02-29"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Decimal("1.10"), "1.10"),
        (b"caf\xc3\xa9", "café"),
        (bytearray(b"ab"), "ab"),
        (memoryview(b"ab"), "ab"),
        (ip_address("::1"), "::1"),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        (deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Text("text"), "text"),
        (Number(1.5), 1.5),
        (ValueError("no"), "ValueError('no')"),
        (Server(), {"at": "2024-01-01T00:00:00.000000"}),
        (Flavor(2, UUID(int=1)), {"vcpus": 2, "id": "00000000-0000-0000-0000-000000000001"}),
        (2**70, 2**70),
        (-(2**63) - 1, -(2**63) - 1),
        (2**64 - 1, 2**64 - 1),
        (math.inf, math.inf),
        ({1: 1, 2.5: 2, None: 3, False: 4}, {"1": 1, "2.5": 2, "null": 3, "false": 4}),
        ({UUID(int=7): 1, Colour.RED: 2}, {"00000000-0000-0000-0000-000000000007": 1, "red": 2}),
        ("\ud800", "\ud800"),
    ],
    ids=repr,
)
def test_values_that_json_does_not_have(value: Any, read: Any) -> None:
    assert sent(value) == read
    assert sent({"a": [value]}) == {"a": [read]}
    # Neither does the result depend on who encodes: the big integer, and the null beside it, call json in.
    for other in (2**70, None, math.inf):
        assert sent([value, other]) == [read, other]
    assert decode(encode(new_notification("p", "e", "info", [value]))).payload == [read]


def test_nan_stays_nan_wherever_it_is() -> None:
    for payload in (
        math.nan,
        [None, math.nan],
        {"a": {"b": (1.5, math.nan)}},
        {"s": {math.nan}},
        {"n": Number("nan")},
    ):
        text = json.dumps(sent(payload))
        assert "NaN" in text
    assert math.isnan(decode(encode_new("p", "e", "INFO", math.nan)[1]).payload)


@pytest.mark.parametrize("layout", [{}, {"indent": 1}, {"indent": "\t"}, {"separators": (",", ":")}], ids=str)
@pytest.mark.parametrize("value", [2**70, -(10**19), 10**19, 2**64, -(2**63) - 1])
def test_integers_stay_whole_when_read(value: int, layout: dict[str, Any]) -> None:
    message = as_oslo_reads(encode_new("p", "e", "INFO", {})[1])
    for payload in ({"n": value, "text": "9" * 30}, [value], value, [0, value]):
        text = json.dumps({**message, "payload": payload}, **layout)
        assert repr(decode(wrapped(text)).payload) == repr(payload)


class Context:
    def __init__(self, token: str) -> None:
        self.token = token

    def redacted_copy(self) -> "Context":
        return Context("")

    def to_dict(self) -> dict[str, Any]:
        return {"token": self.token}


@pytest.mark.parametrize(
    ("context", "read"),
    [
        (None, {}),
        ({}, {}),
        ({"a": 1}, {"a": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (Context("hunter2"), {"token": ""}),
        (Server(), {"at": "2024-01-01T00:00:00.000000"}),
    ],
)
def test_contexts(context: Any, read: Any) -> None:
    assert decode(encode_new("p", "e", "INFO", {}, context)[1]).context == read
    assert decode(encode(new_notification("p", "e", "info", {}, context))).context == read


class Opaque:
    pass


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (Opaque(), "Opaque is no JSON value"),
        ({"a": [object()]}, "builtins.object is no JSON value"),
        (Opaque, "builtins.type is no JSON value"),
        (iter([1]), "list_iterator is no JSON value"),
        (b"\xffhunter2", "bytes that are not UTF-8"),
        (LOOP, "holds itself"),
    ],
    ids=["object", "deep", "class", "iterator", "bytes", "loop"],
)
def test_what_cannot_be_sent_is_an_error_without_the_payload(payload: Any, says: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        encode_new("p", "e", "INFO", payload)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(EnvelopeError):
        encode(new_notification("p", "e", "info", payload))


def test_what_is_no_context() -> None:
    with pytest.raises(EnvelopeError, match="context: a dict or an object with to_dict"):
        encode_new("p", "e", "INFO", {}, "request")


# -- poison records

GOOD = as_oslo_reads(encode_new("p", "e", "INFO", {"secret": "hunter2"})[1])


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "the value is not JSON"),
        (b"hunter2", "the value is not JSON"),
        (b"\xff\xfe", "the value is not UTF-8"),
        (json.dumps({"a": 1}).encode("utf-16"), "the value is not UTF-8"),
        (b"[1]", "the value is not a JSON object"),
        (b'"hunter2"', "the value is not a JSON object"),
        (b"{}", "oslo.version is missing"),
        (json.dumps(GOOD).encode(), "oslo.version is missing"),
        (wrapped(GOOD, "1.0"), "oslo.version is '1.0', not 2.0"),
        (wrapped(GOOD, "3.0"), "oslo.version is '3.0'"),
        (wrapped(GOOD, "2"), "oslo.version is '2'"),
        (wrapped(GOOD, 2.0), "oslo.version is not text"),
        (b'{"oslo.version":"2.0"}', "oslo.message is missing"),
        (b'{"oslo.version":"2.0","oslo.message":{}}', "oslo.message is not text"),
        (wrapped("hunter2"), "oslo.message is not JSON"),
        (wrapped("[]"), "oslo.message is not a JSON object"),
        (wrapped(without("payload")), "payload is missing"),
        (wrapped(without("message_id")), "message_id is missing"),
        (wrapped({**GOOD, "message_id": 7}), "message_id, event_type, priority or timestamp is not text"),
        (wrapped({**GOOD, "priority": None}), "is not text"),
        (wrapped({**GOOD, "publisher_id": {}}), "publisher_id is not text"),
        (wrapped({**GOOD, "_unique_id": 7}), "_unique_id is not text"),
        (wrapped({**GOOD, "_context": []}), "_context is not a JSON object"),
        (b"[" * 100_000, "the value is not JSON"),
        (wrapped("[" * 100_000 + "]" * 100_000), "oslo.message is not JSON"),
        (wrapped({**GOOD, "payload": 1})[:-30], "the value is not JSON"),
        (wrapped(json.dumps(GOOD).replace('"INFO"', "9" * 5000)), "oslo.message is not JSON"),
    ],
)
def test_a_poison_record_is_an_error_that_says_why_and_shows_nothing(value: bytes, says: str) -> None:
    for form, read in itertools.product((value, memoryview(value), bytearray(value)), (decode, decode_flat)):
        with pytest.raises(EnvelopeError) as caught:
            read(form)
        assert says in str(caught.value)
        assert "hunter2" not in str(caught.value) and len(str(caught.value)) < 80


@given(st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_an_envelope_error_comes_out(value: bytes) -> None:
    for read in (decode, decode_flat):
        with pytest.raises(EnvelopeError):
            read(value)


@given(st.text() | JSON_VALUES.map(json.dumps))
def test_nothing_but_an_envelope_error_comes_out_of_the_inner_text(text: str) -> None:
    for read in (decode, decode_flat):
        with pytest.raises(EnvelopeError):
            read(wrapped(text))


def test_the_liberal_part() -> None:
    assert decode(wrapped(GOOD, "2.7")).payload == {"secret": "hunter2"}
    assert decode(wrapped(without("_context"))).context == {}
    assert decode(wrapped({**GOOD, "_context": None})).context == {}
    assert decode(wrapped({**GOOD, "publisher_id": None})).publisher_id is None
    twice = wrapped(json.dumps(GOOD)[:-1] + ', "payload": "second"}')
    assert decode(twice).payload == as_oslo_reads(twice)["payload"] == "second"


def test_ordinary_values_take_the_fast_way(monkeypatch: pytest.MonkeyPatch, library: str) -> None:  # noqa: F811
    monkeypatch.setattr(envelope, "json", None)
    for line in NOVA:
        assert decode(encode_new("p", "e", "INFO", line["payload"])[1]).payload == line["payload"]
    if library == "orjson":
        assert encode_new("p", "e", "INFO", {"at": datetime(2024, 1, 1), "id": UUID(int=1)})[1]


@given(JSON_VALUES)
@example([-(2**63) - 1, math.inf])  # the standard library's work, which would write Infinity
def test_flat_is_the_same_with_the_payload_as_text(payload: Any) -> None:
    value = encode_new("p", "e", "INFO", payload)[1]
    whole = decode(value)
    *names, text = decode_flat(value)
    assert names == [whole.message_id, whole.timestamp, whole.publisher_id, whole.event_type, whole.priority]
    assert json.loads(text) == without_nan(whole.payload)


def without_nan(value: Any) -> Any:
    """As columns of JSON need it."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
