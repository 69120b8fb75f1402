"""Answers of control as pandas data frames; pandas is an extra, and is looked for when a frame is asked for.

Points in time are `datetime64[us, UTC]`, names with few values are categories, what can be absent is of a
nullable type or NaN, and nested values stay Python's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1 import control_pb2, export_pb2, sessions_pb2

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # it ships no types

    DataFrame: TypeAlias = pd.DataFrame
else:
    DataFrame: TypeAlias = Any

CATEGORY, MOMENT, COUNT, NUMBER, TEXT, FLAG, OBJECT = (
    "category",
    "datetime64[us, UTC]",
    "Int64",
    "float64",
    "string",
    "boolean",
    "object",
)

COMPARE: Mapping[str, str] = {
    "model": CATEGORY,
    "experiment_id": COUNT,
    "epoch": COUNT,
    "live_version": CATEGORY,
    "version": CATEGORY,
    "rank_best": COUNT,
    "rank_worst": COUNT,
    "in_best_set": FLAG,
    "winner": FLAG,
    "n": COUNT,
    "agreed": COUNT,
    "diverged": COUNT,
    "errors": COUNT,
    "timeouts": COUNT,
    "uncomparable": COUNT,
    "dropped": COUNT,
    "duplicates": COUNT,
    "completeness": NUMBER,
    "divergence": NUMBER,
    "divergence_lower": NUMBER,
    "divergence_upper": NUMBER,
    "band": CATEGORY,
    "band_confirmed": FLAG,
    "similarity": NUMBER,
    "latency_p50_ms": NUMBER,
    "latency_p99_ms": NUMBER,
    "live_latency_p50_ms": NUMBER,
    "live_latency_p99_ms": NUMBER,
    "read_at": MOMENT,
}
SEGMENTS: Mapping[str, str] = {
    "version": CATEGORY,
    "feature": CATEGORY,
    "level": TEXT,
    "n": COUNT,
    "diverged": COUNT,
    "failed": COUNT,
    "rate": NUMBER,
    "rate_lower": NUMBER,
    "rate_upper": NUMBER,
    "rest_rate": NUMBER,
    "log_evidence": NUMBER,
    "alert": FLAG,
    "p_exact": NUMBER,
    "p_adjusted": NUMBER,
}
SESSIONS: Mapping[str, str] = {
    "model": CATEGORY,
    "session_id": TEXT,
    "began_at": MOMENT,
    "last_at": MOMENT,
    "turns": COUNT,
    "bad_turns": COUNT,
    "bad_by_version": OBJECT,
    "first_bad": OBJECT,
}
ANSWERS: Mapping[str, str] = {
    "model": CATEGORY,
    "experiment_id": COUNT,
    "epoch": COUNT,
    "comparison_id": COUNT,
    "request_id": TEXT,
    "session_id": TEXT,
    "received_at": MOMENT,
    "attributes": OBJECT,
    "kept_because": CATEGORY,
    "payloads": CATEGORY,
    "live_version": CATEGORY,
    "live_latency_ms": NUMBER,
    "live_status_code": COUNT,
    "version": CATEGORY,
    "outcome": CATEGORY,
    "reason": CATEGORY,
    "detail": TEXT,
    "similarity": NUMBER,
    "latency_ms": NUMBER,
    "verdict": CATEGORY,
    "reviewed_by": TEXT,
    "label": OBJECT,
}
_VERDICTS = {
    control_pb2.REVIEW_VERDICT_CANDIDATE_BETTER: "candidate-better",
    control_pb2.REVIEW_VERDICT_LIVE_BETTER: "live-better",
    control_pb2.REVIEW_VERDICT_BOTH_FINE: "both-fine",
    control_pb2.REVIEW_VERDICT_BOTH_WRONG: "both-wrong",
}


def compare(response: control_pb2.CompareResponse) -> DataFrame:
    """A row for each candidate, in the report's order."""
    about = {
        "model": response.experiment.model,
        "experiment_id": response.experiment.id,
        "epoch": response.epoch,
        "live_version": response.live_version,
        "read_at": _moment(response, "read_at"),
    }
    rows = [
        {
            **_fields(candidate, COMPARE),
            **_interval("divergence", candidate, "divergence"),
            **about,
            "rank_best": candidate.rank_best if candidate.ranked else None,
            "rank_worst": candidate.rank_worst if candidate.ranked else None,
            "winner": candidate.version == response.winner,
        }
        for candidate in response.candidates
    ]
    return _frame(rows, COMPARE)


