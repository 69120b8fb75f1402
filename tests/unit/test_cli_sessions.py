"""What `shadowctl` shows of sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from test_cli_commands import Shadowctl

import control_fixtures as reports
from control_fixtures import CannedControl, at, models
from multishadow.v1 import control_pb2, prediction_pb2, sessions_pb2
from multishadow_client import cli
from multishadow_client.cli import comparison_view, manifest, sessions_view
from multishadow_client.cli.exit_code import Mistake

NOON = reports.NOON


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["ListModels"] = models(spam=["base", "A", "B"])
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("COLUMNS", "80")
        yield canned


@pytest.fixture
def shadowctl(capsys: pytest.CaptureFixture[str]) -> Shadowctl:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run  # type: ignore[return-value]  # as much of a Result as is read here


def rendered(shown: RenderableType, *, width: int = 80) -> str:
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    text = capture.get()
    assert all(len(line) <= width for line in text.splitlines())
    return text


def by_turn(*bad: int, n: int = 100) -> list[sessions_pb2.TurnCounts]:
    return [
        sessions_pb2.TurnCounts(turn=turn, n=n, bad=each, first=each // 2) for turn, each in enumerate(bad, start=1)
    ]


def a_report(**fields: object) -> control_pb2.CompareResponse:
    response = reports.undecided()
    response.unit = "session"
    a = sessions_pb2.CandidateSessions(
        version="A",
        whole=90,
        diverged=9,
        cut={"went_on": 8, "began_before": 2},
        by_turn=by_turn(1, 4, 30),
        before=800,
        before_bad=8,
        after=50,
        after_bad=40,
    )
    b = sessions_pb2.CandidateSessions(version="B", whole=0, cut={"gap": 1})
    response.sessions.CopyFrom(
        sessions_pb2.SessionReport(ended=100, turns=730, without_id=12, candidates=[a, b], **fields)  # type: ignore[arg-type]  # fields by name
    )
    return response


def test_a_report_by_session_says_so_and_shows_sessions_and_turns() -> None:
    text = rendered(comparison_view.render(a_report()))
    assert "ranking unit: session; counts are of requests" in text
    assert "Sessions  100 ended, 7.3 turns each; 12 requests without a session" in text
    assert "More sessions to decide a pair" in text
    assert "More sessions to confirm a band" in text
    (row,) = [line for line in text.splitlines() if line.startswith("A") and "9 (10" in line]
    assert row.split()[:9] == ["A", "90", "9", "(10.00", "%)", "10", "1.00", "%", "80.00"]
    assert "may have gone on 8, may have begun earlier 2" in " ".join(text.split())
    (third,) = [line.split() for line in text.splitlines() if line.lstrip().startswith("3 ") and "▸" in line]
    assert third[:5] == ["3", "100", "30.00", "%", "▸15"]


def test_a_candidate_whose_sessions_have_not_ended_has_no_rate_though_answers_were_compared() -> None:
    response = a_report()
    response.candidates[0].ClearField("divergence")
    text = rendered(comparison_view.render(response))
    (row,) = [line for line in text.splitlines() if "412" in line]
    assert row.rstrip().endswith("unknown: no session ended")


def test_a_report_by_request_of_a_model_with_sessions_shows_them_too() -> None:
    response = a_report()
    response.unit = "request"
    text = rendered(comparison_view.render(response))
    assert "ranking unit" not in text
    assert "Sessions  100 ended" in text


def test_many_turns_are_drawn_together_and_counted_all() -> None:
    response = a_report()
    del response.sessions.candidates[1:]
    own = response.sessions.candidates[0].by_turn
    del own[:]
    own.extend([*by_turn(*[1] * 20, n=10), sessions_pb2.TurnCounts(turn=0, n=5, bad=3, first=1)])
    text = rendered(comparison_view.render(response))
    (last,) = [line.split() for line in text.splitlines() if line.lstrip().startswith("13+ ")]
    assert last[1:4] == ["85", "12.94", "%"]


def listed() -> sessions_pb2.ListSessionsResponse:
    line = sessions_pb2.SessionLine(
        session_id="user-17-" + "x" * 60,
        last_at=at(NOON),
        turns=6,
        bad_turns=2,
        bad_by_version={"A": 2, "B": 1},
        first_bad={"A": 3, "B": 5},
    )
    return sessions_pb2.ListSessionsResponse(model="spam", sessions=[line])


def test_sessions_are_listed_when_nothing_else_is_asked_for(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListSessions"] = listed()
    code, out, err = shadowctl("sessions", "--of", "A", "--most", "5")
    assert (code, err) == (0, "")
    assert "A: 2, from turn 3 on" in out
    assert "B: 1, from turn 5 on" in out
    (request,) = control.asked(sessions_pb2.ListSessionsRequest)
    assert request == sessions_pb2.ListSessionsRequest(model="spam", version="A", most=5)
    control.answers["ListSessions"] = sessions_pb2.ListSessionsResponse()
    assert "no stored session" in shadowctl("sessions")[1]


def shown() -> sessions_pb2.GetSessionResponse:
    def said(label: str) -> bytes:
        return prediction_pb2.PredictResponse(text=label).SerializeToString()

    def turn(number: int, *answers: tuple[str, str, str]) -> sessions_pb2.StoredTurn:
        return sessions_pb2.StoredTurn(
            turn=number,
            comparison_id=number,
            request_id=f"r-{number}",
            received_at=at(NOON + number),
            request=prediction_pb2.PredictRequest(model="spam", text=f"question {number}").SerializeToString(),
            live_response=said("yes"),
            answers=[
                sessions_pb2.TurnAnswer(version=name, outcome=outcome, response=said(text) if text else b"", detail="?")
                for name, outcome, text in answers
            ],
        )

    return sessions_pb2.GetSessionResponse(
        model="spam",
        session_id="s",
        live_version="base",
        candidates=["A", "B"],
        numbered=True,
        turns=[
            turn(1, ("A", "ok", "yes")),
            turn(4, ("A", "diverged", "no, and " + "at length " * 20), ("B", "timeout", "")),
        ],
    )


def test_a_session_is_shown_turn_by_turn_and_says_what_is_not_stored(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    text = rendered(sessions_view.turns(shown(), ""))
    plain = " ".join(text.split())
    assert "spam: session s, 2 stored turns as the caller numbers them, against live base" in plain
    assert "turns 2 to 3 are not stored" in text
    assert text.index("question 1") < text.index("turns 2 to 3") < text.index("question 4") < text.index("timeout")
    assert "timeout" not in rendered(sessions_view.turns(shown(), "A"))

    control.answers["GetSession"] = shown()
    code, out, _ = shadowctl("sessions", "show", "s", "-o", "json")
    document = json.loads(out)
    assert code == 0
    assert document["turns"][1]["request"]["text"] == "question 4"
    assert [each["response"] and each["response"]["text"][:2] for each in document["turns"][1]["answers"]] == [
        "no",
        None,
    ]


def test_compare_is_asked_by_unit(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["Compare"] = a_report()
    shadowctl("compare", "--by", "session", "-o", "json")
    shadowctl("compare", "-o", "json")
    assert [request.unit for request in control.asked(control_pb2.CompareRequest)] == ["session", ""]
    assert shadowctl("compare", "--by", "turn")[0] == 2


def applied(tmp_path: Path, sessions: str) -> control_pb2.SessionTerms:
    file = tmp_path / "model.yaml"
    file.write_text(f"model: chat\nsessions: {sessions}\n")
    (document,) = manifest.read(file)
    assert document.request.HasField("sessions")
    return document.request.sessions


def test_a_model_file_says_how_requests_form_sessions(tmp_path: Path) -> None:
    terms = applied(tmp_path, "{idle: 30m, turn: chat.turn, first: 0, wait_ms: 500, unit: request}")
    expected = control_pb2.SessionTerms(idle_seconds=1800, turn="chat.turn", first=0, wait_ms=500, unit="request")
    assert terms == expected
    assert terms.HasField("first")
    assert applied(tmp_path, "off") == control_pb2.SessionTerms(idle_seconds=0)
    assert applied(tmp_path, "{}") == control_pb2.SessionTerms()
    with pytest.raises(Mistake, match=r"model.yaml:2:12: .*has no 'idel'; did you mean 'idle'\?"):
        applied(tmp_path, "{idel: 30m}")
