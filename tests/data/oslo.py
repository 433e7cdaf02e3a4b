"""oslo.messaging's own Kafka driver as the judge of our envelopes.

Needs oslo.messaging (18.3.1 was used) and confluent-kafka::

    python tests/data/oslo.py record > tests/data/oslo-envelopes.jsonl  # what it sends, and reads back
    PYTHONPATH=src python tests/data/oslo.py check                      # what it reads of ours

Notifier, messaging driver and Kafka driver are the real ones; only the last step,
``confluent_kafka.Producer``, keeps the bytes instead of sending them. The tests read the recording and need
none of this.
"""

from __future__ import annotations

import json
import math
import sys
from datetime import date, datetime
from decimal import Decimal
from ipaddress import ip_address
from typing import Any, ClassVar
from uuid import UUID

import confluent_kafka
import oslo_messaging
from oslo_config import cfg
from oslo_context.context import RequestContext
from oslo_messaging._drivers import impl_kafka
from oslo_utils import timeutils

CONTEXT = RequestContext(user_id="u1", project_id="p1", request_id="req-1", auth_token="secret")
CASES: list[tuple[str, str, Any, Any]] = [
    ("info", "plain", {"a": 1, "b": [True, None, 1.5, "text"], "c": {"d": {}}}, {}),
    ("warn", "text", {"café": 'quote " backslash \\ newline \n nul \x00 snowman \u2603 \U0001f600'}, {}),
    ("error", "numbers", {"big": 2**70, "low": -(2**63) - 1, "max": 2**64 - 1, "tiny": 5e-324}, {}),
    ("error", "not finite", {"nan": math.nan, "inf": math.inf, "low": -math.inf, "none": None}, {}),
    ("info", "surrogate", {"name": "\ud800"}, {}),
    ("info", "keys", {1: "int", 2.5: "float", False: "bool", None: "none"}, {}),
    ("sample", "types", {
        "at": datetime(2024, 2, 29, 12, 0, 0), "micro": datetime(2024, 2, 29, 12, 0, 0, 5),
        "day": date(2024, 2, 29),
        "id": UUID(int=7), "price": Decimal("1.10"), "one": {1}, "raw": "é".encode(), "ip": ip_address("::1"),
        "tuple": (1, 2), "error": ValueError("no"), "deep": [[[[[[{"x": {"y": {"z": UUID(int=9)}}}]]]]]],
    }, {}),
    ("audit", "not a dict", ["list", 1], {}),
    ("critical", "text only", "just text", {}),
    ("debug", "nothing", None, {}),
    ("info", "context", {"x": 1}, CONTEXT),
]  # fmt: skip


class KeptProducer:
    kept: ClassVar[list[tuple[str, bytes]]] = []

    def __init__(self, conf: dict[str, Any]) -> None:
        pass

    def produce(self, topic: str, value: bytes) -> None:
        self.kept.append((topic, value))

    def poll(self, timeout: float) -> None:
        pass

    def flush(self) -> None:
        pass


def sent(priority: str, event_type: str, payload: Any, context: Any, vhost: str = "") -> tuple[str, bytes]:
    """Topic and value that oslo.messaging sends."""
    confluent_kafka.Producer = KeptProducer
    conf = cfg.ConfigOpts()
    transport = oslo_messaging.get_notification_transport(conf, f"kafka://127.0.0.1:9092/{vhost}")
    notifier = oslo_messaging.Notifier(transport, "compute.node1", driver="messagingv2", topics=["notifications"])
    KeptProducer.kept.clear()
    getattr(notifier, priority)(context, event_type, payload)
    (pair,) = KeptProducer.kept
    return pair


def received(value: bytes) -> dict[str, Any]:
    """What oslo.messaging's listener makes of a value, with the context under ``_context``."""
    context, message = impl_kafka.unpack_message(value)
    return {**message, "_context": context}


def record() -> None:
    for vhost, (priority, event_type, payload, context) in [("", case) for case in CASES] + [("blue", CASES[0])]:
        topic, value = sent(priority, event_type, payload, context, vhost)
        print(json.dumps({"topic": topic, "vhost": vhost, "value": value.decode(), "received": received(value)}))
    timeutils.set_time_override(datetime(2024, 1, 1))
    topic, value = sent(*CASES[0])
    print(json.dumps({"topic": topic, "vhost": "", "value": value.decode(), "received": received(value)}))


def check() -> None:
    from rdknotify.envelope import encode_new

    for priority, event_type, payload, context in CASES:
        message_id, value = encode_new("compute.node1", event_type, priority.upper(), payload, context)
        ours, theirs = received(value), received(sent(priority, event_type, payload, context)[1])
        assert ours.pop("message_id") == message_id and len(theirs.pop("message_id")) == len(message_id)
        assert len(ours.pop("_unique_id")) == 32
        assert len(ours.pop("timestamp")) == len("YYYY-MM-DD HH:MM:SS.ffffff")
        theirs.pop("timestamp")
        # As text, because NaN is not equal to itself.
        assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True), (ours, theirs)
        print(f"{event_type}: the same")


if __name__ == "__main__":
    {"record": record, "check": check}[sys.argv[1]]()
