"""Answers of the Open Inference Protocol as bytes, friendly and hostile."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow.oip.v2 import inference_pb2 as oip
from multishadow_server.adapters import inference_codec
from multishadow_server.adapters.answer_codec import AnswerCodec, fingerprint
from multishadow_server.core import comparison
from multishadow_server.core.comparison import Verdict
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import (
    Classification,
    Embedding,
    Prediction,
    Raw,
    Scalar,
    Structured,
    Text,
    Unreadable,
)
from multishadow_server.core.protocols import OutputTerms, Protocol, ReadAs

NUMBERS: dict[str, tuple[str, str, list[Any]]] = {
    "UINT8": ("uint_contents", "<u1", [0, 255]),
    "UINT16": ("uint_contents", "<u2", [0, 65_535]),
    "UINT32": ("uint_contents", "<u4", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", "<u8", [0, 2**53]),
    "INT8": ("int_contents", "<i1", [-128, 127]),
    "INT16": ("int_contents", "<i2", [-32_768, 32_767]),
    "INT32": ("int_contents", "<i4", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", "<i8", [-(2**53), 2**53]),
    "FP32": ("fp32_contents", "<f4", [0.5, -1.5]),
    "FP64": ("fp64_contents", "<f8", [0.1, -1e300]),
}


def tensor(
    datatype: str, shape: list[int], name: str = "out", **contents: Any
) -> oip.ModelInferResponse.InferOutputTensor:
    return oip.ModelInferResponse.InferOutputTensor(
        name=name, datatype=datatype, shape=shape, contents=oip.InferTensorContents(**contents) if contents else None
    )


def read(
    *tensors: oip.ModelInferResponse.InferOutputTensor, raw: list[bytes] | None = None, **terms: Any
) -> Prediction:
    response = oip.ModelInferResponse(outputs=tensors, raw_output_contents=raw or [])
    return inference_codec.decode(OutputTerms(**terms), response.SerializeToString())


def refusal(*tensors: oip.ModelInferResponse.InferOutputTensor, raw: list[bytes] | None = None, **terms: Any) -> str:
    found = read(*tensors, raw=raw, **terms)
    assert isinstance(found, Unreadable)
    return found.reason


def framed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_are_read_alike_however_they_are_held(datatype: str) -> None:
    field, dtype, values = NUMBERS[datatype]
    expected = Structured(value={"rows": [float(value) for value in values]})
    contents: dict[str, Any] = {field: values}
    inline = read(tensor(datatype, [2], **contents), read_as=ReadAs.STRUCTURED)
    raw = read(tensor(datatype, [2]), raw=[np.array(values, dtype=dtype).tobytes()], read_as=ReadAs.STRUCTURED)
    assert inline == raw == expected


def test_sixteen_bit_floats_and_booleans_are_read_from_raw_contents() -> None:
    half = read(tensor("FP16", [2]), raw=[np.array([0.5, -2], "<f2").tobytes()], read_as=ReadAs.STRUCTURED)
    assert half == Structured(value={"rows": [0.5, -2.0]})
    brain = np.array([0.5, -2], "<f4").view("<u4") >> 16
    wide = read(tensor("BF16", [2]), raw=[brain.astype("<u2").tobytes()], read_as=ReadAs.STRUCTURED)
    assert wide == Structured(value={"rows": [0.5, -2.0]})
    # Any byte but 0 is true.
    true = read(tensor("BOOL", [2]), raw=[b"\x00\x07"])
    assert true == read(tensor("BOOL", [2], bool_contents=[False, True])) == Structured(value={"rows": ["0", "1"]})


def test_bytes_are_read_from_both() -> None:
    inline = read(tensor("BYTES", [2], bytes_contents=["héllo".encode(), b""]))
    assert inline == read(tensor("BYTES", [2]), raw=[framed("héllo".encode(), b"")]) == Text(text="héllo\n")


def test_a_lone_output_is_read_by_its_type_and_size() -> None:
    assert read(tensor("BYTES", [1], bytes_contents=[b"spam"])) == Text(text="spam")
    assert read(tensor("INT64", [1, 1], int64_contents=[2])) == Classification(label="2")
    assert read(tensor("INT64", [1], int64_contents=[1]), labels=("ham", "spam")) == Classification(label="spam")
    assert read(tensor("FP64", [], fp64_contents=[0.25])) == Scalar(value=0.25)
    vector = read(tensor("FP32", [1, 2], fp32_contents=[3.0, 4.0]))
    assert isinstance(vector, Embedding)
    assert vector.values.tolist() == [3.0, 4.0]


def test_scores_are_the_class_of_the_largest_with_its_probability() -> None:
    terms: dict[str, Any] = {"read_as": ReadAs.CLASSIFICATION, "labels": ("ham", "spam")}
    probable = read(tensor("FP64", [1, 2], fp64_contents=[0.25, 0.75]), **terms)
    assert probable == Classification(label="spam", confidence=0.75)
    logits = read(tensor("FP64", [1, 2], fp64_contents=[0.0, math.log(3)]), **terms)
    assert isinstance(logits, Classification)
    assert logits.label == "spam"
    assert logits.confidence == pytest.approx(0.75)
    certain = read(tensor("FP64", [2], fp64_contents=[-math.inf, 7.0]), **terms)
    assert certain == Classification(label="spam", confidence=None)


def test_a_batch_agrees_only_if_every_row_does() -> None:
    terms: dict[str, Any] = {"read_as": ReadAs.CLASSIFICATION, "labels": ("ham", "spam")}
    rows = [read(tensor("FP32", [3, 2], fp32_contents=scores), **terms) for scores in ([0, 1, 1, 0, 0, 1], [0, 1] * 3)]
    assert rows[0] == Structured(value={"rows": ["spam", "ham", "spam"]})
    assert comparison.compare(Comparator(), rows[0], rows[0]).verdict is Verdict.AGREE
    assert comparison.compare(Comparator(), rows[0], rows[1]).verdict is Verdict.DIVERGE


def test_the_tensor_that_is_named_is_compared() -> None:
    outputs = (tensor("FP32", [1], "score", fp32_contents=[0.5]), tensor("BYTES", [1], "text", bytes_contents=[b"hi"]))
    assert read(*outputs, tensor="text") == Text(text="hi")
    assert read(outputs[0], tensor("BYTES", [1], "text"), raw=[b""], tensor="text") != Text(text="")
    said = refusal(*outputs)
    assert "2 (score, text): say which to compare in comparator.output.tensor" in said
    assert "no output tensor 'logits'; it has 2 (score, text)" in refusal(*outputs, tensor="logits")
    assert "no output tensor" in refusal()


def test_json_text_is_structured_where_that_is_wanted() -> None:
    one = tensor("BYTES", [1], bytes_contents=[b'{"a": [1, null, true], "b": "x"}'])
    assert read(one, read_as=ReadAs.STRUCTURED) == Structured(value={"a": [1.0, None, True], "b": "x"})
    bare = tensor("BYTES", [1], bytes_contents=[b"3"])
    assert read(bare, read_as=ReadAs.STRUCTURED) == Structured(value={"rows": [3.0]})
    deep = b"[" * 5_000 + b"]" * 5_000
    for hostile in (deep, b'{"a":' * 150 + b"1" + b"}" * 150, b"{", b"\xff"):
        said = refusal(tensor("BYTES", [1], bytes_contents=[hostile]), read_as=ReadAs.STRUCTURED)
        assert "no JSON, or nests deeper than 100 levels" in said
    huge = tensor("BYTES", [1], bytes_contents=[b'{"a": 1' + b"0" * 400 + b"}"])
    assert read(huge, read_as=ReadAs.STRUCTURED) == Structured(value={"a": math.inf})


def test_raw_bytes_are_the_same_however_they_came() -> None:
    inline = read(tensor("FP32", [1], fp32_contents=[1.5]), read_as=ReadAs.RAW)
    assert inline == read(tensor("FP32", [1]), raw=[struct.pack("<f", 1.5)], read_as=ReadAs.RAW)
    text = read(tensor("BYTES", [1], bytes_contents=[b"hi"]), read_as=ReadAs.RAW)
    assert text == Raw(data=framed(b"hi"))


@pytest.mark.parametrize(
    ("answer", "raw", "said"),
    [
        (tensor("FP32", [1, 3], fp32_contents=[1, 2]), None, "its shape [1, 3] does not hold its 2 elements"),
        (tensor("FP32", [2**62, 2**62], fp32_contents=[1]), None, "does not hold its 1 elements"),
        (tensor("FP32", [-1], fp32_contents=[1]), None, "its shape [-1] has a negative length"),
        (tensor("FP32", [1] * 99 + [2], fp32_contents=[1]), None, "[1, 1, 1, 1, 1, 1, 1, 1, …] does not hold"),
        (tensor("FP32", [2]), [b"\x00" * 7], "7 bytes are no whole number of FP32 elements"),
        (tensor("FP32", [2]), [b"\x00" * 4], "does not hold its 1 elements"),
        (tensor("BYTES", [1]), [struct.pack("<I", 9) + b"short"], "element 0 goes beyond the end of its 9 bytes"),
        (tensor("BYTES", [2]), [framed(b"whole") + b"\x01\x00"], "element 1 goes beyond the end"),
        (tensor("BYTES", [1]), [b"\xff\xff\xff\xff"], "element 0 goes beyond the end"),
        (tensor("FP32", [1]), [b"", b""], "2 raw contents for 1 output tensors"),
        (tensor("FP16", [1], fp32_contents=[1]), None, "FP16 has no contents that are not raw"),
        (tensor("FLOAT", [1], fp32_contents=[1]), None, "'FLOAT' is no data type of the protocol"),
        (tensor("INT8", [1], int_contents=[300]), None, "an element is out of the range of INT8"),
        (tensor("INT64", [1], int_contents=[3]), None, "does not hold its 0 elements"),
        (tensor("FP32", [0]), None, "it has no elements"),
        (tensor("BYTES", [1], bytes_contents=[b"\xff"]), None, "no UTF-8 text at byte 0"),
    ],
)  # fmt: skip
def test_what_is_not_what_it_says_is_unreadable_and_says_in_what(
    answer: oip.ModelInferResponse.InferOutputTensor, raw: list[bytes] | None, said: str
) -> None:
    assert said in refusal(answer, raw=raw)


@pytest.mark.parametrize(
    ("answer", "terms", "said"),
    [
        (tensor("FP32", [2, 1], fp32_contents=[1, 2]), {"read_as": ReadAs.CLASSIFICATION}, "scores of one class agree"),
        (tensor("FP32", [2], fp32_contents=[math.nan, 1]), {"read_as": ReadAs.CLASSIFICATION}, "score is not a number"),
        (tensor("INT64", [1], int64_contents=[-1]), {"labels": ("a", "b")}, "class -1 has no name"),
        (tensor("FP32", [3], fp32_contents=[0, 0, 1]), {"read_as": ReadAs.CLASSIFICATION, "labels": ("a", "b")},
         "class 2 has no name; comparator.output.labels has 2"),
        (tensor("FP32", [1], fp32_contents=[1]), {"read_as": ReadAs.TEXT}, "FP32 is no text"),
        (tensor("BYTES", [1], bytes_contents=[b"1"]), {"read_as": ReadAs.EMBEDDING}, "BYTES are no numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_as_it_should_be_is_unreadable(
    answer: oip.ModelInferResponse.InferOutputTensor, terms: dict[str, Any], said: str
) -> None:
    assert said in refusal(answer, **terms)


def test_numbers_beyond_32_bits_are_infinite_in_an_embedding_and_uncomparable() -> None:
    answer = read(tensor("FP64", [2], fp64_contents=[1e300, 1.0]))
    assert comparison.compare(Comparator(), answer, answer).reason == "infinite"


DATATYPES = st.sampled_from(["BOOL", "INT8", "INT64", "UINT64", "FP16", "BF16", "FP32", "FP64", "BYTES", "", "NONE"])


@given(
    datatype=DATATYPES,
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=3),
    raw=st.lists(st.binary(max_size=24), max_size=2),
    numbers=st.lists(st.floats(width=32), max_size=4),
    read_as=st.sampled_from(ReadAs),
)
def test_no_lie_about_a_tensor_raises(
    datatype: str, shape: list[int], raw: list[bytes], numbers: list[float], read_as: ReadAs
) -> None:
    answer = tensor(datatype, shape, fp32_contents=numbers, fp64_contents=numbers)
    first, second = (read(answer, raw=raw, read_as=read_as) for _ in range(2))
    comparison.compare(Comparator(), first, second)


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    comparator = Comparator(protocol=Protocol.OIP)
    comparison.compare(comparator, AnswerCodec().decode(comparator, data), Text(text=""))


def test_bytes_that_are_no_response_are_unreadable() -> None:
    found = inference_codec.decode(OutputTerms(), b"\xff\xff\xff")
    assert isinstance(found, Unreadable)
    assert found.reason.startswith("no ModelInferResponse (3 bytes)")


def test_requests_of_one_input_have_one_fingerprint_whatever_they_are_called() -> None:
    def taken(model: str = "spam", values: tuple[float, ...] = (1.0,), **fields: Any) -> bytes:
        given = oip.ModelInferRequest.InferInputTensor(
            name="x", datatype="FP32", shape=[1], contents=oip.InferTensorContents(fp32_contents=values)
        )
        request = oip.ModelInferRequest(model_name=model, inputs=[given], **fields)
        return fingerprint(Protocol.OIP, "spam", request.SerializeToString())

    known = taken()
    assert len(known) == 8
    plan = {"plan": oip.InferParameter(string_param="pro")}
    assert taken(id="r-1", model="other", model_version="2", parameters=plan) == known
    assert taken(values=(2.0,)) != known
    assert taken(raw_input_contents=[b"\x00"]) != known
    assert taken(outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name="a")]) != known
    assert fingerprint(Protocol.OIP, "spam", b"\xff") == b""