def segments(response: control_pb2.ListSegmentsResponse) -> DataFrame:
    """A row for each segment, in the report's order: alerts first, then by p."""
    rows = [
        {**_fields(segment, SEGMENTS), **_interval("rate", segment, "rate"), "version": response.version}
        for segment in response.segments
    ]
    return _frame(rows, SEGMENTS)


def sessions(response: sessions_pb2.ListSessionsResponse) -> DataFrame:
    """A row for each session in which a candidate was bad, the newest first."""
    rows = [
        {
            **_fields(line, SESSIONS),
            "model": response.model,
            "bad_by_version": dict(line.bad_by_version),
            "first_bad": dict(line.first_bad),
        }
        for line in response.sessions
    ]
    return _frame(rows, SESSIONS)


def answers(found: Iterable[export_pb2.StoredAnswer]) -> DataFrame:
    """A row for each stored answer of a candidate, without payloads."""
    rows = [
        {
            **_fields(answer, ANSWERS),
            "attributes": MessageToDict(answer.attributes),
            "verdict": _VERDICTS.get(answer.verdict),
            "reviewed_by": answer.reviewed_by or None,
            "label": MessageToDict(answer.label) if answer.HasField("label") else None,
        }
        for answer in found
    ]
    return _frame(rows, ANSWERS)


def check() -> None:
    """Raise ImportError unless pandas is there: before anything is asked of control."""
    _pandas()


def _pandas() -> Any:  # noqa: ANN401  a module
    try:
        import pandas as pd  # noqa: PLC0415  an extra that everything else does without
    except ImportError as error:
        raise ImportError(
            "data frames need pandas: install multishadow[pandas], or take the messages instead (`compare`, "
            "`list_answers`, …)"
        ) from error
    return pd


def _frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> DataFrame:
    """The rows with these columns in this order, typed also where there are none."""
    pd = _pandas()
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in columns.items()},
        columns=list(columns),
    )


def _fields(message: Any, columns: Mapping[str, str]) -> dict[str, Any]:  # noqa: ANN401  any message
    """Its fields that are columns; absent ones None."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.name not in columns:
            continue
        if field.message_type is not None:
            is_moment = field.message_type.full_name == Timestamp.DESCRIPTOR.full_name
            found[field.name] = _moment(message, field.name) if is_moment else None
        elif field.has_presence and not message.HasField(field.name):
            found[field.name] = None
        elif field.is_repeated:
            found[field.name] = list(getattr(message, field.name))
        else:
            found[field.name] = getattr(message, field.name)
    return found


def _moment(message: Any, name: str) -> Any:  # noqa: ANN401  any message; a pandas Timestamp, or None
    if not message.HasField(name):
        return None
    at: Timestamp = getattr(message, name)
    return _pandas().Timestamp(at.seconds * 1_000_000_000 + at.nanos, unit="ns", tz="UTC").floor("us")


def _interval(prefix: str, message: Any, name: str) -> dict[str, float | None]:  # noqa: ANN401  any message
    if not message.HasField(name):
        return {prefix: None, f"{prefix}_lower": None, f"{prefix}_upper": None}
    interval = getattr(message, name)
    return {prefix: interval.estimate, f"{prefix}_lower": interval.lower, f"{prefix}_upper": interval.upper}
