"""The door: no call of control gets past it without the token that it needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from multishadow_server.core.access import Role
from multishadow_server.entrypoints import callers, permissions
from multishadow_server.entrypoints.status import code_of
from multishadow_server.entrypoints.web.signing_in import TOKEN_COOKIE, token_of
from multishadow_server.errors import MultishadowError, NotAuthenticated, NotPermitted
from multishadow_server.service.doorkeeper import Caller, Doorkeeper
from multishadow_server.service.ending import end

AUTHORIZATION = "authorization"
RETRY_AFTER = b"60"
_THROTTLED = "you were refused too often within a minute; wait, and see that the token is right"

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Authorisation(grpc.aio.ServerInterceptor):
    """For control's gRPC server: each call needs the role that `permissions` says.

    Args:
        doorkeeper: decides.
        flags_open: whether applications read flags without a token.
    """

    def __init__(self, doorkeeper: Doorkeeper, *, flags_open: bool) -> None:
        self._doorkeeper = doorkeeper
        self._flags_open = flags_open

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler, or one that refuses it before anything of the request is read."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        least = permissions.least(permissions.of_call(method), flags_open=self._flags_open)
        if handler is None or least is None:  # that there is no such method, anybody may know
            return handler
        name = method.rpartition("/")[2]
        shown = [value for key, value in handler_call_details.invocation_metadata if key == AUTHORIZATION]
        try:
            caller = await self._doorkeeper.admit(shown, least, to=name)
        except MultishadowError as error:
            return self._refusing(error, name)
        callers.current.set(caller)
        return self._ending(handler, caller)

    def _refusing(self, error: MultishadowError, name: str) -> Handler:
        async def refuse(_: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
            if self._doorkeeper.note_refusal(str(context.peer()), error, to=name):
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _THROTTLED)
            await context.abort(code_of(error), str(error))
            # Never; but it makes this a stream, which is answered before its request has come.
            yield b""  # type: ignore[unreachable]

        return grpc.stream_stream_rpc_method_handler(refuse)

    def _ending(self, handler: Handler, caller: Caller) -> Handler:
        """Streams of answers end with the token: who follows flags may have opened one weeks ago."""
        if not handler.response_streaming:
            return handler
        stream: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def guarded(request: Any, context: Context) -> AsyncGenerator[Any, None]:  # noqa: ANN401  any message
            ended = asyncio.create_task(self._doorkeeper.until_ended(caller))
            try:
                async for answer in _until(ended, stream(request, context)):
                    yield answer
                if ended.done():
                    error = ended.result()
                    await context.abort(code_of(error), str(error))
            finally:
                await end(ended)

        make = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return make(guarded, handler.request_deserializer, handler.response_serializer)


async def _until(ended: asyncio.Task[Any], stream: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """What comes, until it ends or `ended` does."""
    while True:
        step = asyncio.ensure_future(_next(stream))
        try:
            await asyncio.wait((step, ended), return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                return
            found = step.result()
        finally:
            await end(step)
        if not found:
            return
        yield found[0]


async def _next(stream: AsyncIterator[Any]) -> tuple[Any, ...]:
    """The next answer; nothing at the end."""
    async for answer in stream:
        return (answer,)
    return ()


class HttpAuthorisation:
    """The same for control's HTTP: 401 without a token that is worth something, 403 when its role is too small.

    Args:
        app: what is behind the door.
        doorkeeper: decides.
        flags_open: whether applications read flags without a token.
        page: what somebody sees who is not let in to the web page.
    """

    def __init__(
        self,
        app: ASGIApp,
        doorkeeper: Doorkeeper,
        *,
        flags_open: bool,
        page: Callable[[Request, MultishadowError], Response],
    ) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._flags_open = flags_open
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        least = self._least(scope)
        if least is not None:
            try:
                await self._admit(scope, least)
            except MultishadowError as error:
                await self._refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, least: Role) -> None:
        shown = [value for key, value in scope["headers"] if key == AUTHORIZATION.encode()]
        path = str(scope["path"])
        if not shown and path.startswith(permissions.PAGE) and (token := token_of(Request(scope).cookies)):
            shown = [f"Bearer {token}".encode()]
        if path.startswith(permissions.PAGE) and least is not Role.VIEWER:
            # Who may look and not change is told so on a page that knows who they are.
            callers.current.set(await self._doorkeeper.admit(shown, Role.VIEWER, to=path))
        callers.current.set(await self._doorkeeper.admit(shown, least, to=path))

    def _least(self, scope: Scope) -> Role | None:
        if scope["type"] != "http":
            return None
        need = permissions.of_path(str(scope["path"]), str(scope["method"]))
        return permissions.least(need, flags_open=self._flags_open)

    async def _refuse(self, error: MultishadowError, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        path = str(scope["path"])
        bare = isinstance(error, NotAuthenticated) and not Request(scope).cookies.get(TOKEN_COOKIE)
        # A browser that never signed in is led to where it can; that is no attempt of anybody's.
        if path.startswith(permissions.PAGE) and bare:
            await self._page(Request(scope), error)(scope, receive, send)
            return
        throttled = self._doorkeeper.note_refusal(client[0] if client else "", error, to=path)
        if path.startswith(permissions.PAGE) and not throttled:
            await self._page(Request(scope), error)(scope, receive, send)
            return
        status, headers = _answer(error, throttled=throttled)
        body = json.dumps({"errorDetails": _THROTTLED if throttled else str(error)}).encode()
        headers = [*headers, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _answer(error: MultishadowError, *, throttled: bool) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
    if throttled:
        return 429, [(b"retry-after", RETRY_AFTER)]
    if isinstance(error, NotAuthenticated):
        return 401, [(b"www-authenticate", b'Bearer realm="multishadow"')]
    if isinstance(error, NotPermitted):
        return 403, []
    return 503, [(b"retry-after", b"1")]
