"""Registering models and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multishadow_server.core import flag_definition, model_limits, registration, serving
from multishadow_server.core import flags as flag_rules
from multishadow_server.core.model import Model, Version
from multishadow_server.core.model_spec import ModelSpec
from multishadow_server.core.registration import Registration
from multishadow_server.core.routing import Claim
from multishadow_server.service import epochs, names
from multishadow_server.service.ports import Change, ControlStore


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelView:
    """A model as people see it.

    Args:
        model: the model.
        live: name of the version that serves when no rollout and no attribute says otherwise; empty without versions.
        claims: what each version's flag says, in words, by the version's name.
    """

    model: Model
    live: str
    claims: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What applying a model came to; `changes` is empty when everything was so already."""

    view: ModelView
    revision: int
    changes: tuple[str, ...]


def view_of(model: Model, flags: serving.Flags) -> ModelView:
    """The model with what its flags say."""
    live = serving.live_version(model, flags)
    return ModelView(
        model=model,
        live=live.name if live else "",
        claims={version.name: flag_rules.describe(serving.flag_of(version, flags)) for version in model.versions},
    )


async def apply_model(store: ControlStore, spec: ModelSpec, *, actor: str) -> Applied:
    """Create or update a model and its versions; repeating it changes nothing.

    A new model's base claims `live`, so that there is a live version from the beginning; all other new versions are
    `off`. Where a running experiment compares what changes, its statistics begin anew in another epoch.

    Raises:
        InvalidInput: which field is wrong, and what is allowed.
        FailedPrecondition: a new version's flag would have the key of a flag that is no version's.
        StoreUnavailable: the database is away.
    """
    model_limits.check(spec)
    async with store.change(actor) as change:
        before = change.configuration
        outcome = registration.register(before.models.get(spec.name), spec, now=change.now)
        flag_definition.check_takeover(outcome.added, before.flags)
        flags = dict(before.flags)
        if outcome.changes:
            flags |= await _write(change, outcome)
        revision = change.revision if outcome.changes else before.revision
    view = view_of(outcome.model, flags)
    return Applied(view=view, revision=revision, changes=outcome.changes)


async def _write(change: Change, outcome: Registration) -> Mapping[str, Mapping[str, Any]]:
    """Write a registration; returns the flags that it added."""
    if outcome.settings_changed:
        await change.put_model(outcome.model)
    if outcome.versions_changed:
        await change.put_versions(outcome.model)
    added = {version.flag_key: _first_claim(version) for version in outcome.added}
    for key, definition in added.items():
        await change.put_flag(key, definition, reason="registered")
    experiment = await change.running_experiment(outcome.model.name)
    if experiment is not None:
        await epochs.follow(
            change,
            experiment,
            outcome.model,
            {**change.configuration.flags, **added},
            reason="; ".join(outcome.changes),
            replaced=outcome.replaced,
        )
    await change.audit("apply_model", outcome.model.name, {"changes": list(outcome.changes)})
    return added


def _first_claim(version: Version) -> Mapping[str, Any]:
    return flag_rules.claim_definition(version.model, Claim.LIVE if version.ordinal == 0 else Claim.OFF)


async def list_models(store: ControlStore, *, model: str = "") -> list[ModelView]:
    """All models by name, or the one that is named.

    Raises:
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    configuration = await store.read(experiments=False)
    if model:
        return [view_of(names.model_of(configuration, model), configuration.flags)]
    return [view_of(configuration.models[name], configuration.flags) for name in sorted(configuration.models)]
