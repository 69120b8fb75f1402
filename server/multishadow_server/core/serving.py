"""Which versions serve, as the flags are: "newest live claim wins, base last" read for no request in particular.

Three kinds of flags matter here. One that says `live` to every request *stands*: whatever is older than it never
serves while its server is up. One that says `live` to some requests (a rollout, a targeting rule) *may* serve. All
others never do. Control keeps one rule by these: **some flag of a model always stands**. As long as it holds, a reader
finds a live version whenever it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multishadow_server.core import flags as flag_rules
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim

Flags = Mapping[str, Mapping[str, Any]]
"""flagd definition by flag key."""


def flag_of(version: Version, flags: Flags) -> Mapping[str, Any]:
    """The version's flag; `off` when it has none."""
    present = flags.get(version.flag_key)
    return flag_rules.claim_definition(version.model, Claim.OFF) if present is None else present


def may_serve(version: Version, flags: Flags) -> bool:
    """Whether some request can find that this version claims `live`."""
    return flag_rules.may_claim(flag_of(version, flags), Claim.LIVE)


def stands(version: Version, flags: Flags) -> bool:
    """Whether every request finds that this version claims `live`."""
    definition = flag_of(version, flags)
    return not definition.get("targeting") and flag_rules.may_claim(definition, Claim.LIVE)


def standing(model: Model, flags: Flags) -> Version | None:
    """The newest version that claims `live` for every request, or None when no flag does."""
    return next((version for version in reversed(model.versions) if stands(version, flags)), None)


def live_version(model: Model, flags: Flags) -> Version | None:
    """The version that serves when no rollout and no attribute says otherwise; None for a model without versions."""
    return standing(model, flags) or (model.versions[0] if model.versions else None)


def serving_versions(model: Model, flags: Flags) -> tuple[str, ...]:
    """Names of all versions that some request may be answered by, in order of registration.

    Those older than the standing one are among them: they answer when its server is away. The base is among them when
    no flag stands, because it answers whoever finds no live claim.
    """
    claiming = {version.name for version in model.versions if may_serve(version, flags)}
    if standing(model, flags) is None and model.versions:
        claiming.add(model.versions[0].name)
    return tuple(version.name for version in model.versions if version.name in claiming)
