"""Stored requests and answers as people look at them."""

from __future__ import annotations

import pytest

from divergent_requests import EVIL, OIP, asked, hostile, label, number, raw, scores, structured, text, vector
from multishadow.oip.v2 import inference_pb2
from multishadow.v1 import prediction_pb2 as pb
from multishadow_server.adapters.stored_messages import ProtobufStoredMessages
from multishadow_server.core import payload_glance
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator
from multishadow_server.core.payload_glance import MOST_CHARACTERS, PayloadState
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.protocols import Protocol

READ = ProtobufStoredMessages()
SEALED = b"hmac-sha256:" + b"a" * 64


def test_every_kind_of_answer_is_shown_in_words() -> None:
    shown = {
        glance.kind: glance.text or glance.tensors[0].elements
        for glance in (
            READ.shown_answer(Comparator(), answer)
            for answer in (
                text("hi"),
                label("spam", 0.5),
                structured(a=1.0),
                vector(1.5, 2.0),
                number(3.0),
                raw(b"\0z"),
            )
        )
    }
    assert shown == {
        "text": "hi",
        "classification": '{\n  "label": "spam",\n  "confidence": 0.5\n}',
        "structured": '{\n  "a": 1.0\n}',
        "embedding": ("1.5", "2"),
        "number": "3.0",
        "bytes": "00 7a",
    }


def test_all_tensors_of_an_answer_are_shown_though_one_is_compared() -> None:
    answer = scores(0.25, 0.75)
    assert READ.shown_answer(OIP, answer).kind == "embedding"
    found = READ.tensors(Protocol.OIP, answer)
    assert [(each.name, each.datatype, each.shape, each.elements) for each in found] == [
        ("scores", "FP32", "[1, 2]", ("0.25", "0.75")),
        ("ids", "INT64", "[1]", ("7",)),
    ]
    assert READ.tensors(Protocol.MULTISHADOW, answer) == ()
    assert READ.tensors(Protocol.OIP, b"\xff") == ()


def test_a_tensor_that_lies_says_so_and_the_others_are_shown() -> None:
    request = inference_pb2.ModelInferRequest()
    request.inputs.add(name="odd", datatype="FP32", shape=[10**12])
    request.inputs.add(name="words", datatype="BYTES", shape=[1], contents={"bytes_contents": [EVIL.encode()]})
    request.raw_input_contents.append(b"\0\0\0")
    found = READ.shown_request(Protocol.OIP, request.SerializeToString()).tensors
    assert "no whole number of FP32 elements" in found[0].problem
    assert found[1].elements == (EVIL,)


@pytest.mark.parametrize(
    ("request_", "kind", "said"),
    [
        (asked("hello"), "text", "hello"),
        (pb.PredictRequest(tensor=pb.Tensor(shape=[2], values=[1, 2])).SerializeToString(), "tensors", ""),
        (pb.PredictRequest(raw=b"\1").SerializeToString(), "bytes", "01"),
        (b"", "unreadable", "a request that sets no input known here"),
        (b"\xff\xff", "unreadable", "no request: "),
    ],
)
def test_what_was_asked_is_shown(request_: bytes, kind: str, said: str) -> None:
    found = READ.shown_request(Protocol.MULTISHADOW, request_)
    assert found.kind == kind
    assert found.text.startswith(said)


def test_no_more_than_a_bound_of_any_answer_is_shown(epoch: Epoch) -> None:
    for stored in hostile(epoch):
        for answer in (stored.capture.response, *(each.response for each in stored.observations)):
            glance = READ.shown_answer(Comparator(), answer)
            assert len(glance.text) <= MOST_CHARACTERS
            assert sum(len(word) for each in glance.tensors for word in each.elements) < MOST_CHARACTERS


@pytest.fixture
def epoch() -> Epoch:
    return Epoch(
        id=1, experiment_id=1, model="spam", number=1, live="base", candidates=("A", "B"), comparator=Comparator(),
        from_revision=1, until_revision=None, opened_at=0.0, reason="", bucket_seconds=3600,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("payloads", "payload", "state"),
    [
        (Payloads.FULL, b"", PayloadState.WHOLE),
        (Payloads.FULL, SEALED, PayloadState.WHOLE),
        (Payloads.REDACTED, b"words", PayloadState.REDACTED),
        (Payloads.REDACTED, SEALED, PayloadState.HASHED),
        (Payloads.REDACTED, b"", PayloadState.ABSENT),
        (Payloads.HASHED, SEALED, PayloadState.HASHED),
        (Payloads.NONE, b"", PayloadState.ABSENT),
    ],
)
def test_what_is_left_of_a_payload_is_known(payloads: Payloads, payload: bytes, state: PayloadState) -> None:
    assert payload_glance.state_of(payloads, payload) is state
