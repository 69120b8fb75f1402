"""Which part of the largest sample each candidate should get, by what its flag said over time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import declared_shares
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim

KEYS = {"A": "spam.A", "B": "spam.B"}
RULE: dict[str, Any] = {**claim_definition("spam", Claim.OFF), "targeting": {"if": [True, "shadow", "off"]}}


def shares(*written: tuple[int, str, float]) -> dict[str, float] | None:
    """From (revision, version, percent); 0 is off."""
    definitions = [
        (
            revision,
            KEYS[version],
            claim_definition("spam", Claim.SHADOW, percent) if percent else claim_definition("spam", Claim.OFF),
        )
        for revision, version, percent in written
    ]
    found = declared_shares.of_largest(KEYS, definitions)
    return None if found is None else dict(found)


def test_shares_are_parts_of_the_largest_sample() -> None:
    assert shares((2, "A", 25), (5, "B", 5)) == {"A": 1.0, "B": 0.2}


def test_shares_that_climb_together_stay_what_they_were() -> None:
    assert shares((5, "A", 1), (5, "B", 1), (8, "A", 5), (8, "B", 5), (9, "A", 25), (9, "B", 25)) == {"A": 1, "B": 1}


def test_where_nobody_gets_anything_nothing_is_shared() -> None:
    night, day = [(6, "A", 0.0), (6, "B", 0.0)], [(7, "A", 25.0), (7, "B", 25.0)]
    assert shares((5, "A", 25), (5, "B", 25), *night, *day) == {"A": 1, "B": 1}
    assert shares((5, "A", 0), (5, "B", 0)) is None


@pytest.mark.parametrize("change", [(8, "A", 5.0), (8, "B", 0.0)])
def test_a_share_that_changed_alone_cannot_be_tested(change: tuple[int, str, float]) -> None:
    assert shares((5, "A", 25), (5, "B", 25), change) is None


def test_a_step_that_took_two_revisions_cannot_be_tested() -> None:
    assert shares((5, "A", 1), (5, "B", 1), (8, "A", 5), (9, "B", 5)) is None


def test_nobody_can_tell_the_share_of_a_free_rule_or_of_a_flag_that_is_not_there() -> None:
    shadow = claim_definition("spam", Claim.SHADOW, 25)
    assert declared_shares.of_largest(KEYS, [(1, "spam.A", shadow), (1, "spam.B", RULE)]) is None
    assert declared_shares.of_largest(KEYS, [(1, "spam.A", shadow)]) is None


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 5.0, 12.5, 25.0, 33.333, 100.0]), min_size=1), st.sampled_from([1, 2, 4])
)
def test_any_course_in_which_one_keeps_its_part_of_the_other_can_be_tested(course: list[float], part: int) -> None:
    steps = [
        (revision, version, percent / (part if version == "B" else 1))
        for revision, percent in enumerate(course)
        for version in KEYS
        if (1000 * percent / part).is_integer()
    ]
    found = shares(*steps)
    if any(percent for _, _, percent in steps):
        assert found == {"A": 1.0, "B": pytest.approx(1 / part, abs=1e-4)}
    else:
        assert found is None
