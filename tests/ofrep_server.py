"""A server of the OpenFeature Remote Evaluation Protocol that says, or keeps back, what a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class OfrepServer(ThreadingHTTPServer):
    """Answers `POST /ofrep/v1/evaluate/flags/{key}` from a mapping.

    Attributes:
        says: value by flag key.
        answering: while it is cleared, requests are taken and never answered.
        asked: flag key and context of every request.
    """

    daemon_threads = True

    def __init__(self, says: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says = says
        self.answering = threading.Event()
        self.answering.set()
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: OfrepServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = self.path.rpartition("/")[2]
        self.server.asked.append((key, json.loads(body)["context"]))
        self.server.answering.wait()
        value = self.server.says.get(key)
        if value is None:
            self._answer(404, {"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": f"no flag {key}"})
        else:
            self._answer(200, {"key": key, "value": value, "variant": value, "reason": "TARGETING_MATCH"})

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} \r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, *_: Any) -> None:
        """Nothing: tests are quiet."""


@contextmanager
def answering(says: dict[str, str]) -> Iterator[OfrepServer]:
    """Such a server until the block ends."""
    server = OfrepServer(says)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.answering.set()
        server.shutdown()
        thread.join()
        server.server_close()
