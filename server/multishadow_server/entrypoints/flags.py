"""The flag service over gRPC: messages in, use cases, messages out."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import grpc.aio

from multishadow.v1 import flags_pb2 as pb
from multishadow.v1 import flags_pb2_grpc
from multishadow_server.core import flag_document
from multishadow_server.entrypoints import flag_messages as messages
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.service import flag_editing, flag_reading, flag_sources
from multishadow_server.service.flag_editing import Edited
from multishadow_server.service.ports import ControlStore

SERVICE = pb.DESCRIPTOR.services_by_name["FlagService"].full_name


class FlagServicer(flags_pb2_grpc.FlagServiceServicer):
    """Answers the flag service.

    Args:
        store: where flags and their history are.
        clock: seconds since the Unix epoch; tells which routers are still there.
    """

    def __init__(self, store: ControlStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        flags_pb2_grpc.add_FlagServiceServicer_to_server(self, server)

    async def ListFlagDefinitions(
        self, request: pb.ListFlagDefinitionsRequest, context: Context
    ) -> pb.ListFlagDefinitionsResponse:
        """Flags by key."""
        async with answering(context):
            views, revision = await flag_reading.list_definitions(
                self._store,
                flag_set=request.flag_set if request.HasField("flag_set") else None,
                prefix=request.prefix,
            )
        return pb.ListFlagDefinitionsResponse(
            flags=[messages.definition_message(view) for view in views], revision=revision
        )

    async def GetFlagDefinition(
        self, request: pb.GetFlagDefinitionRequest, context: Context
    ) -> pb.GetFlagDefinitionResponse:
        """One flag."""
        async with answering(context):
            view, revision = await flag_reading.get_definition(
                self._store, request.key, revision=request.revision if request.HasField("revision") else None
            )
        return pb.GetFlagDefinitionResponse(flag=messages.definition_message(view), revision=revision)

    async def PutFlags(self, request: pb.PutFlagsRequest, context: Context) -> pb.PutFlagsResponse:
        """Create or change flags."""
        async with answering(context):
            edit = messages.edit_of(request, actor=actor_of(request.actor, context))
            edited = await flag_editing.put(self._store, messages.writes_of(request), edit)
            return pb.PutFlagsResponse(changes=await self._changes(edited))

    async def DeleteFlags(self, request: pb.DeleteFlagsRequest, context: Context) -> pb.DeleteFlagsResponse:
        """Remove flags."""
        async with answering(context):
            edit = messages.edit_of(request, actor=actor_of(request.actor, context))
            edited = await flag_editing.delete(self._store, tuple(request.keys), edit)
            return pb.DeleteFlagsResponse(changes=await self._changes(edited))

    async def _changes(self, edited: Edited) -> pb.FlagChanges:
        """What an edit came to, and whether some router will not hear of it."""
        told = messages.changes_message(edited)
        if edited.claims:
            told.warnings.extend(await flag_sources.warnings(self._store, clock=self._clock))
        return told

    async def ListFlagRevisions(
        self, request: pb.ListFlagRevisionsRequest, context: Context
    ) -> pb.ListFlagRevisionsResponse:
        """Everything that a flag ever said."""
        async with answering(context):
            lines = await flag_reading.history(self._store, request.key)
        return pb.ListFlagRevisionsResponse(revisions=[messages.definition_message(line) for line in lines])

    async def RevertFlags(self, request: pb.RevertFlagsRequest, context: Context) -> pb.RevertFlagsResponse:
        """Give flags back what they said."""
        async with answering(context):
            edited = await flag_editing.revert(
                self._store,
                messages.edit_of(request, actor=actor_of(request.actor, context)),
                to_revision=request.to_revision,
                keys=tuple(request.keys),
                flag_set=request.flag_set if request.HasField("flag_set") else None,
            )
            return pb.RevertFlagsResponse(changes=await self._changes(edited))

    async def ImportFlags(self, request: pb.ImportFlagsRequest, context: Context) -> pb.ImportFlagsResponse:
        """Put the flags of a flagd document."""
        async with answering(context):
            edit = messages.edit_of(request, actor=actor_of(request.actor, context))
            document = flag_document.read(flag_document.parse(request.document, "document"))
            edited = await flag_editing.import_document(self._store, document, edit, replace=request.replace)
            return pb.ImportFlagsResponse(changes=await self._changes(edited))

    async def ExportFlags(self, request: pb.ExportFlagsRequest, context: Context) -> pb.ExportFlagsResponse:
        """Write flags as a flagd document."""
        async with answering(context):
            export = await flag_reading.export(
                self._store,
                flag_set=request.flag_set if request.HasField("flag_set") else None,
                revision=request.revision if request.HasField("revision") else None,
                keys=tuple(request.keys),
            )
        return pb.ExportFlagsResponse(document=flag_document.dumps(export.document), revision=export.revision)
