"""Notifications through Apache Kafka: fast, and nothing lost.

The names below are the public API. They are loaded on first use, so that the pure modules (URLs, options, envelopes)
can be imported where the extension is not built.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdknotify._rdknotify import Delivery, Record, features
    from rdknotify.admin import Admin
    from rdknotify.consumer import Batch, Consumer
    from rdknotify.deadletter import DeadLetterFile
    from rdknotify.dispatch import NotificationFilter, NotificationResult
    from rdknotify.envelope import Notification
    from rdknotify.errors import (
        AcknowledgeFailed,
        AuthenticationError,
        AuthorizationError,
        ClosedError,
        CommitFailed,
        ConfigError,
        DeliveryError,
        EnvelopeError,
        KafkaError,
        PartialDeliveryError,
        QueueFull,
        RdNotifyError,
        Timeout,
        TokenError,
    )
    from rdknotify.listener import Listener
    from rdknotify.notifier import Notifier
    from rdknotify.outcomes import BatchReport, Failure, Outcome
    from rdknotify.persister import Persister
    from rdknotify.producer import Producer
    from rdknotify.share import ShareBatch, ShareConsumer
    from rdknotify.sinks import Sink
    from rdknotify.sinks.postgres import PostgresSink
    from rdknotify.sinks.sqlite import SQLiteSink
    from rdknotify.topics import TopicPartition
    from rdknotify.url import TransportURL

__all__ = [
    "AcknowledgeFailed",
    "Admin",
    "AuthenticationError",
    "AuthorizationError",
    "Batch",
    "BatchReport",
    "ClosedError",
    "CommitFailed",
    "ConfigError",
    "Consumer",
    "DeadLetterFile",
    "Delivery",
    "DeliveryError",
    "EnvelopeError",
    "Failure",
    "KafkaError",
    "Listener",
    "Notification",
    "NotificationFilter",
    "NotificationResult",
    "Notifier",
    "Outcome",
    "PartialDeliveryError",
    "Persister",
    "PostgresSink",
    "Producer",
    "QueueFull",
    "RdNotifyError",
    "Record",
    "SQLiteSink",
    "ShareBatch",
    "ShareConsumer",
    "Sink",
    "Timeout",
    "TokenError",
    "TopicPartition",
    "TransportURL",
    "features",
]

try:
    __version__ = version("rdknotify")
except PackageNotFoundError:  # a source tree that was not installed
    __version__ = "0+unknown"

# Where each public name lives; of the errors only the module is named.
_HOMES = {
    "_rdknotify": ("Delivery", "Record", "features"),
    "admin": ("Admin",),
    "consumer": ("Batch", "Consumer"),
    "deadletter": ("DeadLetterFile",),
    "dispatch": ("NotificationFilter", "NotificationResult"),
    "envelope": ("Notification",),
    "listener": ("Listener",),
    "notifier": ("Notifier",),
    "outcomes": ("BatchReport", "Failure", "Outcome"),
    "persister": ("Persister",),
    "producer": ("Producer",),
    "share": ("ShareBatch", "ShareConsumer"),
    "sinks": ("Sink",),
    "sinks.postgres": ("PostgresSink",),
    "sinks.sqlite": ("SQLiteSink",),
    "topics": ("TopicPartition",),
    "url": ("TransportURL",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rdknotify' has no attribute {name!r}")
    value = getattr(import_module(f"rdknotify.{_HOME_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
