"""How far workers are behind, as JetStream tells it."""

from __future__ import annotations

import asyncio

import nats
import nats.errors
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from multishadow_server.adapters.tls import ClientTls
from multishadow_server.errors import LogUnavailable
from multishadow_server.service.ports import LogSize

ANSWER_SECONDS = 1.0


class JetStreamBacklog:
    """A CaptureBacklog over one stream. It connects when it is first asked, so control starts without the log.

    Args:
        nats_url: the NATS server; None when this process was given none.
        log_name: the stream's name.
        tls: see `nats_connection.connect`.
    """

    def __init__(self, nats_url: str | None, log_name: str, *, tls: ClientTls | None = None) -> None:
        self._tls = tls
        self._nats_url = nats_url
        self._log_name = log_name
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def waiting(self) -> int:
        """Messages that no worker has acknowledged; 0 while no router has made the log. Raises LogUnavailable."""
        return (await self.size()).messages

    async def size(self) -> LogSize:
        """What the log holds; nothing while no router has made it. Raises LogUnavailable."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                client = await self._connected()
                stream = await client.jetstream(timeout=ANSWER_SECONDS).stream_info(self._log_name)
        except NotFoundError:
            return LogSize()
        except (nats.errors.Error, JetStreamError, OSError, TimeoutError) as error:
            raise LogUnavailable(f"JetStream does not answer: {str(error) or type(error).__name__}") from error
        most = stream.config.max_bytes
        return LogSize(
            messages=stream.state.messages,
            bytes=stream.state.bytes,
            most_bytes=most if most is not None and most > 0 else None,
        )

    async def aclose(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is not None and self._client.is_connected:
                return self._client
            if self._nats_url is None:
                raise LogUnavailable("this control has no log; set MULTISHADOW_NATS_URL")
            if self._client is not None:
                await self._client.close()
            # No reconnecting in the background: the next question connects anew.
            if self._tls is not None:
                self._tls.refresh()
            self._client = await nats.connect(
                self._nats_url,
                allow_reconnect=False,
                connect_timeout=1,
                error_cb=_say_nothing,
                tls=None if self._tls is None else self._tls.context,
            )
            return self._client


async def _say_nothing(_: Exception) -> None:
    """The client would log each lost connection with a traceback; whoever asks is told instead."""
