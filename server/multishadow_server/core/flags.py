"""The flags of versions: one string flag each, in flagd's format, that says what the version claims.

This module writes the definitions that claims need, and reads them back for people and for decisions. What any flag
must look like before it is stored stands in `core.flag_definition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from multishadow_server.core.routing import Claim
from multishadow_server.errors import InvalidInput

VARIANTS = {claim.value: claim.value for claim in Claim}
MOST_DECIMALS = 3


def claim_definition(model: str, claim: Claim, percent: float = 100.0) -> dict[str, Any]:
    """The definition with which a version of `model` claims `claim` for `percent` % of requests.

    Shadows of one model share their bucketing expression, so that smaller samples lie inside larger ones. A partial
    live claim buckets on the flag's key and the targeting key, and shadows the rest. In both, the claim is the first
    bucket: a later stage with more percent only widens it, and whoever had the new version keeps it. The default of
    a partial claim is `off`: it is only met when a request cannot be bucketed at all, and then nobody may gain it.

    Args:
        model: the model's name.
        claim: what to claim.
        percent: share of requests, in (0, 100], with at most 3 decimals; 100 when the claim is `off`.

    Raises:
        InvalidInput: the percent is out of range or too fine.
    """
    weight, total = weights(percent)
    if weight == total:
        return _definition(claim.value)
    if claim is Claim.OFF:
        raise InvalidInput(f'percent {percent:g} makes no sense with "off"; claim "shadow" for that share instead')
    if claim is Claim.SHADOW:
        bucketing = {"cat": [model, {"var": "shadowKey"}]}
        return _definition("off", {"fractional": [bucketing, ["shadow", weight], ["off", total - weight]]})
    return _definition("off", {"fractional": [["live", weight], ["shadow", total - weight]]})


def _definition(default: str, targeting: dict[str, Any] | None = None) -> dict[str, Any]:
    definition: dict[str, Any] = {"state": "ENABLED", "variants": dict(VARIANTS), "defaultVariant": default}
    if targeting is not None:
        definition["targeting"] = targeting
    return definition


def with_metadata_of(present: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[str, Any]:
    """The definition with what the present one tells people, which a new claim does not change: its set, its owner."""
    claim = {name: value for name, value in definition.items() if name != "metadata"}
    metadata = present.get("metadata")
    return {**claim, "metadata": metadata} if metadata else claim


def weights(percent: float) -> tuple[int, int]:
    """Whole-number weight of `percent` and the total it is a part of: the smallest of 100, 1000, 10,000, 100,000.

    Raises:
        InvalidInput: the percent is not in (0, 100], or too fine.
    """
    try:
        exact = Decimal(str(percent))
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite() or not 0 < exact <= 100:
        raise InvalidInput(f"percent must be above 0 and at most 100, got {percent!r}")
    for decimals in range(MOST_DECIMALS + 1):
        weight = exact.scaleb(decimals)
        if weight == weight.to_integral_value():
            return int(weight), 100 * 10**decimals
    raise InvalidInput(f"percent {percent!r} is too fine; at most {MOST_DECIMALS} decimals are kept")


# --- reading ------------------------------------------------------------------------------------------------------


def describe(definition: Mapping[str, Any]) -> str:
    """What a definition claims, in words: `off`, `shadow 25 %`, `live 5 % (else shadow)`, or `targeting rule`."""
    targeting = definition.get("targeting")
    if not targeting:
        return str(definition.get("defaultVariant") or "code default")
    split = _split(targeting)
    if split is None:
        return "targeting rule"
    (first, weight), (second, rest) = split
    if weight + rest == 0:
        return "targeting rule"
    share = f"{first} {100 * weight / (weight + rest):.6g} %"
    return share if second == "off" else f"{share} (else {second})"


def copied_share(definition: Mapping[str, Any]) -> float | None:
    """Share of requests, in [0, 1], that a version claims `shadow` or `live` for; None when nobody can tell."""
    targeting = definition.get("targeting")
    if not targeting:
        return 0.0 if definition.get("defaultVariant", "off") == "off" else 1.0
    split = _split(targeting)
    total = sum(weight for _, weight in split) if split else 0
    if not split or not total:
        return None
    return sum(weight for variant, weight in split if variant != "off") / total


def live_percent(definition: Mapping[str, Any]) -> float | None:
    """Share of requests, in percent, that a version claims `live` for; None when only its rule can tell."""
    targeting = definition.get("targeting")
    if not targeting:
        return 100.0 if definition.get("defaultVariant") == Claim.LIVE else 0.0
    split = _split(targeting)
    total = sum(weight for _, weight in split) if split else 0
    if not split or not total:
        return None
    return 100 * sum(weight for variant, weight in split if variant == Claim.LIVE) / total


def only_shadows(definition: Mapping[str, Any]) -> bool:
    """Whether some request could get `shadow` and none could get `live`."""
    return may_claim(definition, Claim.SHADOW) and not may_claim(definition, Claim.LIVE)


def is_plain_split(definition: Mapping[str, Any]) -> bool:
    """Whether its rule only splits subjects between two variants."""
    return _split(definition.get("targeting")) is not None


def without_shadow(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """A plain partial claim to `live` without the shadow for the other requests; anything else as it is.

    Whoever gets the version goes on getting it: the buckets stay as they are.
    """
    split = _split(definition.get("targeting"))
    if split is None or [variant for variant, _ in split] != ["live", "shadow"]:
        return definition
    *before, (_, rest) = definition["targeting"]["fractional"]
    return {**definition, "targeting": {"fractional": [*before, ["off", rest]]}}


def _split(targeting: Any) -> tuple[tuple[str, int], tuple[str, int]] | None:  # noqa: ANN401 — JSON of any shape
    """The two weighted variants of a plain fractional rule, or None when it is something else."""
    match targeting:
        case {"fractional": [[str(a), int(m)], [str(b), int(n)]], **other} if not other:
            return (a, m), (b, n)
        case {"fractional": [dict(), [str(a), int(m)], [str(b), int(n)]], **other} if not other:
            return (a, m), (b, n)
        case _:
            return None


def may_claim(definition: Mapping[str, Any], claim: Claim) -> bool:
    """Whether any request at all could get this claim. True when the rule is too free to tell."""
    results = _results(definition.get("targeting"))
    if results is None:
        return True
    default = Claim.of(definition.get("defaultVariant"))
    return claim in {default if result is None else Claim.of(result) for result in results}


def _results(rule: Any) -> set[str | None] | None:  # noqa: ANN401 — JSON of any shape
    """Every variant that a rule can return (None: the default), or None when it could be anything."""
    match rule:
        case None:
            return {None}
        case dict() if not rule:
            return {None}
        case str():
            return {rule}
        case {"if": [*parts]}:
            # Pairs of a condition and its result, then the result for the rest; null where there is none.
            return _any_of(parts[1::2] + (parts[-1:] if len(parts) % 2 else [None]))
        case {"fractional": [*arguments]}:
            # Not bucketable (no targeting key): the rule returns nothing, and the default counts.
            buckets = [item[0] for item in arguments if isinstance(item, list) and _weight(item) > 0]
            return _any_of([None, *buckets])
        case _:
            return None


def _any_of(rules: Sequence[Any]) -> set[str | None] | None:
    results = [_results(rule) for rule in rules]
    known = [result for result in results if result is not None]
    return set[str | None]().union(*known) if len(known) == len(results) else None


def _weight(item: Sequence[Any]) -> int:
    return int(item[1]) if len(item) > 1 else 1
