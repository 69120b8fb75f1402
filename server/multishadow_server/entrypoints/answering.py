"""How every servicer of control answers: who asks, and errors as gRPC statuses."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio

from multishadow_server.entrypoints import callers
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.entrypoints.status import code_of
from multishadow_server.errors import MultishadowError, WritesShadowed

Context = grpc.aio.ServicerContext[Any, Any]

# gRPC sends a status's details percent-encoded, in headers of at most 8 KiB.
MOST_DETAILS = 6_000

refused: Counter[str] = Counter()
"""What this process refused that somebody should hear of who was not there, by name: for its report."""

_log = logging.getLogger(__name__)


def actor_of(named: str, context: Context) -> str:
    """Who asks: whose token it is, else who they say they are, else where they come from."""
    return callers.actor(messages.free_text("actor", named), otherwise=str(context.peer()))


@asynccontextmanager
async def answering(context: Context) -> AsyncIterator[None]:
    """Let errors leave as their gRPC status. One that nobody foresaw is logged here, and its innards stay here."""
    try:
        yield
    except MultishadowError as error:
        if isinstance(error, WritesShadowed):
            refused["writes.refused"] += 1
        await context.abort(code_of(error), _fitting(str(error)))
    except Exception:  # noqa: BLE001  whatever it is, the caller gets a status and the log gets the reason
        _log.exception("a call from %s failed", context.peer())
        await context.abort(grpc.StatusCode.INTERNAL, "control failed on this call; its log says why")


def _fitting(message: str) -> str:
    """The message, or its beginning: with headers that are too large, the caller would get another status."""
    if len(quote(message)) <= MOST_DETAILS:
        return message
    while len(quote(message)) > MOST_DETAILS:
        message = message[: len(message) * 4 // 5]
    return f"{message} …"
