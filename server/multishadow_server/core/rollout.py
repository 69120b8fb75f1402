"""A staged promotion: what happens next, given where it stands, the time, and what the guardrails say.

A stage lasts for its dwell at least. Then the next one follows if every guardrail is kept; the stage goes on if one
lacks evidence; if one is broken, the rollout falls back to the stage before, and when the budget of such setbacks is
used up, or there is no stage before, to the base. A severe breach takes it to the base at once, dwell or not. Whatever
is decided is one revision of one flag, except for waiting.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import guardrails as guardrail_rules
from multishadow_server.core.experiment import in_words
from multishadow_server.core.guardrails import Guardrail, GuardrailName, Limits, Rules, Standing
from multishadow_server.core.routing import Claim
from multishadow_server.errors import InvalidInput

MOST_STAGES = 20
SHORTEST_DWELL = 0.0
LONGEST_DWELL = 7 * 86_400.0
MOST_SETBACKS = 10


class RolloutState(StrEnum):
    """`running` and `paused` rollouts go on; the others have ended."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"

    @property
    def ended(self) -> bool:
        """Whether nothing happens any more."""
        return self not in {RolloutState.RUNNING, RolloutState.PAUSED}


class Move(StrEnum):
    """What can happen to a rollout. People alone start, resume and roll back."""

    START = "start"
    RESUME = "resume"
    ROLL_BACK = "roll_back"
    WAIT = "wait"
    HOLD = "hold"
    ADVANCE = "advance"
    SET_BACK = "set_back"
    ABORT = "abort"
    PAUSE = "pause"
    COMPLETE = "complete"


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How a rollout goes.

    Args:
        stages: shares of the requests in percent, each larger than the one before; the last is 100.
        dwell: seconds that each stage lasts at least.
        minimum_requests: live requests that the new version and the base must each have had before a stage is left.
        max_setbacks: the setback of this number aborts.
        patience: seconds beyond the dwell after which a stage without enough evidence is paused for somebody to look.
        limits: of the guardrails.
        watched: the guardrails that can be measured.
    """

    stages: tuple[float, ...]
    dwell: float = 900.0
    minimum_requests: int = 100
    max_setbacks: int = 2
    patience: float = 86_400.0
    limits: Limits = field(default_factory=Limits)
    watched: frozenset[GuardrailName] = frozenset({GuardrailName.ERRORS, GuardrailName.LATENCY})

    @property
    def rules(self) -> Rules:
        """How strictly the guardrails judge."""
        return Rules(
            limits=self.limits,
            minimum_requests=self.minimum_requests,
            entries=len(self.stages) + 2 * self.max_setbacks,
            watched=self.watched,
        )

    @property
    def duration(self) -> float:
        """Seconds that it takes when nothing holds it up."""
        return self.dwell * len(self.stages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One staged promotion, as it stands.

    Args:
        id: made by the store.
        model, version: what is rolled out.
        previous: who answers the rest, and everything when it is aborted.
        address: where the version was when it began (`Version.location`): another implementation behind the same name
            was never compared.
        terms: how it goes.
        state: see RolloutState.
        stage: place among the stages, from 0.
        first_revision: the revision that the first stage began with.
        stage_revision: the revision that entered the present stage.
        entered_at: when that was, seconds since the Unix epoch.
        setbacks: so far.
        turn: counts every change of this record; who decided by an older one decided too late.
        baseline: counts of comparisons when the stage was entered, by "<epoch>/<what>".
        started_at, started_by, reason: who began it, and why.
        changed_by: who changed its state last.
        note: why it is paused or has ended.
        ended_at: seconds since the Unix epoch; None while it goes on.
        plan: name of the plan that the stages are from; "custom" when they were named.
    """

    id: int
    model: str
    version: str
    previous: str
    address: str
    terms: Terms
    state: RolloutState
    stage: int
    first_revision: int
    stage_revision: int
    entered_at: float
    setbacks: int
    turn: int
    baseline: Mapping[str, int]
    started_at: float
    started_by: str
    reason: str
    changed_by: str = ""
    note: str = ""
    ended_at: float | None = None
    plan: str = "custom"

    @property
    def percent(self) -> float:
        """Share of the requests that the new version answers at this stage."""
        return self.terms.stages[self.stage]

    @property
    def last_stage(self) -> bool:
        """Whether it answers everything already."""
        return self.stage == len(self.terms.stages) - 1

    @property
    def dwell_ends_at(self) -> float:
        """When the stage may be left, seconds since the Unix epoch."""
        return self.entered_at + self.terms.dwell

    @property
    def flag_in_words(self) -> str:
        """What the version's flag says at this stage."""
        return flag_rules.describe(flag_rules.claim_definition(self.model, Claim.LIVE, self.percent))


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkup:
    """What was found at one look.

    Args:
        guardrails: judged; empty when the counts could not be read.
        stragglers: routers that have not acknowledged the stage's revision.
        interference: what somebody else did to its flags or its version, and who; empty when nobody did.
        unreadable: why the counts could not be read.
    """

    guardrails: Sequence[Guardrail] = ()
    stragglers: Sequence[str] = ()
    interference: str = ""
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do now.

    Args:
        move: see Move.
        stage: the stage to be at afterwards.
        why: in words, for the record and for people.
        again_at: when a stage that waits may be left; None when that depends on evidence.
    """

    move: Move
    stage: int
    why: str
    again_at: float | None = None


def decide(rollout: Rollout, *, now: float, checkup: Checkup) -> Decision:
    """What to do now.

    Args:
        rollout: as it stands; one that has ended only waits.
        now: seconds since the Unix epoch, by the clock that `entered_at` is from.
        checkup: what was found.

    A paused rollout is neither moved on nor set back, but a severe breach still aborts it: its callers are not paused.
    Where somebody else wrote its flags, nothing is written over theirs.
    """
    paused = rollout.state is RolloutState.PAUSED
    if rollout.state.ended or (paused and checkup.interference):
        return _wait(rollout)
    if checkup.interference:
        return _pause(rollout, checkup.interference)
    found = guardrail_rules.by_standing(checkup.guardrails)
    if severe := found[Standing.SEVERE]:
        return Decision(move=Move.ABORT, stage=0, why=f"severe: {guardrail_rules.in_words(severe)}")
    if paused:
        return _wait(rollout)
    if now < rollout.dwell_ends_at:
        return Decision(move=Move.WAIT, stage=rollout.stage, why="dwelling", again_at=rollout.dwell_ends_at)
    return _after_its_dwell(rollout, now, checkup)


def _wait(rollout: Rollout) -> Decision:
    return Decision(move=Move.WAIT, stage=rollout.stage, why=rollout.note)


def _pause(rollout: Rollout, why: str) -> Decision:
    return Decision(move=Move.PAUSE, stage=rollout.stage, why=why)


def _after_its_dwell(rollout: Rollout, now: float, checkup: Checkup) -> Decision:
    found = guardrail_rules.by_standing(checkup.guardrails)
    if broken := found[Standing.BROKEN]:
        return _set_back(rollout, guardrail_rules.in_words(broken))
    missing = _missing(checkup, found[Standing.WAITING])
    if missing and now >= rollout.dwell_ends_at + rollout.terms.patience:
        return _pause(rollout, f"not enough evidence in {in_words(rollout.terms.patience)}: {missing}")
    if missing:
        return Decision(move=Move.HOLD, stage=rollout.stage, why=missing)
    if rollout.last_stage:
        return Decision(move=Move.COMPLETE, stage=rollout.stage, why="every guardrail was kept to the end")
    return Decision(move=Move.ADVANCE, stage=rollout.stage + 1, why="every guardrail is kept")


def _set_back(rollout: Rollout, broken: str) -> Decision:
    if rollout.setbacks + 1 >= rollout.terms.max_setbacks:
        budget = f"setback {rollout.setbacks + 1} of {rollout.terms.max_setbacks}, which uses up the budget"
        return Decision(move=Move.ABORT, stage=0, why=f"{broken}; {budget}")
    if rollout.stage == 0:
        return Decision(move=Move.ABORT, stage=0, why=f"{broken}; there is no smaller stage to go back to")
    return Decision(move=Move.SET_BACK, stage=rollout.stage - 1, why=broken)


def _missing(checkup: Checkup, waiting: Sequence[Guardrail]) -> str:
    """What keeps a stage from being left; empty when nothing does."""
    said = []
    if checkup.unreadable:
        said.append(f"the counts cannot be read: {checkup.unreadable}")
    if checkup.stragglers:
        said.append(f"not acknowledged by {', '.join(checkup.stragglers)}")
    if waiting:
        said.append(f"more requests for {guardrail_rules.in_words(waiting)}")
    return "; ".join(said)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """How a stage is entered: by which revision, when, and with which comparisons counted already."""

    revision: int
    at: float
    baseline: Mapping[str, int]


_ENDS = {
    Move.ABORT: RolloutState.ABORTED,
    Move.COMPLETE: RolloutState.COMPLETED,
    Move.ROLL_BACK: RolloutState.ROLLED_BACK,
}


def moved(rollout: Rollout, decision: Decision, *, now: float, actor: str, entry: Entry | None = None) -> Rollout:
    """The rollout after a move.

    Args:
        rollout: as it stands.
        decision: what is done.
        now: seconds since the Unix epoch.
        actor: who does it.
        entry: how the stage is entered, where the move enters one: to advance, to set back, and to resume after
            somebody else's writes.
    """
    state = rollout.state
    if decision.move in _ENDS:
        state = _ENDS[decision.move]
    elif decision.move is Move.PAUSE:
        state = RolloutState.PAUSED
    elif decision.move is Move.RESUME:
        state = RolloutState.RUNNING
    after = replace(
        rollout,
        state=state,
        turn=rollout.turn + 1,
        setbacks=rollout.setbacks + (decision.move is Move.SET_BACK),
        changed_by=actor,
        note=decision.why,
        ended_at=now if state.ended else None,
    )
    if entry is None:
        return after
    return replace(
        after,
        stage=decision.stage,
        stage_revision=entry.revision,
        entered_at=entry.at,
        baseline=dict(entry.baseline),
    )


def check_terms(terms: Terms) -> None:
    """Refuse stages and limits that make no rollout.

    Raises:
        InvalidInput: which, and what is allowed.
    """
    stages = terms.stages
    if not 1 <= len(stages) <= MOST_STAGES:
        raise InvalidInput(f"stages: name 1 to {MOST_STAGES} shares, not {len(stages)}")
    for percent in stages:
        # Whatever a flag can say; NaN and too many decimals are refused there.
        flag_rules.claim_definition("", Claim.LIVE, percent)
    if any(later <= earlier for earlier, later in itertools.pairwise(stages)):
        raise InvalidInput(f"stages: {_listed(stages)} do not widen; each must be larger than the one before")
    if stages[-1] != 100:
        raise InvalidInput(f"stages: {_listed(stages)} must end with 100")
    if len(stages) == 1:
        # At 100 % the base has no requests but those of the stages before.
        raise InvalidInput(
            "stages: 100 alone leaves nobody to compare with; begin with a smaller share, or promote at once"
        )
    _within("dwell_seconds", terms.dwell, SHORTEST_DWELL, LONGEST_DWELL)
    _within("minimum_requests", terms.minimum_requests, 1, 10_000_000)
    _within("max_setbacks", terms.max_setbacks, 1, MOST_SETBACKS)
    _within("max_divergence", terms.limits.divergence, 0, 1)
    _within("max_errors", terms.limits.errors, 0, 1)
    _within("patience_seconds", terms.patience, 0, 30 * 86_400.0)


def _within(name: str, value: float, least: float, most: float) -> None:
    # Not `value < least or value > most`: NaN has to fail.
    if not (least <= value <= most and math.isfinite(value)):
        raise InvalidInput(f"{name}: {value:g} is out of range; allowed are {least:g} to {most:g}")


def _listed(stages: Sequence[float]) -> str:
    return ", ".join(f"{percent:g}" for percent in stages)
