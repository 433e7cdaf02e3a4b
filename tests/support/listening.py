"""A listener in a process of its own: ``listening.py URL TOPIC FILE OPTIONS [DIE_AT]``.

Each notification that reaches its endpoint is a line of FILE, written before anything else happens: its
event type. OPTIONS are the listener's, as JSON. In the call of number DIE_AT it kills itself as ``kill -9``
does; SIGTERM ends it in order.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from rdknotify.listener import Listener


class Told:
    def __init__(self, path: str, die_at: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = die_at

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        os.write(self._file, event_type.encode() + b"\n")
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, topic: str, path: str, options: str, die_at: str = "0") -> None:
    Listener(url, [topic], [Told(path, int(die_at))], **json.loads(options)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
