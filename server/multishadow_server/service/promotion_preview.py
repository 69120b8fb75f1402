"""What a promotion would write, said before anybody makes it."""

from __future__ import annotations

from dataclasses import dataclass

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import promotion as rules
from multishadow_server.core import serving
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Experiment
from multishadow_server.errors import FailedPrecondition
from multishadow_server.service import names
from multishadow_server.service.ports import ControlStore, Promotion
from multishadow_server.service.promotion import MOST_STEPS


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagWrite:
    """One flag that changes: its key, and what it says before and after, in words."""

    key: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionPreview:
    """What promoting a version for all requests would do now.

    Args:
        version: it.
        live: who is live.
        address: where the version answers; control connects there before it goes live.
        revisions: what each revision would write, in order; none when the flags say it already.
    """

    version: str
    live: str
    address: str
    revisions: tuple[tuple[FlagWrite, ...], ...]


async def preview(store: ControlStore, *, model: str, version: str) -> PromotionPreview:
    """What promoting this version for all requests would do now.

    Raises:
        NotFound: no such model or version.
        StoreUnavailable: the database is away.
    """
    running = next(iter(await store.experiments(model, running=True)), None)
    return foreseen(await store.read(), model=model, version=version, experiment=running)


def foreseen(
    configuration: Configuration, *, model: str, version: str, experiment: Experiment | None
) -> PromotionPreview:
    """The same, of what was read already; `experiment` is the model's running one. Raises NotFound."""
    owner = names.model_of(configuration, model)
    wanted = names.version_of(owner, version)
    flags, revisions = dict(configuration.flags), list[tuple[FlagWrite, ...]]()
    live = serving.live_version(owner, flags)
    if live is None:
        raise FailedPrecondition(f"{model} has no version that could be live; register one with `shadowctl apply`")
    for _ in range(MOST_STEPS):
        target = rules.promotion_target(owner, flags, wanted, percent=100.0, previous=live, experiment=experiment)
        step = rules.next_step(owner, flags, target)
        if step is None:
            break
        before = {each.flag_key: flag_rules.describe(serving.flag_of(each, flags)) for each in owner.versions}
        revisions.append(
            tuple(
                FlagWrite(key=key, before=before[key], after=flag_rules.describe(definition))
                for key, definition in step.writes.items()
            )
        )
        flags.update(step.writes)
        if step.arrives:
            break
    return PromotionPreview(version=wanted.name, live=live.name, address=wanted.location, revisions=tuple(revisions))


async def last_promotion(store: ControlStore, *, model: str, actor: str) -> Promotion:
    """The promotion that a rollback would take back now; nothing is changed.

    Raises:
        NotFound: no such model.
        FailedPrecondition: none is left to take back.
        StoreUnavailable: the database is away.
    """
    async with store.change(actor, experiments=False) as change:
        change.discard()
        owner = names.model_of(change.configuration, model)
        last = await change.last_promotion(owner.name)
        if last is None:
            raise FailedPrecondition(f"no promotion of {model} is left to roll back")
        return last
