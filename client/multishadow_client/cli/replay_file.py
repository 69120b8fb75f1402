"""Files of logged sessions: JSON lines or Parquet, by their suffix. Each row is one request.

    {"request_id": "r-1", "session_id": "s-1", "at": "2026-11-23T12:00:00.250Z", "attributes": {"country": "NO"},
     "input": {"text": "You have won"}, "response": {"classification": "spam"}, "latency_ms": 12.5}

Only `input` is needed. Rows are read one at a time, so a file may be larger than memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1.replay_pb2 import ReplayedRequest
from multishadow_client import _prediction_json
from multishadow_client._prediction_json import Malformed
from multishadow_client.cli.exit_code import Mistake

FIELDS = ("request_id", "session_id", "at", "attributes", "input", "response", "latency_ms")
# Beyond the year 9999 nothing was logged; what is there are milliseconds taken for seconds.
LATEST = 253_402_300_800


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row: `where` is file:line; `problem` says why it cannot be sent, and is empty when it can."""

    where: str
    request: ReplayedRequest | None = None
    request_id: str = ""
    problem: str = ""


def read(file: Path, *, need_at: bool) -> Iterator[Row]:
    """Every row of a file, bad ones among them; empty lines are none.

    Args:
        file: the file.
        need_at: whether a row without `at` is bad, because arrivals are kept.

    Raises:
        Mistake: the file cannot be read at all.
    """
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise Mistake(f"{file}: logged sessions come as {', '.join(readers)}; its suffix says which")
    try:
        for where, number, record in reader(file):
            yield record if isinstance(record, Row) else _row(where, number, record, need_at=need_at)
    except OSError as error:
        raise Mistake(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{file}: not UTF-8 text at byte {error.start}") from error


_Records = Iterator[tuple[str, int, "Mapping[str, Any] | Row"]]


def _json_lines(file: Path) -> _Records:
    # Files from some programs begin with a byte order mark.
    with file.open(encoding="utf-8-sig", newline="") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield f"{file}:{number}", number, _parsed(f"{file}:{number}", line)


def _parsed(where: str, line: str) -> Mapping[str, Any] | Row:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return Row(where=where, problem=f"this is no JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return Row(where=where, problem="this is nested too deeply")
    if not isinstance(record, dict):
        return Row(where=where, problem='an object must stand here: {"input": …}')
    return record


def _parquet(file: Path) -> _Records:
    try:
        # An extra that everything else does without; it ships no types.
        from pyarrow import lib, parquet  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise Mistake("Parquet files need pyarrow: install multishadow[parquet]") from error
    try:
        with parquet.ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield f"{file}:{number}", number, _from_columns(f"{file}:{number}", record)
    except lib.ArrowException as error:
        raise Mistake(f"{file}: this is no Parquet file: {error}") from error


def _from_columns(where: str, record: Mapping[str, Any]) -> Mapping[str, Any] | Row:
    """A row of columns as a line would have it: JSON columns are text or structs, and absent values are null."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if value is None:
            continue
        if name in {"attributes", "input", "response"} and isinstance(value, str):
            try:
                found[name] = json.loads(value)
            except json.JSONDecodeError as error:
                return Row(where=where, problem=f"{name} is no JSON: {error.msg} at column {error.colno}")
        elif isinstance(value, Mapping):
            found[name] = {key: inner for key, inner in value.items() if inner is not None}
        else:
            found[name] = value
    return found


def _row(where: str, number: int, record: Mapping[str, Any], *, need_at: bool) -> Row:
    try:
        request, request_id = _request(number, record, need_at=need_at)
    except Malformed as error:
        return Row(where=where, problem=str(error))
    return Row(where=where, request=request, request_id=request_id)


def _request(number: int, record: Mapping[str, Any], *, need_at: bool) -> tuple[ReplayedRequest, str]:
    if strange := [key for key in record if key not in FIELDS]:
        raise Malformed(f"there is no field {strange[0]!r}; allowed are {', '.join(FIELDS)}")
    if record.get("input") is None:
        raise Malformed('`input` is missing, e.g. {"input": {"text": "…"}}')
    request_id = _text(record, "request_id") or f"replay-{number}"
    request = _prediction_json.request_of(
        record["input"],
        request_id=request_id,
        session_id=_text(record, "session_id"),
        attributes=record.get("attributes"),
    )
    replayed = ReplayedRequest(request=request.SerializeToString())
    if record.get("response") is not None:
        replayed.response = _prediction_json.answer_of(record["response"]).SerializeToString()
    if record.get("at") is not None:
        replayed.at.CopyFrom(_moment(record["at"]))
    elif need_at:
        raise Malformed("`at` is missing, and arrivals cannot be kept without; `--speed max` or `--rate` needs none")
    if record.get("latency_ms") is not None:
        replayed.latency_ms = _positive(record["latency_ms"])
    return replayed, request_id


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{name} must be a text, got {value!r:.80}")
    return value


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Malformed(f"latency_ms must be a number from 0, got {value!r:.80}")
    return float(value)


def _moment(value: object) -> Timestamp:
    """RFC 3339, or seconds since the Unix epoch."""
    moment = Timestamp()
    match value:
        case datetime():
            moment.FromDatetime(value if value.tzinfo is None else value.astimezone(UTC))
        case str():
            try:
                moment.FromJsonString(value)
            except ValueError as error:
                raise Malformed(f"at: {value!r:.60} is no time; e.g. 2026-11-23T12:00:00.250Z") from error
        case bool():
            raise Malformed("at must be a time or seconds since 1970, got a truth value")
        case int() | float() if 0 <= value < LATEST:
            whole = math.floor(value)
            moment.seconds, moment.nanos = whole, min(999_999_999, round((value - whole) * 1e9))
        case _:
            raise Malformed(f"at must be a time (RFC 3339) or seconds since 1970, got {value!r:.60}")
    return moment
