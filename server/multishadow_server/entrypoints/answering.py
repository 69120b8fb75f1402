"""What the services of control have in common: who asks, and how errors leave."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.entrypoints.status import code_of
from multishadow_server.errors import MultishadowError

Context = grpc.aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)


def actor_of(named: str, context: Context) -> str:
    """Who asks; where they come from, when they do not say."""
    return messages.free_text("actor", named) or str(context.peer())


@asynccontextmanager
async def answering(context: Context) -> AsyncIterator[None]:
    """Let errors leave as their gRPC status. One that nobody foresaw is logged here, and its innards stay here."""
    try:
        yield
    except MultishadowError as error:
        await context.abort(code_of(error), str(error))
    except Exception:  # noqa: BLE001  whatever it is, the caller gets a status and the log gets the reason
        _log.exception("a call from %s failed", context.peer())
        await context.abort(grpc.StatusCode.INTERNAL, "control failed on this call; its log says why")
