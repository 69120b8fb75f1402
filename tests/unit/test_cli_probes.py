"""Probes in model files, and what `shadowctl probes` and `shadowctl alarms` say and end with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from google.protobuf.json_format import MessageToDict

import control_fixtures as fixtures
from control_fixtures import NOON, CannedControl, at
from multishadow.v1 import alarms_pb2, control_pb2, prediction_pb2
from multishadow_client import cli
from multishadow_client.cli import manifest
from multishadow_client.cli.exit_code import Mistake

HEAD = "model: spam\n"
TAIL = "versions: [{name: base, address: 'h:1'}]\n"


class Result(NamedTuple):
    code: int
    out: str


Shadowctl = Callable[..., Result]


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedControl]:
    with fixtures.serving(CannedControl()) as canned:
        canned.answers["ListModels"] = fixtures.models(spam=["base", "A"])
        monkeypatch.setenv("MULTISHADOW_CONTROL", canned.address)
        monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "120")
        yield canned


@pytest.fixture
def shadowctl(capsys: pytest.CaptureFixture[str]) -> Shadowctl:
    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, capsys.readouterr().out)

    return run


def read(tmp_path: Path, probes: str) -> control_pb2.ApplyModelRequest:
    file = tmp_path / "model.yaml"
    file.write_text(HEAD + probes + TAIL)
    (document,) = manifest.read(file)
    return document.request


def test_probes_are_read_in_the_forms_that_predict_takes(tmp_path: Path) -> None:
    request = read(
        tmp_path,
        """probes:
  - name: text
    request: {text: "12"}
    expect: {classification: {label: spam, confidence: 0.5}}
    every: 1m
    threshold: 0.9
  - {name: numbers, request: {json: {a: 1e-9, b: [1, true, null, "2"]}}, attributes: {plan: pro}, session_id: s}
  - {name: tensor, request: {tensor: [[1, 2.5]]}, expect: stable}
