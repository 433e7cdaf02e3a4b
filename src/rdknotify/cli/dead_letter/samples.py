"""Dead letters for trying the command with the embedded broker."""

from __future__ import annotations

from rdknotify.cli.connection import Connection
from rdknotify.deadletter import DeadLetters
from rdknotify.errors import KafkaError
from rdknotify.producer import Producer
from rdknotify.provenance import HeaderList
from rdknotify.topics import notification_topic

__all__ = ["TOPIC", "fill"]

TOPIC = "notifications.dead-letter"
_NO_JSON = "EnvelopeError: the value is not JSON"
_VALUES = (
    (
        rb'{"oslo.version": "2.0", "oslo.message": "{\"event_type\": \"compute.instance.exists\", \"payload\": NaN}"}',
        _NO_JSON,
    ),
    (b"hello", _NO_JSON),
    (b'{"event_type": "compute.instance.exists", "payload": {}}', "EnvelopeError: not an oslo.messaging envelope"),
)


class _Record:
    """As if it had been read."""

    key: bytes | None = None
    partition = 0
    timestamp: int | None = None

    def __init__(self, topic: str, offset: int, value: bytes) -> None:
        self.topic, self.offset, self.value = topic, offset, value
        self.headers: HeaderList = []


def fill(connection: Connection) -> None:
    """Let the embedded broker hold some, as a persister leaves them."""
    assert connection.cluster is not None
    try:
        connection.cluster.create_topic(TOPIC, 1)
    except KafkaError:
        return  # filled before
    topic = notification_topic(connection.topics[0], "info")
    with Producer(connection.url, **connection.arguments("producer")) as producer:
        records = [_Record(topic, number, value) for number, (value, _) in enumerate(_VALUES)]
        DeadLetters(producer, TOPIC).send(records, [reason for _, reason in _VALUES], "rdknotify-persist")
