"""Control with flagd.sync.v1 on its port, over the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from google.protobuf import struct_pb2
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

from flagd_sync_server import flag_set
from multishadow_server.adapters.jetstream_backlog import JetStreamBacklog
from multishadow_server.adapters.postgres import PostgresControl
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.labels import PostgresLabels
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.prediction_codec import ProtobufPredictionCodec
from multishadow_server.adapters.version_probe import GrpcVersionProbe
from multishadow_server.entrypoints.control import ControlServer, ControlServicer
from store_fixtures import opened


class StoreSync(sync_pb2_grpc.FlagSyncServiceServicer):
    """Every revision of the store, as it is committed."""

    def __init__(self, source: PostgresConfiguration) -> None:
        self._source = source

    async def SyncFlags(self, request: Any, context: Any) -> AsyncIterator[sync_pb2.SyncFlagsResponse]:  # noqa: N802  flagd's name
        async for _ in self._source.changes():
            configuration = await self._source.read()
            sync_context = struct_pb2.Struct()
            sync_context.update({"flagSetId": "multishadow"})
            yield sync_pb2.SyncFlagsResponse(
                flag_configuration=flag_set(configuration.flags, revision=configuration.revision),
                sync_context=sync_context,
            )

    async def FetchAllFlags(self, request: Any, context: Any) -> Any:  # noqa: N802  flagd's name
        raise NotImplementedError

    async def GetMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  flagd's name
        raise NotImplementedError


@asynccontextmanager
async def syncing_control(database_url: str) -> AsyncIterator[str]:
    """Its address, until the block ends."""
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(opened(database_url))
        backlog = JetStreamBacklog(None, "captures")
        stack.push_async_callback(backlog.aclose)
        server = ControlServer(
            ControlServicer(
                store=PostgresControl(engine),
                probe=GrpcVersionProbe(),
                labels=PostgresLabels(engine, ProtobufPredictionCodec()),
                reviews=PostgresReviews(engine),
                backlog=backlog,
            )
        )
        sync_pb2_grpc.add_FlagSyncServiceServicer_to_server(StoreSync(PostgresConfiguration(engine)), server._server)
        stack.push_async_callback(server.stop, 0.2)
        yield await server.start("127.0.0.1:0")
