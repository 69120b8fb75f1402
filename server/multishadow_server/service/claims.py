"""Writing what versions claim, within a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from multishadow_server.core import claim_edit, serving
from multishadow_server.core import flags as flag_rules
from multishadow_server.core.model import Version
from multishadow_server.core.serving import Flags
from multishadow_server.service import epochs, rollout_ownership
from multishadow_server.service.ports import Change


async def put(change: Change, flags: Flags, version: Version, definition: Mapping[str, Any], *, reason: str) -> None:
    """Set a version's flag; `follow` has to come after the last one of the change.

    Args:
        change: commits it.
        flags: as they are by now: the change's configuration, with what the change wrote since.
        version: whose flag.
        definition: in flagd's format; it passes the store's checks.
        reason: why, in the author's words.

    Raises:
        InvalidInput: some reader of flags would not take the definition.
        FailedPrecondition: it would change who serves, or is a staged rollout's; the message says which command does.
    """
    await rollout_ownership.check_free(change, version.model, version=version.name)
    claim_edit.check(change.configuration.models[version.model], flags, version, definition)
    await change.put_flag(version.flag_key, definition, reason=reason)
    if not serving.may_serve(version, {version.flag_key: definition}):
        promotion = await change.last_promotion(version.model)
        if promotion is not None and promotion.version == version.name:
            # Its rollout ends here. Rolling back later must not find it and believe that there is something to undo.
            await change.mark_rolled_back(promotion)


async def follow(change: Change, flags: Flags, versions: Sequence[Version]) -> list[str]:
    """Keep the epochs of running experiments in step, and say what the change does to those experiments.

    Args:
        change: commits it.
        flags: as they are after the change.
        versions: those whose flags the change set; each model's epochs turn at most once in a change.
    """
    effects: list[str] = []
    for name in dict.fromkeys(version.model for version in versions):
        model = change.configuration.models[name]
        edited = [version for version in versions if version.model == name]
        experiment = await change.running_experiment(name)
        turn = None
        if experiment is not None:
            words = (f"{version.name} set to {flag_rules.describe(flags[version.flag_key])}" for version in edited)
            turn = await epochs.follow(change, experiment, model, flags, reason=f"flag of {', '.join(words)}")
        for version in edited:
            before = serving.flag_of(version, change.configuration.flags)
            effects += claim_edit.effects(experiment, version, before, flags[version.flag_key], turn)
    return list(dict.fromkeys(effects))
