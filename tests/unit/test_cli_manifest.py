from __future__ import annotations

import io
from pathlib import Path

import pytest

from multishadow.v1.control_pb2 import (
    ApplyModelRequest,
    CircuitBreaker,
    Comparator,
    VersionLimits,
    VersionSpec,
    WriteTerms,
)
from multishadow_client.cli import manifest
from multishadow_client.cli.exit_code import Mistake
from multishadow_server.core import registration
from multishadow_server.entrypoints import control_messages

WHOLE = """\
model: spam
default_timeout_ms: 5_000
comparator:
  threshold: 0.9
  ignored_fields: [meta.timestamp, items.*.id]
  absolute_tolerance: 1e-9   # YAML 1.1 takes this for text
versions:
  - {name: base, address: "127.0.0.1:9000"}
  - name: 1.0
    address: 127.0.0.1:9001
    timeout_ms: 250
    max_in_flight: 8
"""


def read(tmp_path: Path, text: str) -> list[manifest.ModelDocument]:
    file = tmp_path / "model.yaml"
    file.write_text(text, encoding="utf-8")
    return manifest.read(file)


def mistake(tmp_path: Path, text: str) -> str:
    with pytest.raises(Mistake) as caught:
        read(tmp_path, text)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_a_whole_model_is_read(tmp_path: Path) -> None:
    (document,) = read(tmp_path, WHOLE)
    assert document.where == f"{tmp_path}/model.yaml:1"
    assert document.request == ApplyModelRequest(
        model="spam",
        default_timeout_ms=5000,
        comparator=Comparator(threshold=0.9, ignored_fields=["meta.timestamp", "items.*.id"], absolute_tolerance=1e-9),
        versions=[
            VersionSpec(name="base", address="127.0.0.1:9000"),
            VersionSpec(name="1.0", address="127.0.0.1:9001", timeout_ms=250, max_in_flight=8),
        ],
    )


def test_the_documented_file_names_every_key_there_is(tmp_path: Path) -> None:
    documentation = Path(__file__, "../../../docs/shadowctl.md").resolve().read_text(encoding="utf-8")
    (document,) = read(tmp_path, documentation.split("```yaml\n")[1].split("```")[0])
    assert [version.name for version in document.request.versions] == ["base", "A"]
    written = documentation.split("```yaml\n")[1]
    for message in (ApplyModelRequest, Comparator, VersionSpec):
        keys = {field.name for field in message.DESCRIPTOR.fields} - {"actor"}
        assert not {key for key in keys if f"{key}:" not in written}


def test_the_documented_file_can_be_applied_as_it_stands(tmp_path: Path) -> None:
    documentation = Path(__file__, "../../../docs/shadowctl.md").resolve().read_text(encoding="utf-8")
    (document,) = read(tmp_path, documentation.split("```yaml\n")[1].split("```")[0])
    model = registration.register(None, control_messages.model_spec(document.request), now=0.0).model
    assert model.probes
    assert model.dead_letters


def test_what_is_not_said_stays_as_it_is(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "model: spam")
    assert not document.request.HasField("comparator")
    assert not document.request.HasField("default_timeout_ms")


def test_segments_are_a_list_of_attributes_or_all(tmp_path: Path) -> None:
    (some,) = read(tmp_path, "model: spam\nsegments: [country, user.plan]")
    assert list(some.request.segments.attributes) == ["country", "user.plan"]
    (every,) = read(tmp_path, "model: spam\nsegments: all")
    assert every.request.HasField("segments")
    assert not every.request.segments.attributes
    assert not read(tmp_path, "model: spam")[0].request.HasField("segments")
    assert "a list of attributes, e.g. [country, user.plan] (or all)" in mistake(tmp_path, "model: a\nsegments: some")


def test_a_file_may_hold_several_models(tmp_path: Path) -> None:
    documents = read(tmp_path, "model: a\n---\nmodel: b\n---\n")
    assert [(document.request.model, document.where[-2:]) for document in documents] == [("a", ":1"), ("b", ":3")]


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("model: spam"))
    assert manifest.read(Path("-"))[0].where == "<stdin>:1"


def test_an_unknown_key_is_named_with_the_nearest_that_is_allowed(tmp_path: Path) -> None:
    assert mistake(tmp_path, "model: spam\ncomparator:\n  tresholt: 0.9\n") == (
        "model.yaml:3:3: a comparator has no 'tresholt'; did you mean 'threshold'? "
        "Allowed: threshold, ignored_fields, absolute_tolerance, relative_tolerance, output"
    )


