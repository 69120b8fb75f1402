"""Serving one variant of a flag to a share of subjects, and its default to the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multishadow_server.core import flags as flag_rules
from multishadow_server.core.model import Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting_rule import named, shown
from multishadow_server.errors import FailedPrecondition, InvalidInput


def served(key: str, definition: Mapping[str, Any], variant: str, percent: float) -> dict[str, Any]:
    """The definition with `variant` served to `percent` % of targeting keys.

    The variant is the first bucket, so that more percent later only widen it: whoever has it keeps it.

    Args:
        key: the flag's key, for errors.
        definition: as it is.
        variant: name of one of its variants.
        percent: (0, 100]; at 100 the variant becomes the default.

    Raises:
        InvalidInput: no such variant; or a percent out of range, or of the default itself.
        FailedPrecondition: the flag has rules of its own, which this would drop; or no default for the rest.
    """
    variants = definition["variants"]
    if variant not in variants:
        raise InvalidInput(f"{key}: {shown(variant)} is no variant of this flag; it has {named(variants)}")
    if definition.get("targeting") and not flag_rules.is_plain_split(definition):
        raise FailedPrecondition(
            f"{key} has targeting rules of its own, which serving one variant would drop; change them with "
            f"`shadowctl flags edit {key}`"
        )
    rest = {name: value for name, value in definition.items() if name != "targeting"}
    weight, total = flag_rules.weights(percent)
    if weight == total:
        return {**rest, "defaultVariant": variant}
    default = definition.get("defaultVariant")
    if default is None:
        raise FailedPrecondition(
            f"{key} has no default variant to serve to the other {100 - percent:g} %; name one with "
            f"`shadowctl flags edit {key}`"
        )
    if default == variant:
        others = named(name for name in variants if name != variant)
        raise InvalidInput(
            f'{key}: "{variant}" is the default, which everybody gets who gets nothing else; give a share to another '
            f"variant ({others})"
        )
    return {**rest, "targeting": {"fractional": [[variant, weight], [default, total - weight]]}}


def claimed(version: Version, definition: Mapping[str, Any], variant: str, percent: float) -> dict[str, Any]:
    """The same for the flag of a version, whose variants are claims; see `flags.claim_definition`.

    Raises:
        InvalidInput: no such claim, or the percent is out of range.
    """
    if variant not in flag_rules.VARIANTS:
        raise InvalidInput(f"{version.flag_key}: {shown(variant)} is no claim; a version claims off, shadow or live")
    claim = flag_rules.claim_definition(version.model, Claim(variant), percent)
    return flag_rules.with_metadata_of(definition, claim)
