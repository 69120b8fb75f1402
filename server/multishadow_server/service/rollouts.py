"""Staged rollouts as people handle them: start, look, pause, resume, step, abort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from multishadow_server.core import guardrails as guardrail_rules
from multishadow_server.core import rollout as rules
from multishadow_server.core import serving
from multishadow_server.core.guardrails import Standing
from multishadow_server.core.rollout import Checkup, Decision, Move, Rollout, RolloutState
from multishadow_server.errors import Conflict, FailedPrecondition, NotFound
from multishadow_server.service import (
    flag_sources,
    names,
    promotion,
    promotion_gates,
    rollout_findings,
    rollout_moves,
    rollout_ownership,
    rollout_planning,
)
from multishadow_server.service.ports import ControlStore, NewRollout, RolloutEvent, RolloutStore, VersionProbe
from multishadow_server.service.rollout_planning import Wish


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutView:
    """A rollout as it stands, with what is found and what comes next.

    Args:
        rollout: as it stands.
        checkup: what was found; nothing of a rollout that has ended.
        next: what control would do now.
        events: what happened, oldest first.
        now: seconds since the Unix epoch, by the database's clock.
    """

    rollout: Rollout
    checkup: Checkup
    next: Decision
    events: Sequence[RolloutEvent]
    now: float


async def start(
    store: ControlStore,
    records: RolloutStore,
    probe: VersionProbe,
    wish: Wish,
    *,
    actor: str,
    clock: Callable[[], float],
) -> Rollout:
    """Begin a rollout: its first stage is one flag write, in one transaction with its record.

    Raises:
        InvalidInput: the terms make no rollout, or gates are to be passed over without a reason.
        NotFound: no such model or version.
        FailedPrecondition: another rollout goes on, gates do not pass, its server does not answer, it is live already,
            or the flags do not allow stages.
        StoreUnavailable: the database is away.
    """
    proposal = await rollout_planning.propose(store, records, probe, wish, clock=clock)
    if proposal.obstacle:
        # Missing reasons and gates are told apart by their error, as for a promotion at once.
        promotion_gates.refuse(proposal.gates, proposal.version, force=wish.force, reason=wish.reason)
        raise FailedPrecondition(proposal.obstacle)
    if not wish.force:
        await flag_sources.check_promotion(store, proposal.version.flag_key, clock=clock)
    now = await records.now()
    compared = await rollout_findings.comparisons(
        store, proposal.model, version=proposal.version.name, previous=proposal.previous.name, since=now, now=now
    )
    async with store.change(actor) as change:
        await rollout_ownership.check_free(change, proposal.model.name)
        model = names.model_of(change.configuration, proposal.model.name)
        version = names.version_of(model, proposal.version.name)
        if serving.live_version(model, change.configuration.flags) != proposal.previous or version != proposal.version:
            raise FailedPrecondition(
                f"{model.name} was changed while the rollout was being planned; see `shadowctl status`, and try again"
            )
        rollout_planning.check_flags(model, version, change.configuration.flags, proposal.terms)
        words = f"{version.name} rolled out at {proposal.terms.stages[0]:g} %"
        await promotion.write_stage(
            change,
            model,
            version,
            percent=proposal.terms.stages[0],
            previous=proposal.previous,
            reason=wish.reason or words,
        )
        rollout = await change.rollouts.start(
            NewRollout(
                model=model.name,
                version=version.name,
                previous=proposal.previous.name,
                address=version.location,
                terms=proposal.terms,
                plan=proposal.plan.name,
                reason=wish.reason,
                baseline=compared.totals,
            )
        )
        why = f"{proposal.plan.name}: {proposal.plan.why}"
        await rollout_ownership.record_start(change, rollout, why=why, passed_over=proposal.gates.holding)
    return rollout


async def get(store: ControlStore, records: RolloutStore, *, model: str = "", rollout_id: int = 0) -> RolloutView:
    """A rollout as it stands, with what is found and what comes next.

    Args:
        store: flags, experiments, processes.
        records: rollouts.
        model: empty: the only one there is; only needed without an id.
        rollout_id: 0: the one that goes on, or else the latest.

    Raises:
        InvalidInput: the model must be named.
        NotFound: no such model or rollout.
        FailedPrecondition: the model has had none.
        StoreUnavailable: the database is away.
    """
    rollout = await _find(store, records, model=model, rollout_id=rollout_id)
    while True:
        now = await records.now()
        checkup = Checkup()
        if not rollout.state.ended:
            checkup = await rollout_findings.checkup(store, records, rollout, now=now)
        # What moved on meanwhile would be shown as somebody's interference with where it was.
        present = await records.rollout(rollout.id)
        if present is None or present.turn == rollout.turn:
            break
        rollout = present
    return RolloutView(
        rollout=rollout,
        checkup=checkup,
        next=rules.decide(rollout, now=now, checkup=checkup),
        events=await records.events(rollout.id),
        now=now,
    )


async def list_rollouts(store: ControlStore, records: RolloutStore, *, model: str = "") -> Sequence[Rollout]:
    """The rollouts of one model, or of all, newest first. Raises NotFound, StoreUnavailable."""
    if model:
        names.model_of(await store.read(experiments=False), model)
    return await records.rollouts(model)


async def pause(store: ControlStore, records: RolloutStore, *, model: str, actor: str, reason: str = "") -> Rollout:
    """Let it stay at its stage. A severe breach still aborts it: callers are not paused.

    Raises:
        FailedPrecondition: none goes on, or it is paused already.
        Conflict: it was changed meanwhile.
        StoreUnavailable: the database is away.
    """
    rollout = await _going_on(store, records, model)
    if rollout.state is RolloutState.PAUSED:
        raise FailedPrecondition(
            f"rollout {rollout.id} of {rollout.model} is paused already by {rollout.changed_by}: {rollout.note}; "
            "`shadowctl rollout resume` goes on"
        )
    decision = Decision(move=Move.PAUSE, stage=rollout.stage, why=reason or f"paused by {actor}")
    return (await rollout_moves.carry_out(store, rollout, decision, actor=actor))[0]


async def resume(store: ControlStore, records: RolloutStore, *, model: str, actor: str, reason: str = "") -> Rollout:
    """Go on with a paused rollout. Flags that somebody else wrote say again what its stage says, with a fresh dwell.

    Raises:
        FailedPrecondition: none goes on, it is not paused, or its version is not the one that it began with.
        Conflict: it was changed meanwhile.
        StoreUnavailable: the database is away.
    """
    rollout = await _going_on(store, records, model)
    if rollout.state is not RolloutState.PAUSED:
        raise FailedPrecondition(f"rollout {rollout.id} of {rollout.model} is not paused; it goes on by itself")
    now = await records.now()
    found = await rollout_findings.checkup(store, records, rollout, now=now)
    configuration = await store.read(experiments=False)
    version = configuration.models[rollout.model].version(rollout.version)
    if version is not None and version.location != rollout.address:
        raise FailedPrecondition(
            f"{found.interference}. Give it its address back with `shadowctl apply`, or end the rollout with "
            "`shadowctl rollout abort` and start another"
        )
    baseline = await rollout_findings.baseline(store, rollout, now=now) if found.interference else None
    decision = Decision(move=Move.RESUME, stage=rollout.stage, why=reason or f"resumed by {actor}")
    return (await rollout_moves.carry_out(store, rollout, decision, actor=actor, baseline=baseline))[0]


async def step(
    store: ControlStore,
    records: RolloutStore,
    *,
    model: str,
    actor: str,
    reason: str = "",
    from_stage: int | None = None,
) -> Rollout:
    """Go to the next stage now, whatever of the dwell or of the evidence is missing. The last stage's next is the end.

    `from_stage` is the place of the stage that somebody saw; None goes on from whichever it is at.

    Raises:
        FailedPrecondition: none goes on, it is paused, a guardrail is broken, or its flags are not its own.
        Conflict: it was changed meanwhile, or is at another stage.
        StoreUnavailable: the database is away.
    """
    rollout = await _going_on(store, records, model)
    if from_stage is not None and rollout.stage != from_stage:
        raise Conflict(f"rollout {rollout.id} of {rollout.model} is at {rollout.percent:g} % by now; look again")
    if rollout.state is RolloutState.PAUSED:
        raise FailedPrecondition(
            f"rollout {rollout.id} of {rollout.model} is paused by {rollout.changed_by}: {rollout.note}; `shadowctl "
            "rollout resume` first"
        )
    now = await records.now()
    found = await rollout_findings.checkup(store, records, rollout, now=now)
    _check_step(rollout, found)
    why = reason or f"stepped on by {actor}"
    if rollout.last_stage:
        decision = Decision(move=Move.COMPLETE, stage=rollout.stage, why=why)
    else:
        decision = Decision(move=Move.ADVANCE, stage=rollout.stage + 1, why=why)
    baseline = await rollout_findings.baseline(store, rollout, now=now)
    moved = await rollout_moves.carry_out(
        store, rollout, decision, actor=actor, guardrails=found.guardrails, baseline=baseline
    )
    return moved[0]


def _check_step(rollout: Rollout, found: Checkup) -> None:
    if found.interference:
        raise FailedPrecondition(f"rollout {rollout.id} of {rollout.model} cannot go on: {found.interference}")
    standings = guardrail_rules.by_standing(found.guardrails)
    if bad := (*standings[Standing.SEVERE], *standings[Standing.BROKEN]):
        raise FailedPrecondition(
            f"rollout {rollout.id} of {rollout.model} is not widened while it breaks {guardrail_rules.in_words(bad)}; "
            "`shadowctl rollout abort` ends it, `shadowctl promote` with force and a reason after that passes over it"
        )


async def abort(store: ControlStore, records: RolloutStore, *, model: str, actor: str, reason: str = "") -> Rollout:
    """End it: the flags that decide who is live say again what they said before it.

    Raises:
        FailedPrecondition: none goes on.
        Conflict: it was changed meanwhile.
        StoreUnavailable: the database is away.
    """
    rollout = await _going_on(store, records, model)
    decision = Decision(move=Move.ABORT, stage=0, why=reason or f"aborted by {actor}")
    return (await rollout_moves.carry_out(store, rollout, decision, actor=actor))[0]


async def _find(store: ControlStore, records: RolloutStore, *, model: str, rollout_id: int) -> Rollout:
    if rollout_id:
        found = await records.rollout(rollout_id)
        if found is None or (model and found.model != model):
            raise NotFound(f"there is no rollout {rollout_id}; see `shadowctl rollout list`")
        return found
    owner = names.only_model(await store.read(experiments=False), model)
    known = await records.rollouts(owner.name)
    if not known:
        raise FailedPrecondition(
            f"{owner.name} has had no rollout yet; start one with `shadowctl promote VERSION --staged`"
        )
    return known[0]


async def _going_on(store: ControlStore, records: RolloutStore, model: str) -> Rollout:
    owner = names.only_model(await store.read(experiments=False), model)
    going_on = await records.rollouts(owner.name, running=True)
    if going_on:
        return going_on[0]
    last = next(iter(await records.rollouts(owner.name)), None)
    ended = f"; the last one, of {last.version}, is {last.state}: {last.note}" if last else ""
    raise FailedPrecondition(
        f"no rollout of {owner.name} goes on{ended}. Start one with `shadowctl promote VERSION --staged`"
    )
