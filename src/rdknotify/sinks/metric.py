"""Monasca's metrics as rows: one measurement a record, as its API publishes them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec

from rdknotify.sinks.schema import Column, Row, Schema

if TYPE_CHECKING:
    from rdknotify._rdknotify import Record

__all__ = ["METRIC"]


class _Metric(msgspec.Struct, gc=False):
    name: str
    timestamp: float
    value: float
    dimensions: dict[str, str] | None = None
    value_meta: dict[str, Any] | None = None


class _Meta(msgspec.Struct, gc=False):
    tenant: str = msgspec.field(name="tenantId")
    region: str


class _Message(msgspec.Struct, gc=False):
    metric: _Metric
    meta: _Meta
    creation_time: float | None = None


_read = msgspec.json.Decoder(_Message).decode
_text = msgspec.json.Encoder(order="sorted").encode
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _metric(record: Record) -> Row:
    """Raises msgspec.ValidationError, which says what is wrong and where, or ValueError for a time out of range."""
    message = _read(record.value or b"")
    metric, meta = message.metric, message.meta
    try:
        moment = _EPOCH + timedelta(milliseconds=metric.timestamp)
    except OverflowError:
        raise ValueError(f"metric.timestamp={metric.timestamp:g} is no time in milliseconds since 1970") from None
    return (
        meta.tenant,
        meta.region,
        metric.name,
        _text(metric.dimensions or {}).decode(),
        moment.isoformat(" ", "milliseconds")[:23],
        metric.value,
        _text(metric.value_meta).decode() if metric.value_meta else None,
        message.creation_time,
    )


METRIC = Schema(
    own=(
        Column("tenant_id", "text"),
        Column("region", "text"),
        Column("name", "text"),
        Column("dimensions", "json"),
        Column("timestamp", "timestamp"),
        Column("value", "real"),
        Column("value_meta", "json"),
        Column("creation_time", "real"),
    ),
    fill=_metric,
)
"""One row for each measurement of Monasca: ``{"metric": {"name", "dimensions", "timestamp", "value", "value_meta"},
"meta": {"tenantId", "region"}, "creation_time"}``, in which ``metric.timestamp`` is milliseconds since the epoch.

``dimensions``, ``value_meta`` and ``creation_time`` (seconds, stored as sent) may be missing or null. Dimensions have
their names sorted, so that equal ones are equal text. Other types than these are poison.
"""
