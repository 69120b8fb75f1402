"""Which requests the live version gets a second time."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import noise_floor, targeting
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from shadowed_traffic import a_capture
from sightings import an_epoch

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(texts, texts.filter(bool), st.integers(1, 99_999))
def test_the_draw_is_that_of_the_candidates_flags(session_id: str, request_id: str, thousandths: int) -> None:
    share = thousandths / 1000
    flag = targeting.compile_flag("spam.A", claim_definition("spam", Claim.SHADOW, share))
    assert flag is not None
    context = targeting.context_of(model="spam", request_id=request_id, session_id=session_id, attributes={})
    drawn = targeting.shadow_draw("spam", session_id=session_id, request_id=request_id)
    assert (flag.evaluate(context) is Claim.SHADOW) == (100 * drawn < share)


def test_the_share_holds_and_smaller_ones_lie_inside_larger_ones() -> None:
    captures = [a_capture(f"r-{number}") for number in range(5_000)]

    def sampled(percent: float) -> set[str]:
        epoch = replace(an_epoch(), noise_percent=percent)
        return {item.request_id for item in captures if noise_floor.is_sampled(item, epoch)}

    assert 25 <= len(sampled(1)) <= 80
    assert sampled(1) < sampled(10) < sampled(100)
    assert len(sampled(100)) == 5_000
    assert sampled(0) == set()
