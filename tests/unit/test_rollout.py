"""What a staged rollout does next: for any findings, at any time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import rollout as rules
from multishadow_server.core.guardrails import Guardrail, GuardrailName, Standing
from multishadow_server.core.rollout import Checkup, Decision, Entry, Move, Rollout, RolloutState, Terms
from multishadow_server.errors import InvalidInput

STAGES = (1.0, 5.0, 25.0, 50.0, 100.0)
DWELL = 900.0


def rollout(**more: object) -> Rollout:
    values: dict[str, object] = {
        "id": 1,
        "model": "spam",
        "version": "A",
        "previous": "base",
        "address": "127.0.0.1:1",
        "terms": Terms(stages=STAGES, dwell=DWELL),
        "state": RolloutState.RUNNING,
        "stage": 2,
        "first_revision": 3,
        "stage_revision": 7,
        "entered_at": 1_000.0,
        "setbacks": 0,
        "turn": 4,
        "baseline": {},
        "started_at": 0.0,
        "started_by": "ada",
        "reason": "",
    }
    return Rollout(**{**values, **more})  # type: ignore[arg-type]


def finding(**standings: Standing) -> Checkup:
    """Every guardrail kept but those that are named."""
    return Checkup(
        guardrails=[
            Guardrail(name=name, standing=standings.get(name, Standing.KEPT), found="found", limit="limit")
            for name in GuardrailName
        ]
    )


def at_the_end_of(stage: Rollout, checkup: Checkup) -> Decision:
    return rules.decide(stage, now=stage.dwell_ends_at, checkup=checkup)


def test_a_stage_lasts_for_its_dwell_however_good_it_looks() -> None:
    decision = rules.decide(rollout(), now=1_000 + DWELL - 1, checkup=finding())
    assert (decision.move, decision.stage, decision.again_at) == (Move.WAIT, 2, 1_900.0)


def test_the_next_stage_follows_when_every_guardrail_is_kept() -> None:
    decision = at_the_end_of(rollout(), finding(accuracy=Standing.UNWATCHED))
    assert (decision.move, decision.stage) == (Move.ADVANCE, 3)


def test_the_last_stage_ends_the_rollout_after_its_own_dwell() -> None:
    last = rollout(stage=4)
    assert rules.decide(last, now=1_001, checkup=finding()).move is Move.WAIT
    assert at_the_end_of(last, finding()).move is Move.COMPLETE


def test_a_stage_goes_on_while_evidence_is_missing_and_says_what_is() -> None:
    decision = at_the_end_of(rollout(), finding(latency=Standing.WAITING))
    assert (decision.move, decision.stage) == (Move.HOLD, 2)
    assert "more requests for latency (found; limit limit)" in decision.why
    late = replace(finding(), stragglers=["router-1 on host-a"])
    assert "not acknowledged by router-1 on host-a" in at_the_end_of(rollout(), late).why
    assert "cannot be read: away" in at_the_end_of(rollout(), Checkup(unreadable="away")).why


def test_a_stage_that_never_gets_its_evidence_is_paused_for_somebody_to_look() -> None:
    terms = Terms(stages=STAGES, dwell=DWELL, patience=3_600)
    held = rollout(terms=terms)
    waiting = finding(errors=Standing.WAITING)
    assert rules.decide(held, now=held.dwell_ends_at + 3_599, checkup=waiting).move is Move.HOLD
    decision = rules.decide(held, now=held.dwell_ends_at + 3_600, checkup=waiting)
    assert decision.move is Move.PAUSE
    assert "not enough evidence in 1 h" in decision.why


def test_a_broken_guardrail_goes_back_one_stage_at_the_end_of_the_dwell() -> None:
    broken = finding(errors=Standing.BROKEN)
    assert rules.decide(rollout(), now=1_001, checkup=broken).move is Move.WAIT
    decision = at_the_end_of(rollout(), broken)
    assert (decision.move, decision.stage) == (Move.SET_BACK, 1)
    assert "errors" in decision.why


def test_the_budget_of_setbacks_and_the_smallest_stage_end_at_the_base() -> None:
    broken = finding(divergence=Standing.BROKEN)
    spent = at_the_end_of(rollout(setbacks=1), broken)
    assert spent.move is Move.ABORT
    assert "setback 2 of 2" in spent.why
    smallest = at_the_end_of(rollout(stage=0), broken)
    assert smallest.move is Move.ABORT
    assert "no smaller stage" in smallest.why


@pytest.mark.parametrize("state", [RolloutState.RUNNING, RolloutState.PAUSED])
def test_a_severe_breach_aborts_at_once_even_when_paused(state: RolloutState) -> None:
    decision = rules.decide(rollout(state=state), now=1_000.0, checkup=finding(errors=Standing.SEVERE))
    assert decision.move is Move.ABORT
    assert decision.why.startswith("severe: errors")


def test_a_paused_rollout_neither_advances_nor_falls_back() -> None:
    paused = rollout(state=RolloutState.PAUSED)
    for standing in (Standing.KEPT, Standing.BROKEN, Standing.WAITING):
        assert at_the_end_of(paused, finding(errors=standing)).move is Move.WAIT


def test_nothing_is_written_over_what_somebody_else_wrote() -> None:
    theirs = replace(finding(errors=Standing.SEVERE), interference="bob set spam.A to off in revision 9")
    paused = rules.decide(rollout(), now=1_000.0, checkup=theirs)
    assert (paused.move, paused.why) == (Move.PAUSE, "bob set spam.A to off in revision 9")
    assert rules.decide(rollout(state=RolloutState.PAUSED), now=1e9, checkup=theirs).move is Move.WAIT


def checkups() -> st.SearchStrategy[Checkup]:
    standing = st.sampled_from(list(Standing))
    guardrails = st.tuples(*(standing for _ in GuardrailName)).map(
        lambda found: [Guardrail(name=name, standing=each) for name, each in zip(GuardrailName, found, strict=True)]
    )
    return st.builds(
        Checkup,
        guardrails=guardrails,
        stragglers=st.sampled_from([(), ("router-1",)]),
        interference=st.sampled_from(["", "", "", "bob wrote"]),
        unreadable=st.sampled_from(["", "", "away"]),
    )


def lived(start: Rollout, looks: Sequence[tuple[float, Checkup]]) -> list[tuple[Rollout, Decision]]:
    """Every look at a rollout until it ends: as it stood, and what was decided."""
    now, present, seen = start.entered_at, start, []
    for wait, checkup in looks:
        now += wait
        decision = rules.decide(present, now=now, checkup=checkup)
        seen.append((present, decision))
        if decision.move in {Move.WAIT, Move.HOLD}:
            continue
        enters = decision.move in {Move.ADVANCE, Move.SET_BACK}
        entry = Entry(revision=present.stage_revision + 1, at=now, baseline={}) if enters else None
        present = rules.moved(present, decision, now=now, actor="control", entry=entry)
    seen.append((present, Decision(move=Move.WAIT, stage=present.stage, why="")))
    return seen


@given(
    looks=st.lists(st.tuples(st.floats(0, 2 * DWELL), checkups()), max_size=60),
    setbacks=st.integers(1, 4),
)
def test_whatever_is_found_a_rollout_climbs_one_stage_at_a_time_and_ends_at_the_base_or_complete(
    looks: list[tuple[float, Checkup]], setbacks: int
) -> None:
    terms = Terms(stages=STAGES, dwell=DWELL, max_setbacks=setbacks)
    history = lived(rollout(stage=0, terms=terms, turn=0), looks)
    for (before, decision), (after, _) in itertools.pairwise(history):
        assert after.turn == before.turn + (decision.move not in {Move.WAIT, Move.HOLD})
        assert not before.state.ended or decision.move is Move.WAIT
        match decision.move:
            case Move.ADVANCE:
                assert after.stage == before.stage + 1
            case Move.SET_BACK:
                assert (after.stage, after.setbacks) == (before.stage - 1, before.setbacks + 1)
            case _:
                assert after.stage == before.stage
        if decision.move in {Move.ADVANCE, Move.SET_BACK, Move.COMPLETE}:
            assert before.state is RolloutState.RUNNING
    last = history[-1][0]
    assert last.setbacks < setbacks
    assert last.state.ended == (last.ended_at is not None)
    if last.state is RolloutState.COMPLETED:
        assert last.percent == 100


@given(checkup=checkups(), stage=st.integers(0, 4), setbacks=st.integers(0, 1), wait=st.floats(0, 2 * DWELL))
def test_nobody_widens_with_a_guardrail_that_is_not_kept(
    checkup: Checkup, stage: int, setbacks: int, wait: float
) -> None:
    decision = rules.decide(rollout(stage=stage, setbacks=setbacks), now=1_000 + wait, checkup=checkup)
    if decision.move in {Move.ADVANCE, Move.COMPLETE}:
        assert {guardrail.standing for guardrail in checkup.guardrails} <= {Standing.KEPT, Standing.UNWATCHED}
        assert not checkup.stragglers
        assert wait >= DWELL
    if any(guardrail.standing is Standing.SEVERE for guardrail in checkup.guardrails) and not checkup.interference:
        assert decision.move is Move.ABORT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stages": ()}, "1 to 20 shares"),
        ({"stages": (5.0, 5.0, 100.0)}, "do not widen"),
        ({"stages": (50.0, 25.0, 100.0)}, "do not widen"),
        ({"stages": (1.0, 50.0)}, "must end with 100"),
        ({"stages": (100.0,)}, "leaves nobody to compare with"),
        ({"stages": (0.0, 100.0)}, "above 0"),
        ({"stages": (float("nan"), 100.0)}, "percent"),
        ({"stages": (0.00001, 100.0)}, "too fine"),
        ({"dwell": -1.0}, "dwell_seconds: -1 is out of range"),
        ({"dwell": float("nan")}, "dwell_seconds"),
        ({"minimum_requests": 0}, "minimum_requests"),
        ({"max_setbacks": 0}, "max_setbacks"),
        ({"patience": -1.0}, "patience_seconds"),
    ],
)
def test_terms_that_make_no_rollout_are_refused(change: dict[str, object], said: str) -> None:
    rules.check_terms(Terms(stages=STAGES))
    with pytest.raises(InvalidInput, match=said):
        rules.check_terms(replace(Terms(stages=STAGES), **change))  # type: ignore[arg-type]  # any one field
