"""Notifications to bytes and back: the real ones of Nova, and a small payload."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.micro.conftest import NOVA
from benchmarks.oslo.client import PAYLOAD
from rdknotify._rdknotify import compose
from rdknotify.envelope import Compose, decode, decode_flat, decode_message, encode, encode_message, encode_new

if TYPE_CHECKING:
    from benchmarks.micro.conftest import Measure

EVENTS = {"nova": NOVA, "237 bytes": [("compute.node1", "compute.instance.update", "INFO", PAYLOAD)]}
Events = list[tuple[str, str, str, Any]]


@pytest.fixture(params=EVENTS)
def events(request: pytest.FixtureRequest) -> Events:
    return EVENTS[request.param]


@pytest.fixture
def values(events: Events) -> list[bytes]:
    return [encode_new(*event)[1] for event in events]


def payloads(events: Events) -> list[Any]:
    return [payload for *_, payload in events]


@pytest.mark.parametrize("compose", [pytest.param(compose, id="in C"), pytest.param(None, id="in Python")])
def test_encode_new(measure: Measure, events: Events, compose: Compose | None) -> None:
    encoded = measure(len(events), lambda: [encode_new(*event, compose=compose) for event in events])
    assert [decode(value).payload for _, value in encoded] == payloads(events)


def test_encode(measure: Measure, values: list[bytes]) -> None:
    notifications = [decode(value) for value in values]
    encoded = measure(len(values), lambda: [encode(notification) for notification in notifications])
    assert [decode(value) for value in encoded] == notifications


def test_encode_message(measure: Measure, values: list[bytes]) -> None:
    messages = [decode_message(value) for value in values]
    encoded = measure(len(values), lambda: [encode_message(*message) for message in messages])
    assert [decode_message(value) for value in encoded] == messages


def test_decode(measure: Measure, events: Events, values: list[bytes]) -> None:
    decoded = measure(len(values), lambda: [decode(value) for value in values])
    assert [notification.payload for notification in decoded] == payloads(events)


def test_decode_message(measure: Measure, events: Events, values: list[bytes]) -> None:
    decoded = measure(len(values), lambda: [decode_message(value) for value in values])
    assert [message["payload"] for message, _ in decoded] == payloads(events)


def test_decode_flat(measure: Measure, events: Events, values: list[bytes]) -> None:
    decoded = measure(len(values), lambda: [decode_flat(value) for value in values])
    assert [json.loads(text) for *_, text in decoded] == payloads(events)
