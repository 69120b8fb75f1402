from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import grpc
import pytest
import yaml
from google.protobuf.struct_pb2 import Struct

import canned_router
import control_fixtures as reports
from canned_router import Router
from control_fixtures import CannedControl, models
from multishadow.v1 import access_pb2, alarms_pb2, control_pb2, flags_pb2, prediction_pb2, rollouts_pb2
from multishadow_client import cli
from waiting import PATIENCE

SHADOWCTL = str(Path(sys.executable).with_name("shadowctl"))


class Result(NamedTuple):
    code: int
    out: str
    err: str


Shadowctl = Callable[..., Result]


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with reports.serving(CannedControl()) as canned:
        canned.answers["ListModels"] = models(spam=["base", "A", "B", "C"])
        canned.answers["GetFlagDefinition"] = (grpc.StatusCode.NOT_FOUND, "there is no such flag")
        canned.answers["GetAcknowledgement"] = reports.arrived("A")
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "100")
        yield canned


@pytest.fixture
def shadowctl(capsys: pytest.CaptureFixture[str]) -> Shadowctl:
    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("report", "code"),
    [(reports.decided, 0), (reports.undecided, 3), (reports.no_data, 3)],
    ids=["decided", "undecided", "no data"],
)
def test_compare_ends_with_what_the_comparison_says(
    control: CannedControl, shadowctl: Shadowctl, report: Callable[[], control_pb2.CompareResponse], code: int
) -> None:
    control.answers["Compare"] = report()
    result = shadowctl("compare", "A", "B", "C")
    assert result.code == code
    assert " ".join(report().advice.split()) in " ".join(result.out.split())
    assert not result.err
    (request,) = control.asked(control_pb2.CompareRequest)
    assert request == control_pb2.CompareRequest(model="spam", candidates=["A", "B", "C"])


