"""Receivers of webhooks on loopback: real sockets, that answer, refuse, hang or die as a test says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One POST, as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def signed_by(self, secret: str) -> bool:
        """Whether one of its signatures is of this secret: worked out here once more, from the specification."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return expected in self.headers["webhook-signature"].split(" ")


@dataclass(kw_only=True)
class Receiver:
    """What came, and how the next one is answered: a status, "hang" (never), or "die" (in the middle of the answer)."""

    answer: int | str = 204
    body: bytes = b""
    extra: Mapping[str, str] = field(default_factory=dict)
    got: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/s3cret-path"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                received = await self._read(line, reader)
                self.got.append(received)
                if self.answer == "hang":
                    await asyncio.Event().wait()
                if self.answer == "die":
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
                    return
                lines = [f"HTTP/1.1 {self.answer} said", f"content-length: {len(self.body)}"]
                lines += [f"{name}: {value}" for name, value in self.extra.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + self.body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # control gave up waiting
        finally:
            writer.close()

    async def _read(self, line: bytes, reader: asyncio.StreamReader) -> Received:
        headers = {}
        while header := (await reader.readline()).strip():
            name, _, value = header.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers["content-length"]))
        return Received(path=line.split()[1].decode(), headers=headers, body=body)


@asynccontextmanager
async def receiving(**settings: Any) -> AsyncIterator[Receiver]:
    """Listen on a free port of this machine until the block ends."""
    receiver = Receiver(**settings)
    under_way: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        await receiver.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
