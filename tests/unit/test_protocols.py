"""What models may be registered to speak, and how requests are renamed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow.oip.v2 import inference_pb2 as oip
from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.postgres.records import comparator_of, comparator_record
from multishadow_server.core import registration
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.model_spec import ModelSpec, VersionSpec
from multishadow_server.core.protocols import (
    LONGEST_RENAMING,
    LONGEST_SERVED_NAME,
    MOST_LABELS,
    OutputTerms,
    Protocol,
    ReadAs,
    protocol_of,
    read_as_of,
    renaming,
)
from multishadow_server.errors import InvalidInput

OUTPUT = OutputTerms(tensor="logits", read_as=ReadAs.CLASSIFICATION, labels=("ham", "spam"))


def registered(present: Model | None = None, **spec: Any) -> registration.Registration:
    return registration.register(present, ModelSpec(name="spam", **spec), now=1.0)


@given(name=st.text(max_size=300), version=st.text(max_size=9))
def test_a_renamed_request_differs_in_its_name_alone(name: str, version: str) -> None:
    request = oip.ModelInferRequest(model_name="spam", model_version="1", id="r", raw_input_contents=[b"x"])
    renamed = oip.ModelInferRequest.FromString(request.SerializeToString() + renaming(name, version))
    request.model_name, request.model_version = name or "spam", version or "1"
    assert renamed == request


def test_no_renaming_is_longer_than_what_is_sent_beyond_the_largest_request() -> None:
    assert len(renaming("\U0001f600" * LONGEST_SERVED_NAME, "\U0001f600" * LONGEST_SERVED_NAME)) == LONGEST_RENAMING


def test_a_request_of_our_own_is_renamed_alike_and_one_without_another_name_stays_as_it_is() -> None:
    version = Version(model="spam", name="A", address="a:1", served_name="spam-v2")
    body = prediction_pb2.PredictRequest(model="spam", text="hi").SerializeToString()
    assert prediction_pb2.PredictRequest.FromString(version.asked(body)).model == "spam-v2"
    plain = Version(model="spam", name="A", address="a:1")
    assert plain.asked(body) is body
    assert (plain.location, version.location) == ("a:1", "a:1 as spam-v2")
    assert replace(plain, served_version="3").location == "a:1 as spam, version 3"


def test_what_a_model_speaks_stays_until_something_else_is_said() -> None:
    first = registered(protocol=Protocol.OIP, comparator=Comparator(output=OUTPUT))
    assert first.model.protocol is Protocol.OIP
    again = registered(first.model, comparator=Comparator(threshold=0.9, output=OUTPUT))
    assert again.model.comparator == Comparator(threshold=0.9, output=OUTPUT, protocol=Protocol.OIP)
    other = registered(first.model, comparator=Comparator(), protocol=Protocol.MULTISHADOW)
    assert other.changes == (
        "protocol: oip → multishadow",
        "output: logits as classification of 2 labels → the only output",
    )


def test_another_name_at_the_server_is_another_implementation() -> None:
    present = registered(protocol=Protocol.OIP, versions=(VersionSpec(name="A", address="a:1"),)).model
    found = registered(present, versions=(VersionSpec(name="A", address="a:1", served_name="s", served_version="2"),))
    assert found.replaced == frozenset({"A"})
    assert found.changes == ("name of A at its server: spam → s, version 2",)
    back = registered(found.model, versions=(VersionSpec(name="A", address="a:1", served_name=""),))
    assert back.model.versions[0].served_name == ""
    assert back.model.versions[0].served_version == "2"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"comparator": Comparator(output=OUTPUT)}, "say `protocol: oip`, or leave it out"),
        ({"protocol": Protocol.OIP, "comparator": Comparator(output=OutputTerms(labels=("a", "")))}, "labels: '' must"),
        (
            {"protocol": Protocol.OIP, "comparator": Comparator(output=OutputTerms(labels=("a",) * (MOST_LABELS + 1)))},
            "at most 10,000 are allowed, not 10,001",
        ),
        (
            {
                "protocol": Protocol.OIP,
                "comparator": Comparator(output=OutputTerms(labels=("a",), read_as=ReadAs.EMBEDDING)),
            },
            "embedding has no classes",
        ),
        (
            {"protocol": Protocol.OIP, "comparator": Comparator(output=OutputTerms(tensor="t" * 257))},
            "output.tensor: at",
        ),
        ({"versions": (VersionSpec(name="A", address="a:1", served_version="2"),)}, "served_version: requests of Pred"),
        ({"versions": (VersionSpec(name="A", address="a:1", served_name="a\nb"),)}, "served_name: at most 256"),
    ],
)
def test_what_cannot_be_followed_is_refused(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        registered(**spec)
    assert said in str(refused.value)


def test_unknown_words_are_refused_with_those_that_are_allowed() -> None:
    with pytest.raises(InvalidInput, match="protocol: allowed are multishadow and oip, not 'v2'"):
        protocol_of("v2")
    with pytest.raises(
        InvalidInput, match="read_as: allowed are classification, embedding, text, scalar, structured, raw"
    ):
        read_as_of("label")


def test_a_comparator_is_stored_whole_and_old_ones_speak_our_own_protocol() -> None:
    whole = Comparator(threshold=0.5, ignored_fields=("a",), protocol=Protocol.OIP, output=OUTPUT)
    assert comparator_of(comparator_record(whole)) == whole
    old = {"threshold": 0.5, "ignored_fields": [], "absolute_tolerance": 0.0, "relative_tolerance": 0.0}
    assert comparator_of(old).protocol is Protocol.MULTISHADOW
    assert hash(comparator_of(comparator_record(whole))) == hash(whole)
