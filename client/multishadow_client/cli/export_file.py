"""Files of exported answers: JSON lines, Parquet, and the lines that fine-tuning tools take.

A file appears when it is whole: until then it is written beside its place.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.json_format import MessageToDict

from multishadow.v1 import control_pb2
from multishadow.v1.export_pb2 import StoredAnswer
from multishadow_client.cli import document
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.review_view import VERDICTS
from multishadow_client.cli.stored_messages import StoredMessages

ROWS_AT_ONCE = 5_000
CHARACTERS_AT_ONCE = 32_000_000
"""A row group of a Parquet file is held in memory; it ends at whichever comes first."""
STDOUT = Path("-")

Record = dict[str, Any]


class FileFormat(StrEnum):
    """What an export is written as."""

    JSONL = "jsonl"
    PARQUET = "parquet"


# Parquet's types, by column, in the order of the columns; docs/export.md describes them.
COLUMNS: Mapping[str, str] = {
    "model": "string",
    "experiment_id": "int64",
    "epoch": "int32",
    "comparison_id": "int64",
    "request_id": "string",
    "session_id": "string",
    "received_at": "timestamp",
    "method": "string",
    "attributes": "json",
    "kept_because": "string",
    "payloads": "string",
    "protocol": "string",
    "live_version": "string",
    "live_latency_ms": "double",
    "live_status_code": "int32",
    "version": "string",
    "outcome": "string",
    "reason": "string",
    "detail": "string",
    "similarity": "double",
    "latency_ms": "double",
    "verdict": "string",
    "reviewed_by": "string",
    "label": "json",
    "request": "json",
    "live_response": "json",
    "response": "json",
}
_VERDICTS = {number: name for name, number in VERDICTS.items()}


def record(answer: StoredAnswer) -> Record:
    """An answer by the columns; nested values as they are, absent ones None, times as RFC 3339."""
    stored = StoredMessages(protocol=answer.protocol, payloads=answer.payloads)
    plain = document.plain(answer)
    read = {
        "verdict": _VERDICTS.get(answer.verdict),
        "reviewed_by": answer.reviewed_by or None,
        "label": MessageToDict(answer.label) if answer.HasField("label") else None,
        "request": stored.request(answer.request),
        "live_response": stored.response(answer.live_response),
        "response": stored.response(answer.response) if answer.response else None,
    }
    return {name: read[name] if name in read else plain[name] for name in COLUMNS}


def chat(answers: Iterable[StoredAnswer], left_out: Callable[[], None] = lambda: None) -> Iterator[Record]:
    """One conversation for each comparison: what was asked, and the answer that is known to be right, or live's.

    Args:
        answers: those of one comparison stand together.
        left_out: called for each comparison that makes no conversation: nobody knows a right answer, or what was asked
            or answered is no text, or was not stored.
    """
    for _, group in groupby(answers, key=lambda answer: answer.comparison_id):
        conversation = _conversation(list(group))
        if conversation is None:
            left_out()
        else:
            yield {"messages": conversation}


def _conversation(answers: list[StoredAnswer]) -> list[Record] | None:
    first = answers[0]
    stored = StoredMessages(protocol=first.protocol, payloads=first.payloads)
    asked = _asked(stored.request(first.request) or {})
    right = _right(answers, stored)
    if not asked or right is None:
        return None
    return [*asked, {"role": "assistant", "content": right}]


def _asked(request: Mapping[str, Any]) -> list[Record]:
    """A conversation that was asked as one stays one; other objects are written as JSON."""
    if "text" in request:
        return [{"role": "user", "content": request["text"]}]
    structured = request.get("structured")
    if not isinstance(structured, dict):
        return []
    turns = structured.get("messages")
    if isinstance(turns, list) and turns and all(_is_turn(turn) for turn in turns):
        return [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    return [{"role": "user", "content": json.dumps(structured, ensure_ascii=False)}]


def _is_turn(turn: Any) -> bool:  # noqa: ANN401  JSON is any
    return isinstance(turn, dict) and {"role", "content"} <= turn.keys()


def _right(answers: list[StoredAnswer], stored: StoredMessages) -> str | None:
    """The label; or the answer that somebody called the better one; or live's, unless it was called wrong."""
    for answer in answers:
        if answer.HasField("label"):
            return _said(MessageToDict(answer.label))
    verdicts = {answer.verdict for answer in answers}
    for answer in answers:
        if answer.verdict == control_pb2.REVIEW_VERDICT_CANDIDATE_BETTER:
            return _content(stored.response(answer.response) or {})
    if control_pb2.REVIEW_VERDICT_BOTH_WRONG in verdicts or answers[0].live_status_code:
        return None
    return _content(stored.response(answers[0].live_response) or {})


def _content(response: Mapping[str, Any]) -> str | None:
    if "text" in response:
        return str(response["text"])
    if "classification" in response:
        label: str | None = response["classification"].get("label")
        return label
    for kind in ("structured", "scalar"):
        if kind in response:
            return _said(response[kind])
    return None


def _said(value: Any) -> str:  # noqa: ANN401  JSON is any
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write(file: Path, format_: FileFormat, records: Iterable[Record]) -> int:
    """Write them all, and return how many; nothing stands at `file` before.

    Raises:
        Mistake: the file cannot be written, or Parquet lacks its library.
    """
    writer = _json_lines if format_ is FileFormat.JSONL else _parquet
    try:
        with _whole(file) as stream:
            return writer(stream, records)
    except BrokenPipeError:
        # Whoever read stdout has seen enough; what is left to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        raise Mistake(f"cannot write {file}: {error.strerror or error}") from error


@contextmanager
def _whole(file: Path) -> Iterator[BinaryIO]:
    if file == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    beside = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        # Requests of people: for whoever exports them alone.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _json_lines(stream: BinaryIO, records: Iterable[Record]) -> int:
    count = 0
    for each in records:
        stream.write(json.dumps(each, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        count += 1
    return count


def check_parquet() -> None:
    """Raise Mistake unless Parquet can be written."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: F401, PLC0415  an extra without types
    except ImportError as error:
        raise Mistake("Parquet files need pyarrow: install multishadow[parquet]") from error


def _parquet(stream: BinaryIO, records: Iterable[Record]) -> int:
    import pyarrow as pa  # noqa: PLC0415  an extra that everything else does without
    from pyarrow import parquet  # noqa: PLC0415

    types = {
        "string": pa.string(),
        "json": pa.string(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    count = 0
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for rows in _groups(map(_flat, records)):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _flat(row: Record) -> Record:
    """As the schema has it: JSON as text, and points in time as such."""
    flat = dict(row)
    for name, kind in COLUMNS.items():
        value = row[name]
        if kind == "json" and value is not None:
            flat[name] = json.dumps(value, ensure_ascii=False, allow_nan=False)
        elif kind == "timestamp" and value is not None:
            flat[name] = datetime.fromisoformat(value)
    return flat


def _groups(rows: Iterable[Record]) -> Iterator[list[Record]]:
    """Row groups: so many rows at most, or so many characters."""
    group: list[Record] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(group) >= ROWS_AT_ONCE or size >= CHARACTERS_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group
