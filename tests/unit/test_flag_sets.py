"""Which flags a reader asks for, and which of them changed."""

from __future__ import annotations

from typing import Any

import pytest

from multishadow_server.core import flag_sets
from multishadow_server.errors import InvalidInput


def flag(**fields: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on", **fields}


FLAGS = {
    "plain": flag(),
    "described": flag(metadata={"owner": "ann"}),
    "payments": flag(metadata={"flagSetId": "payments"}),
    "odd": flag(metadata={"flagSetId": 7}),
}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", {"plain", "described", "payments", "odd"}),
        ("  ", {"plain", "described", "payments", "odd"}),
        ("flagSetId=payments", {"payments"}),
        (" flagSetId = payments ", {"payments"}),
        ("flagSetId=", {"plain", "described", "odd"}),
        ("flagSetId=multishadow", {"plain", "described", "odd"}),
        ("flagSetId=nobodys", set()),
    ],
)
def test_a_selector_asks_for_one_set_or_for_all(text: str, chosen: set[str]) -> None:
    assert set(flag_sets.selector_of(text).chosen(FLAGS)) == chosen


@pytest.mark.parametrize("text", ["payments", "source=flags.json", "flagsetid=payments", "=payments", "app=shop"])
def test_another_selector_is_refused_with_what_is_understood(text: str) -> None:
    with pytest.raises(InvalidInput, match=r'is not understood.*"flagSetId=payments"'):
        flag_sets.selector_of(text)


def test_what_happened_to_each_flag_is_told() -> None:
    after = {**FLAGS, "new": flag(), "plain": flag(defaultVariant=None)}
    del after["odd"]
    assert flag_sets.changes(FLAGS, after) == {"odd": "delete", "new": "create", "plain": "update"}
    assert flag_sets.changes(FLAGS, dict(FLAGS)) == {}


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (0, False), ([1], [True])])
def test_values_that_are_equal_in_python_alone_are_a_change(before: Any, after: Any) -> None:
    first, second = (flag(variants={"on": value}) for value in (before, after))
    assert flag_sets.changes({"a": first}, {"a": second}) == {"a": "update"}
    assert flag_sets.same(first, flag(variants={"on": before}))
