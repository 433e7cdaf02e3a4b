"""The ``with`` block of a server: started at its beginning, closed at its end."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

__all__ = ["Startable"]

_S = TypeVar("_S", bound="Startable")


class Startable:
    """Has ``start()`` and ``close()``, and so is a context manager."""

    def start(self) -> None:
        """Begin; what it takes and raises says the subclass."""
        raise NotImplementedError

    def close(self) -> None:
        """End; idempotent."""
        raise NotImplementedError

    def __enter__(self: _S) -> _S:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
