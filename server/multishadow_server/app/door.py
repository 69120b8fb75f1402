"""What the settings say of who may do what, put together; control alone has a door."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import grpc.aio
from starlette.types import ASGIApp

from multishadow_server.adapters.tls import ServingTls
from multishadow_server.app import running
from multishadow_server.core import exposure
from multishadow_server.entrypoints.authorisation import Authorisation, HttpAuthorisation
from multishadow_server.entrypoints.web.application import refusal
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.service.doorkeeper import Doorkeeper
from multishadow_server.service.ports import TokenStore
from multishadow_server.service.token_watch import TokenWatch
from multishadow_server.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """What stands before control's services. Without tokens, nothing.

    Args:
        interceptors: for its gRPC server.
        guarding: puts it before an application that is served over HTTP.
        counters: who was not let in.
        changed: to be told of each change of a token that is made here.
        doorkeeper: lets in by tokens; None without.
    """

    interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
    guarding: Callable[[ASGIApp, Pages], ASGIApp] = field(default=lambda app, _: app)
    counters: Callable[[], Mapping[str, int]] = dict
    changed: Callable[[], Awaitable[None]] = field(default=lambda: asyncio.sleep(0))
    doorkeeper: Doorkeeper | None = None


async def open_door(settings: Settings, store: TokenStore, stop: asyncio.Event, stack: AsyncExitStack) -> Door:
    """The door that the settings ask for; it knows the tokens until the stack ends."""
    if settings.auth == "off":
        return Door()
    watch = TokenWatch(store, check_interval=settings.flag_check_interval, stale_after=settings.tokens_stale_after)
    await stack.enter_async_context(running.background(watch.run(stop)))
    doorkeeper = Doorkeeper(watch)
    flags_open = settings.flags_auth == "open"
    return Door(
        interceptors=(Authorisation(doorkeeper, flags_open=flags_open),),
        guarding=lambda app, pages: HttpAuthorisation(
            app, doorkeeper, flags_open=flags_open, page=partial(refusal, pages)
        ),
        counters=doorkeeper.counters,
        changed=watch.note_change,
        doorkeeper=doorkeeper,
    )


def warnings(settings: Settings, addresses: Sequence[str], using: ServingTls | None) -> Sequence[str]:
    """What of control's setup is not as it should be; see `exposure.warnings`."""
    found = exposure.warnings(
        addresses,
        tokens=settings.auth == "tokens",
        encrypted=using is not None,
        certificate_ends=math.inf if using is None else using.ends_at,
        now=time.time(),
    )
    return tuple(found)
