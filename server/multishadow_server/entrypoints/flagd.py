"""flagd's own services, for its stock clients: evaluation over gRPC, and whole flag sets to evaluate in process.

The messages are those of the flagd provider's wheel; a second generated copy would clash with them.
https://flagd.dev/reference/specifications/proto/
"""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc.aio
from openfeature.schemas.protobuf.flagd.evaluation.v1 import evaluation_pb2 as v1
from openfeature.schemas.protobuf.flagd.evaluation.v1 import evaluation_pb2_grpc as v1_grpc
from openfeature.schemas.protobuf.flagd.evaluation.v2 import evaluation_pb2 as v2
from openfeature.schemas.protobuf.flagd.evaluation.v2 import evaluation_pb2_grpc as v2_grpc
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

from multishadow_server.core import flag_sets
from multishadow_server.core.flag_sets import Selector
from multishadow_server.entrypoints import flagd_messages as messages
from multishadow_server.entrypoints.answering import Context, answering
from multishadow_server.service.flag_feed import FlagFeed
from multishadow_server.service.ports import FlagType, PublishedFlags

SELECTOR_HEADER = "flagd-selector"
KEEP_ALIVE_SECONDS = 20.0
PROVIDER_READY = "provider_ready"
CONFIGURATION_CHANGE = "configuration_change"
KEEP_ALIVE = "keep_alive"

Feed = FlagFeed[Any]
Response = TypeVar("Response")


