"""The calls of a ControlClient that answer with data frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1 import control_pb2, export_pb2, sessions_pb2
from multishadow_client import _frames
from multishadow_client._frames import DataFrame

PAGE = 500
ORDERS: Mapping[str, export_pb2.AnswerOrder.ValueType] = {
    "time": export_pb2.ANSWER_ORDER_UNSPECIFIED,
    "similarity": export_pb2.ANSWER_ORDER_SIMILARITY,
    "latency": export_pb2.ANSWER_ORDER_LATENCY,
}


class _Asks(Protocol):
    def compare(self, request: control_pb2.CompareRequest) -> control_pb2.CompareResponse: ...

    def list_segments(self, request: control_pb2.ListSegmentsRequest) -> control_pb2.ListSegmentsResponse: ...

    def list_sessions(self, request: sessions_pb2.ListSessionsRequest) -> sessions_pb2.ListSessionsResponse: ...

    def list_answers(self, request: export_pb2.ListAnswersRequest) -> export_pb2.ListAnswersResponse: ...


class FrameCalls:
    """What a notebook asks. Every method raises ImportError, before it asks, unless pandas is installed."""

    def compare_frame(
        self: _Asks, *candidates: str, model: str = "", experiment_id: int = 0, alpha: float = 0.0
    ) -> DataFrame:
        """The report of an experiment's present epoch, a row for each candidate.

        Args:
            candidates: those to show; none: all.
            model: empty: the only one there is, or the experiment's.
            experiment_id: 0: the running one, or else the latest.
            alpha: the chance of ever making a false claim; 0: 0.05.
        """
        _frames.check()
        return _frames.compare(
            self.compare(
                control_pb2.CompareRequest(model=model, candidates=candidates, experiment_id=experiment_id, alpha=alpha)
            )
        )

    def segments_frame(self: _Asks, candidate: str = "", *, model: str = "", experiment_id: int = 0) -> DataFrame:
        """On which kinds of request a candidate diverges more, or less, often than on the rest; a row for each."""
        _frames.check()
        request = control_pb2.ListSegmentsRequest(model=model, candidate=candidate, experiment_id=experiment_id)
        return _frames.segments(self.list_segments(request))

    def sessions_frame(
        self: _Asks, *, version: str = "", model: str = "", experiment_id: int = 0, most: int = 100
    ) -> DataFrame:
        """Stored sessions in which a candidate was bad, a row for each, the newest first."""
        _frames.check()
        request = sessions_pb2.ListSessionsRequest(model=model, version=version, experiment_id=experiment_id, most=most)
        return _frames.sessions(self.list_sessions(request))

    def divergences_frame(
        self: _Asks,
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
        """Stored answers that diverged, or of other outcomes, a row for each, without their payloads.

        Args:
            model: empty: the only one there is, or the experiment's.
            experiment_id: 0: all of the model's.
            version: whose; empty: all candidates'.
            outcomes: which; none of them: all.
            where: attributes of the request, by path.
            similarity: from and to; None is without a bound.
            reviewed: whether somebody gave a verdict; None: either.
            since: when requests were received; a time without a zone is UTC.
            order: "time" (newest first), "similarity" (least first), or "latency" (slowest first).
            most: at most so many; they come by pages.

        Raises:
            ValueError: there is no such order.
        """
        _frames.check()
        which = answer_filter(
            model=model, experiment_id=experiment_id, version=version, outcomes=outcomes, where=where,
            similarity=similarity, reviewed=reviewed, since=since,
        )  # fmt: skip
        return _frames.answers(_pages(self, which, order, most))


def _pages(client: _Asks, which: export_pb2.AnswerFilter, order: str, most: int) -> Iterator[export_pb2.StoredAnswer]:
    cursor, left = "", most
    while left > 0:
        response = client.list_answers(page_request(which, order, left, cursor))
        yield from response.answers
        left -= len(response.answers)
        cursor = response.next_cursor
        if not cursor:
            return


def page_request(which: export_pb2.AnswerFilter, order: str, left: int, cursor: str) -> export_pb2.ListAnswersRequest:
    """The request for the next page. Raises ValueError: there is no such order."""
    if order not in ORDERS:
        raise ValueError(f"order: {order!r} is none; allowed are {', '.join(ORDERS)}")
    return export_pb2.ListAnswersRequest(filter=which, order=ORDERS[order], page_size=min(PAGE, left), cursor=cursor)


def answer_filter(
    *,
    model: str,
    experiment_id: int,
    version: str,
    outcomes: Sequence[str],
    where: Mapping[str, str] | None,
    similarity: tuple[float | None, float | None],
    reviewed: bool | None,
    since: datetime | None,
) -> export_pb2.AnswerFilter:
    """The filter of a `divergences_frame`."""
    received = None
    if since is not None:
        received = Timestamp()
        received.FromDatetime(since if since.tzinfo else since.replace(tzinfo=UTC))
    return export_pb2.AnswerFilter(
        model=model,
        experiment_id=experiment_id,
        version=version,
        outcomes=outcomes,
        attributes=where or {},
        least_similarity=similarity[0],
        most_similarity=similarity[1],
        reviewed=reviewed,
        since=received,
    )