def test_malformed_yaml_is_shown_where_it_breaks(tmp_path: Path) -> None:
    said = mistake(tmp_path, "model: spam\nversions:\n  - name: A: B\n")
    assert said.startswith("model.yaml:3:12: this is no YAML: mapping values are not allowed here")
    assert said.endswith("\n      - name: A: B\n               ^")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "model.yaml: there is no model in it; it needs at least `model:` and `versions:`"),
        ("# nothing\n---\n", "model.yaml: there is no model in it; it needs at least `model:` and `versions:`"),
        (
            "[a, b]",
            (
                "model.yaml:1:1: a model is a mapping of model, comparator, default_timeout_ms, labels, gates, "
                "segments, privacy, protocol, max_request_bytes, writes, writing_methods, sessions, probes, "
                "dead_letters, cost, versions"
            ),
        ),
        ("versions: []", "model.yaml:1:1: a model needs 'model'"),
        ("model: a\nversions: [{name: A}]", "model.yaml:2:12: a version needs 'address'"),
        ("model: a\nversions: {A: x}", "model.yaml:2:11: a list of versions must stand here"),
        ("model: a\nmodel: b", "model.yaml:2:1: 'model' stands here twice"),
        ("model: a\n? [x]\n: y", "model.yaml:2:3: a key must be a plain word"),
        ("model: " + 5000 * "[", "model.yaml: its brackets are nested too deeply for a model file"),
        ("model:", "model.yaml:1:7: a text must stand here"),
        ("model: [a]", "model.yaml:1:8: a text must stand here"),
        (
            "model: a\ncomparator: {threshold: high}",
            "model.yaml:2:25: a number must stand here, e.g. 0.85; got 'high'",
        ),
        ("model: a\ncomparator: {threshold: .nan}", "model.yaml:2:25: a number must stand here, e.g. 0.85; got '.nan'"),
        ("model: a\ncomparator: {threshold: nan}", "model.yaml:2:25: a number must stand here, e.g. 0.85; got 'nan'"),
        (
            "model: a\ndefault_timeout_ms: 2.5",
            "model.yaml:2:21: a whole number above 0 must stand here, e.g. 2000; got '2.5'",
        ),
        (
            "model: a\ndefault_timeout_ms: 99999999999",
            "model.yaml:2:21: a whole number above 0 must stand here, e.g. 2000; got '99999999999'",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert mistake(tmp_path, text) == said


def test_a_control_character_is_no_yaml(tmp_path: Path) -> None:
    assert mistake(tmp_path, "model: a\x07b").startswith("model.yaml: this is no YAML")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"cannot read .*nowhere\.yaml: No such file or directory"):
        manifest.read(tmp_path / "nowhere.yaml")
    with pytest.raises(Mistake, match="Is a directory"):
        manifest.read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9")
    with pytest.raises(Mistake, match="not UTF-8 text at byte 10"):
        manifest.read(tmp_path / "latin.yaml")


def test_limits_of_gates_are_read_with_spans_and_shares(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "model: spam\ngates: {minimum_duration: 36h, divergence: 0.05, divergent_samples: 0}")
    limits = document.request.gates
    assert (limits.minimum_duration_seconds, limits.divergence, limits.divergent_samples) == (36 * 3_600, 0.05, 0)
    assert not limits.HasField("completeness")
    assert mistake(tmp_path, "model: a\ngates: {divergent_samples: -1}") == (
        "model.yaml:2:28: a whole number from 0 must stand here, e.g. 2000; got '-1'"
    )
    at_once = read(tmp_path, "model: spam\ngates: {minimum_duration: 0}")[0].request.gates
    assert at_once.HasField("minimum_duration_seconds")


def test_limits_and_writes_are_read(tmp_path: Path) -> None:
    text = """
model: spam
max_request_bytes: 1_000_000
writing_methods: [Update, /my.Service/Delete]
versions:
  - name: A
    address: 127.0.0.1:9001
    limits:
      requests_per_second: 0.5
      bytes_per_second: 5e6
      capacity: 200
      utilisation: 0.8
      max_request_bytes: 500000
      circuit_breaker: {failures: 5}
  - {name: B, address: "127.0.0.1:9002", limits: {circuit_breaker: on}}
  - {name: C, address: "127.0.0.1:9003", limits: none}
  - {name: D, address: "127.0.0.1:9004"}
"""
    (document,) = read(tmp_path, text)
    request = document.request
    assert request.max_request_bytes == 1_000_000
    assert request.writes == WriteTerms(methods=["Update", "/my.Service/Delete"])
    a, b, c, d = request.versions
    assert a.limits == VersionLimits(
        requests_per_second=0.5,
        bytes_per_second=5e6,
        capacity=200,
        utilisation=0.8,
        max_request_bytes=500_000,
        circuit_breaker=CircuitBreaker(failures=5),
    )
    assert b.limits == VersionLimits(circuit_breaker=CircuitBreaker())
    assert c.HasField("limits")
    assert c.limits == VersionLimits()
    assert not d.HasField("limits")


def test_a_model_that_writes_or_no_longer_writes_says_so_and_one_that_says_nothing_leaves_it(tmp_path: Path) -> None:
    (writing,) = read(tmp_path, "model: spam\nwrites: true")
    assert writing.request.writes == WriteTerms(all=True)
    (harmless,) = read(tmp_path, "model: spam\nwrites: false")
    assert harmless.request.HasField("writes")
    assert harmless.request.writes == WriteTerms()
    (silent,) = read(tmp_path, "model: spam")
    assert not silent.request.HasField("writes")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: a\nwrites: maybe", "model.yaml:2:9: true or false must stand here; got 'maybe'"),
        (
            "model: a\nversions: [{name: A, address: a:1, limits: {circuit_breaker: 5}}]",
            "model.yaml:2:62: `circuit_breaker` (or on) is a mapping of failures, share",
        ),
    ],
)
def test_what_is_wrong_with_limits_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert mistake(tmp_path, text) == said


def test_a_limit_that_there_is_not_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    said = mistake(tmp_path, "model: a\nversions: [{name: A, address: a:1, limits: {requests_per_secnd: 1}}]")
    assert said == (
        "model.yaml:2:45: `limits` (or none) has no 'requests_per_secnd'; did you mean 'requests_per_second'? Allowed: "
        "requests_per_second, bytes_per_second, capacity, utilisation, max_request_bytes, circuit_breaker"
    )
