"""A rollout that goes on owns its flags: who else wants to write them is told whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from multishadow_server.core import rollout as rules
from multishadow_server.core import webhook_events
from multishadow_server.core.guardrails import Guardrail
from multishadow_server.core.rollout import Decision, Entry, Move, Rollout
from multishadow_server.errors import FailedPrecondition
from multishadow_server.service.ports import Change, RolloutEvent


async def check_free(change: Change, model: str, *, version: str = "") -> None:
    """Refuse to write who serves while a rollout of the model goes on.

    Args:
        change: the change that would write.
        model: the model's name.
        version: whose flag is to be written; empty: whichever decides who serves. Flags of versions that a rollout is
            not about stay free.

    Raises:
        FailedPrecondition: whose rollout it is, and what to do.
    """
    rollout = await change.rollouts.running(model)
    if rollout is None or (version and version not in {rollout.version, rollout.previous}):
        return
    raise FailedPrecondition(
        f"{described(rollout)} goes on, and these flags are its own; nothing changed. `shadowctl rollout status` shows "
        "it; `shadowctl rollout step` takes it on, `shadowctl rollout abort` ends it, `shadowctl rollback` takes it "
        "back"
    )


def described(rollout: Rollout) -> str:
    """Which rollout, whose, and where it stands."""
    stages = ", ".join(f"{percent:g}" for percent in rollout.terms.stages)
    return (
        f"rollout {rollout.id} of {rollout.version} ({rollout.model}, over {rollout.previous}; stages {stages} %; "
        f"{rollout.state} at {rollout.percent:g} %; started by {rollout.started_by})"
    )


async def record(
    change: Change,
    rollout: Rollout,
    decision: Decision,
    *,
    actor: str,
    percent: float,
    entry: Entry | None = None,
    taken_back: bool = False,
    guardrails: Sequence[Guardrail] = (),
) -> Rollout:
    """Move the rollout, and put it on record, in the change that writes its flag.

    Args:
        change: that change.
        rollout: as it stands; see RolloutRecords.move.
        decision: what is done.
        actor: who does it.
        percent: share of the requests afterwards.
        entry: how a stage is entered, see `rollout.moved`.
        taken_back: whether this change takes its promotion back; a pause, and what completes it, write no flag.
        guardrails: what it was decided by.

    Raises:
        Conflict: it stands differently by now.
    """
    after = rules.moved(rollout, decision, now=change.now, actor=actor, entry=entry)
    await change.rollouts.move(rollout, after)
    event = RolloutEvent(
        at=change.now,
        actor=actor,
        move=decision.move,
        percent=percent,
        revision=change.revision if entry or taken_back else change.configuration.revision,
        why=decision.why,
        findings=[finding(guardrail) for guardrail in guardrails],
    )
    await change.rollouts.note(rollout, event)
    detail = {"rollout": rollout.id, "percent": percent, "why": decision.why}
    await change.audit(f"rollout_{decision.move}", f"{rollout.model}.{rollout.version}", detail)
    told = webhook_events.rollout_moved(after, decision, percent=percent, by=actor, at=change.now)
    if told is not None:
        await change.tell(told)
    return after


async def record_start(change: Change, rollout: Rollout, *, why: str, passed_over: Sequence[str]) -> None:
    """Put the beginning on record, in the change that writes the first stage."""
    event = RolloutEvent(
        at=change.now,
        actor=rollout.started_by,
        move=Move.START,
        percent=rollout.percent,
        revision=change.revision,
        why=why,
    )
    await change.rollouts.note(rollout, event)
    detail = {
        "rollout": rollout.id,
        "previous": rollout.previous,
        "stages": list(rollout.terms.stages),
        "reason": rollout.reason,
        "gates_passed_over": list(passed_over),
    }
    await change.audit("rollout_start", f"{rollout.model}.{rollout.version}", detail)


def finding(guardrail: Guardrail) -> Mapping[str, Any]:
    """A guardrail as it is kept with what was decided by it."""
    return {
        "name": guardrail.name,
        "standing": guardrail.standing,
        "new": guardrail.new,
        "base": guardrail.base,
        "found": guardrail.found,
        "limit": guardrail.limit,
    }
