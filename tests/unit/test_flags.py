"""Versions' flags: what claims look like, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import flags
from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting import compile_flag, context_of
from multishadow_server.errors import InvalidInput

VARIANTS = {"off": "off", "shadow": "shadow", "live": "live"}
PERCENTS = st.integers(1, 100_000).map(lambda thousandths: thousandths / 1000)


def ruled(targeting: Any, **fields: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": VARIANTS, "defaultVariant": "off", "targeting": targeting, **fields}


def claimed(definition: dict[str, Any], session: str, version: str = "A") -> Claim:
    compiled = compile_flag(f"spam.{version}", definition)
    assert compiled is not None
    return compiled.evaluate(context_of(model="spam", request_id="r", session_id=session, attributes={}))


@pytest.mark.parametrize("claim", list(Claim))
def test_a_whole_claim_is_static(claim: Claim) -> None:
    assert flags.claim_definition("spam", claim) == {
        "state": "ENABLED",
        "variants": VARIANTS,
        "defaultVariant": claim.value,
    }


def test_a_shadow_share_buckets_by_model_and_shadow_key() -> None:
    definition = flags.claim_definition("spam", Claim.SHADOW, 25)
    assert definition["targeting"] == {
        "fractional": [{"cat": ["spam", {"var": "shadowKey"}]}, ["shadow", 25], ["off", 75]]
    }
    assert definition["defaultVariant"] == "off"


def test_a_live_share_buckets_by_flag_and_shadows_the_rest() -> None:
    definition = flags.claim_definition("spam", Claim.LIVE, 5)
    assert definition["targeting"] == {"fractional": [["live", 5], ["shadow", 95]]}
    assert definition["defaultVariant"] == "off"


@pytest.mark.parametrize(
    ("percent", "weights"),
    [(0.1, [1, 999]), (12.5, [125, 875]), (0.25, [25, 9975]), (0.001, [1, 99_999]), (99.999, [99_999, 1])],
)
def test_weights_are_whole_numbers_however_fine_the_percent(percent: float, weights: list[int]) -> None:
    rule = flags.claim_definition("spam", Claim.LIVE, percent)["targeting"]["fractional"]
    assert [weight for _, weight in rule] == weights


@pytest.mark.parametrize("percent", [0, -1, 100.001, float("nan"), float("inf"), 0.0001, 33.33333])
def test_a_percent_that_cannot_be_kept_is_refused(percent: float) -> None:
    with pytest.raises(InvalidInput, match="percent"):
        flags.claim_definition("spam", Claim.SHADOW, percent)


def test_a_share_of_off_is_refused() -> None:
    with pytest.raises(InvalidInput, match='claim "shadow" for that share'):
        flags.claim_definition("spam", Claim.OFF, 20)


@given(small=PERCENTS, large=PERCENTS, session=st.text(min_size=1, max_size=20))
def test_a_later_stage_keeps_everybody_who_had_the_new_version(small: float, large: float, session: str) -> None:
    small, large = sorted((small, large))
    if claimed(flags.claim_definition("spam", Claim.LIVE, small), session) is Claim.LIVE:
        assert claimed(flags.claim_definition("spam", Claim.LIVE, large), session) is Claim.LIVE


@given(small=PERCENTS, large=PERCENTS, session=st.text(min_size=1, max_size=20))
def test_the_smaller_sample_lies_inside_the_larger_one(small: float, large: float, session: str) -> None:
    small, large = sorted((small, large))
    if claimed(flags.claim_definition("spam", Claim.SHADOW, small), session, "B") is Claim.SHADOW:
        assert claimed(flags.claim_definition("spam", Claim.SHADOW, large), session, "A") is Claim.SHADOW


def test_the_share_of_sessions_is_the_percent() -> None:
    definition = flags.claim_definition("spam", Claim.SHADOW, 25)
    hits = sum(claimed(definition, f"session-{i}") is Claim.SHADOW for i in range(20_000))
    assert abs(hits / 20_000 - 0.25) < 0.012  # four standard deviations


@given(percent=PERCENTS, session=st.text(min_size=1, max_size=20))
def test_a_partial_live_claim_without_its_shadow_stays_with_the_same_requests(percent: float, session: str) -> None:
    partial = flags.claim_definition("spam", Claim.LIVE, percent)
    before, after = claimed(partial, session), claimed(dict(flags.without_shadow(partial)), session)
    assert after is (Claim.OFF if before is Claim.SHADOW else before)


def test_what_is_no_partial_live_claim_has_no_shadow_to_lose() -> None:
    for definition in (
        flags.claim_definition("spam", Claim.LIVE),
        flags.claim_definition("spam", Claim.SHADOW, 25),
        {**flags.claim_definition("spam", Claim.OFF), "targeting": {"if": [True, "live", "shadow"]}},
    ):
        assert flags.without_shadow(definition) == definition


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (flags.claim_definition("m", Claim.OFF), "off"),
        (flags.claim_definition("m", Claim.SHADOW), "shadow"),
        (flags.claim_definition("m", Claim.SHADOW, 25), "shadow 25 %"),
        (flags.claim_definition("m", Claim.SHADOW, 0.125), "shadow 0.125 %"),
        (flags.claim_definition("m", Claim.LIVE), "live"),
        (flags.claim_definition("m", Claim.LIVE, 5), "live 5 % (else shadow)"),
        (ruled({"if": [{"var": "beta"}, "live", "off"]}), "targeting rule"),
        (ruled({"fractional": [["live", 1], ["shadow", 1], ["off", 1]]}), "targeting rule"),
        (ruled({"fractional": [["live", 0], ["shadow", 0]]}), "targeting rule"),
    ],
)
def test_a_definition_is_told_in_words(definition: dict[str, Any], words: str) -> None:
    assert flags.describe(definition) == words


@pytest.mark.parametrize(
    ("definition", "claims"),
    [
        (flags.claim_definition("m", Claim.OFF), {Claim.OFF}),
        (flags.claim_definition("m", Claim.LIVE), {Claim.LIVE}),
        (flags.claim_definition("m", Claim.SHADOW, 25), {Claim.SHADOW, Claim.OFF}),
        (flags.claim_definition("m", Claim.LIVE, 5), {Claim.LIVE, Claim.SHADOW, Claim.OFF}),
        (ruled({"if": [{"var": "beta"}, "shadow", None]}), {Claim.SHADOW, Claim.OFF}),
        (ruled({"if": [{"var": "beta"}, "shadow"]}), {Claim.SHADOW, Claim.OFF}),
        (ruled({"if": [{"var": "a"}, "shadow", {"var": "b"}, "off", "live"]}), set(Claim)),
        (ruled({"if": [{"var": "beta"}]}), set(Claim)),
        (ruled({"fractional": [[{"if": [{"var": "beta"}, "shadow"]}, 1], ["off", 1]]}), {Claim.SHADOW, Claim.OFF}),
        (ruled({"fractional": [["live", 0], ["shadow", 7]]}), {Claim.SHADOW, Claim.OFF}),
        (ruled({"var": "wanted"}), set(Claim)),
        (ruled({"if": [{"var": "beta"}, {"cat": ["li", "ve"]}, "off"]}), set(Claim)),
    ],
)
def test_it_is_known_which_claims_a_definition_can_make(definition: dict[str, Any], claims: set[Claim]) -> None:
    assert {claim for claim in Claim if flags.may_claim(definition, claim)} == claims
