"""`shadowctl divergences`: what it asks, shows, writes, and ends with."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_cli_commands import Shadowctl, shadowctl

import control_fixtures as reports
from control_fixtures import NOON, CannedControl, at, models
from multishadow.v1 import control_pb2, prediction_pb2
from multishadow.v1 import export_pb2 as pb
from multishadow_client import Unavailable
from multishadow_client.cli import export_command, export_file

__all__ = ["shadowctl"]  # a fixture


def stored(version: str = "A", *, number: int = 1, live: str = "on friday", own: str = "on monday", **more: Any) -> Any:
    values: dict[str, Any] = {
        "comparison_id": number,
        "model": "spam",
        "experiment_id": 7,
        "epoch": 2,
        "request_id": f"r-{number}",
        "received_at": at(NOON),
        "payloads": "full",
        "protocol": "multishadow",
        "live_version": "base",
        "live_latency_ms": 12.5,
        "version": version,
        "outcome": "diverged",
        "similarity": 0.25,
        "latency_ms": 20.0,
        "request": prediction_pb2.PredictRequest(model="spam", text="when?").SerializeToString(),
        "live_response": prediction_pb2.PredictResponse(text=live).SerializeToString(),
        "response": prediction_pb2.PredictResponse(text=own).SerializeToString(),
    }
    answer = pb.StoredAnswer(**(values | {name: value for name, value in more.items() if name != "attributes"}))
    answer.attributes.update(more.get("attributes", {"country": "NO"}))
    return answer


class Typed(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["ListModels"] = models(spam=["base", "A"])
        canned.answers["ListAnswers"] = pb.ListAnswersResponse(answers=[stored()], next_cursor="abc")
        canned.answers["GetAnswers"] = pb.GetAnswersResponse(answers=[stored()])
        canned.answers["RecordReview"] = control_pb2.RecordReviewResponse(model="spam", version="A")
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "140")
        yield canned


def test_a_list_is_filtered_sorted_and_says_how_to_go_on(control: CannedControl, shadowctl: Shadowctl) -> None:
    options = "--version A --where country=NO -w user.plan=pro --similarity-to 0.5 --reviewed no --sort latency"
    listed = shadowctl("divergences", "list", *options.split(), "--since", "2h", "--most", "5")
    assert listed.code == 0, listed.err
    assert "0.2500" in listed.out
    assert "--after abc" in listed.err
    (asked,) = control.asked(pb.ListAnswersRequest)
    which = asked.filter
    assert (which.model, which.version, list(which.outcomes)) == ("spam", "A", ["diverged"])
    assert dict(which.attributes) == {"country": "NO", "user.plan": "pro"}
    assert (which.most_similarity, which.HasField("least_similarity"), which.reviewed) == (0.5, False, False)
    assert which.HasField("since")
    assert (asked.order, asked.page_size) == (pb.ANSWER_ORDER_LATENCY, 5)
    shadowctl("divergences", "list", "--outcome", "all")
    assert list(control.asked(pb.ListAnswersRequest)[-1].filter.outcomes) == []
    assert shadowctl("divergences", "list", "--where", "country").code == 2


def test_texts_are_shown_side_by_side_with_the_words_that_differ(control: CannedControl, shadowctl: Shadowctl) -> None:
    shown = shadowctl("divergences", "show", "1")
    assert "on [-friday-]" in shown.out
    assert "on {+monday+}" in shown.out
    assert "20.0 ms, live 12.5 ms" in shown.out
    assert '"country": "NO"' in shown.out
    document = json.loads(shadowctl("divergences", "show", "1", "-o", "json").out)
    assert document["answers"][0]["response"] == {"text": "on monday"}
    assert shadowctl("divergences", "show", "1", "C").code == 2


def answer_of(**output: Any) -> bytes:
    message = prediction_pb2.PredictResponse()
    if "structured" in output:
        message.structured.update(output["structured"])
        return message.SerializeToString()
    return prediction_pb2.PredictResponse(**output).SerializeToString()


@pytest.mark.parametrize(
    ("live", "own", "words"),
    [
        (
            {"classification": prediction_pb2.Classification(label="ham", probabilities={"ham": 0.75, "spam": 0.25})},
            {"classification": prediction_pb2.Classification(label="spam", probabilities={"ham": 0.5, "spam": 0.5})},
            ["ham  ← live", "0.7500", "−0.2500", "spam  ← A", "+0.2500"],
        ),
        ({"structured": {"a": 1, "b": 2}}, {"structured": {"a": 1, "b": 3}}, ["b", "2", "3", "1 fields are equal"]),
        (
            {"embedding": prediction_pb2.Embedding(values=[1, 0])},
            {"embedding": prediction_pb2.Embedding(values=[0, 1])},
            ["cosine 0.000000 in 2 dimensions"],
        ),
        ({"scalar": 1.5}, {"scalar": 2.5}, ["1.5", "2.5"]),
        ({"scalar": 1.5}, {"text": "odd"}, ["1.5", "odd"]),
        ({"structured": {"a": math.nan}}, {"text": "odd"}, ["unreadable", "odd"]),
    ],
)
def test_every_kind_of_answer_is_shown_by_what_differs(
    control: CannedControl, shadowctl: Shadowctl, live: Any, own: Any, words: list[str]
) -> None:
    found = stored(live_response=answer_of(**live), response=answer_of(**own))
    control.answers["GetAnswers"] = pb.GetAnswersResponse(answers=[found])
    shown = shadowctl("divergences", "show", "1")
    assert shown.code == 0, shown.err
    assert not [word for word in words if word not in shown.out], shown.out


def test_one_verdict_is_recorded(control: CannedControl, shadowctl: Shadowctl) -> None:
    said = shadowctl("divergences", "review", "4711", "A", "live-better")
    assert said.out == "spam: live better, for A in comparison 4711\n"
    (asked,) = control.asked(control_pb2.RecordReviewRequest)
    assert (asked.comparison_id, asked.verdict) == (4711, control_pb2.REVIEW_VERDICT_LIVE_BETTER)
    assert shadowctl("divergences", "review", "4711").code == 2
    assert shadowctl("divergences", "review").code == 2, "nobody is there to be asked"


def test_answers_are_reviewed_one_by_one(
    control: CannedControl, shadowctl: Shadowctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {
        "": pb.ListAnswersResponse(answers=[stored(number=1), stored(number=2)], next_cursor="abc"),
        "abc": pb.ListAnswersResponse(answers=[stored(number=3), stored(number=4)]),
    }
    control.answers["ListAnswers"] = lambda request: pages[request.cursor]
    control.answers["GetAnswers"] = lambda request: pb.GetAnswersResponse(
        answers=[stored("B", number=request.comparison_id), stored(number=request.comparison_id)]
    )
    monkeypatch.setattr("sys.stdin", Typed("what?\nl\ns\nc\nq\n"))
    done = shadowctl("divergences", "review", "--where", "country=NO")
    assert done.out.endswith("2 reviewed\n"), done.out
    said = [(each.comparison_id, each.version, each.verdict) for each in control.asked(control_pb2.RecordReviewRequest)]
    assert said == [
        (1, "A", control_pb2.REVIEW_VERDICT_LIVE_BETTER),
        (3, "A", control_pb2.REVIEW_VERDICT_CANDIDATE_BETTER),
    ]
    assert all(not request.filter.reviewed for request in control.asked(pb.ListAnswersRequest))
    monkeypatch.setattr("sys.stdin", Typed(""))
    assert "0 reviewed" in shadowctl("divergences", "review").out, "the end of what is typed means to quit"


class Streams:
    """A control whose exports come as a test says; an Unavailable ends a stream where it stands."""

    def __init__(self, *streams: list[Any]) -> None:
        self.streams = list(streams)
        self.requests: list[pb.ExportRequest] = []

    def export(self, request: pb.ExportRequest) -> Iterator[pb.ExportResponse]:
        self.requests.append(request)
        for each in self.streams.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each


def streamed(*numbers: int, end: bool = True) -> list[Any]:
    answers = [pb.ExportResponse(answer=stored(number=number), cursor=f"after {number}") for number in numbers]
    return [*answers, pb.ExportResponse(cursor=f"after {numbers[-1]}")] if end else answers


def test_an_export_goes_on_where_it_was_when_control_comes_back() -> None:
    away = Unavailable("control is away")
    control: Any = Streams([*streamed(1, 2, end=False), away], [away], streamed(3))
    waits: list[float] = []
    reading = export_command.Reading()
    found = export_command.read(control, pb.AnswerFilter(), reading, pause=waits.append)
    assert [answer.comparison_id for answer in found] == [1, 2, 3]
    assert [request.cursor for request in control.requests] == ["", "after 2", "after 2"]
    assert waits == [0.5, 1.0]
    assert (reading.count, reading.cursor) == (3, "after 3")


def test_an_export_ends_when_control_stays_away() -> None:
    control: Any = Streams(*[[Unavailable("control is away")]] * 6)
    with pytest.raises(Unavailable):
        list(export_command.read(control, pb.AnswerFilter(), export_command.Reading(), pause=lambda _: None))
    assert len(control.requests) == 1 + len(export_command.PAUSES)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text("the former one\n")

    def broken() -> Iterator[dict[str, Any]]:
        yield export_file.record(stored())
        raise Unavailable("control is away")

    with pytest.raises(Unavailable):
        export_file.write(file, export_file.FileFormat.JSONL, broken())
    assert file.read_text() == "the former one\n"
    assert list(tmp_path.iterdir()) == [file]
    assert export_file.write(file, export_file.FileFormat.JSONL, [export_file.record(stored())]) == 1
    line = json.loads(file.read_text())
    assert list(line) == list(export_file.COLUMNS)
    assert (line["request"]["text"], line["response"], line["received_at"]) == (
        "when?",
        {"text": "on monday"},
        "2026-11-23T12:00:00Z",
    )
    assert (line["verdict"], line["label"], line["attributes"]) == (None, None, {"country": "NO"})
    assert file.stat().st_mode & 0o077 == 0, "requests of people are for whoever exported them alone"


def test_parquet_has_a_schema_with_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet, types  # type: ignore[import-untyped]  # noqa: PLC0415

    monkeypatch.setattr(export_file, "ROWS_AT_ONCE", 2)
    file = tmp_path / "out.parquet"
    answers = [stored(number=number, verdict=control_pb2.REVIEW_VERDICT_BOTH_FINE) for number in range(4)]
    failed = stored(number=4, response=b"")
    failed.ClearField("similarity")
    failed.ClearField("latency_ms")
    records = map(export_file.record, [*answers, failed])
    assert export_file.write(file, export_file.FileFormat.PARQUET, records) == 5
    with parquet.ParquetFile(file) as written:
        assert written.num_row_groups == 3
        table = written.read()
    assert table.schema.names == list(export_file.COLUMNS)
    assert types.is_timestamp(table.schema.field("received_at").type)
    assert table.schema.field("received_at").type.tz == "UTC"
    assert types.is_float64(table.schema.field("similarity").type)
    rows = table.to_pylist()
    assert rows[0]["received_at"] == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert json.loads(rows[0]["response"]) == {"text": "on monday"}
    assert json.loads(rows[0]["attributes"]) == {"country": "NO"}
    assert rows[0]["verdict"] == "both-fine"
    assert (rows[4]["similarity"], rows[4]["latency_ms"], rows[4]["response"]) == (None, None, None)


CANDIDATE, LIVE, WRONG = (
    control_pb2.REVIEW_VERDICT_CANDIDATE_BETTER,
    control_pb2.REVIEW_VERDICT_LIVE_BETTER,
    control_pb2.REVIEW_VERDICT_BOTH_WRONG,
)


def labelled(answer: Any, value: Any) -> Any:
    if isinstance(value, str):
        answer.label.string_value = value
    else:
        answer.label.struct_value.update(value)
    return answer


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        ([stored()], "on friday"),
        ([stored(verdict=LIVE)], "on friday"),
        ([stored(verdict=CANDIDATE)], "on monday"),
        ([stored("B", own="never", verdict=LIVE), stored(verdict=CANDIDATE)], "on monday"),
        ([stored(verdict=WRONG)], None),
        ([labelled(stored(verdict=WRONG), "on sunday")], "on sunday"),
        ([labelled(stored(), {"day": "sunday"})], '{"day": "sunday"}'),
        ([stored(live_status_code=14)], None),
        ([stored(payloads="none", request=b"", live_response=b"")], None),
        ([stored(payloads="hashed", request=b"hmac-sha256:" + b"0" * 64)], None),
    ],
)
def test_a_conversation_ends_with_the_answer_that_is_known_to_be_right(answers: list[Any], right: str | None) -> None:
    left_out: list[int] = []
    found = list(export_file.chat(answers, lambda: left_out.append(1)))
    expected = [{"role": "user", "content": "when?"}, {"role": "assistant", "content": right}]
    assert found == ([{"messages": expected}] if right is not None else [])
    assert len(left_out) == (right is None)


def test_what_was_asked_as_a_conversation_stays_one() -> None:
    asked = prediction_pb2.PredictRequest(model="spam")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "when?"}]
    asked.structured.update({"messages": turns, "temperature": 0.5})
    (found,) = export_file.chat([stored(request=asked.SerializeToString())])
    assert found["messages"] == [*turns, {"role": "assistant", "content": "on friday"}]


def test_what_cannot_be_written_is_said_before_anything_is_asked(
    control: CannedControl, shadowctl: Shadowctl, tmp_path: Path
) -> None:
    for arguments in (
        ("-o", "-", "--format", "parquet"),
        ("-o", str(tmp_path / "x.parquet"), "--chat"),
        ("-o", str(tmp_path / "nowhere" / "x.jsonl")),
        (),
    ):
        assert shadowctl("divergences", "export", *arguments).code == 2
    assert not control.requests


def test_the_old_names_go_on_working_and_the_new_ones_are_taught(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListComparisons"] = control_pb2.ListComparisonsResponse()
    assert shadowctl("review", "list").code == 0
    taught = shadowctl("--help").out
    assert "divergences" in taught
    assert "│ review" not in taught


def test_the_documentation_names_every_column() -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    assert not [name for name in export_file.COLUMNS if f"`{name}`" not in page]
