"""Keeping the epochs of a running experiment in step with what a change writes."""

from __future__ import annotations

from collections.abc import Collection

from multishadow_server.core import experiment as rules
from multishadow_server.core import serving
from multishadow_server.core.experiment import EpochTurn, Experiment
from multishadow_server.core.model import Model
from multishadow_server.core.serving import Flags
from multishadow_server.service.ports import Change


async def follow(
    change: Change, experiment: Experiment, model: Model, flags: Flags, *, reason: str, replaced: Collection[str] = ()
) -> EpochTurn:
    """End the epochs that no longer hold and open those that are missing, from this change's revision on.

    Args:
        change: the change that makes it necessary, and that commits it.
        experiment: the running one; its captures of earlier revisions stay with the epochs of those revisions.
        model: as it is after the change.
        flags: as they are after the change.
        reason: why, in words, for people who read the report.
        replaced: versions behind whose name another implementation answers now.

    Returns:
        What ended and what began.
    """
    open_epochs = [
        epoch
        for epoch in change.configuration.epochs
        if epoch.experiment_id == experiment.id and epoch.until_revision is None
    ]
    plans = rules.plan_epochs(experiment, model, serving.serving_versions(model, flags))
    turn = rules.turn_epochs(open_epochs, plans, replaced=replaced)
    for epoch in turn.closing:
        await change.close_epoch(epoch)
    for plan in turn.opening:
        await change.open_epoch(
            experiment, live=plan.live, candidates=plan.candidates, comparator=plan.comparator, reason=reason
        )
    return turn


async def close(change: Change, experiment: Experiment) -> None:
    """End all of the experiment's epochs."""
    for epoch in change.configuration.epochs:
        if epoch.experiment_id == experiment.id and epoch.until_revision is None:
            await change.close_epoch(epoch)
