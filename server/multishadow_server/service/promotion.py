"""Making a version live, and taking that back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import promotion as rules
from multishadow_server.core import serving, webhook_events
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.model import Model, Version
from multishadow_server.core.promotion import Step
from multishadow_server.core.rollout import Decision, Move
from multishadow_server.core.routing import Claim
from multishadow_server.core.serving import Flags
from multishadow_server.errors import Conflict, FailedPrecondition
from multishadow_server.service import epochs, flag_sources, names, promotion_gates, rollout_ownership
from multishadow_server.service.ports import Change, ControlStore, VersionProbe
from multishadow_server.service.ports import Promotion as PromotionRecord

# A promotion or a rollback needs two revisions, and one for each version that gets back some requests alone; many more
# mean that somebody else writes against it.
MOST_STEPS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Promoted:
    """What a promotion came to; `changed` is False when the version was live already."""

    model: str
    version: str
    previous: str
    revision: int
    changed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack:
    """What a rollback came to: who is live from now on, and who no longer."""

    model: str
    version: str
    rolled_back: str
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Beginning:
    """How things were when a promotion began; its later steps are judged by it."""

    flags: Flags
    previous: Version


async def promote(
    store: ControlStore,
    probe: VersionProbe,
    *,
    model: str,
    version: str,
    percent: float = 100.0,
    actor: str,
    reason: str = "",
    force: bool = False,
    clock: Callable[[], float],
) -> Promoted:
    """Make a version live for `percent` of the requests by flipping its flag.

    A version that nothing listens for is refused: going live, it would answer every caller with an error. Control may
    sit where it cannot reach what the routers can; `force` is for that, and for passing over gates, with a reason that
    is kept. `core.promotion` says which flags are written when. Promoting in stages (5, 25, 100 %) is one promotion:
    rolling back takes all of it back.

    Raises:
        InvalidInput: the percent is out of range, or gates are to be passed over without a reason.
        NotFound: no such model or version.
        FailedPrecondition: some router reads its flags elsewhere, its server does not answer, its gates do not all
            pass, a staged rollout of the model goes on, or a stage cannot be had beside the other live claims.
        Conflict: somebody else keeps changing the same flags.
        StoreUnavailable: the database is away.
    """
    flag_rules.claim_definition(model, Claim.LIVE, percent)
    present = await store.read()
    owner = names.model_of(present, model)
    wanted = names.version_of(owner, version)
    passed_over: list[str] = []
    # Who serves already has nothing to prove, and nothing to lose by being out of control's reach.
    if serving.standing(owner, present.flags) != wanted:
        if not force:
            await flag_sources.check_promotion(store, wanted.flag_key, clock=clock)
            await promotion_gates.check_reachable(probe, wanted)
        passed_over = await promotion_gates.check(store, wanted, force=force, reason=reason, clock=clock)
    beginning: _Beginning | None = None
    for _ in range(MOST_STEPS):
        async with store.change(actor) as change:
            configuration = change.configuration
            owner = names.model_of(configuration, model)
            wanted = names.version_of(owner, version)
            await rollout_ownership.check_free(change, owner.name)
            beginning = beginning or _beginning(owner, configuration.flags)
            # Who is demoted at 100 % goes on shadowing where an experiment names it; smaller shares demote nobody.
            experiment = await change.running_experiment(owner.name) if percent >= 100 else None
            step = _next_step(
                owner,
                configuration.flags,
                wanted,
                percent=percent,
                previous=beginning.previous,
                experiment=experiment,
            )
            if step is None:
                return _promoted(wanted, beginning, configuration.revision, changed=False)
            words = f"{wanted.name} promoted" if percent >= 100 else f"{wanted.name} promoted at {percent:g} %"
            await _write(change, owner, step, reason=reason or words, epoch_reason=words)
            if step.arrives:
                await _record(change, owner, wanted, beginning)
                detail = {
                    "previous": beginning.previous.name,
                    "percent": percent,
                    "reason": reason,
                    "gates_passed_over": passed_over,
                }
                await change.audit("promote", wanted.flag_key, detail)
                told = webhook_events.promoted(
                    owner.name,
                    wanted.name,
                    previous=beginning.previous.name,
                    percent=percent,
                    reason=reason,
                    passed_over=passed_over,
                    revision=change.revision,
                    by=actor,
                    at=change.now,
                )
                await change.tell(told)
                return _promoted(wanted, beginning, change.revision, changed=True)
    raise _contended(model)


def _promoted(version: Version, beginning: _Beginning, revision: int, *, changed: bool) -> Promoted:
    return Promoted(
        model=version.model,
        version=version.name,
        previous=beginning.previous.name,
        revision=revision,
        changed=changed,
    )


def _beginning(model: Model, flags: Flags) -> _Beginning:
    live = serving.live_version(model, flags)
    assert live is not None, "a model with a version to promote has a base"
    return _Beginning(flags=_flags_of(model, flags), previous=live)


def _flags_of(model: Model, flags: Flags) -> Flags:
    return {version.flag_key: serving.flag_of(version, flags) for version in model.versions}


def _next_step(
    model: Model, flags: Flags, version: Version, *, percent: float, previous: Version, experiment: Experiment | None
) -> Step | None:
    target = rules.promotion_target(model, flags, version, percent=percent, previous=previous, experiment=experiment)
    step = rules.next_step(model, flags, target)
    if step is not None:
        rules.check_stage(model, flags, version, percent)
    return step


async def _write(change: Change, model: Model, step: Step, *, reason: str, epoch_reason: str) -> None:
    await _put_flags(change, step, reason=reason)
    await _follow(change, model, step, reason=epoch_reason)


async def _put_flags(change: Change, step: Step, *, reason: str) -> None:
    for key, definition in step.writes.items():
        await change.put_flag(key, definition, reason=reason)


async def _follow(change: Change, model: Model, step: Step, *, reason: str) -> None:
    experiment = await change.running_experiment(model.name)
    if experiment is not None:
        flags = {**change.configuration.flags, **step.writes}
        await epochs.follow(change, experiment, model, flags, reason=reason)


async def _record(change: Change, model: Model, version: Version, beginning: _Beginning) -> None:
    last = await change.last_promotion(model.name)
    if last is not None and _goes_on(last, version, beginning):
        return
    await change.record_promotion(
        model=model.name, version=version.name, previous=beginning.previous.name, flags_before=beginning.flags
    )


def _goes_on(last: PromotionRecord, version: Version, beginning: _Beginning) -> bool:
    """Whether this was a further stage of the rollout that `last` began, whose way back is remembered already."""
    return (
        last.version == version.name
        and last.previous == beginning.previous.name != version.name
        and serving.may_serve(version, beginning.flags)
    )


async def write_stage(
    change: Change, model: Model, version: Version, *, percent: float, previous: Version, reason: str
) -> None:
    """Write one stage of a rollout, which began with `previous` live: one revision of the version's flag.

    The first stage of a rollout is remembered as the promotion that a rollback takes back, later ones belong to it.

    Raises:
        FailedPrecondition: the share cannot be had beside the other live claims.
    """
    beginning = _Beginning(flags=_flags_of(model, change.configuration.flags), previous=previous)
    words = f"{version.name} rolled out at {percent:g} %"
    experiment = await _running_if_readable(change, model) if percent >= 100 else None
    step = _next_step(
        model, change.configuration.flags, version, percent=percent, previous=previous, experiment=experiment
    )
    if step is None:
        return
    if not step.arrives:
        raise FailedPrecondition(
            f"{version.name} of {model.name} cannot be brought to {percent:g} % by one write: {previous.name} does not "
            "claim `live` for the rest; see `shadowctl get flags`"
        )
    await _put_flags(change, step, reason=reason or words)
    await change.if_possible(
        f"keeping the epochs of {model.name} in step with its rollout",
        lambda: _follow(change, model, step, reason=words),
    )
    await _record(change, model, version, beginning)


async def _running_if_readable(change: Change, model: Model) -> Experiment | None:
    found: list[Experiment | None] = []

    async def find() -> None:
        found.append(await change.running_experiment(model.name))

    await change.if_possible(f"looking for the experiment of {model.name}", find)
    return found[0] if found else None


async def take_back(change: Change, model: Model, last: PromotionRecord, *, reason: str) -> bool:
    """Write the next revision on the way back to before a promotion.

    Args:
        change: may have left out experiments: their epochs are kept in step if they can be reached at all.
        model: whose promotion.
        last: the newest one that was not taken back.
        reason: for the flags' history.

    Returns:
        Whether everything is as it was; the promotion is marked as rolled back then.
    """
    flags = change.configuration.flags
    experiment = await _experiment_at(change, last)
    target = rules.rollback_target(
        model, flags, before=last.flags_before, previous=last.previous, experiment=experiment
    )
    step = rules.next_step(model, flags, target)
    words = f"promotion of {last.version} rolled back"
    if step is not None:
        await _put_flags(change, step, reason=reason or words)
        await change.if_possible(
            f"keeping the epochs of {model.name} in step with a rollback",
            lambda: _follow(change, model, step, reason=words),
        )
    if step is not None and not step.arrives:
        return False
    await change.mark_rolled_back(last)
    return True


async def _experiment_at(change: Change, last: PromotionRecord) -> Experiment | None:
    """The experiment that wrote the shadows' claims that are given back, if there are such and it can be read."""
    found: list[Experiment | None] = []

    async def find() -> None:
        found.append(await change.experiment_at(last))

    if any(flag_rules.only_shadows(definition) for definition in last.flags_before.values()):
        await change.if_possible(f"looking whether {last.model} is still being compared", find)
    return found[0] if found else None


