"""Pausing the shadowing of a version, and resuming it.

Flags go on saying who is shadowed: a pause is no change of what is compared, nor of who gets which share. Routers go on
sampling, workers call nobody, and each copy counts as dropped with the reason `paused`, so that nothing is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from multishadow_server.core import version_limits
from multishadow_server.core.model import Version
from multishadow_server.core.version_limits import Pause
from multishadow_server.service import names
from multishadow_server.service.models import ModelView, view_of
from multishadow_server.service.ports import Change, ControlStore


async def pause(
    store: ControlStore, *, model: str, version: str, seconds: float | None, actor: str, reason: str
) -> tuple[ModelView, int]:
    """Let nobody call a version as a shadow; a second pause takes the first one's place.

    Args:
        store: where versions are.
        model: empty: the only one there is.
        version: whose shadowing.
        seconds: after how long it ends by itself; None: when it is resumed.
        actor: who pauses it.
        reason: why, for the records.

    Returns:
        The model with the paused version, and the revision.

    Raises:
        InvalidInput: so long a pause is not allowed, or a name is missing.
        NotFound: no such model or version.
        StoreUnavailable: the database is away.
    """
    version_limits.check_pause(seconds)
    async with store.change(actor, experiments=False) as change:
        found = names.version_of(names.only_model(change.configuration, model), version)
        until = None if seconds is None else change.now + seconds
        paused = replace(found, pause=Pause(since=change.now, until=until, by=actor, reason=reason))
        await change.audit("pause_shadowing", found.flag_key, {"seconds": seconds, "reason": reason})
        return await _put(change, paused), change.revision


async def resume(store: ControlStore, *, model: str, version: str, actor: str, reason: str) -> tuple[ModelView, int]:
    """End a version's pause; one that is not paused stays as it is.

    Returns:
        The model with the version, and the revision.

    Raises:
        InvalidInput: a name is missing.
        NotFound: no such model or version.
        StoreUnavailable: the database is away.
    """
    async with store.change(actor, experiments=False) as change:
        found = names.version_of(names.only_model(change.configuration, model), version)
        if found.pause is None:
            model_of = change.configuration.models[found.model]
            return view_of(model_of, change.configuration.flags), change.configuration.revision
        detail: Mapping[str, Any] = {"reason": reason, "paused_by": found.pause.by}
        await change.audit("resume_shadowing", found.flag_key, detail)
        return await _put(change, replace(found, pause=None)), change.revision


async def _put(change: Change, version: Version) -> ModelView:
    model = change.configuration.models[version.model]
    versions = tuple(version if each.name == version.name else each for each in model.versions)
    changed = replace(model, versions=versions)
    await change.put_versions(changed)
    return view_of(changed, change.configuration.flags)
