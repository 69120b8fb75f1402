"""Ramps and windows on the command line: what is sent, and what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from control_fixtures import NOON, CannedControl, at, models, serving
from multishadow.v1 import control_pb2 as pb
from multishadow_client import cli
from multishadow_client.cli import schedule_view


class Result(NamedTuple):
    code: int
    out: str
    err: str


Shadowctl = Callable[..., Result]


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with serving(CannedControl()) as canned:
        canned.answers["ListModels"] = models(spam=["base", "A", "B"])
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("COLUMNS", "200")
        yield canned


@pytest.fixture
def shadowctl(capsys: pytest.CaptureFixture[str]) -> Shadowctl:
    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, *capsys.readouterr())

    return run


def asked(control: CannedControl, shadowctl: Shadowctl, *arguments: str) -> pb.StartExperimentRequest:
    control.answers["StartExperiment"] = pb.StartExperimentResponse(experiment=pb.Experiment(id=7, model="spam"))
    result = shadowctl("start", *arguments)
    assert result.code == 0, result.err
    request: pb.StartExperimentRequest = control.asked(pb.StartExperimentRequest)[-1]
    return request


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (("A", "B", "--ramp", "1,5,25"), [1, 5, 25]),
        (("A", "B", "--ramp", "0.5,2.5%"), [0.5, 2.5]),
        (("A", "B", "--ramp", "10"), [10]),
        (("A", "B", "--ramp", "default"), [1, 5, 25]),
        (("A", "B", "--ramp"), [1, 5, 25]),
        (("--ramp", "A", "B"), [1, 5, 25]),
        (("A", "--ramp", "--percent", "50", "B"), [1, 5, 25]),
        (("A", "B"), []),
    ],
)
def test_a_ramp_may_be_given_alone_by_name_or_by_steps(
    control: CannedControl, shadowctl: Shadowctl, arguments: tuple[str, ...], steps: list[float]
) -> None:
    request = asked(control, shadowctl, *arguments)
    assert request.ramp_percent == steps
    assert request.candidates == ["A", "B"]


def test_dwell_and_windows_are_sent_as_they_are_given(control: CannedControl, shadowctl: Shadowctl) -> None:
    windows = ["22:00-06:00 Europe/Berlin", "sat,sun"]
    request = asked(
        control, shadowctl, "A", "--ramp", "--ramp-dwell", "1h30m", "--window", windows[0], "--window", windows[1]
    )
    assert request.ramp_dwell_seconds == 5_400
    assert request.windows == windows
    assert not asked(control, shadowctl, "A").HasField("ramp_dwell_seconds")


def test_what_is_no_ramp_is_refused_at_once(control: CannedControl, shadowctl: Shadowctl) -> None:
    result = shadowctl("start", "A", "--ramp", "1;5")
    assert result.code == 2
    assert "no ramp" in result.err
    assert control.asked(pb.StartExperimentRequest) == []


def experiment(state: str = "running", **schedule: Any) -> pb.Experiment:
    return pb.Experiment(id=7, model="spam", percent=25, state=state, schedule=pb.ExperimentSchedule(**schedule))


CLIMBING = experiment(ramp_percent=[1, 5, 25], step=2, present_percent=5, open=True, waits_for=["12 min more at 5 %"])
CLOSED = experiment(windows=["sat 00:00-24:00 UTC"], step=1, open=False, changes_at=at(NOON), set_aside=["B"])
WHOLE = experiment(ramp_percent=[1, 5, 25], step=3, present_percent=25, open=True)


def test_a_climbing_experiment_says_where_it_is_and_what_it_waits_for() -> None:
    assert schedule_view.share(CLIMBING) == "5 → 25 %"
    assert schedule_view.coming(CLIMBING) == "25 % waits for 12 min more at 5 %"
    assert list(schedule_view.lines(CLIMBING)) == [
        "ramp 1 → 5 → 25 %: step 2 of 3; the next waits for 12 min more at 5 %"
    ]


def test_a_closed_window_says_when_it_opens_and_who_stays_off() -> None:
    assert schedule_view.share(CLOSED) == "0 of 25 %"
    assert schedule_view.coming(CLOSED) == "the next window opens: 2026-11-23 12:00 UTC"
    assert list(schedule_view.lines(CLOSED)) == [
        "shadows only in sat 00:00-24:00 UTC: closed now, opens 2026-11-23 12:00 UTC",
        "set aside by hand: B stays off when the next window opens",
    ]


def test_a_ramp_at_its_end_waits_for_nothing() -> None:
    assert (schedule_view.share(WHOLE), schedule_view.coming(WHOLE)) == ("25 %", "")
    assert list(schedule_view.lines(WHOLE)) == ["ramp 1 → 5 → 25 %: step 3 of 3"]


def test_a_stopped_experiment_and_one_of_an_older_control_say_their_share_alone() -> None:
    for each in (experiment("stopped", ramp_percent=[1, 25], step=1), pb.Experiment(percent=25, state="running")):
        assert (schedule_view.share(each), schedule_view.coming(each), list(schedule_view.lines(each))) == (
            "25 %",
            "",
            [],
        )


def test_experiments_are_listed_with_what_comes_next(
    control: CannedControl, shadowctl: Shadowctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    control.answers["ListExperiments"] = pb.ListExperimentsResponse(experiments=[CLIMBING, WHOLE])
    table = shadowctl("get", "experiments").out
    assert "candidates" in table
    assert "5 → 25 %" in table
    assert table.endswith(": 25 % waits for 12 min more at 5 %\n")
    control.answers["ListExperiments"] = pb.ListExperimentsResponse(experiments=[WHOLE])
    assert "waits for" not in shadowctl("get", "experiments").out
