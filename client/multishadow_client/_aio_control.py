"""Control's client for asyncio: what notebooks and services read. What changes something is ControlClient's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from grpc import aio

from multishadow.v1 import (
    control_pb2,
    control_pb2_grpc,
    export_pb2,
    export_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from multishadow_client import _address, _frame_calls, _frames, _prediction
from multishadow_client._aio import _AsyncConnection
from multishadow_client._errors import MultishadowError, from_status
from multishadow_client._frames import DataFrame
from multishadow_client._tls import Tls

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class AsyncControlClient(_AsyncConnection):
    """Reads reports, segments, sessions and stored answers; one serves any number of calls in its event loop.

    Args:
        address: of control; a scheme may stand before it.
        timeout: seconds that a call may take.
        tls: connect over TLS.
        token: shown with every call, for a control that asks for one.

    Every method raises MultishadowError with the server's message.
    """

    def __init__(
        self,
        address: str = _address.CONTROL,
        *,
        timeout: float | None = 10.0,
        tls: Tls | None = None,
        token: str = "",
    ) -> None:
        super().__init__(address, default=_address.CONTROL, timeout=timeout, tls=tls, token=token)
        self._stub: Any = control_pb2_grpc.ControlServiceStub(self._channel)
        self._sessions: Any = sessions_pb2_grpc.SessionServiceStub(self._channel)
        self._exports: Any = export_pb2_grpc.ExportServiceStub(self._channel)

    async def compare(self, request: control_pb2.CompareRequest) -> control_pb2.CompareResponse:
        """Report on the experiment's present epoch."""
        return await self._call(self._stub.Compare, request)

    async def list_segments(self, request: control_pb2.ListSegmentsRequest) -> control_pb2.ListSegmentsResponse:
        """On which kinds of request a candidate diverges more, or less, often than on the rest."""
        return await self._call(self._stub.ListSegments, request)

    async def list_sessions(self, request: sessions_pb2.ListSessionsRequest) -> sessions_pb2.ListSessionsResponse:
        """Stored sessions in which a candidate was bad, the newest first."""
        return await self._call(self._sessions.ListSessions, request)

    async def list_answers(self, request: export_pb2.ListAnswersRequest) -> export_pb2.ListAnswersResponse:
        """A page of stored answers, without their payloads."""
        return await self._call(self._exports.ListAnswers, request)

    async def export(self, request: export_pb2.ExportRequest) -> AsyncIterator[export_pb2.ExportResponse]:
        """Stored answers with their payloads; see `ControlClient.export`."""
        call = self._exports.Export(request)
        try:
            async for response in call:
                yield response
        except aio.AioRpcError as error:
            raise self._error(error) from error
        finally:
            call.cancel()

    async def compare_frame(
        self, *candidates: str, model: str = "", experiment_id: int = 0, alpha: float = 0.0
    ) -> DataFrame:
        """As `ControlClient.compare_frame`."""
        _frames.check()
        request = control_pb2.CompareRequest(
            model=model, candidates=candidates, experiment_id=experiment_id, alpha=alpha
        )
        return _frames.compare(await self.compare(request))

    async def segments_frame(self, candidate: str = "", *, model: str = "", experiment_id: int = 0) -> DataFrame:
        """As `ControlClient.segments_frame`."""
        _frames.check()
        request = control_pb2.ListSegmentsRequest(model=model, candidate=candidate, experiment_id=experiment_id)
        return _frames.segments(await self.list_segments(request))

    async def sessions_frame(
        self, *, version: str = "", model: str = "", experiment_id: int = 0, most: int = 100
    ) -> DataFrame:
        """As `ControlClient.sessions_frame`."""
        _frames.check()
        request = sessions_pb2.ListSessionsRequest(model=model, version=version, experiment_id=experiment_id, most=most)
        return _frames.sessions(await self.list_sessions(request))

    async def divergences_frame(
        self,
        *,
        model: str = "",
        experiment_id: int = 0,
        version: str = "",
        outcomes: Sequence[str] = ("diverged",),
        where: Mapping[str, str] | None = None,
        similarity: tuple[float | None, float | None] = (None, None),
        reviewed: bool | None = None,
        since: datetime | None = None,
        order: str = "time",
        most: int = 10_000,
    ) -> DataFrame:
        """As `ControlClient.divergences_frame`."""
        _frames.check()
        which = _frame_calls.answer_filter(
            model=model, experiment_id=experiment_id, version=version, outcomes=outcomes, where=where,
            similarity=similarity, reviewed=reviewed, since=since,
        )  # fmt: skip
        found: list[export_pb2.StoredAnswer] = []
        cursor = ""
        while len(found) < most:
            request = _frame_calls.page_request(which, order, most - len(found), cursor)
            response = await self.list_answers(request)
            found += response.answers
            cursor = response.next_cursor
            if not cursor:
                break
        return _frames.answers(found)

    async def _call(self, method: aio.UnaryUnaryMultiCallable[_Request, _Response], request: _Request) -> _Response:
        try:
            return await method(request, timeout=self._timeout)
        except aio.AioRpcError as error:
            raise self._error(error) from error

    def _error(self, error: aio.AioRpcError) -> MultishadowError:
        trailing = _prediction.text_values(error.trailing_metadata())
        return from_status(error.code(), error.details() or "", address=self._address.target, trailing=trailing)
