"""Carrying out what was decided about a rollout: flag, rollout and record in one transaction.

Several control processes look at the same rollout. Nobody leads: a change holds the lock on the revision, and the
rollout's turn is compared within it, so of several that decided by the same turn one acts, and the others find that
they came too late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import serving
from multishadow_server.core.guardrails import Guardrail
from multishadow_server.core.model import Model, Version
from multishadow_server.core.rollout import Decision, Entry, Move, Rollout
from multishadow_server.errors import Conflict, FailedPrecondition
from multishadow_server.service import names, promotion, rollout_ownership
from multishadow_server.service.ports import Change, ControlStore

ENTERING = frozenset({Move.ADVANCE, Move.SET_BACK, Move.RESUME})


async def carry_out(
    store: ControlStore,
    rollout: Rollout,
    decision: Decision,
    *,
    actor: str,
    guardrails: Sequence[Guardrail] = (),
    baseline: Mapping[str, int] | None = None,
) -> tuple[Rollout, int]:
    """Do it, and return the rollout with the revision of the flags afterwards.

    Args:
        store: where flags and rollouts are changed together.
        rollout: as it stood when it was decided.
        decision: anything but to wait.
        actor: who does it.
        guardrails: what it was decided by, for the record.
        baseline: comparisons counted before the stage that is entered; None when none is.

    Raises:
        Conflict: the rollout, or the flags, are not as they were.
        FailedPrecondition: the flags do not allow it.
        StoreUnavailable: the database is away; whether it was done is unknown, and the next look will tell.
    """
    if decision.move is Move.ABORT:
        return await _abort(store, rollout, decision, actor=actor, guardrails=guardrails)
    # Experiments may be unreadable: then the epochs are kept in step later, and the callers are not kept waiting.
    async with store.change(actor, experiments=False) as change:
        present = await _present(change, rollout)
        percent = rollout.terms.stages[decision.stage]
        entry = None
        if decision.move in ENTERING and baseline is not None:
            await _enter(change, present, decision, percent=percent)
            entry = Entry(revision=change.revision, at=change.now, baseline=baseline)
        after = await rollout_ownership.record(
            change, present, decision, actor=actor, percent=percent, entry=entry, guardrails=guardrails
        )
        return after, entry.revision if entry else change.configuration.revision


async def _present(change: Change, rollout: Rollout) -> Rollout:
    present = await change.rollouts.running(rollout.model)
    if present is None or (present.id, present.turn) != (rollout.id, rollout.turn):
        raise Conflict(
            f"rollout {rollout.id} of {rollout.model} is not as it was any more; see `shadowctl rollout status`"
        )
    return present


async def _enter(change: Change, rollout: Rollout, decision: Decision, *, percent: float) -> None:
    model = names.model_of(change.configuration, rollout.model)
    version = names.version_of(model, rollout.version)
    previous = names.version_of(model, rollout.previous)
    if decision.move is not Move.RESUME:
        _check_untouched(model, version, change.configuration.flags, rollout)
    await promotion.write_stage(
        change, model, version, percent=percent, previous=previous, reason=f"rollout {rollout.id}: {decision.why}"
    )


def _check_untouched(model: Model, version: Version, flags: serving.Flags, rollout: Rollout) -> None:
    """What was decided was decided about these flags, and about what answers at this address."""
    if version.location != rollout.address:
        raise Conflict(
            f"{version.name} of {model.name} is at {version.location} now and was at {rollout.address} when rollout "
            f"{rollout.id} began: somebody else changed it"
        )
    words = flag_rules.describe(serving.flag_of(version, flags))
    if words != rollout.flag_in_words:
        raise Conflict(
            f"{version.flag_key} says `{words}` and not `{rollout.flag_in_words}` as rollout {rollout.id} of "
            f"{model.name} wrote: somebody else changed it"
        )


async def _abort(
    store: ControlStore, rollout: Rollout, decision: Decision, *, actor: str, guardrails: Sequence[Guardrail]
) -> tuple[Rollout, int]:
    for _ in range(promotion.MOST_STEPS):
        async with store.change(actor, experiments=False) as change:
            present = await _present(change, rollout)
            model = names.model_of(change.configuration, rollout.model)
            last = await change.last_promotion(model.name)
            reason = f"rollout {rollout.id} aborted: {decision.why}"
            # Somebody's write may have ended its promotion already; then nothing is left to be taken back.
            own = last if last is not None and last.version == rollout.version else None
            if own is None or await promotion.take_back(change, model, own, reason=reason):
                after = await rollout_ownership.record(
                    change, present, decision, actor=actor, percent=0.0, taken_back=own is not None,
                    guardrails=guardrails,
                )  # fmt: skip
                return after, change.configuration.revision if own is None else change.revision
    raise FailedPrecondition(
        f"the flags of {rollout.model} keep being changed by somebody else; see `shadowctl get flags`, and try again"
    )
