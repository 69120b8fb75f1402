"""Making a version live, and taking that back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import promotion as rules
from multishadow_server.core import serving
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Model, Version
from multishadow_server.core.promotion import Step
from multishadow_server.core.routing import Claim
from multishadow_server.core.serving import Flags
from multishadow_server.errors import Conflict, FailedPrecondition, InvalidInput, NotFound, VersionUnavailable
from multishadow_server.service import comparison_report, epochs, flag_sources, names
from multishadow_server.service.ports import Change, ControlStore, VersionProbe
from multishadow_server.service.ports import Promotion as PromotionRecord

PROBE_SECONDS = 2.0
# Two revisions are the most that a promotion or a rollback needs; more means that somebody else writes against it.
MOST_STEPS = 4


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
            pass, or a stage cannot be had beside the other live claims.
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
            await _check_reachable(probe, wanted)
        passed_over = await _check_gates(store, wanted, force=force, reason=reason, clock=clock)
    beginning: _Beginning | None = None
    for _ in range(MOST_STEPS):
        async with store.change(actor) as change:
            configuration = change.configuration
            owner = names.model_of(configuration, model)
            wanted = names.version_of(owner, version)
            beginning = beginning or _beginning(owner, configuration.flags)
            step = await _next_step(change, owner, wanted, percent=percent, previous=beginning.previous)
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
    return _Beginning(
        flags={version.flag_key: serving.flag_of(version, flags) for version in model.versions}, previous=live
    )


async def _check_reachable(probe: VersionProbe, version: Version) -> None:
    try:
        await probe.connect(version.address, within=PROBE_SECONDS)
    except VersionUnavailable as error:
        raise FailedPrecondition(
            f"{version.name} does not answer at {version.address} ({error}), so it was not promoted and nothing "
            "changed. Start it, or correct its address with `shadowctl apply`. If only the routers can reach it, "
            "promote it with `force` (`shadowctl promote --force`)"
        ) from error


async def _check_gates(
    store: ControlStore, version: Version, *, force: bool, reason: str, clock: Callable[[], float]
) -> list[str]:
    """Names of the gates that are passed over; refuses when there are any, unless forced with a reason."""
    try:
        found = await comparison_report.compare(store, model=version.model, candidates=[version.name], clock=clock)
    except (FailedPrecondition, NotFound) as error:
        holding: list[str] = ["comparison"]
        why = f"it has not been compared with the live version: {error}"
    else:
        (review,) = found.reviews
        holding = [gate.name for gate in review.holding]
        why = f"{review.verdict}\n" + "\n".join(
            f"  {gate.name} {gate.state}: {gate.number}; asked for: {gate.bound}" for gate in review.holding
        )
        if past := _of_another_time(found.epoch, await store.read()):
            holding, why = ["comparison"], past
    if not holding:
        return []
    if not force:
        raise FailedPrecondition(
            f"{version.name} was not promoted and nothing changed: {why}\n`shadowctl gates {version.name}` says what "
            f"would change it; `shadowctl waive {version.name} GATE --reason TEXT` passes over one gate, and promoting "
            "with force and a reason over all"
        )
    if not reason.strip():
        raise InvalidInput(
            f"reason: {version.name} does not pass its gates ({names.listed(holding)}); say why it is promoted"
        )
    return holding


def _of_another_time(epoch: Epoch, present: Configuration) -> str:
    """Why a comparison vouches for nothing any more: nothing keeps that of an experiment that has ended up to date."""
    model = present.models[epoch.model]
    live = serving.live_version(model, present.flags)
    again = "Compare it anew with `shadowctl start`"
    if live is not None and epoch.live != live.name:
        return f"it was compared with {epoch.live}, and {live.name} is live now. {again}"
    if epoch.comparator != model.comparator:
        return f"it was compared before the model's comparator was changed. {again}"
    return ""


async def _next_step(
    change: Change, model: Model, version: Version, *, percent: float, previous: Version
) -> Step | None:
    flags = change.configuration.flags
    target = rules.promotion_target(
        model,
        flags,
        version,
        percent=percent,
        previous=previous,
        experiment=await change.running_experiment(model.name),
    )
    step = rules.next_step(model, flags, target)
    if step is not None:
        rules.check_stage(model, flags, version, percent)
    return step


async def _write(change: Change, model: Model, step: Step, *, reason: str, epoch_reason: str) -> None:
    for key, definition in step.writes.items():
        await change.put_flag(key, definition, reason=reason)
    experiment = await change.running_experiment(model.name)
    if experiment is not None:
        flags = {**change.configuration.flags, **step.writes}
        await epochs.follow(change, experiment, model, flags, reason=epoch_reason)


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


async def rollback(store: ControlStore, *, model: str, actor: str, reason: str = "") -> RolledBack:
    """Take the last promotion back: the flags that decide who is live say again what they said before it.

    Nothing is asked of the versions' servers, and nothing is read but the configuration: this has to work at the worst
    moment. Repeated, it takes the promotion before that back.

    Raises:
        NotFound: no such model.
        FailedPrecondition: no promotion is left to take back.
        Conflict: somebody else keeps changing the same flags.
        StoreUnavailable: the database is away.
    """
    for _ in range(MOST_STEPS):
        async with store.change(actor) as change:
            owner = names.only_model(change.configuration, model)
            last = await change.last_promotion(owner.name)
            if last is None:
                raise _nothing_to_roll_back(owner, change.configuration.flags)
            flags = change.configuration.flags
            target = rules.rollback_target(owner, flags, before=last.flags_before, previous=last.previous)
            step = rules.next_step(owner, flags, target)
            words = f"promotion of {last.version} rolled back"
            if step is not None:
                await _write(change, owner, step, reason=reason or words, epoch_reason=words)
            if step is None or step.arrives:
                await change.mark_rolled_back(last)
                detail = {"version": last.version, "live": last.previous, "reason": reason}
                await change.audit("rollback", owner.name, detail)
                revision = change.revision
                return RolledBack(model=owner.name, version=last.previous, rolled_back=last.version, revision=revision)
    raise _contended(model)


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
