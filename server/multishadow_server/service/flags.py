"""What single flags say: listing them, and setting what one version claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from multishadow_server.core import flags as flag_rules
from multishadow_server.core import serving
from multishadow_server.core.routing import Claim
from multishadow_server.errors import Conflict
from multishadow_server.service import claims, names
from multishadow_server.service.ports import ControlStore, FlagRecord


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


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimSet:
    """What setting a claim came to; `effects` says what it does to a running experiment."""

    record: FlagRecord
    revision: int
    effects: tuple[str, ...] = ()


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
    dry_run: bool = False,
) -> ClaimSet:
    """Set what a version claims.

    Who serves is `promote`'s and `rollback`'s to change; see `core.claim_edit`.

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
        definition = flag_rules.with_metadata_of(serving.flag_of(wanted, before.flags), definition)
        if serving.flag_of(wanted, before.flags) != definition:
            await claims.put(change, before.flags, wanted, definition, reason=reason)
            effects = await claims.follow(change, {**before.flags, wanted.flag_key: definition}, [wanted])
            words = flag_rules.describe(definition)
            await change.audit("set_flag", wanted.flag_key, {"claim": words, "reason": reason})
            if dry_run:
                change.discard()
            record = FlagRecord(
                key=wanted.flag_key,
                definition=definition,
                revision=change.revision,
                changed_at=change.now,
                changed_by=actor,
                reason=reason,
            )
            return ClaimSet(record=record, revision=change.revision, effects=tuple(effects))
    present = next(record for record in await store.flags() if record.key == wanted.flag_key)
    return ClaimSet(record=present, revision=before.revision)
