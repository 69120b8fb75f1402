"""What is stored of requests and answers, by their models' terms."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from test_shadowing import CAPTURE

from fakes import KnownSeal
from multishadow.v1 import prediction_pb2 as pb
from multishadow_server.adapters.payload_rewriting import PREDICT, ProtobufPayloadRewriter
from multishadow_server.core import redaction
from multishadow_server.core.capture import Capture
from multishadow_server.core.model import Model
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.prediction import Json
from multishadow_server.core.privacy import CustomPattern, Pattern, Payloads, PrivacyTerms
from multishadow_server.core.redaction import Kind, Policy, Redactor, Seal
from multishadow_server.service.concealing import Concealing
from multishadow_server.service.ports import Flush, KeptAnswers, StoredComparison
from multishadow_server.structs import fill

SECRET = "alice@example.com"
EMAILS = PrivacyTerms(payloads=Payloads.REDACTED, patterns=(Pattern.EMAIL,))
HASHED, NONE = PrivacyTerms(payloads=Payloads.HASHED), PrivacyTerms(payloads=Payloads.NONE)
SEAL = Seal(b"known key")


def hiding(*paths: str, **more: Any) -> PrivacyTerms:
    return PrivacyTerms(payloads=Payloads.REDACTED, paths=paths, **more)


def policy(terms: PrivacyTerms) -> Policy:
    return Policy(terms=terms, seal=SEAL, rewriter=ProtobufPayloadRewriter())


def redacted(terms: PrivacyTerms, value: Json, *root: str) -> Json:
    return Redactor(terms).json(value, *root)


def request(terms: PrivacyTerms, message: pb.PredictRequest, method: str = PREDICT) -> pb.PredictRequest:
    stored = redaction.redact_payload(policy(terms), Kind.REQUEST, method, message.SerializeToString())
    return pb.PredictRequest.FromString(stored)


def response(terms: PrivacyTerms, message: pb.PredictResponse) -> pb.PredictResponse:
    stored = redaction.redact_payload(policy(terms), Kind.RESPONSE, PREDICT, message.SerializeToString())
    return pb.PredictResponse.FromString(stored)


def struct(values: Mapping[str, Any]) -> Struct:
    made = Struct()
    made.update(values)
    return made


def test_a_path_hides_what_stands_there_and_below_and_nothing_else() -> None:
    value: Json = {"user": {"mail": "x", "id": 7.0, "tags": ["a"], "none": None}, "mail": "y"}
    assert redacted(hiding("input.user.mail", "input.user.tags"), value, "input") == {
        "user": {"mail": "[redacted]", "id": 7.0, "tags": "[redacted]", "none": None},
        "mail": "y",
    }
    assert redacted(hiding("input.user"), value, "input") == {"user": "[redacted]", "mail": "y"}
    assert redacted(hiding("output.user"), value, "input") == value


def test_a_star_is_any_key_or_index_of_one_level() -> None:
    value: Json = {"items": [{"name": "a", "n": 1.0}, {"name": "b"}], "name": "c"}
    expected = {"items": [{"name": "[redacted]", "n": 1.0}, {"name": "[redacted]"}], "name": "c"}
    assert redacted(hiding("output.items.*.name"), value, "output") == expected
    assert redacted(hiding("output.items.1"), value, "output")["items"][1] == "[redacted]"  # type: ignore[index, call-overload]  # known above
    assert redacted(hiding("output.*"), value, "output") == {"items": "[redacted]", "name": "[redacted]"}


def test_a_key_with_dots_is_hidden_as_its_path_reads() -> None:
    assert redacted(hiding("input.user.mail"), {"user.mail": "x"}, "input") == {"user.mail": "[redacted]"}


def test_patterns_hide_in_texts_keys_and_numbers_and_leave_the_rest() -> None:
    terms = PrivacyTerms(
        payloads=Payloads.REDACTED,
        patterns=(Pattern.EMAIL, Pattern.CARD, Pattern.KEY),
        custom=(CustomPattern(name="id", regex=r"^\d{11}$"),),
    )
    value: Json = {
        SECRET: ["to " + SECRET, True, None, 1.5, 4111111111111111.0, 12345678901.0],
        "bob@example.com": 2.0,
        "password": "hunter2",
        "max_tokens": 512.0,
    }
    assert redacted(terms, value, "input") == {
        "[email]": ["to [email]", True, None, 1.5, "[card]", "[id]"],
        "[email]'": 2.0,
        "password": "[key]",
        "max_tokens": 512.0,
    }


def test_a_structured_request_is_redacted_with_all_that_stands_around_it() -> None:
    message = pb.PredictRequest(
        model="spam",
        request_id="r-1",
        session_id=SECRET,
        attributes=struct({"mail": SECRET, "phone": "123", "plan": "free"}),
        structured=struct({"user": {"name": "Alice", "mail": SECRET}, "n": 3}),
    )
    stored = request(hiding("input.user.name", "attributes.phone", patterns=(Pattern.EMAIL,)), message)
    assert (stored.model, stored.request_id) == ("spam", "r-1")
    assert stored.session_id == SEAL.text(SECRET)
    assert stored.attributes == struct({"mail": "[email]", "phone": "[redacted]", "plan": "free"})
    assert stored.structured == struct({"user": {"name": "[redacted]", "mail": "[email]"}, "n": 3})


def test_texts_are_redacted_and_labels_vectors_and_numbers_are_left() -> None:
    assert request(EMAILS, pb.PredictRequest(text=f"to {SECRET}")).text == "to [email]"
    assert response(EMAILS, pb.PredictResponse(text=f"to {SECRET}")).text == "to [email]"
    for left in (
        pb.PredictResponse(classification=pb.Classification(label=SECRET, confidence=0.5)),
        pb.PredictResponse(embedding=pb.Embedding(values=[1, 2])),
        pb.PredictResponse(scalar=4111111111111111),
    ):
        assert response(EMAILS, left) == left
    tensor = pb.PredictRequest(tensor=pb.Tensor(shape=[2], values=[1, 2]))
    assert request(EMAILS, tensor) == tensor


def test_a_path_may_hide_all_of_an_input_or_an_output() -> None:
    everything = hiding("input", "output")
    assert request(everything, pb.PredictRequest(text="hello")).text == "[redacted]"
    assert not request(everything, pb.PredictRequest(tensor=pb.Tensor(values=[1, 2]))).tensor.values
    assert request(everything, pb.PredictRequest(structured=struct({"a": 1}))).structured == struct(
        {"[redacted]": True}
    )
    label = response(
        everything, pb.PredictResponse(classification=pb.Classification(label="x", probabilities={"x": 1}))
    )
    assert label.classification == pb.Classification(label="[redacted]")
    assert response(hiding("output.label"), pb.PredictResponse(classification=pb.Classification(label="x"))) == label
    assert not response(everything, pb.PredictResponse(embedding=pb.Embedding(values=[1]))).embedding.values
    scalar = response(everything, pb.PredictResponse(scalar=7)).scalar
    assert scalar != scalar  # noqa: PLR0124  NaN


def test_what_cannot_be_looked_into_is_stored_as_its_hash_and_never_as_it_is() -> None:
    raw = request(EMAILS, pb.PredictRequest(raw=SECRET.encode(), attributes=struct({"plan": "free"})))
    assert raw.raw == SEAL.of(SECRET.encode())
    assert raw.attributes == struct({"plan": "free"})
    assert response(EMAILS, pb.PredictResponse(raw=SECRET.encode())).raw == SEAL.of(SECRET.encode())
    for unreadable in (b"\xff" + SECRET.encode(), b"x" * (redaction.LARGEST_REDACTED + 1)):
        stored = redaction.redact_payload(policy(EMAILS), Kind.RESPONSE, PREDICT, unreadable)
        assert stored == SEAL.of(unreadable)
    other = pb.PredictRequest(text=SECRET).SerializeToString()
    assert redaction.redact_payload(policy(EMAILS), Kind.REQUEST, "/inference.X/Y", other) == SEAL.of(other)


def test_fields_that_nobody_here_knows_are_not_carried_along() -> None:
    # Field 100, length-delimited: what a newer caller sends.
    unknown = b"\xa2\x06" + bytes([len(SECRET)]) + SECRET.encode()
    message = pb.PredictRequest(text="hello").SerializeToString() + unknown
    assert pb.PredictRequest.FromString(message).SerializeToString() == message
    stored = redaction.redact_payload(policy(EMAILS), Kind.REQUEST, PREDICT, message)
    assert stored == pb.PredictRequest(text="hello").SerializeToString()
    # An output of an unknown kind is no answer that could be redacted.
    assert redaction.redact_payload(policy(EMAILS), Kind.RESPONSE, PREDICT, unknown) == SEAL.of(unknown)


def test_redacting_twice_is_redacting_once() -> None:
    terms = hiding("input.name", patterns=tuple(Pattern))
    message = pb.PredictRequest(
        session_id=SECRET, structured=struct({"name": "x", "to": SECRET, "c": 4111111111111111})
    )
    once = request(terms, message)
    assert request(terms, once) == once
    unreadable = redaction.redact_payload(policy(terms), Kind.REQUEST, PREDICT, b"\xff")
    assert redaction.redact_payload(policy(terms), Kind.REQUEST, PREDICT, unreadable) == unreadable


def test_equal_payloads_have_equal_hashes_and_another_key_makes_others() -> None:
    def stored(payload: bytes, key: bytes = b"known key") -> bytes:
        own = replace(policy(HASHED), seal=Seal(key))
        return redaction.redact_payload(own, Kind.REQUEST, PREDICT, payload)

    assert stored(b"one") == stored(b"one")
    assert len({stored(b"one"), stored(b"two"), stored(b"one", b"another")}) == 3
    assert redaction.is_sealed(stored(b"one"))
    assert stored(b"") == b""


A_CAPTURE = replace(
    CAPTURE,
    method=PREDICT,
    session_id="user-17",
    attributes={"mail": SECRET, "plan": "free"},
    request=pb.PredictRequest(text=SECRET).SerializeToString(),
    response=pb.PredictResponse(text=SECRET).SerializeToString(),
    metadata=(("x-mail", SECRET), ("x-bin", b"\x00")),
    fingerprint=b"12345678",
)


def held(capture: Capture) -> str:
    return repr(capture)


@pytest.mark.parametrize("terms", [EMAILS, HASHED, NONE])
def test_nothing_of_a_capture_holds_what_is_hidden(terms: PrivacyTerms) -> None:
    stored = redaction.redact_capture(policy(terms), replace(A_CAPTURE, session_id=SECRET, status_message=SECRET))
    assert SECRET not in held(stored)
    assert stored.fingerprint == b""
    assert stored.request_id == "r-1"
    assert (stored.live_latency, stored.received_at, stored.revision) == (0.01, 1000.0, 5)


def test_a_capture_keeps_as_much_as_its_form_allows() -> None:
    assert redaction.redact_capture(policy(PrivacyTerms()), A_CAPTURE) is A_CAPTURE
    redacted_, hashed, none = (redaction.redact_capture(policy(terms), A_CAPTURE) for terms in (EMAILS, HASHED, NONE))
    assert redacted_.attributes == {"mail": "[email]", "plan": "free"}
    assert redacted_.metadata == (("x-mail", "[email]"),)
    assert redacted_.session_id == "user-17"
    assert (hashed.attributes, hashed.metadata, hashed.session_id) == ({}, (), SEAL.text("user-17"))
    assert (none.request, none.response) == (b"", b"")


def test_ids_are_hashed_where_a_rule_hides_them_so_that_they_are_still_told_apart() -> None:
    assert redaction.stored_request_id(EMAILS, SEAL, f"{SECRET}-1") == SEAL.text(f"{SECRET}-1")
    assert redaction.stored_request_id(hiding("request_id"), SEAL, "r-1") == SEAL.text("r-1")
    assert redaction.stored_session_id(hiding("session_id"), SEAL, "s") == SEAL.text("s")
    assert redaction.stored_request_id(NONE, SEAL, "r-1") == "r-1"
    assert redaction.stored_request_id(NONE, SEAL, SEAL.text("x")) == SEAL.text("x")


def seen(detail: str, outcome: Outcome = Outcome.ERROR, reason: str = "") -> Observation:
    return Observation(version="A", outcome=outcome, reason=reason, detail=detail, similarity=0.25, latency=0.5)


def detail(terms: PrivacyTerms, observation: Observation) -> str:
    stored = redaction.redact_observation(policy(terms), observation, method=PREDICT)
    assert (stored.outcome, stored.similarity, stored.latency) == (observation.outcome, 0.25, 0.5)
    return stored.detail


def test_what_a_shadow_says_of_its_failure_is_redacted_too() -> None:
    assert detail(EMAILS, seen(f"no user {SECRET}")) == "no user [email]"
    assert detail(hiding("input.name"), seen("no user Alice")) == "[redacted]"
    assert detail(HASHED, seen("no user Alice")) == ""
    assert detail(NONE, seen("no user Alice")) == ""


def test_a_secret_that_was_cut_in_two_at_the_end_of_a_detail_is_not_stored() -> None:
    for shift in range(20):
        said = ("x" * (285 + shift) + f" {SECRET}")[: redaction.LONGEST_DETAIL]
        stored = detail(EMAILS, seen(said))
        assert "alice" not in stored
        assert stored.startswith("x" * 200)


def test_what_differs_is_told_without_the_values() -> None:
    shown = '2 of 3 fields differ (live | shadow): name ("Alice" | "Bob"), to ("alice@exam…" | missing)'
    assert detail(EMAILS, seen(shown, Outcome.DIVERGED)) == "2 of 3 fields differ"
    assert detail(EMAILS, seen("live said 'a', shadow said 'b'", Outcome.DIVERGED)) == "live said 'a', shadow said 'b'"
    assert detail(hiding("output.label"), seen("live said 'a', shadow said 'b'", Outcome.DIVERGED)) == ""
    failed = seen(f"ValueError: {SECRET}", Outcome.UNCOMPARABLE, "comparison_failed")
    assert detail(EMAILS, failed) == "ValueError"


def test_attributes_are_counted_by_what_may_be_stored_of_them() -> None:
    attributes: dict[str, Json] = {"mail": SECRET, "plan": "free", "user": {"phone": "123", "tags": ["x"]}}
    count = redaction.segment_attributes
    assert count(PrivacyTerms(), attributes, named=()) is attributes
    hidden = count(hiding("attributes.user.phone", patterns=(Pattern.EMAIL,)), attributes, named=())
    assert hidden == {"mail": "[email]", "plan": "free", "user": {"phone": "[redacted]", "tags": None}}
    # Nobody chose these; "all there are" would store whatever callers send.
    assert count(NONE, attributes, named=()) == {}
    assert count(NONE, attributes, named=("plan",))["plan"] == "free"


def test_counted_levels_are_renamed_as_their_values_would_be_counted_now() -> None:
    def level(terms: PrivacyTerms, name: str, named: tuple[str, ...] = ()) -> str | None:
        return redaction.segment_level(terms, name, named=named, prefix="attributes.")

    assert level(EMAILS, f"attributes.mail={SECRET}") == "attributes.mail=[email]"
    assert level(EMAILS, f"attributes.{SECRET}=x") == "attributes.[email]=x"
    assert (
        level(hiding("attributes.user.phone"), "attributes.user.phone=[20, 50)") == "attributes.user.phone=[redacted]"
    )
    assert level(EMAILS, "hour (UTC)=12") == "hour (UTC)=12"
    assert level(NONE, "attributes.plan=free") is None
    assert level(NONE, "attributes.plan=free", named=("plan",)) == "attributes.plan=free"
    assert level(PrivacyTerms(), f"attributes.mail={SECRET}") == f"attributes.mail={SECRET}"


def test_labels_are_hidden_where_outputs_are() -> None:
    assert redaction.redact_label(hiding("output.name"), {"name": "Alice", "n": 1.0}) == {
        "name": "[redacted]",
        "n": 1.0,
    }
    assert redaction.redact_label(EMAILS, SECRET) == "[email]"
    assert redaction.redact_label(EMAILS, True) is True


def test_what_is_large_or_deep_costs_no_more_than_its_bytes() -> None:
    deep: Any = "x"
    for _ in range(30):
        deep = {"a": deep}
    wide = {f"field {n}": f"{SECRET} " * 2 for n in range(3_000)}
    for values in (deep, wide):
        message = pb.PredictRequest(structured=struct(values))
        assert len(message.SerializeToString()) < redaction.LARGEST_REDACTED
        began = time.process_time()
        request(PrivacyTerms(payloads=Payloads.REDACTED, patterns=tuple(Pattern)), message)
        assert time.process_time() - began < 2


@given(st.binary(max_size=200), st.sampled_from(Kind))
def test_no_bytes_break_redacting(payload: bytes, kind: Kind) -> None:
    own = policy(hiding("input.a", "output.a", patterns=tuple(Pattern)))
    stored = redaction.redact_payload(own, kind, PREDICT, payload)
    assert redaction.redact_payload(own, kind, PREDICT, stored) == stored


KEYS = st.text(max_size=5) | st.just(SECRET)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5).map(lambda words: f"{words} {SECRET} {words}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_an_address_is_nowhere_left_whatever_the_structure(values: dict[str, Any]) -> None:
    message = pb.PredictRequest()
    fill(message.structured, values)
    fill(message.attributes, values)
    stored = redaction.redact_payload(policy(EMAILS), Kind.REQUEST, PREDICT, message.SerializeToString())
    assert SECRET.encode() not in stored
    assert not redaction.is_sealed(stored)


# --- as a worker does it ------------------------------------------------------------------------------------------


class Broken:
    """A PayloadRewriter that fails, and says on what."""

    def rewritten(self, kind: Kind, method: str, payload: bytes, redactor: Redactor, seal: Seal) -> bytes | None:
        raise RuntimeError(payload.decode())


def a_flush(capture: Capture) -> Flush:
    observations = [replace(seen(SECRET), response=pb.PredictResponse(text=SECRET).SerializeToString())]
    return Flush(
        log_id="l",
        partition=0,
        previous_offset=0,
        offset=1,
        comparisons=[StoredComparison(epoch_id=1, capture=capture, observations=observations, kept_because="diverged")],
        answers=[KeptAnswers(epoch_id=1, capture=capture, observations=observations)],
    )


async def concealed(
    terms: PrivacyTerms | None, capture: Capture = A_CAPTURE, rewriter: Any = None
) -> tuple[Flush, Counter[str]]:
    counters: Counter[str] = Counter()
    concealing = Concealing(KnownSeal(), rewriter or ProtobufPayloadRewriter(), counters)
    await concealing.prepare()
    models = {} if terms is None else {"spam": Model(name="spam", privacy=terms)}
    return await concealing.concealed(a_flush(capture), models), counters


async def test_a_worker_stores_by_its_models_terms() -> None:
    full, _ = await concealed(PrivacyTerms())
    assert full == a_flush(A_CAPTURE)
    for terms in (EMAILS, HASHED, NONE):
        flush, _ = await concealed(terms)
        assert SECRET not in repr(flush)
        assert flush.comparisons[0].payloads is terms.payloads
        # No label can be held against what cannot be read.
        assert len(flush.answers) == terms.payloads.readable


@pytest.mark.parametrize(
    "sealed",
    [
        replace(A_CAPTURE, method="/inference.GRPCInferenceService/ModelInfer"),
        replace(A_CAPTURE, response=pb.PredictResponse(text="x" * redaction.LARGEST_REDACTED).SerializeToString()),
    ],
)
async def test_answers_that_are_stored_as_hashes_are_not_kept_to_be_labelled(sealed: Capture) -> None:
    flush, _ = await concealed(EMAILS, sealed)
    assert redaction.is_sealed(flush.comparisons[0].capture.response)
    assert not flush.answers


async def test_of_a_model_that_is_gone_nothing_is_stored() -> None:
    flush, _ = await concealed(None)
    assert SECRET not in repr(flush)
    assert flush.comparisons[0].payloads is Payloads.NONE


async def test_what_our_own_code_fails_on_is_stored_without_its_payloads(caplog: pytest.LogCaptureFixture) -> None:
    flush, counters = await concealed(EMAILS, rewriter=Broken())
    assert SECRET not in repr(flush)
    assert counters == {"privacy.failed": 2}
    assert flush.comparisons[0].payloads is Payloads.NONE
    assert flush.answers == []
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


async def test_heavy_payloads_are_redacted_beside_the_event_loop() -> None:
    text = f"{random.Random(1).randbytes(20_000).hex()} {SECRET}"
    flush, _ = await concealed(EMAILS, replace(A_CAPTURE, request=pb.PredictRequest(text=text).SerializeToString()))
    assert pb.PredictRequest.FromString(flush.comparisons[0].capture.request).text.endswith(" [email]")
