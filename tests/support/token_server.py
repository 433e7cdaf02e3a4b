"""A token endpoint on this machine, with or without TLS."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl


class TokenServer(ThreadingHTTPServer):
    """Answers each request with ``status`` and ``answer``, which may be a callable; keeps what was asked."""

    daemon_threads = True
    status = 200
    answer: Any = None
    location: str | None = None
    silence: threading.Event | None = None
    """While this is set to an event that did not happen, nothing is answered."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[dict[str, str], dict[str, str]]] = []
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server_port}/token"

    def handle_error(self, *ignored: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.requests.append((dict(self.headers), dict(parse_qsl(body))))
        if self.server.silence is not None:
            self.server.silence.wait(30)
        answer = self.server.answer() if callable(self.server.answer) else self.server.answer
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")  # which librdkafka insists on
        self.send_header("Content-Length", str(len(content)))  # or it must end as TLS wants it
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *ignored: object) -> None:
        pass


@contextmanager
def token_server(context: ssl.SSLContext | None = None) -> Iterator[TokenServer]:
    with TokenServer(context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
