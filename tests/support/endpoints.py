"""Endpoints that tell a test what they got."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from rdknotify.dispatch import NotificationResult

SOON = 20.0
"""Seconds after which something that should happen counts as missing."""

Answer = Callable[[str], NotificationResult | None]


class Endpoint:
    """Keeps the event types it gets; ``answer`` says what it returns, and may raise."""

    def __init__(self, answer: Answer = lambda event_type: None) -> None:
        self.calls: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self._answer = answer

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> Any:
        self.calls.put((ctxt, publisher_id, event_type, payload, metadata))
        return self._answer(event_type)

    def seen(self, count: int) -> list[str]:
        return [self.calls.get(timeout=SOON)[2] for _ in range(count)]


class BatchEndpoint:
    def __init__(self, answer: Callable[[list[str]], Any] = lambda event_types: None) -> None:
        self.calls: queue.Queue[list[str]] = queue.Queue()
        self._answer = answer

    def info(self, notifications: list[dict[str, Any]]) -> Any:
        event_types = [notification["event_type"] for notification in notifications]
        self.calls.put(event_types)
        return self._answer(event_types)


def until(condition: Callable[[], object]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)