def test_segments_are_asked_for_by_candidate_and_wait_for_data(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListSegments"] = control_pb2.ListSegmentsResponse(version="A", n=10)
    assert shadowctl("segments", "A", "--alpha", "0.01").code == 0
    control.answers["ListSegments"] = control_pb2.ListSegmentsResponse(version="A")
    assert shadowctl("segments", "A", "-o", "json").code == 3
    first, _ = control.asked(control_pb2.ListSegmentsRequest)
    assert first == control_pb2.ListSegmentsRequest(model="spam", candidate="A", alpha=0.01)


def test_a_noise_floor_is_typed_as_a_share(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["StartExperiment"] = control_pb2.StartExperimentResponse()
    assert shadowctl("start", "A", "--noise-floor", "7%").code == 0
    shadowctl("start", "A")
    first, second = control.asked(control_pb2.StartExperimentRequest)
    assert first.noise_floor_percent == 7
    assert not second.HasField("noise_floor_percent")


def test_a_plan_says_what_it_is_a_plan_for(control: CannedControl, shadowctl: Shadowctl) -> None:
    plans = [control_pb2.ComparisonPlan(chance=0.5, requests=8_056, seconds=644.5)]
    control.answers["PlanComparison"] = control_pb2.PlanComparisonResponse(plans=plans)
    asked = ("power", "--from", "4%", "--to", "3%", "--rps", "50", "--percent", "25", "-k", "3")
    lines = shadowctl(*asked).out.splitlines()
    assert lines[2].split() == ["50", "%", "8,056", "10", "m", "44", "s"]
    assert " ".join(line.strip() for line in lines[3:]) == (
        "3 % against 4 %, 12.5 requests compared per second; α = 0.05; family of 3 pairs, e ≥ 120 decides."
    )


def test_compare_writes_json_and_yaml_with_the_protos_names(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["Compare"] = reports.decided()
    as_json = json.loads(shadowctl("compare", "-o", "json").out)
    assert as_json == yaml.safe_load(shadowctl("compare", "--output", "yaml").out)
    assert [(each["version"], each["n"]) for each in as_json["candidates"]] == [
        ("C", 12198),
        ("A", 12345),
        ("B", 12339),
    ]
    assert as_json["winner"] == "A"


def test_output_that_is_piped_holds_no_control_codes(control: CannedControl) -> None:
    control.answers["Compare"] = reports.decided()
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    for columns, widest in ({}, 100), ({"COLUMNS": "80"}, 80):
        done = subprocess.run(
            [SHADOWCTL, "compare"], env=environment | columns, capture_output=True, check=True, stdin=subprocess.DEVNULL
        )
        assert b"\x1b" not in done.stdout
        assert max(len(line) for line in done.stdout.decode().splitlines()) in range(widest - 12, widest + 1)


def test_a_model_is_found_by_option_by_choice_or_because_it_is_the_only_one(
    control: CannedControl, shadowctl: Shadowctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.answers["Compare"] = reports.decided()
    control.answers["ListModels"] = models(spam=["base"], fraud=["base"])
    unclear = shadowctl("compare")
    assert unclear.code == 2
    assert "which model? fraud, spam: name it with --model, or choose with `shadowctl use MODEL`" in unclear.err

    assert shadowctl("use", "fraud").code == 0
    shadowctl("compare")
    monkeypatch.setenv("MULTISHADOW_MODEL", "from-the-environment")
    shadowctl("compare")
    shadowctl("compare", "--model", "spam")
    asked = [request.model for request in control.asked(control_pb2.CompareRequest)]
    assert asked == ["fraud", "from-the-environment", "spam"]


def test_without_any_model_the_way_to_one_is_told(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListModels"] = models()
    result = shadowctl("compare")
    assert (result.code, result.out) == (2, "")
    assert "shadowctl apply -f model.yaml" in result.err


def test_a_choice_is_checked_told_and_dropped(control: CannedControl, shadowctl: Shadowctl, tmp_path: Path) -> None:
    wrong = shadowctl("use", "spma")
    assert (wrong.code, wrong.err) == (2, "error: there is no model 'spma'; there is spam\n")
    assert "commands are about spam" in shadowctl("use", "spam").out
    assert yaml.safe_load((tmp_path / "config/multishadow/shadowctl.yaml").read_text()) == {"model": "spam"}
    assert json.loads(shadowctl("use", "-o", "json").out) == {"model": "spam", "connection": None}
    assert json.loads(shadowctl("use", "--clear", "-o", "json").out) == {"model": None, "connection": None}
    assert shadowctl("use").out == "no model is chosen\n"


def test_a_model_can_be_chosen_while_control_is_away(shadowctl: Shadowctl) -> None:
    result = shadowctl("use", "spam", "--server", "127.0.0.1:1")
    assert result.code == 0
    assert "not checked whether there is such a model" in result.err


@pytest.mark.parametrize("content", ["{", "[spam]", "model: [spam]", "model: {a: b}"])
def test_a_broken_choice_is_named_with_its_file(shadowctl: Shadowctl, tmp_path: Path, content: str) -> None:
    file = tmp_path / "config/multishadow/shadowctl.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    result = shadowctl("use")
    if content == "[spam]":  # holds no choice, and breaks nothing
        assert result.code == 0
    else:
        assert result.code == 2
        assert str(file) in result.err
        assert "`shadowctl use MODEL` writes it anew" in result.err


def test_a_flag_is_set_by_its_key(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["SetFlag"] = control_pb2.SetFlagResponse(
        flag=control_pb2.Flag(key="spam.A", claim="shadow 25 %"), revision=9
    )
    result = shadowctl("flag", "set", "spam.A", "shadow", "--percent", "25", "--reason", "a look")
    assert (result.code, result.out) == (0, "spam.A: shadow 25 %, revision 9\n")
    assert control.asked(control_pb2.SetFlagRequest) == [
        control_pb2.SetFlagRequest(
            model="spam", version="A", claim=control_pb2.CLAIM_SHADOW, percent=25, actor="ann", reason="a look"
        )
    ]


def test_whoever_writes_a_flag_that_some_router_does_not_read_is_warned(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    warnings = ["r1 (Vendor) reads flags from another source"]
    control.answers["SetFlag"] = control_pb2.SetFlagResponse(warnings=warnings)
    control.answers["StartExperiment"] = control_pb2.StartExperimentResponse(warnings=warnings)
    control.answers["StopExperiment"] = control_pb2.StopExperimentResponse(warnings=warnings)
    control.answers["Promote"] = control_pb2.PromoteResponse(warnings=warnings)
    control.answers["Rollback"] = control_pb2.RollbackResponse(version="A", warnings=warnings)
    for words in ("flag set spam.A off", "start A", "stop", "promote A --yes", "rollback"):
        result = shadowctl(*words.split(), "-o", "json")
        assert (result.code, result.err) == (0, "warning: r1 (Vendor) reads flags from another source\n"), words
        # Programs find it in the answer.
        assert json.loads(result.out)["warnings"] == warnings


def test_a_version_with_dots_in_its_name_is_not_taken_for_a_key(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListModels"] = models(spam=["base", "1.0"], eggs=["base"])
    control.answers["SetFlag"] = control_pb2.SetFlagResponse()
    for key in ("spam.1.0", "1.0"):
        assert shadowctl("flag", "set", key, "off", "--model", "spam").code == 0
    assert shadowctl("flag", "set", "eggs.base", "off").code == 0
    asked = [(request.model, request.version) for request in control.asked(control_pb2.SetFlagRequest)]
    assert asked == [("spam", "1.0"), ("spam", "1.0"), ("eggs", "base")]


def test_a_key_of_no_version_is_a_key_all_the_same(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListModels"] = models(spam=["base", "1.0"], eggs=["base", "spam.B"])
    control.answers["SetFlag"] = control_pb2.SetFlagResponse()
    assert shadowctl("flag", "set", "spam.Q", "off").code == 0
    assert shadowctl("flag", "set", "spam.B", "off", "--model", "eggs").code == 0
    asked = [(request.model, request.version) for request in control.asked(control_pb2.SetFlagRequest)]
    assert asked == [("spam", "Q"), ("eggs", "spam.B")], "control then says which versions spam has"


def test_a_claim_that_is_none_is_refused_with_those_that_are(control: CannedControl, shadowctl: Shadowctl) -> None:
    result = shadowctl("flag", "set", "spam.A", "on")
    assert (result.code, result.err) == (2, "error: 'on' is no claim; a version claims off, shadow, live\n")
    assert not control.asked(control_pb2.SetFlagRequest)


def test_an_experiment_is_started_and_stopped(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["StartExperiment"] = control_pb2.StartExperimentResponse(
        experiment=reports.experiment(), revision=4
    )
    started = shadowctl("start", "A", "B", "C", "--percent", "25", "--for", "14d", "--bucket", "15m")
    assert started.out == (
        "spam: experiment 7 compares A, B, C on 25 % of requests until 2026-12-04 12:00 UTC, revision 4\n"
        "See how it goes: shadowctl compare A B C --model spam\n"
    )
    assert control.asked(control_pb2.StartExperimentRequest) == [
        control_pb2.StartExperimentRequest(
            model="spam",
            candidates=["A", "B", "C"],
            percent=25,
            duration_seconds=1_209_600,
            bucket_seconds=900,
            actor="ann",
        )
    ]
    control.answers["StopExperiment"] = control_pb2.StopExperimentResponse(experiment=reports.experiment(), revision=5)
    stopped = shadowctl("stop", "--reason", "enough")
    assert stopped.out.startswith("spam: experiment 7 is stopped, revision 5\n")
    assert control.asked(control_pb2.StopExperimentRequest)[0].reason == "enough"


def test_what_is_not_said_is_left_to_control(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["StartExperiment"] = control_pb2.StartExperimentResponse(experiment=reports.experiment())
    shadowctl("start", "A")
    (request,) = control.asked(control_pb2.StartExperimentRequest)
    assert not any(request.HasField(name) for name in ("percent", "duration_seconds", "bucket_seconds"))


def test_a_promotion_says_what_was_live_and_how_to_take_it_back(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["Promote"] = control_pb2.PromoteResponse(
        model="spam", version="A", previous_version="base", revision=12, changed=True
    )
    result = shadowctl("promote", "A", "--percent", "5", "--yes", "--reason", "release 41")
    assert result.out == (
        "spam: A answers 5 % of requests, base the others, revision 12\nTake it back: shadowctl rollback --model spam\n"
        "2 of 2 routers follow\nA answered 12 requests since\n"
    )
    assert control.asked(control_pb2.PromoteRequest) == [
        control_pb2.PromoteRequest(model="spam", version="A", percent=5, actor="ann", reason="release 41")
    ]


def test_promoting_what_is_live_changes_nothing_and_succeeds(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["Promote"] = control_pb2.PromoteResponse(model="spam", version="A", revision=12)
    result = shadowctl("promote", "A", "--yes", "--no-wait")
    assert (result.code, result.out) == (0, "spam: live is A already; nothing changed\n")
    assert not control.asked(rollouts_pb2.GetAcknowledgementRequest)


def test_a_refused_promotion_ends_with_four(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["Promote"] = (grpc.StatusCode.FAILED_PRECONDITION, "cannot connect to A at 127.0.0.1:9; --force")
    result = shadowctl("promote", "A", "--yes")
    assert (result.code, result.err) == (4, "error: cannot connect to A at 127.0.0.1:9; --force\n")


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_a_person_is_asked_with_the_comparison_in_view(control: CannedControl, answer: str, code: int) -> None:
    control.answers["Compare"] = reports.decided()
    control.answers["Promote"] = control_pb2.PromoteResponse(model="spam", version="A", changed=True)
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [SHADOWCTL, "promote", "A", "-o", "json"],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            os.write(ours, f"{answer}\n".encode())
            out, err = process.communicate(timeout=PATIENCE)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code
    assert "agreement with base, which is not quality" in " ".join(err.split())
    assert "spam: have A answer all of the requests? [y/N]" in err
    assert len(control.asked(control_pb2.PromoteRequest)) == (1 if code == 0 else 0)
    assert bool(out) is (code == 0), "only the answer is on stdout"


def test_nothing_is_promoted_when_there_is_nobody_to_ask(control: CannedControl, shadowctl: Shadowctl) -> None:
    result = shadowctl("promote", "A")
    assert result.code == 2
    assert "pass --yes" in result.err
    assert not control.asked(control_pb2.PromoteRequest)


def test_a_rollback_asks_nothing(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["Rollback"] = control_pb2.RollbackResponse(
        model="spam", version="base", rolled_back_version="A", revision=13
    )
    control.answers["GetAcknowledgement"] = reports.arrived("base")
    result = shadowctl("rollback")
    assert result.code == 0
    assert result.out == (
        "spam: live is base; the promotion of A is taken back, revision 13\n"
        "2 of 2 routers follow\nbase answered 12 requests since\n"
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.NOT_FOUND, 1),
        (grpc.StatusCode.FAILED_PRECONDITION, 1),
        (grpc.StatusCode.UNAVAILABLE, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, 2),
    ],
)
def test_an_error_of_control_reaches_the_user_in_its_own_words(
    control: CannedControl, shadowctl: Shadowctl, status: grpc.StatusCode, code: int
) -> None:
    control.answers["Rollback"] = (status, "nothing to roll back [yet]")
    result = shadowctl("rollback")
    assert (result.code, result.out, result.err) == (code, "", "error: nothing to roll back [yet]\n")


def test_a_control_that_is_away_is_named_with_what_to_do(shadowctl: Shadowctl) -> None:
    result = shadowctl("status", "-s", "http://127.0.0.1:1")
    assert result.code == 1
    assert "error: nothing answers at 127.0.0.1:1: " in result.err
    assert "multishadow serve" in result.err
    assert "MULTISHADOW_CONTROL" in result.err


def test_a_mistake_of_ours_is_one_line_and_no_traceback(control: CannedControl, shadowctl: Shadowctl) -> None:
    beyond_the_calendar = control_pb2.Flag(key="spam.A")
    beyond_the_calendar.changed_at.seconds = 2**62
    control.answers["ListFlags"] = control_pb2.ListFlagsResponse(flags=[beyond_the_calendar])
    result = shadowctl("get", "flags")
    assert result.code == 1
    assert result.err.startswith("error: shadowctl itself failed: ")
    assert "Traceback" not in result.err


def test_lists_are_tables_for_people(control: CannedControl, shadowctl: Shadowctl) -> None:
    definition = Struct()
    definition.update({"defaultVariant": "off"})
    control.answers["ListVersions"] = control_pb2.ListVersionsResponse(
        versions=[
            control_pb2.Version(
                model="spam", name="A", address="127.0.0.1:9001", timeout_ms=2000, max_in_flight=64, claim="shadow 25 %"
            )
        ]
    )
    control.answers["ListFlags"] = control_pb2.ListFlagsResponse(
        flags=[
            control_pb2.Flag(
                key="spam.A", definition=definition, claim="off", revision=3, changed_by="ann", changed_at=reports.at(0)
            )
        ]
    )
    control.answers["ListExperiments"] = control_pb2.ListExperimentsResponse(experiments=[reports.experiment()])
    said = {kind: shadowctl("get", kind).out for kind in ("models", "versions", "flags", "experiments")}
    rows = {kind: [line.split() for line in text.splitlines()[2:]] for kind, text in said.items()}
    assert rows["models"] == [["spam", "base", "base,", "A,", "B,", "C", "by", "default"]]
    assert rows["versions"] == [["spam", "A", "shadow", "25", "%", "127.0.0.1:9001", "2,000", "ms", "64"]]
    assert rows["flags"] == [["spam.A", "off", "3", "1970-01-01", "00:00", "UTC", "ann"]]
    assert rows["experiments"][0][:8] == ["7", "spam", "A,", "B,", "C", "25", "%", "running"]
    assert json.loads(shadowctl("get", "flags", "-o", "json").out)["flags"][0]["definition"] == {
        "defaultVariant": "off"
    }


def test_what_few_models_have_stands_beneath_their_list(control: CannedControl, shadowctl: Shadowctl) -> None:
    chat = control_pb2.Model(
        name="chat",
        sessions=control_pb2.SessionTerms(idle_seconds=1800, turn="chat.turn", unit="session"),
        probes=alarms_pb2.ProbeSet(probes=[alarms_pb2.Probe(name="hello")]),
        writes=control_pb2.WriteTerms(methods=["Update"]),
        max_request_bytes=1_000_000,
    )
    control.answers["ListModels"] = control_pb2.ListModelsResponse(models=[control_pb2.Model(name="plain"), chat])
    assert shadowctl("get", "models").out.splitlines()[4:] == [
        "chat: sessions end after 30 m, turns numbered by chat.turn, ranked by session",
        "chat: probes: hello",
        "chat: requests of Update write, and are never shadowed",
        "chat: requests above 1,000,000 bytes are not captured",
    ]


def test_an_audited_detail_is_written_as_people_write_it(
    control: CannedControl, shadowctl: Shadowctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    detail = Struct()
    detail.update({"experiment": 4, "candidates": ["A", "B"], "ids": [6], "expires_at": 7200.5, "share": 0.25})
    line = access_pb2.AuditLine(id=1, at=reports.at(0), actor="ann", action="start", subject="spam", detail=detail)
    control.answers["ListAudit"] = access_pb2.ListAuditResponse(lines=[line])
    monkeypatch.setenv("COLUMNS", "200")
    shown = shadowctl("audit").out
    for said in ("experiment 4", "candidates [A; B]", "ids 6", "expires_at 1970-01-01 02:00 UTC", "share 0.25"):
        assert said in shown


def test_an_empty_list_says_how_to_fill_it(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListExperiments"] = control_pb2.ListExperimentsResponse()
    assert shadowctl("get", "experiments").out == "no experiments yet: shadowctl start\n"


def test_lists_are_of_the_chosen_model(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListFlags"] = control_pb2.ListFlagsResponse()
    shadowctl("get", "flags")
    shadowctl("use", "spam")
    shadowctl("get", "flags")
    assert [request.model for request in control.asked(control_pb2.ListFlagsRequest)] == ["", "spam"]


def test_status_tells_what_is_live_and_who_is_silent(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["ListExperiments"] = control_pb2.ListExperimentsResponse(experiments=[reports.experiment()])
    control.answers["ListVersions"] = control_pb2.ListVersionsResponse(
        versions=[
            control_pb2.Version(model="spam", name="base", claim="live"),
            control_pb2.Version(model="spam", name="A", claim="shadow 25 %"),
        ]
    )
    control.answers["GetStatus"] = control_pb2.GetStatusResponse(
        revision=12,
        models=models(spam=["base", "A"]).models,
        processes=[
            control_pb2.ProcessStatus(
                role="router", instance="r1", pid=10, revision=12, alive=True, counters={"requests": 9}
            ),
            control_pb2.ProcessStatus(
                role="router", instance="r2", pid=11, revision=10, alive=True, flag_source="Vendor"
            ),
            control_pb2.ProcessStatus(
                role="worker", instance="w1", pid=12, alive=False, counters={"dropped.buffer_full": 3, "ok": 0}
            ),
        ],
        log_messages_waiting=1234,
    )
    going_on = rollouts_pb2.Rollout(
        id=3, model="spam", version="A", previous_version="base", state="paused", percent=5,
        terms=rollouts_pb2.RolloutTerms(stages=[1, 5, 100]),
    )  # fmt: skip
    ended = rollouts_pb2.Rollout(id=2, model="spam", version="B", state="aborted")
    control.answers["ListRollouts"] = rollouts_pb2.ListRolloutsResponse(rollouts=[going_on, ended])
    said = shadowctl("status").out
    assert [line.strip() for line in said.splitlines() if "rollout" in line] == [
        "rollout 3: A over base, paused at 5 % of 100 % (shadowctl rollout status --model spam)"
    ]
    assert "revision 12  ·  1,234 messages wait in the capture log" in said
    assert "spam: live is base\n  beside it: A shadow 25 %\n  experiment 7: A, B, C on 25 % of requests" in said
    rows = [line for line in said.splitlines() if line.startswith(("router ", "worker "))]
    states = {row.split()[1]: row.rstrip().split("  ")[-1].strip() for row in rows}
    assert states == {"r1": "alive", "r2": "2 behind", "w1": "silent"}
    running, gone = said.split("what silent processes said last:\n")
    assert running.endswith("r1: requests 9\n")
    assert gone == "w1: dropped.buffer_full 3\n"
    assert [line for line in said.splitlines() if "reads flags from" in line] == ["r2: reads flags from Vendor"]


def test_apply_says_what_changed_for_each_model(control: CannedControl, shadowctl: Shadowctl, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("model: spam\nversions: [{name: A, address: a:1}]\n---\nmodel: eggs\n")
    changes = {"spam": ["added version A at a:1"], "eggs": []}
    control.answers["ApplyModel"] = lambda request: control_pb2.ApplyModelResponse(
        model=control_pb2.Model(name=request.model), revision=3, changes=changes[request.model]
    )
    result = shadowctl("apply", "-f", str(file))
    assert result.out == ("spam: 1 change, revision 3\n  added version A at a:1\neggs: everything was so already\n")
    assert {request.actor for request in control.asked(control_pb2.ApplyModelRequest)} == {"ann"}
    documents = list(yaml.safe_load_all(shadowctl("apply", "-f", str(file), "-o", "yaml").out))
    assert [document["model"]["name"] for document in documents] == ["spam", "eggs"]


def test_a_model_that_control_refuses_is_named_with_its_place(
    control: CannedControl, shadowctl: Shadowctl, tmp_path: Path
) -> None:
    file = tmp_path / "model.yaml"
    file.write_text("# first\nmodel: spam\n")
    control.answers["ApplyModel"] = (grpc.StatusCode.INVALID_ARGUMENT, "a new model needs a version")
    result = shadowctl("apply", "-f", str(file))
    assert (result.code, result.err) == (2, f"error: {file}:2, model 'spam': a new model needs a version\n")


def test_nothing_is_applied_of_a_file_with_a_mistake(
    control: CannedControl, shadowctl: Shadowctl, tmp_path: Path
) -> None:
    file = tmp_path / "model.yaml"
    file.write_text("model: spam\n---\nmodle: eggs\n")
    result = shadowctl("apply", "-f", str(file))
    assert (result.code, result.out) == (2, "")
    assert f"{file}:3:1: a model has no 'modle'; did you mean 'model'?" in result.err
    assert not control.requests


@pytest.mark.parametrize(
    "arguments",
    [
        ["comprae"],
        ["start"],
        ["start", "A", "--for", "soon"],
        ["start", "A", "--percent", "101"],
        # Control takes 0 for "as usual"; nobody who types it means that.
        ["compare", "--alpha", "0"],
        ["segments", "A", "--alpha", "0.51"],
    ],
)
def test_what_cannot_be_understood_ends_with_two(shadowctl: Shadowctl, arguments: list[str]) -> None:
    result = shadowctl(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err


@pytest.mark.parametrize(
    "command",
    [
        *("apply", "use", "start", "stop", "compare", "promote", "rollback", "predict"),
        *("flags get", "flags set", "flags edit", "flags history", "flags diff", "flags revert"),
        *("flags delete", "flags import", "flags export"),
    ],
)
def test_help_teaches_with_examples(shadowctl: Shadowctl, command: str) -> None:
    result = shadowctl(*command.split(), "--help")
    assert result.code == 0
    assert f"shadowctl {command} " in result.out.split("Examples:")[1] or command in {"stop", "rollback", "use"}
    assert "--output" in result.out


@pytest.fixture
def router() -> Iterator[Router]:
    router = Router()
    label = prediction_pb2.Classification(label="spam", confidence=0.75)
    router.answer = lambda _request, _context: prediction_pb2.PredictResponse(classification=label)
    with canned_router.serving(router) as running:
        yield running


def completed(line: str) -> list[str]:
    """What bash is offered for a line, by the protocol of its completion."""
    request = {"_SHADOWCTL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run([SHADOWCTL], env=os.environ | request, capture_output=True, check=True, text=True)
    assert not done.stderr
    return done.stdout.split()


def test_the_shell_completes_names_that_exist(control: CannedControl) -> None:
    control.answers["ListModels"] = models(spam=["base", "A", "B"], eggs=["old"])
    assert completed("shadowctl use s") == ["spam"]
    assert completed("shadowctl promote A --plan c") == ["cautious"]
    assert completed("shadowctl token create ann --role o") == ["operator"]
    assert completed("shadowctl probes s") == ["spam"]
    assert completed("shadowctl compare --model spam A ") == ["base", "B"]
    keys = ["checkout", "spam.base", "spam.A", "spam.B"]
    control.answers["ListFlagDefinitions"] = lambda request: flags_pb2.ListFlagDefinitionsResponse(
        flags=[flags_pb2.FlagDefinition(key=key) for key in keys if key.startswith(request.prefix)]
    )
    assert completed("shadowctl flags set spam.") == ["spam.base", "spam.A", "spam.B"]
    assert completed("shadowctl flags delete checkout ") == ["spam.base", "spam.A", "spam.B"]
    assert completed("shadowctl flags set spam.A s") == ["shadow"]
    checkout = flags_pb2.FlagDefinition(key="checkout", definition='{"variants": {"on": true, "off": false}}')
    control.answers["GetFlagDefinition"] = flags_pb2.GetFlagDefinitionResponse(flag=checkout)
    assert completed("shadowctl flag set checkout o") == ["on", "off"]


def test_the_shell_completes_nothing_while_control_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTISHADOW_CONTROL", "127.0.0.1:1")
    assert completed("shadowctl use s") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "exactly one of --text, --json, --tensor, --file"),
        (["--text", "a", "--json", "{}"], "exactly one of"),
        (["--json", "{"], "--json: this is no JSON"),
        (["--json", "[1]"], "--json takes an object, not [1]"),
        (["--tensor", "3"], "--tensor takes a list, not 3"),
        (["--tensor", "[[1], [1, 2]]"], "rows differ in length"),
        (["--tensor", '["a"]'], "must be real number"),
        (["--file", "/nowhere/at/all"], "cannot read /nowhere/at/all"),
    ],
)
def test_an_input_that_cannot_be_sent_is_named(shadowctl: Shadowctl, arguments: list[str], said: str) -> None:
    result = shadowctl("predict", "spam", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_a_version_that_lacks_the_method_is_not_taken_for_a_wrong_port(shadowctl: Shadowctl, router: Router) -> None:
    def lacking(_request: prediction_pb2.PredictRequest, context: grpc.ServicerContext) -> NoReturn:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")

    router.answer = lacking
    result = shadowctl("predict", "chat", "--text", "hi", "--router", router.address)
    assert result.code == 1
    assert "A, which is live, does not know this call" in result.err
    assert "`predict --stream`" in result.err
    assert "50052" not in result.err


def test_a_streamed_prediction_is_shown_as_it_comes_and_then_who_gave_it(shadowctl: Shadowctl, router: Router) -> None:
    asking = ("predict", "chat", "--text", "hi\nyou", "--stream", "--router", router.address)
    assert shadowctl(*asking).out == "HI\nYOU\nversion A · request id made-by-the-router · revision 42\n"
    as_json = json.loads(shadowctl(*asking, "-o", "json").out)
    assert (as_json["output"], as_json["version"]) == ("HI\nYOU", "A")
    kinds = [prediction_pb2.PredictResponse(scalar=number) for number in (1.0, 2.0)]
    router.stream = lambda _request, _context: iter(kinds)
    assert shadowctl(*asking).out.splitlines()[:2] == ["1.0", "2.0"]


def test_a_prediction_says_who_answered(shadowctl: Shadowctl, router: Router) -> None:
    result = shadowctl("predict", "spam", "--json", '{"amount": 2}', "--session", "s1", "--router", router.address)
    assert result.out == "spam (0.7500)\nversion A · request id made-by-the-router · revision 42\n"
    assert router.requests[0].session_id == "s1"
    as_json = json.loads(shadowctl("predict", "spam", "--text", "x", "--router", router.address, "-o", "json").out)
    assert as_json == {
        "version": "A",
        "request_id": "made-by-the-router",
        "revision": 42,
        "output": {"label": "spam", "confidence": 0.75, "probabilities": {}},
    }


def test_a_file_and_a_tensor_can_be_asked_about(shadowctl: Shadowctl, router: Router, tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"\x00\xff")
    shadowctl("predict", "m", "--file", str(tmp_path / "input"), "--router", router.address)
    shadowctl("predict", "m", "--tensor", "[[1, 2], [3, 4]]", "--router", router.address)
    raw, tensor = router.requests
    assert raw.raw == b"\x00\xff"
    assert (list(tensor.tensor.shape), list(tensor.tensor.values)) == ([2, 2], [1, 2, 3, 4])
