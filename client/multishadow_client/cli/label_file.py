"""Files of labels: CSV, JSON lines, Parquet, by their suffix. Each row has a request id and a label.

Rows are read one at a time, so a file may be larger than memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from multishadow_client.cli.exit_code import Mistake


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What the columns (or keys) are called."""

    request_id: str = "request_id"
    label: str = "label"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row: `where` is file:line; `problem` says why it cannot be used, and is empty when it can."""

    where: str
    request_id: str = ""
    value: Any = None
    problem: str = ""


def read(file: Path, columns: Columns) -> Iterator[Row]:
    """Every row of a file, bad ones among them.

    Raises:
        Mistake: the file cannot be read at all, or has not these columns.
    """
    readers = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise Mistake(f"{file}: labels come as {', '.join(readers)}; its suffix says which")
    try:
        yield from reader(file, columns)
    except OSError as error:
        raise Mistake(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{file}: not UTF-8 text at byte {error.start}") from error


def _csv(file: Path, columns: Columns) -> Iterator[Row]:
    with _opened(file) as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            _check_columns(file, reader.fieldnames or (), columns)
            for record in reader:
                where = f"{file}:{reader.line_num}"
                if None in record:
                    yield Row(where=where, problem="more fields than the heading names")
                else:
                    # An empty field is no label: CSV cannot tell a missing text from an empty one.
                    yield _row(where, {key: value or None for key, value in record.items()}, columns)
        except csv.Error as error:
            raise Mistake(f"{file}:{reader.line_num}: this is no CSV: {error}") from error


def _json_lines(file: Path, columns: Columns) -> Iterator[Row]:
    with _opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _json_row(f"{file}:{number}", line, columns)


def _json_row(where: str, line: str, columns: Columns) -> Row:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return Row(where=where, problem=f"this is no JSON: {error.msg} at column {error.colno}")
    if not isinstance(record, dict):
        return Row(
            where=where, problem=f'an object must stand here: {{"{columns.request_id}": …, "{columns.label}": …}}'
        )
    return _row(where, record, columns)


def _parquet(file: Path, columns: Columns) -> Iterator[Row]:
    try:
        # An extra that everything else does without; it ships no types.
        from pyarrow import lib, parquet  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise Mistake("Parquet files need pyarrow: install multishadow[parquet]") from error
    try:
        with parquet.ParquetFile(file) as table:
            _check_columns(file, table.schema_arrow.names, columns)
            number = 0
            for batch in table.iter_batches(columns=[columns.request_id, columns.label]):
                for record in batch.to_pylist():
                    number += 1
                    yield _row(f"{file}:{number}", record, columns)
    except lib.ArrowException as error:
        raise Mistake(f"{file}: this is no Parquet file: {error}") from error


def _opened(file: Path) -> TextIO:
    # Files from spreadsheets begin with a byte order mark.
    return file.open(encoding="utf-8-sig", newline="")


def _check_columns(file: Path, names: Any, columns: Columns) -> None:  # noqa: ANN401  -- of a library without types
    missing = [name for name in (columns.request_id, columns.label) if name not in names]
    if missing:
        raise Mistake(
            f"{file}: there is no column {' and no '.join(map(repr, missing))}; it has {', '.join(names) or 'none'}. "
            "Name them with --id-column and --label-column"
        )


def _row(where: str, record: Mapping[str, Any], columns: Columns) -> Row:
    request_id, value = record.get(columns.request_id), record.get(columns.label)
    if not isinstance(request_id, str) or not request_id:
        return Row(where=where, problem=f"{columns.request_id} must be a text, got {request_id!r}")
    if value is None:
        return Row(where=where, problem=f"{columns.label} is missing")
    if not isinstance(value, str | int | float | dict):
        return Row(where=where, problem=f"{columns.label} must be a text, a number or an object, got {value!r:.80}")
    return Row(where=where, request_id=request_id, value=value)
