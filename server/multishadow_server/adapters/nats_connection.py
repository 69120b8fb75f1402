"""A connection to NATS that a role keeps for its life, and the capture log behind it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import nats.errors
from nats.aio.client import Client

from multishadow_server.adapters import jetstream_log
from multishadow_server.adapters.tls import ClientTls
from multishadow_server.errors import InvalidInput, LogUnavailable
from multishadow_server.settings import Settings

RECONNECT_SECONDS = 0.2
CONNECT_SECONDS = 2
# A server that vanished without a word is noticed after about ten seconds, not after NATS' four minutes.
PING_SECONDS = 5
PINGS_UNANSWERED = 2

_logger = logging.getLogger(__name__)


async def connect(nats_url: str, *, name: str, client: Client | None = None, tls: ClientTls | None = None) -> Client:
    """Connect, and keep connected: while the server is away this waits, and later the client comes back by itself.

    Args:
        nats_url: e.g. `nats://127.0.0.1:4222`.
        name: this process's name in the server's reports.
        client: connect this one, which somebody already holds; a new one when None.
        tls: authorities and certificate; None leaves it to the URL: with `tls://` the system's authorities count.

    Raises:
        InvalidInput: it is no URL. The message does not repeat it: it may hold a password.
    """
    client = client or Client()

    async def note_error(error: Exception) -> None:
        # One for every attempt: the others say it once.
        _logger.debug("NATS: %r", error)
        if tls is not None:
            tls.refresh()

    async def note_loss() -> None:
        if tls is not None:
            tls.refresh()
        # The client calls this for a close in order, too.
        if not client.is_closed:
            _logger.warning("the connection to NATS is lost; trying to connect again")

    try:
        await client.connect(
            nats_url,
            name=name,
            connect_timeout=CONNECT_SECONDS,
            reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]  # it is slept, and may be a fraction
            max_reconnect_attempts=-1,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=PINGS_UNANSWERED,
            error_cb=note_error,
            disconnected_cb=note_loss,
            reconnected_cb=_note_return,
            tls=None if tls is None else tls.context,
        )
    except (ValueError, nats.errors.Error) as error:
        raise InvalidInput("MULTISHADOW_NATS_URL is no NATS URL; write it as nats://user:password@host:4222") from error
    return client


async def disconnect(client: Client) -> None:
    """Close it, whatever state it is in."""
    # One that never began to connect has nothing to close, and says so by an assertion; one whose server is gone cannot
    # say goodbye, and on uvloop writing to it is a RuntimeError.
    if client.is_connected or client.is_connecting or client.is_reconnecting:
        with suppress(OSError, RuntimeError, nats.errors.Error):
            await client.close()


async def log_partitions(client: Client, settings: Settings) -> int:
    """How many partitions the capture log has; makes it when there is none. While JetStream is away this waits.

    Raises:
        FailedPrecondition: a stream of this name exists and is no capture log.
    """
    said = False
    while True:
        try:
            return await jetstream_log.ensure_stream(client.jetstream(), settings)
        except LogUnavailable as error:
            if not said:
                _logger.warning("waiting for the capture log: %s", error)
            said = True
            await asyncio.sleep(RECONNECT_SECONDS)


async def _note_return() -> None:
    _logger.warning("connected to NATS again")
