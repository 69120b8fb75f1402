"""Answers of control as data frames: their columns, their types, and what happens without pandas."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pandas as pd  # type: ignore[import-untyped]  # it ships no types
import pytest
from test_cli_divergences import stored

import control_fixtures as reports
from control_fixtures import NOON, CannedControl, at
from multishadow.v1 import control_pb2, sessions_pb2
from multishadow.v1 import export_pb2 as pb
from multishadow_client import AsyncControlClient, ControlClient, NotFound, _frames

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def control() -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["Compare"] = reports.decided()
        canned.answers["ListSegments"] = control_pb2.ListSegmentsResponse(
            version="A",
            segments=[
                control_pb2.Segment(
                    feature="attributes.country",
                    level="NO",
                    n=100,
                    diverged=7,
                    rate=control_pb2.Interval(estimate=0.07, lower=0.01, upper=0.2),
                    alert=True,
                )
            ],
        )
        canned.answers["ListSessions"] = sessions_pb2.ListSessionsResponse(
            model="spam",
            sessions=[
                sessions_pb2.SessionLine(
                    session_id="s-1", began_at=at(NOON), last_at=at(NOON + 9), turns=3, bad_turns=1,
                    bad_by_version={"A": 1}, first_bad={"A": 2},
                )
            ],
        )  # fmt: skip
        pages = {
            "": pb.ListAnswersResponse(answers=[stored(number=1)] * 2, next_cursor="abc"),
            "abc": pb.ListAnswersResponse(answers=[stored(number=2, verdict=control_pb2.REVIEW_VERDICT_BOTH_FINE)]),
        }
        canned.answers["ListAnswers"] = lambda request: pages[request.cursor]
        yield canned


def types_of(frame: Any) -> dict[str, str]:
    return {name: str(kind) for name, kind in frame.dtypes.items()}


def test_a_report_is_a_row_for_each_candidate(control: CannedControl) -> None:
    with ControlClient(control.address) as client:
        frame = client.compare_frame("A", "B", model="spam")
    assert list(control.asked(control_pb2.CompareRequest)[0].candidates) == ["A", "B"]
    assert types_of(frame) == dict(_frames.COMPARE)
    assert list(frame["version"]) == ["C", "A", "B"]
    a = frame.set_index("version").loc["A"]
    assert (a["winner"], a["rank_best"], a["n"]) == (True, 1, 12_345)
    assert a["divergence_lower"] < a["divergence"] < a["divergence_upper"]
    assert a["read_at"] == pd.Timestamp(NOON, unit="s", tz="UTC")
    assert frame["divergence"].mean() > 0


def test_segments_and_sessions_are_frames_too(control: CannedControl) -> None:
    with ControlClient(control.address) as client:
        segments, sessions = client.segments_frame("A"), client.sessions_frame(version="A", most=5)
    assert types_of(segments) == dict(_frames.SEGMENTS)
    (segment,) = segments.to_dict("records")
    assert (segment["feature"], segment["level"], segment["rate_upper"]) == ("attributes.country", "NO", 0.2)
    assert pd.isna(segment["rest_rate"])
    assert types_of(sessions) == dict(_frames.SESSIONS)
    (session,) = sessions.to_dict("records")
    assert (session["bad_by_version"], session["last_at"] - session["began_at"]) == ({"A": 1}, pd.Timedelta("9s"))


def test_divergences_come_by_pages_into_one_frame(control: CannedControl) -> None:
    with ControlClient(control.address) as client:
        since = datetime(2026, 11, 23)  # noqa: DTZ001  without a zone, as people write it
        frame = client.divergences_frame(
            where={"country": "NO"}, similarity=(None, 0.5), since=since, order="similarity", reviewed=False
        )
        assert len(client.divergences_frame(most=2)) == 2
    first, second, few = control.asked(pb.ListAnswersRequest)
    assert (first.order, second.cursor, few.page_size) == (pb.ANSWER_ORDER_SIMILARITY, "abc", 2)
    which = first.filter
    assert (dict(which.attributes), which.most_similarity, which.HasField("reviewed")) == ({"country": "NO"}, 0.5, True)
    assert which.since.ToDatetime(UTC) == datetime(2026, 11, 23, tzinfo=UTC)
    assert types_of(frame) == dict(_frames.ANSWERS)
    assert list(frame["comparison_id"]) == [1, 1, 2]
    assert list(frame["verdict"])[2] == "both-fine"
    assert frame["verdict"].isna().sum() == 2
    assert frame["attributes"][0] == {"country": "NO"}
    assert frame["received_at"].dt.hour.tolist() == [12, 12, 12]


def test_an_order_that_is_none_is_refused(control: CannedControl) -> None:
    with ControlClient(control.address) as client, pytest.raises(ValueError, match="order: 'size' is none"):
        client.divergences_frame(order="size")


def test_nothing_is_a_frame_with_the_same_types(control: CannedControl) -> None:
    control.answers["ListAnswers"] = pb.ListAnswersResponse()
    with ControlClient(control.address) as client:
        frame = client.divergences_frame()
    assert (len(frame), types_of(frame)) == (0, dict(_frames.ANSWERS))


async def test_the_same_with_asyncio(control: CannedControl) -> None:
    async with AsyncControlClient(control.address) as client:
        assert types_of(await client.compare_frame()) == dict(_frames.COMPARE)
        assert len(await client.segments_frame("A")) == 1
        assert len(await client.sessions_frame()) == 1
        assert list((await client.divergences_frame())["comparison_id"]) == [1, 1, 2]
        assert len(await client.divergences_frame(most=2)) == 2
        control.answers["Compare"] = grpc.StatusCode.NOT_FOUND, "there is no model 'spam'"
        with pytest.raises(NotFound, match="there is no model 'spam'"):
            await client.compare_frame(model="spam")


def test_without_pandas_it_is_said_what_to_install(control: CannedControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with ControlClient(control.address) as client:
        for ask in (client.compare_frame, client.segments_frame, client.sessions_frame, client.divergences_frame):
            with pytest.raises(ImportError, match=r"install multishadow\[pandas\]"):
                ask()
    assert not control.requests, "nothing was asked for what could not be shown"


def test_the_program_of_the_page_on_notebooks_runs(control: CannedControl, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "notebooks.md").read_text(), flags=re.DOTALL)
    exec(program.replace("127.0.0.1:50052", control.address), {})
    shown = capsys.readouterr().out
    assert "< 1 % safe" in shown
    assert "NO    2" in shown
    assert "2026-11-23 12:00:00+00:00    3" in shown
