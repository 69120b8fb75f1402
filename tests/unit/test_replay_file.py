"""Files of logged sessions: what is understood, and what is refused by line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from multishadow.v1 import prediction_pb2
from multishadow_client import _prediction_json
from multishadow_client._prediction_json import Malformed
from multishadow_client.cli import replay_file
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.replay_file import Row

FULL: dict[str, Any] = {
    "request_id": "r-1",
    "session_id": "s-1",
    "at": "2026-11-23T12:00:00.250Z",
    "attributes": {"country": "NO"},
    "input": {"text": "You have won"},
    "response": {"classification": "spam"},
    "latency_ms": 12.5,
}


def rows(file: Path, *, need_at: bool = False) -> list[Row]:
    return list(replay_file.read(file, need_at=need_at))


def lines(tmp_path: Path, *records: object) -> Path:
    file = tmp_path / "sessions.jsonl"
    file.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in records))
    return file


def test_a_whole_line_is_the_request_with_its_answer_and_its_time(tmp_path: Path) -> None:
    (row,) = rows(lines(tmp_path, FULL))
    assert row.request is not None
    request = prediction_pb2.PredictRequest.FromString(row.request.request)
    assert (request.request_id, request.session_id, request.text) == ("r-1", "s-1", "You have won")
    assert request.attributes["country"] == "NO"
    answer = prediction_pb2.PredictResponse.FromString(row.request.response)
    assert answer.classification.label == "spam"
    assert row.request.at.ToJsonString() == "2026-11-23T12:00:00.250Z"
    assert row.request.latency_ms == 12.5


def test_only_the_input_is_needed_and_a_request_gets_an_id_by_its_line(tmp_path: Path) -> None:
    first, second = rows(lines(tmp_path, {"input": {"tensor": [[1, 2]]}}, "", {"input": {"raw": "AAEC"}, "at": 7.5}))
    assert (first.request_id, second.request_id) == ("replay-1", "replay-3")
    assert second.request is not None
    assert second.request.at.ToNanoseconds() == 7_500_000_000
    assert not second.request.response


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "this is no JSON"),
        ("[1]", "an object must stand here"),
        ({"text": "hello"}, "there is no field 'text'; allowed are request_id"),
        ({"request_id": "r"}, "`input` is missing"),
        ({"input": {"txt": "x"}}, "a request has no 'txt'"),
        ({"input": {"text": "x", "raw": ""}}, "exactly one of"),
        ({"input": {"text": 3}}, "text must be a text, got 3"),
        ({"input": {"raw": "not base64!"}}, "raw must be base64"),
        ({"input": {"tensor": [[1], [1, 2]]}}, "rows differ in length"),
        ({"input": {"text": "x"}, "response": {"label": "spam"}}, "an answer has no 'label'"),
        ({"input": {"text": "x"}, "response": {"scalar": True}}, "scalar must be a number"),
        ('{"input": {"text": "\\ud800"}}', "surrogates not allowed"),
        ('{"input": {"text": "x"}, "response": {"text": "\\ud800"}}', "text: "),
        ({"input": {"text": "x"}, "at": "yesterday"}, "is no time"),
        ({"input": {"text": "x"}, "at": 1_795_435_200_000}, "at must be a time (RFC 3339) or seconds since 1970"),
        ({"input": {"text": "x"}, "session_id": 5}, "session_id must be a text, got 5"),
        ({"input": {"text": "x"}, "attributes": []}, "attributes must be an object"),
        ({"input": {"text": "x"}, "latency_ms": -1}, "latency_ms must be a number from 0"),
    ],
)
def test_a_bad_line_says_where_and_what_is_wrong_and_the_others_stay_good(
    tmp_path: Path, line: object, said: str
) -> None:
    file = lines(tmp_path, FULL, line, FULL)
    good, bad, also_good = rows(file)
    assert (good.problem, also_good.problem) == ("", "")
    assert bad.where == f"{file}:2"
    assert said in bad.problem
    assert bad.request is None


def test_where_arrivals_are_kept_a_line_without_a_time_is_bad(tmp_path: Path) -> None:
    file = lines(tmp_path, {"input": {"text": "x"}})
    assert "`at` is missing" in rows(file, need_at=True)[0].problem
    assert not rows(file)[0].problem


def test_a_file_of_another_kind_or_none_at_all_is_refused(tmp_path: Path) -> None:
    for file, said in (
        (tmp_path / "sessions.csv", "logged sessions come as .jsonl, .ndjson, .parquet"),
        (tmp_path / "missing.jsonl", "cannot read"),
    ):
        with pytest.raises(Mistake, match=said):
            rows(file)
    (tmp_path / "latin.jsonl").write_bytes(b'{"input": {"text": "\xe6"}}')
    with pytest.raises(Mistake, match="not UTF-8"):
        rows(tmp_path / "latin.jsonl")


def test_parquet_holds_the_same_in_columns_as_text_or_structs(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_pylist(
        [
            {"request_id": "r-1", "at": datetime(2026, 11, 23, 12, tzinfo=UTC), "input": '{"text": "hello"}'},
            {"request_id": "r-2", "at": None, "input": "{"},
        ]
    )
    parquet.write_table(table, tmp_path / "text.parquet")
    good, bad = rows(tmp_path / "text.parquet")
    assert good.request is not None
    assert good.request.at.ToJsonString() == "2026-11-23T12:00:00Z"
    assert bad.where.endswith("text.parquet:2")
    assert "input is no JSON" in bad.problem
    structs = pyarrow.Table.from_pylist(
        [
            {"input": {"text": "hello", "raw": None}, "response": {"scalar": 0.5}},
            {"input": {"text": None, "raw": "AAEC"}},
        ]
    )
    parquet.write_table(structs, tmp_path / "structs.parquet")
    assert [row.problem for row in rows(tmp_path / "structs.parquet")] == ["", ""]


def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "broken.parquet").write_bytes(b"PAR0")
    with pytest.raises(Mistake, match="this is no Parquet file"):
        rows(tmp_path / "broken.parquet")


@pytest.mark.parametrize(
    "value",
    [
        {"classification": {"label": "spam", "confidence": 0.5, "probabilities": {"ham": 0.5, "spam": 0.5}}},
        {"text": "a"},
        {"structured": {"a": [1.0, None, {"b": True}]}},
        {"scalar": 2.0},
        {"embedding": [0.5, -1.0]},
        {"raw": "AAEC"},
    ],
)
def test_every_kind_of_answer_comes_back_as_it_was_written(value: dict[str, Any]) -> None:
    assert _prediction_json.plain(_prediction_json.answer_of(value)) == value


def test_numbers_that_json_has_not_are_written_as_words() -> None:
    answer = prediction_pb2.PredictResponse(scalar=float("nan"))
    assert _prediction_json.plain(answer) == {"scalar": "nan"}
    assert _prediction_json.plain(prediction_pb2.PredictResponse()) is None


def test_a_value_that_is_no_answer_is_refused() -> None:
    with pytest.raises(Malformed, match="an answer is an object with one of"):
        _prediction_json.answer_of("spam")
