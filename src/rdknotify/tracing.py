"""Following records from who sends them to who handles them: what is called around both. Whose tracing it is, is open.

:class:`rdknotify.otel.Tracing` is OpenTelemetry's. Without a ``tracing=`` nothing of this is on any record's way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rdknotify._rdknotify import Delivery
from rdknotify.options import Settings
from rdknotify.producer import Producer
from rdknotify.provenance import ReadRecord
from rdknotify.shapes import Buffer, Headers
from rdknotify.url import TransportURL

__all__ = ["TracedProducer", "Tracing"]


class Tracing(Protocol):
    """What is done around sending and handling. Called from several threads."""

    def sending(self, topic: str, count: int | None) -> AbstractContextManager[Mapping[str, str]]:
        """Around one call that hands over a record (``count`` is None) or a batch; gives the headers it shall have."""

    def processing(self, records: Iterable[ReadRecord], group: str) -> AbstractContextManager[object]:
        """Around what is done with these records; an exception that comes out is passed on."""


class TracedProducer(Producer):
    """A :class:`~rdknotify.Producer` whose calls of ``send`` and ``send_batch`` are traced, so that records tell.

    Records get the headers that ``tracing`` gives behind their own; those of one batch get the same.
    """

    def __init__(
        self,
        url: str | TransportURL | Settings,
        *,
        tracing: Tracing,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._tracing = tracing
        super().__init__(url, config=config, **options)

    def send(
        self,
        topic: str,
        value: Buffer | None,
        key: Buffer | None = None,
        headers: Headers | None = None,
        *,
        timeout: float | None = None,
    ) -> Delivery:
        """As :meth:`Producer.send`."""
        with self._tracing.sending(topic, None) as carried:
            return super().send(topic, value, key, _joined(headers, carried), timeout=timeout)

    def send_batch(
        self,
        topic: str,
        values: Sequence[Buffer | None],
        keys: Sequence[Buffer | None] | None = None,
        headers: Headers | Sequence[Headers | None] | None = None,
        *,
        timeout: float | None = None,
    ) -> Delivery:
        """As :meth:`Producer.send_batch`."""
        with self._tracing.sending(topic, len(values)) as carried:
            every: Any = carried
            if isinstance(headers, Mapping):
                every = {**headers, **carried}
            elif headers is not None and carried:
                every = [_joined(each, carried) for each in headers]  # type: ignore[arg-type]  # one a record
            return super().send_batch(topic, values, keys, every or headers, timeout=timeout)

    def _another(self, settings: Settings) -> Producer:
        return TracedProducer(settings, tracing=self._tracing)


def _joined(headers: Headers | None, carried: Mapping[str, str]) -> Headers | None:
    if not headers or not carried:
        return headers or carried or None
    own = headers.items() if isinstance(headers, Mapping) else headers
    return [*own, *carried.items()]
