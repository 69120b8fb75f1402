"""What goes on when a flag source says nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core.known_claims import KEPT_READINGS, KnownClaims
from multishadow_server.core.routing import Claim

OFF, SHADOW, LIVE = Claim.OFF, Claim.SHADOW, Claim.LIVE
BASE_LIVE = (LIVE, SHADOW)
A_LIVE = (LIVE, LIVE)


def known(*readings: tuple[Claim, ...]) -> KnownClaims:
    claims = KnownClaims(2)
    for reading in readings:
        claims.note(reading)
    return claims


def test_before_the_first_reading_nothing_is_known() -> None:
    assert known().usual == ()
    assert known().completed([None, None]) == (OFF, OFF)


def test_a_rollout_at_some_percent_does_not_pass_for_the_rule() -> None:
    assert known(*([BASE_LIVE] * 19 + [A_LIVE]) * 5, A_LIVE).completed([None, None]) == BASE_LIVE


def test_a_flip_for_everybody_is_followed_after_half_of_the_kept_readings() -> None:
    flipped = known(*[BASE_LIVE] * 1_000, *[A_LIVE] * (KEPT_READINGS // 2))
    assert flipped.usual == BASE_LIVE
    flipped.note(A_LIVE)
    assert flipped.usual == A_LIVE


def test_one_flag_that_cannot_be_read_costs_no_other() -> None:
    assert known(BASE_LIVE).completed([None, OFF]) == (LIVE, OFF)
    assert known(BASE_LIVE).completed([LIVE, None]) == (LIVE, SHADOW)


def test_when_nobody_claims_live_the_last_known_live_version_goes_on() -> None:
    assert known(A_LIVE).completed([OFF, OFF]) == (OFF, LIVE)
    assert known(BASE_LIVE).completed([OFF, SHADOW]) == (LIVE, SHADOW)
    assert known().completed([OFF, SHADOW]) == (OFF, SHADOW)


def test_a_reading_that_nobody_is_live_by_is_not_remembered() -> None:
    assert known(BASE_LIVE, *[(OFF, OFF)] * 500).usual == BASE_LIVE


def test_a_new_version_is_off_until_it_was_read() -> None:
    grown = KnownClaims(3, known(A_LIVE).usual)
    assert grown.completed([None, None, None]) == (LIVE, LIVE, OFF)
    assert KnownClaims(3, ()).usual == ()


@given(st.lists(st.tuples(st.sampled_from(Claim), st.sampled_from(Claim)), max_size=400))
def test_what_is_usual_is_some_reading_of_the_kept_ones_with_a_live_version(readings: list[tuple[Claim, ...]]) -> None:
    claims = known(*readings)
    live = [reading for reading in readings if LIVE in reading]
    assert (claims.usual in live[-2 * KEPT_READINGS :]) if live else claims.usual == ()