class FlagdServices:
    """`flagd.evaluation.v1`, `flagd.evaluation.v2` and `flagd.sync.v1`, over the same flags.

    Args:
        feed: the flags.
        shared_context: what every evaluation here has in its context, and what clients in process are told to mix in.
        keep_alive: seconds without a change after which an event stream shows that it lives.
    """

    def __init__(
        self, feed: Feed, *, shared_context: Mapping[str, Any], keep_alive: float = KEEP_ALIVE_SECONDS
    ) -> None:
        self._first = EvaluationV1(feed, keep_alive=keep_alive)
        self._second = EvaluationV2(feed, keep_alive=keep_alive)
        self._sync = SyncServicer(feed, shared_context=shared_context)

    @property
    def names(self) -> Sequence[str]:
        """Full names of the services."""
        services = (
            *v1.DESCRIPTOR.services_by_name.values(),
            *v2.DESCRIPTOR.services_by_name.values(),
            *sync_pb2.DESCRIPTOR.services_by_name.values(),
        )
        return [service.full_name for service in services]

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer them."""
        v1_grpc.add_ServiceServicer_to_server(self._first, server)
        v2_grpc.add_ServiceServicer_to_server(self._second, server)
        sync_pb2_grpc.add_FlagSyncServiceServicer_to_server(self._sync, server)


class _Evaluation:
    """What both versions of the evaluation service have in common: all but their messages."""

    def __init__(self, feed: Feed, *, keep_alive: float) -> None:
        self._feed = feed
        self._keep_alive = keep_alive

    async def _resolved(
        self,
        request: Any,  # noqa: ANN401  either version's
        context: Context,
        wanted: FlagType,
        response: Callable[..., Response],
    ) -> Response:
        async with answering(context):
            evaluation = self._feed.evaluate(
                request.flag_key,
                messages.context_of(request.context),
                wanted=wanted,
                selector=_selector(context),
            )
            return messages.resolved(evaluation, wanted, response)

    async def _events(self, context: Context, response: Callable[..., Response]) -> AsyncIterator[Response]:
        """Ready, then every flag as changed: a client that comes back has a cache of before it went away."""
        async with answering(context):
            selector = _selector(context)
            flags: PublishedFlags = await self._feed.first()
            yield response(type=PROVIDER_READY)
            yield response(
                type=CONFIGURATION_CHANGE, data=messages.change(dict.fromkeys(flags.keys(selector), "update"))
            )
            quiet_since = time.monotonic()
            while True:
                newer = await self._feed.newer(flags, within=self._keep_alive - (time.monotonic() - quiet_since))
                changed = _changes(flags, newer, selector) if newer is not None else {}
                flags = newer or flags
                if changed:
                    yield response(type=CONFIGURATION_CHANGE, data=messages.change(changed))
                elif newer is None:
                    yield response(type=KEEP_ALIVE)
                else:
                    continue
                quiet_since = time.monotonic()


class EvaluationV1(_Evaluation, v1_grpc.ServiceServicer):
    """`flagd.evaluation.v1`: what leaves the value to the caller has reason DEFAULT or DISABLED, and no variant."""

    async def ResolveAll(self, request: v1.ResolveAllRequest, context: Context) -> v1.ResolveAllResponse:
        """Every selected flag that has a value."""
        async with answering(context):
            selector = _selector(context)
            found = self._feed.evaluate_all(messages.context_of(request.context), selector=selector)
        flags = {each.key: message for each in found if (message := messages.any_flag(each)) is not None}
        return v1.ResolveAllResponse(flags=flags)

    async def ResolveBoolean(self, request: v1.ResolveBooleanRequest, context: Context) -> v1.ResolveBooleanResponse:
        """One flag; so are the others."""
        return await self._resolved(request, context, FlagType.BOOLEAN, v1.ResolveBooleanResponse)

    async def ResolveString(self, request: v1.ResolveStringRequest, context: Context) -> v1.ResolveStringResponse:  # noqa: D102
        return await self._resolved(request, context, FlagType.STRING, v1.ResolveStringResponse)

    async def ResolveFloat(self, request: v1.ResolveFloatRequest, context: Context) -> v1.ResolveFloatResponse:  # noqa: D102
        return await self._resolved(request, context, FlagType.FLOAT, v1.ResolveFloatResponse)

    async def ResolveInt(self, request: v1.ResolveIntRequest, context: Context) -> v1.ResolveIntResponse:  # noqa: D102
        return await self._resolved(request, context, FlagType.INTEGER, v1.ResolveIntResponse)

    async def ResolveObject(self, request: v1.ResolveObjectRequest, context: Context) -> v1.ResolveObjectResponse:  # noqa: D102
        return await self._resolved(request, context, FlagType.OBJECT, v1.ResolveObjectResponse)

    async def EventStream(self, _: v1.EventStreamRequest, context: Context) -> AsyncIterator[v1.EventStreamResponse]:
        """What happens to the flags."""
        async for event in self._events(context, v1.EventStreamResponse):
            yield event


class EvaluationV2(_Evaluation, v2_grpc.ServiceServicer):
    """`flagd.evaluation.v2`: a flag that leaves the value to the caller has neither a value nor a variant."""

    async def ResolveBoolean(self, request: v2.ResolveBooleanRequest, context: Context) -> v2.ResolveBooleanResponse:
        """One flag; so are the others."""
        return await self._resolved(request, context, FlagType.BOOLEAN, v2.ResolveBooleanResponse)

    async def ResolveString(self, request: v2.ResolveStringRequest, context: Context) -> v2.ResolveStringResponse:  # noqa: D102
        return await self._resolved(request, context, FlagType.STRING, v2.ResolveStringResponse)

    async def ResolveFloat(self, request: v2.ResolveFloatRequest, context: Context) -> v2.ResolveFloatResponse:  # noqa: D102
        return await self._resolved(request, context, FlagType.FLOAT, v2.ResolveFloatResponse)

    async def ResolveInt(self, request: v2.ResolveIntRequest, context: Context) -> v2.ResolveIntResponse:  # noqa: D102
        return await self._resolved(request, context, FlagType.INTEGER, v2.ResolveIntResponse)

    async def ResolveObject(self, request: v2.ResolveObjectRequest, context: Context) -> v2.ResolveObjectResponse:  # noqa: D102
        return await self._resolved(request, context, FlagType.OBJECT, v2.ResolveObjectResponse)

    async def EventStream(self, _: v2.EventStreamRequest, context: Context) -> AsyncIterator[v2.EventStreamResponse]:
        """What happens to the flags."""
        async for event in self._events(context, v2.EventStreamResponse):
            yield event


class SyncServicer(sync_pb2_grpc.FlagSyncServiceServicer):
    """`flagd.sync.v1`: whole sets, for clients that evaluate in process."""

    def __init__(self, feed: Feed, *, shared_context: Mapping[str, Any]) -> None:
        self._feed = feed
        self._shared_context = messages.struct_of(shared_context)

    async def SyncFlags(
        self, request: sync_pb2.SyncFlagsRequest, context: Context
    ) -> AsyncIterator[sync_pb2.SyncFlagsResponse]:
        """The selected flags now, and again whenever one of them changes."""
        async with answering(context):
            selector = _selector(context, request.selector)
            sent: PublishedFlags | None = None
            flags: PublishedFlags = await self._feed.first()
            while True:
                if sent is None or _changes(sent, flags, selector):
                    yield sync_pb2.SyncFlagsResponse(
                        flag_configuration=flags.payload(selector), sync_context=self._shared_context
                    )
                    sent = flags
                flags = await self._feed.newer(flags, within=KEEP_ALIVE_SECONDS) or flags

    async def FetchAllFlags(
        self, request: sync_pb2.FetchAllFlagsRequest, context: Context
    ) -> sync_pb2.FetchAllFlagsResponse:
        """The selected flags now."""
        async with answering(context):
            payload = self._feed.flags.payload(_selector(context, request.selector))
        return sync_pb2.FetchAllFlagsResponse(flag_configuration=payload)

    async def GetMetadata(self, _: sync_pb2.GetMetadataRequest, context: Context) -> sync_pb2.GetMetadataResponse:  # noqa: ARG002
        """What clients are to mix into their context; SyncFlags says the same, and is asked for it by newer ones."""
        return sync_pb2.GetMetadataResponse(metadata=self._shared_context)


def _changes(before: PublishedFlags, after: PublishedFlags, selector: Selector) -> Mapping[str, str]:
    return flag_sets.changes(selector.chosen(before.definitions), selector.chosen(after.definitions))


def _selector(context: Context, in_request: str = "") -> Selector:
    """The header's selector, else the request's. Raises InvalidInput."""
    for name, value in context.invocation_metadata() or ():
        if name == SELECTOR_HEADER:
            return flag_sets.selector_of(value if isinstance(value, str) else value.decode(errors="replace"))
    return flag_sets.selector_of(in_request)
