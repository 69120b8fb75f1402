"""pause and resume, and how limits, pauses, writes and a lowered sampling are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

import control_fixtures as reports
from control_fixtures import CannedControl, models
from multishadow.v1 import control_pb2, rollouts_pb2, shadowing_pb2
from multishadow_client import cli

LIMITS = control_pb2.VersionLimits(
    requests_per_second=1_500,
    bytes_per_second=5e6,
    capacity=200,
    utilisation=0.7,
    max_request_bytes=500_000,
    circuit_breaker=control_pb2.CircuitBreaker(failures=20, share=0.5),
)
PAUSE = control_pb2.Pause(since=reports.at(0), until=reports.at(7_200), by="ann", reason="its database")
VERSIONS = control_pb2.ListVersionsResponse(
    versions=[
        control_pb2.Version(model="spam", name="base", claim="live", address="h:1"),
        control_pb2.Version(model="spam", name="A", claim="shadow 25 %", address="h:2", limits=LIMITS, pause=PAUSE),
        control_pb2.Version(model="spam", name="B", claim="off", address="h:3", limits=control_pb2.VersionLimits()),
    ]
)


class Result(NamedTuple):
    code: int
    out: str


Shadowctl = Callable[..., Result]


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["ListModels"] = models(spam=["base", "A", "B"], ham=["base"])
        canned.answers["ListVersions"] = VERSIONS
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "200")
        yield canned


@pytest.fixture
def shadowctl(capsys: pytest.CaptureFixture[str]) -> Shadowctl:
    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, " ".join(capsys.readouterr().out.split()))

    return run


def test_a_version_is_paused_for_a_time_and_resumed(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["PauseShadowing"] = shadowing_pb2.PauseShadowingResponse(version=VERSIONS.versions[1], revision=9)
    control.answers["ResumeShadowing"] = shadowing_pb2.ResumeShadowingResponse(
        version=control_pb2.Version(model="spam", name="A", claim="shadow 25 %"), revision=10
    )
    paused = shadowctl("pause", "spam.A", "--for", "2h", "--reason", "its database")
    assert paused.code == 0
    assert paused.out == (
        "spam.A: paused until 1970-01-01 02:00 UTC by ann (its database), revision 9; `shadowctl resume spam.A` ends it"
    )
    resumed = shadowctl("resume", "A", "--model", "spam")
    assert resumed == Result(0, "spam.A: not paused, revision 10; its flag says shadow 25 %")
    assert control.requests[-1] == shadowing_pb2.ResumeShadowingRequest(model="spam", version="A", actor="ann")
    (asked,) = control.asked(shadowing_pb2.PauseShadowingRequest)
    assert asked == shadowing_pb2.PauseShadowingRequest(
        model="spam", version="A", seconds=7_200, actor="ann", reason="its database"
    )


def test_a_pause_without_an_end_asks_for_none(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["PauseShadowing"] = shadowing_pb2.PauseShadowingResponse(version=VERSIONS.versions[1], revision=9)
    shadowctl("pause", "spam.A")
    (asked,) = control.asked(shadowing_pb2.PauseShadowingRequest)
    assert not asked.HasField("seconds")


def test_versions_are_listed_with_what_they_may_be_asked(control: CannedControl, shadowctl: Shadowctl) -> None:
    shown = shadowctl("get", "versions").out
    assert "shadow 25 %, paused " in shown
    assert "spam.A: paused until 1970-01-01 02:00 UTC by ann (its database)" in shown
    assert "at most" in shown
    for limit in (
        "1,500 requests/s",
        "5,000,000 bytes/s",
        "70 % of 200 requests/s",
        "requests of 500,000 bytes",
        "20 failures in a row or 50 %",
    ):
        assert limit in shown


def test_status_tells_pauses_writes_and_a_lowered_sampling(control: CannedControl, shadowctl: Shadowctl) -> None:
    ham = control_pb2.Model(name="ham", live_version="base", writes=control_pb2.WriteTerms(all=True))
    spam = control_pb2.Model(name="spam", live_version="base", writes=control_pb2.WriteTerms(methods=["Update"]))
    control.answers["GetStatus"] = control_pb2.GetStatusResponse(
        models=[ham, spam],
        processes=[
            control_pb2.ProcessStatus(role="router", instance="r1", alive=True, counters={"sampling_permille": 125}),
            control_pb2.ProcessStatus(role="router", instance="r2", alive=False, counters={"sampling_permille": 10}),
            control_pb2.ProcessStatus(role="router", instance="r3", alive=True),
        ],
    )
    control.answers["ListExperiments"] = control_pb2.ListExperimentsResponse()
    control.answers["ListRollouts"] = rollouts_pb2.ListRolloutsResponse()
    shown = shadowctl("status").out
    assert "ham: live is base its requests write, and are never shadowed" in shown
    assert "requests of Update write, and are never shadowed" in shown
    assert "A shadow 25 %, paused until 1970-01-01 02:00 UTC by ann (its database)" in shown
    assert "r1: samples 12.5 % of what flags say: workers do not keep up" in shown
    assert "r2: samples" not in shown


@pytest.mark.parametrize(("share", "told"), [(0.125, True), (1.0, False), (None, False)])
def test_a_report_tells_when_less_is_sampled_than_flags_say(
    control: CannedControl, shadowctl: Shadowctl, share: float | None, told: bool
) -> None:
    report = reports.decided()
    if share is not None:
        report.sampling_share = share
    control.answers["Compare"] = report
    said = "Routers sample 12.50 % of what flags say" in shadowctl("compare", "--model", "spam").out
    assert said is told
