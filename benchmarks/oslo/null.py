"""The driver that does nothing: what is left of a run's CPU is oslo.messaging's own."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from oslo_messaging._drivers.base import BaseDriver, IncomingMessage, Listener

SLICE = 500
"""Messages handed over at once, as many as both drivers take by default; the next when all are acknowledged. Handing
over without end would have that thread fight with the workers for the GIL, at up to three times the CPU.
"""


class NullMessage(IncomingMessage):  # type: ignore[misc]
    def __init__(self, number: int, payload: dict[str, Any]) -> None:
        super().__init__({}, _notification(number, payload), msg_id="")
        self.slice: _Slice | None = None

    def acknowledge(self) -> None:
        if self.slice:
            self.slice.acknowledge()

    def requeue(self) -> None:
        self.acknowledge()


class _Slice:
    """Tells when all of its messages are acknowledged, by whichever threads."""

    def __init__(self, messages: list[NullMessage]) -> None:
        self._left = itertools.count(len(messages) - 1, -1)
        self._done = threading.Event()
        self.wait = self._done.wait
        for message in messages:
            message.slice = self

    def acknowledge(self) -> None:
        if next(self._left) == 0:
            self._done.set()


class NullListener(Listener):  # type: ignore[misc]
    """Hands over what was prepared, from one thread, slice by slice."""

    def __init__(self, batch_size: int, batch_timeout: float | None, prepared: list[NullMessage]) -> None:
        super().__init__(batch_size, batch_timeout)
        self._prepared = prepared
        self._thread = threading.Thread(target=self._run)

    def start(self, on_incoming_callback: Callable[[list[NullMessage]], None]) -> None:
        super().start(on_incoming_callback)
        self._thread.start()

    def _run(self) -> None:
        for at in range(0, len(self._prepared), SLICE):
            messages = self._prepared[at : at + SLICE]
            done = _Slice(messages)
            for first in range(0, len(messages), self.batch_size):
                self.on_incoming_callback(messages[first : first + self.batch_size])
            done.wait()

    def stop(self) -> None:
        self._thread.join()
        super().stop()

    def cleanup(self) -> None:
        pass


class NullDriver(BaseDriver):  # type: ignore[misc]
    """Takes notifications and forgets them; has ``count`` in memory for those who listen."""

    def __init__(self, conf: Any, url: Any, count: int, payload: dict[str, Any]) -> None:
        super().__init__(conf, url)
        self._prepared = [NullMessage(number, payload) for number in range(count)]
        gc.collect()
        gc.freeze()  # a driver would not have them all in memory

    def send_notification(self, target: Any, ctxt: Any, message: Any, version: float, retry: int | None = None) -> None:
        pass

    def listen_for_notifications(self, targets: Any, pool: Any, batch_size: int, batch_timeout: float | None) -> Any:
        return NullListener(batch_size, batch_timeout, self._prepared)

    def send(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("notifications only")

    def listen(self, *_: Any) -> NoReturn:
        raise NotImplementedError("notifications only")

    def cleanup(self) -> None:
        pass


def _notification(number: int, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "message_id": str(number),
        "publisher_id": "compute.node1",
        "event_type": "compute.instance.update",
        "priority": "INFO",
        "payload": payload,
        "timestamp": "2024-05-01 12:00:00.123456",
    }
