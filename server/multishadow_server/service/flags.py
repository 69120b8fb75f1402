"""What single flags say: listing them, and setting what one version claims."""

from __future__ import annotations

from collections.abc import Sequence

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import serving
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.serving import Flags
from multishadow_server.errors import Conflict, FailedPrecondition
from multishadow_server.service import epochs, names, rollout_ownership
from multishadow_server.service.ports import Change, ControlStore, FlagRecord


async def list_flags(store: ControlStore, *, model: str = "") -> tuple[Sequence[FlagRecord], int]:
    """The flags of one model, or of all, by key, with the revision.

    Raises:
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    # The revision first: one that is newer than the list would pass off the list as containing a change it missed.
    configuration = await store.read(experiments=False)
    records = await store.flags()
    if not model:
        return records, configuration.revision
    keys = {version.flag_key for version in names.model_of(configuration, model).versions}
    return [record for record in records if record.key in keys], configuration.revision


async def set_flag(
    store: ControlStore,
    *,
    model: str,
    version: str,
    claim: Claim,
    percent: float = 100.0,
    actor: str,
    reason: str = "",
    expected_revision: int | None = None,
) -> tuple[FlagRecord, int]:
    """Set what a version claims, and return its flag with the revision.

    Who serves is `promote`'s and `rollback`'s to change: they write in an order that no reader can stumble over, and
    remember how to go back. So this refuses to make a second version live and to take the live version's claim away.
    It may end a partial rollout, and the claim of a version that has lost to a newer one.

    Raises:
        InvalidInput: the percent is out of range.
        NotFound: no such model or version.
        FailedPrecondition: it would change who serves, or a rollout goes on with it; the message says what to do.
        Conflict: the flags are not at `expected_revision`.
        StoreUnavailable: the database is away.
    """
    definition = flag_rules.claim_definition(model, claim, percent)
    async with store.change(actor) as change:
        before = change.configuration
        wanted = names.version_of(names.model_of(before, model), version)
        if expected_revision is not None and expected_revision != before.revision:
            raise Conflict(
                f"the flags are at revision {before.revision}, not {expected_revision}: somebody changed something "
                "first. Read again, and decide again"
            )
        if serving.flag_of(wanted, before.flags) != definition:
            await rollout_ownership.check_free(change, model, version=wanted.name)
            _check_claim(before.models[model], before.flags, wanted, claim, percent)
            await _write(change, wanted, {**before.flags, wanted.flag_key: definition}, claim, reason)
            record = FlagRecord(
                key=wanted.flag_key,
                definition=definition,
                revision=change.revision,
                changed_at=change.now,
                changed_by=actor,
                reason=reason,
            )
            return record, change.revision
    present = next(record for record in await store.flags() if record.key == wanted.flag_key)
    return present, before.revision


async def _write(change: Change, version: Version, flags: Flags, claim: Claim, reason: str) -> None:
    definition = flags[version.flag_key]
    words = flag_rules.describe(definition)
    await change.put_flag(version.flag_key, definition, reason=reason)
    if claim is not Claim.LIVE:
        promotion = await change.last_promotion(version.model)
        if promotion is not None and promotion.version == version.name:
            # Its rollout ends here. Rolling back later must not find it and believe that there is something to undo.
            await change.mark_rolled_back(promotion)
    experiment = await change.running_experiment(version.model)
    if experiment is not None:
        model = change.configuration.models[version.model]
        await epochs.follow(change, experiment, model, flags, reason=f"flag of {version.name} set to {words}")
    await change.audit("set_flag", version.flag_key, {"claim": words, "reason": reason})


def _check_claim(model: Model, flags: Flags, version: Version, claim: Claim, percent: float) -> None:
    if claim is Claim.LIVE:
        _check_live(model, flags, version, percent)
    elif serving.live_version(model, flags) == version:
        raise FailedPrecondition(
            f"{version.name} is the live version of {model.name}; setting it to `{claim}` would leave its callers to "
            "whatever claims `live` beneath it, or to nobody. To take its promotion back: `shadowctl rollback`. To "
            f"make another version live: `shadowctl promote VERSION` ({_others(model, version)})"
        )


def _check_live(model: Model, flags: Flags, version: Version, percent: float) -> None:
    share = "" if percent >= 100 else f" --percent {percent:g}"
    claiming = [each.name for each in model.versions if each != version and serving.may_serve(each, flags)]
    if claiming:
        raise FailedPrecondition(
            f"{names.listed(claiming)} of {model.name} claims `live` already, and a second live claim is only made by "
            f"promotion, which keeps the order and can be rolled back: `shadowctl promote {version.name}{share}`"
        )
    if percent < 100:
        raise FailedPrecondition(
            f"no other version of {model.name} claims `live` for the other {100 - percent:g} % of the requests; set "
            f"{version.name} to `live` for all of them, or promote another version first"
        )


def _others(model: Model, version: Version) -> str:
    return names.listed(each.name for each in model.versions if each != version)
