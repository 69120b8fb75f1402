"""Whether all requests of a session went to a candidate, by what the flags said when."""

from __future__ import annotations

from typing import Any

import pytest

from multishadow_server.core import targeting
from multishadow_server.core.assignments import FlagChange, FlagHistory
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim

MODEL = Model(
    name="chat",
    versions=tuple(Version(model="chat", name=name, address="127.0.0.1:1") for name in ("base", "A", "B")),
)
RAMP_AT = 1_000.0


def change(version: str, at: float, definition: dict[str, Any] | None, *, revision: int | None = None) -> FlagChange:
    return FlagChange(key=f"chat.{version}", at=at, revision=revision or int(at) + 1, definition=definition)


def share(claim: Claim, percent: float = 100.0) -> dict[str, Any]:
    return claim_definition("chat", claim, percent)


def history(*changes: FlagChange) -> FlagHistory:
    return FlagHistory(MODEL, [change("base", 0.0, share(Claim.LIVE), revision=1), *changes])


def drawn(low: float, high: float) -> str:
    """A session that is drawn between two shares."""
    ids = (f"s-{number}" for number in range(10_000))
    return next(each for each in ids if low < targeting.shadow_draw("chat", session_id=each, request_id="") < high)


RAMP = history(
    change("A", 100.0, share(Claim.SHADOW, 5)),
    change("A", RAMP_AT, share(Claim.SHADOW, 25)),
)


def held(known: FlagHistory, session_id: str, since: float, until: float, *, live: str = "base") -> set[str]:
    return known.held(session_id, live=live, candidates=("A", "B"), since=since, until=until)


def test_a_step_of_a_ramp_cuts_the_sessions_that_it_admits_and_no_others() -> None:
    around = (RAMP_AT - 300, RAMP_AT + 300)
    assert held(RAMP, drawn(0.0, 0.05), *around) == {"A", "B"}
    assert held(RAMP, drawn(0.05, 0.25), *around) == {"B"}
    assert held(RAMP, drawn(0.25, 1.0), *around) == {"A", "B"}


def test_a_change_outside_of_the_time_cuts_nobody() -> None:
    admitted = drawn(0.05, 0.25)
    assert held(RAMP, admitted, RAMP_AT + 10, RAMP_AT + 300) == {"A", "B"}
    assert held(RAMP, admitted, RAMP_AT - 300, RAMP_AT - 10) == {"A", "B"}


def test_who_is_taken_out_in_the_middle_is_cut_though_it_comes_back() -> None:
    paused = history(
        change("A", 100.0, share(Claim.SHADOW)),
        change("A", 500.0, share(Claim.OFF)),
        change("A", 600.0, share(Claim.SHADOW)),
    )
    assert held(paused, "s", 200.0, 900.0) == {"B"}


def test_a_promotion_cuts_every_candidate_that_was_compared_with_the_former_live_version() -> None:
    promoted = history(
        change("A", 100.0, share(Claim.SHADOW)),
        change("B", 100.0, share(Claim.SHADOW), revision=101),
        change("A", 500.0, share(Claim.LIVE)),
    )
    assert held(promoted, "s", 200.0, 900.0) == set()
    assert held(promoted, "s", 502.0, 900.0, live="A") == {"A", "B"}


def test_a_partial_promotion_cuts_the_sessions_that_got_the_new_version_only() -> None:
    partly = history(change("A", 100.0, share(Claim.SHADOW)), change("A", 500.0, share(Claim.LIVE, 30)))

    def serves_new(session_id: str) -> bool:
        flag = targeting.compile_flag("chat.A", share(Claim.LIVE, 30))
        context = targeting.context_of(model="chat", request_id="", session_id=session_id, attributes={})
        return flag is not None and flag.evaluate(context) is Claim.LIVE

    sessions = [f"s-{number}" for number in range(200)]
    kept = {each for each in sessions if "A" in held(partly, each, 200.0, 900.0)}
    assert kept == {each for each in sessions if not serves_new(each)}
    assert 0 < len(kept) < 200


def test_reverse_shadows_are_known_as_the_live_versions_that_lost() -> None:
    """After the flip the former live version shadows; that goes on when the newest version's flag stays as it is."""
    flipped = history(
        change("A", 100.0, share(Claim.LIVE)),
        change("B", 500.0, share(Claim.SHADOW)),
    )
    assert flipped.held("s", live="A", candidates=("base", "B"), since=200.0, until=900.0) == {"base"}


@pytest.mark.parametrize(
    "rule",
    [
        {"if": [{"==": [{"var": "country"}, "NO"]}, "shadow", "off"]},
        {"fractional": [{"var": "country"}, ["shadow", 50], ["off", 50]]},
        {"if": [{"missing": ["country"]}, "shadow", "off"]},
        {"if": [{"starts_with": [{"cat": [{"var": ["plan", "x"]}]}, "x"]}, "shadow", "off"]},
    ],
)
def test_a_changed_flag_that_reads_attributes_cuts_everybody_because_they_are_not_kept(rule: dict[str, Any]) -> None:
    ruled = history(
        change("A", 100.0, {**share(Claim.SHADOW), "targeting": rule}), change("B", 500.0, share(Claim.SHADOW))
    )
    assert held(ruled, "s", 200.0, 900.0) == set()
    assert held(ruled, "s", 200.0, 450.0) == {"A", "B"}


def test_a_rule_that_reads_the_session_alone_is_evaluated() -> None:
    by_id = {"if": [{"starts_with": [{"var": "sessionId"}, "vip"]}, "shadow", "off"]}
    ruled = history(
        change("A", 100.0, {**share(Claim.SHADOW), "targeting": by_id}), change("B", 500.0, share(Claim.SHADOW))
    )
    assert held(ruled, "vip-1", 200.0, 900.0) == {"A"}


def test_a_flag_that_was_deleted_or_was_not_there_yet_is_off() -> None:
    assert held(history(change("A", 500.0, share(Claim.SHADOW))), "s", 200.0, 900.0) == {"B"}
    gone = history(change("A", 100.0, share(Claim.SHADOW)), change("A", 500.0, None))
    assert held(gone, "s", 200.0, 900.0) == {"B"}
    assert held(gone, "s", 600.0, 900.0) == {"A", "B"}


def test_flags_that_change_in_one_revision_change_at_once() -> None:
    """One by one there would be a moment without a shadow."""
    swapped = history(
        change("A", 100.0, share(Claim.SHADOW)),
        change("base", 500.0, share(Claim.LIVE, 100), revision=501),
        change("A", 500.0, share(Claim.SHADOW, 100), revision=501),
    )
    assert held(swapped, "s", 200.0, 900.0) == {"A", "B"}


@pytest.mark.parametrize(("claim", "percent"), [(Claim.SHADOW, 25), (Claim.LIVE, 30), (Claim.LIVE, 100)])
def test_all_requests_of_a_session_get_one_claim_whatever_they_ask(claim: Claim, percent: float) -> None:
    """Live claims too: the version that lost, or the one that will be live, shadows whole sessions."""
    flag = targeting.compile_flag("chat.A", share(claim, percent))
    assert flag is not None

    def claims(session_id: str) -> set[Claim]:
        requests = (
            targeting.context_of(
                model="chat", request_id=f"r-{number}", session_id=session_id, attributes={"user": f"u-{number}"}
            )
            for number in range(20)
        )
        return {flag.evaluate(request) for request in requests}

    found = [claims(f"s-{number}") for number in range(100)]
    assert {len(each) for each in found} == {1}
    assert len(set.union(*found)) == (1 if percent == 100 else 2)