""",
    )
    text, numbers, tensor = request.probes.probes
    assert (text.request.text, text.every_seconds, text.threshold) == ("12", 60, 0.9)
    assert text.expected.classification.label == "spam"
    assert numbers.request.structured["a"] == 1e-9
    assert MessageToDict(numbers.request.structured)["b"] == [1, True, None, "2"]
    assert (numbers.request.attributes["plan"], numbers.request.session_id) == ("pro", "s")
    assert (numbers.every_seconds, numbers.HasField("threshold")) == (0, False)
    assert not tensor.HasField("expected")
    assert list(tensor.request.tensor.values) == [1, 2.5]


def test_no_word_of_probes_leaves_them_and_off_ends_them(tmp_path: Path) -> None:
    assert not read(tmp_path, "").HasField("probes")
    off = read(tmp_path, "probes: off\n")
    assert off.HasField("probes")
    assert not off.probes.probes


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ("probes: on\n", "2:9: `probes` (or off) is a list"),
        ("probes: [x]\n", "2:10: a probe is a mapping of name, request"),
        ("probes: [{name: a}]\n", "2:10: a probe needs 'request'"),
        ("probes: [{name: a, request: {text: x}, name: b}]\n", "2:40: 'name' stands here twice"),
        ("probes: [{name: a, request: {text: x}, evry: 1s}]\n", "2:40: a probe has no 'evry'"),
        ("probes: [{name: a, request: {txt: x}}]\n", "2:29: a request has no 'txt'"),
        ("probes: [{name: a, request: {text: 5}}]\n", "2:29: text must be a text, got 5"),
        ("probes: [{name: a, request: {text: x}, expect: spam}]\n", "2:48: an answer is an object with one of"),
        ("probes: [{name: a, request: {json: &b {c: *b}}}]\n", "2:9: these probes are nested too deeply"),
        ("probes: [{name: a, request: {text: x}, every: soon}]\n", "2:47: 'soon' is no span of time"),
        ("probes: [{name: a, request: {text: x}, threshold: high}]\n", "2:51: a number must stand here"),
    ],
)
def test_a_probe_that_is_none_is_named_with_its_place(tmp_path: Path, probes: str, said: str) -> None:
    with pytest.raises(Mistake) as refused:
        read(tmp_path, probes)
    assert f"model.yaml:{said}" in str(refused.value)


def alarm(number: int, subject: str, **fields: object) -> alarms_pb2.Alarm:
    return alarms_pb2.Alarm(
        id=number,
        kind="shadow_silent",
        model="spam",
        subject=subject,
        detail=f"{subject} answered none of 12 calls in 15 s: 12 UNAVAILABLE",
        remedy="see that it runs",
        raised_at=at(NOON - 90),
        seen_at=at(NOON),
        **fields,  # type: ignore[arg-type]  # fields by name
    )


KNOWN = {"acknowledged_at": at(NOON - 30), "acknowledged_by": "ann", "note": "on it"}


def test_alarms_say_what_was_found_and_what_to_do_and_end_with_1_until_somebody_knows(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    control.answers["ListAlarms"] = alarms_pb2.ListAlarmsResponse(
        alarms=[alarm(1, "A"), alarm(2, "B", **KNOWN)], read_at=at(NOON)
    )
    code, out = shadowctl("alarms")
    assert code == 1
    assert "1  shadow_silent A (spam), on for 1 m 30 s" in out
    assert "A answered none of 12 calls in 15 s: 12 UNAVAILABLE" in out
    assert "→ see that it runs" in out
    assert "acknowledged by ann 30 s ago: on it" in out
    control.answers["ListAlarms"] = alarms_pb2.ListAlarmsResponse(alarms=[alarm(2, "B", **KNOWN)], read_at=at(NOON))
    assert shadowctl("alarms", "list").code == 0
    control.answers["ListAlarms"] = alarms_pb2.ListAlarmsResponse(read_at=at(NOON))
    assert shadowctl("alarms", "--model", "spam") == (0, "no alarm is on\n")
    assert control.asked(alarms_pb2.ListAlarmsRequest)[-1].model == "spam"


def test_a_report_names_alarms_in_one_line_those_that_nobody_knows_of_first(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    report = fixtures.decided()
    report.alarms.extend([*(alarm(n, f"A{n}") for n in range(6)), alarm(9, "B", **KNOWN)])
    control.answers["Compare"] = report
    out = shadowctl("compare", "--model", "spam").out
    assert (
        "alarms: shadow_silent A0, shadow_silent A1, shadow_silent A2, shadow_silent A3 and 2 more (shadowctl alarms)"
        in out
    )
    del report.alarms[:6]
    assert "alarms, all acknowledged: shadow_silent B" in shadowctl("compare", "--model", "spam").out


def test_an_acknowledgement_says_which_alarms_it_was_about(control: CannedControl, shadowctl: Shadowctl) -> None:
    control.answers["AcknowledgeAlarms"] = alarms_pb2.AcknowledgeAlarmsResponse(alarms=[alarm(7, "A", **KNOWN)])
    assert "acknowledged: 7 shadow_silent A" in shadowctl("alarms", "ack", "7", "--note", "on it").out
    (request,) = control.asked(alarms_pb2.AcknowledgeAlarmsRequest)
    assert (list(request.ids), request.actor, request.note) == ([7], "ann", "on it")
    control.answers["AcknowledgeAlarms"] = alarms_pb2.AcknowledgeAlarmsResponse()
    assert "was acknowledged already" in shadowctl("alarms", "ack").out


def standing(version: str, outcome: str, **fields: object) -> alarms_pb2.ProbeStanding:
    return alarms_pb2.ProbeStanding(
        model="spam", version=version, probe="hello", outcome=outcome, address="10.0.0.7:9000", every_seconds=30,
        **fields,  # type: ignore[arg-type]  # fields by name
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [(("ok", "ok"), 0), (("ok", "wrong"), 1), (("failing", "ok"), 1), (("not asked yet", "ok"), 3)],
)
def test_probes_end_with_what_a_script_needs(
    control: CannedControl, shadowctl: Shadowctl, outcomes: tuple[str, ...], code: int
) -> None:
    control.answers["ListProbes"] = alarms_pb2.ListProbesResponse(
        standings=[standing(f"v{n}", outcome) for n, outcome in enumerate(outcomes)], read_at=at(NOON)
    )
    assert shadowctl("probes").code == code


def test_a_changed_answer_and_a_wrong_one_are_told_beneath_the_table(
    control: CannedControl, shadowctl: Shadowctl
) -> None:
    raw = prediction_pb2.PredictResponse(raw=b"\x00\x01")
    control.answers["ListProbes"] = alarms_pb2.ListProbesResponse(
        standings=[standing("A", "wrong", detail="ham, not spam", changed_at=at(NOON - 60), changes=2, answer=raw)],
        read_at=at(NOON),
    )
    out = shadowctl("probes").out
    assert "A, hello: not the known answer (`live` here): ham, not spam" in out
    assert "A, hello: the answer changed 2 times at the same address 10.0.0.7:9000, last 1 m ago" in out
    assert json.loads(shadowctl("probes", "-o", "json").out)["standings"][0]["answer"] == {"raw": "AAE="}


def test_a_models_probes_are_written_as_json_bytes_and_all(control: CannedControl, shadowctl: Shadowctl) -> None:
    probe = alarms_pb2.Probe(name="raw", request=prediction_pb2.PredictRequest(raw=b"\x00\x01"))
    control.answers["ListModels"] = control_pb2.ListModelsResponse(
        models=[control_pb2.Model(name="spam", probes=alarms_pb2.ProbeSet(probes=[probe]))]
    )
    (model,) = json.loads(shadowctl("get", "models", "-o", "json").out)["models"]
    assert model["probes"]["probes"][0]["request"]["raw"] == "AAE="