async def rollback(
    store: ControlStore, *, model: str, actor: str, reason: str = "", of_revision: int | None = None
) -> RolledBack:
    """Take the last promotion back: the flags that decide who is live say again what they said before it.

    A staged rollout of it ends with that. Nothing is asked of the versions' servers, and nothing has to be readable but
    models, flags and promotions: this has to work at the worst moment. Repeated, it takes the promotion before that
    back, unless `of_revision` names the one that is meant by its revision.

    Raises:
        NotFound: no such model.
        FailedPrecondition: no promotion is left to take back.
        Conflict: somebody else keeps changing the same flags, or the last promotion is not the one that is meant.
        StoreUnavailable: the database is away.
    """
    for _ in range(MOST_STEPS):
        async with store.change(actor, experiments=False) as change:
            owner = names.only_model(change.configuration, model)
            last = await change.last_promotion(owner.name)
            if last is None:
                raise _nothing_to_roll_back(owner, change.configuration.flags)
            if of_revision is not None and last.revision != of_revision:
                raise Conflict(
                    f"the last promotion of {owner.name} is another one by now, {last.version} over {last.previous}: "
                    "that one was rolled back already, or somebody promoted since; look again"
                )
            # Ended by the first write, so that control does not go on with it before the second.
            await _end_rollout(change, owner.name, actor=actor, reason=reason)
            if await take_back(change, owner, last, reason=reason):
                detail = {"version": last.version, "live": last.previous, "reason": reason}
                await change.audit("rollback", owner.name, detail)
                revision = change.revision
                told = webhook_events.rolled_back(
                    owner.name, last.version, live=last.previous, reason=reason, revision=revision, by=actor,
                    at=change.now,
                )  # fmt: skip
                await change.tell(told)
                return RolledBack(model=owner.name, version=last.previous, rolled_back=last.version, revision=revision)
    raise _contended(model)


async def _end_rollout(change: Change, model: str, *, actor: str, reason: str) -> None:
    rollout = await change.rollouts.running(model)
    if rollout is not None:
        decision = Decision(move=Move.ROLL_BACK, stage=rollout.stage, why=reason or f"rolled back by {actor}")
        await rollout_ownership.record(change, rollout, decision, actor=actor, percent=0.0, taken_back=True)


def _nothing_to_roll_back(model: Model, flags: Flags) -> FailedPrecondition:
    live = serving.live_version(model, flags)
    return FailedPrecondition(
        f"no promotion of {model.name} is left to roll back; live is {live.name if live else 'nobody'}. To make "
        f"another version live: `shadowctl promote VERSION` "
        f"({names.listed(version.name for version in model.versions)})"
    )


def _contended(model: str) -> Conflict:
    return Conflict(
        f"the flags of {model} keep being changed by somebody else; see `shadowctl get flags`, and try again"
    )
