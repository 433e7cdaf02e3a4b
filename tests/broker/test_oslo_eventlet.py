"""A service patched by eventlet sends and listens on real Kafka, in one native thread of Python."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("eventlet")

COUNT = 2000


def test_a_patched_service_sends_and_listens_and_logs_in_the_hubs_thread_only(oslo, topic, group):
    seen, report = oslo.file("seen"), oslo.file("report")
    assert oslo.process("green_send_and_listen", topic, group, seen, COUNT, report).wait(60) == 0
    assert sorted(seen.read_text().split()) == sorted(["first", *map(str, range(1, COUNT))])
    observed = json.loads(report.read_text())
    assert observed["executor"] == "eventlet"
    assert observed["threads"] <= 1, "sending takes no native thread"
    assert observed["logged"] and observed["foreign"] == 0
    assert observed["gap"] < 0.2, "the hub stood still"
