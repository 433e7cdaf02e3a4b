"""A consumer that works in the background for long: what is taken from it is reported, and waited for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rdknotify import shapes
from rdknotify.consumer import Batch, Consumer
from rdknotify.errors import AuthenticationError, AuthorizationError, KafkaError
from rdknotify.logged import Seldom

__all__ = ["Member"]

_REFUSALS = (AuthorizationError, AuthenticationError)
_PROBATION = 5.0
"""Seconds with partitions after which a right that is missing was taken away, and not forgotten to be given."""


class Member(Consumer):
    """A consumer of a service. Rights that it had and loses, and a password that is no longer good, end nothing.

    Until it has received something, or has had partitions for some seconds, it raises what it may not do; from then on
    it logs that as an error and goes on as soon as it may. As Consumer otherwise.
    """

    _joined: float | None = None
    _proven = False

    def __init__(self, *args: object, **options: object) -> None:
        self._seldom = Seldom()
        super().__init__(*args, **options)  # type: ignore[arg-type]

    def waits_for(self, error: KafkaError) -> bool:
        """Whether it is something that we might do before; then it is logged, once in a while."""
        if not isinstance(error, _REFUSALS) or error.fatal or not self._has_worked():
            return False
        if self._seldom.may(str(error)):
            self._tell("access_lost", f"{error}; no record is lost, it goes on as soon as it may", error)
        return True

    def _has_worked(self) -> bool:
        if self._joined is not None and time.monotonic() - self._joined > _PROBATION:
            self._proven = True
        return self._proven

    def _passes(self, error: KafkaError) -> bool:
        return super()._passes(error) or self.waits_for(error)

    def _fill(self, batch: Batch, limit: int, timeout: float) -> bool:
        found = super()._fill(batch, limit, timeout)
        self._proven = self._proven or found
        return found

    def _take_on(self, offsets: Sequence[shapes.Offset], incremental: bool) -> None:
        super()._take_on(offsets, incremental)
        if self._joined is None and offsets:
            self._joined = time.monotonic()
