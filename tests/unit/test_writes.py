"""Which requests write."""

from __future__ import annotations

import pytest

from multishadow_server.core import writes
from multishadow_server.core.capture import Metadata
from multishadow_server.core.prediction import Json
from multishadow_server.core.writes import Writes
from multishadow_server.errors import InvalidInput

PREDICT = "/multishadow.v1.PredictionService/Predict"


def test_a_model_writes_with_all_of_its_methods_or_some_by_either_name() -> None:
    assert not Writes()
    assert not Writes().covers(PREDICT)
    assert Writes(all=True).covers(PREDICT)
    assert Writes(methods=("Predict",)).covers(PREDICT)
    assert Writes(methods=(PREDICT,)).covers(PREDICT)
    assert not Writes(methods=("ModelInfer", "/other.Service/Predict")).covers(PREDICT)


@pytest.mark.parametrize(
    ("metadata", "attributes", "marked"),
    [
        ((), {}, False),
        ((("x-tenant", "1"),), {"write": True}, False),
        ((("x-multishadow-write", "true"),), {}, True),
        ((("a", "b"), ("x-multishadow-write", "1")), {}, True),
        ((("x-multishadow-write", "Yes, please"),), {}, True),
        ((("x-multishadow-write", b"true"),), {}, True),
        ((("x-multishadow-write", "false"),), {}, False),
        ((("x-multishadow-write", " 0 "),), {}, False),
        ((), {"x-multishadow-write": True}, True),
        ((), {"x-multishadow-write": "true"}, True),
        ((), {"x-multishadow-write": False}, False),
        ((), {"x-multishadow-write": None}, False),
        ((("x-multishadow-write", "false"),), {"x-multishadow-write": True}, True),
    ],
)
def test_a_caller_marks_a_request_and_only_what_plainly_says_no_is_no_mark(
    metadata: Metadata, attributes: dict[str, Json], marked: bool
) -> None:
    assert writes.is_marked(metadata, attributes) is marked


@pytest.mark.parametrize("method", ["", "a b", "Service/Predict", "/a/b/c", "/a.B/", "1st", "x" * 300, "Prédict"])
def test_what_is_no_method_is_refused(method: str) -> None:
    with pytest.raises(InvalidInput, match="is no method"):
        writes.check(Writes(methods=(method,)))


def test_methods_are_allowed_by_name_and_full_name() -> None:
    writes.check(Writes(methods=("Predict", PREDICT, "/Service/Do_2")))
    with pytest.raises(InvalidInput, match="101 are too many"):
        writes.check(Writes(methods=tuple(f"M{number}" for number in range(101))))
