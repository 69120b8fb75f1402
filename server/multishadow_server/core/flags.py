"""Flag definitions: one string flag per version, in flagd's format, that says what the version claims.

A definition is a JSON object `{state, variants, defaultVariant, targeting?, metadata?}`
(https://flagd.dev/reference/flag-definitions/). This module writes those that claims need, reads them back for people,
and holds every definition to what flagd's readers accept: stock in-process clients reject a whole set of flags for
one malformed one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from multishadow_server.core.routing import Claim
from multishadow_server.errors import InvalidInput

VARIANTS = {claim.value: claim.value for claim in Claim}
KEPT_FIELDS = ("state", "variants", "defaultVariant", "targeting", "metadata")
MOST_DECIMALS = 3
# flagd-core evaluates no fractional whose weights add up to more than a 32-bit integer.
LARGEST_WEIGHT_SUM = 2_147_483_647
DEEPEST_RULE = 32
MOST_NODES = 10_000
# Stock OFREP clients put the key into a path without escaping it.
_KEY = re.compile(r"[A-Za-z0-9._-]+")

# Operators of flagd's targeting schema with the fewest and most operands; None: any number.
# https://flagd.dev/schema/v0/targeting.json
_ARITY: dict[str, tuple[int, int | None]] = {
    **dict.fromkeys(("==", "===", "!=", "!==", ">", ">=", "%", "in", "substr"), (2, 2)),
    **dict.fromkeys(("map", "reduce", "filter", "all", "none", "some"), (2, 2)),
    **dict.fromkeys(("+", "*"), (2, None)),
    **dict.fromkeys(("!", "!!", "max", "min"), (1, 1)),
    **dict.fromkeys(("or", "and", "-", "merge", "cat"), (1, None)),
    **dict.fromkeys(("<", "<="), (2, 3)),
    **dict.fromkeys(("starts_with", "ends_with"), (2, 2)),
    "if": (3, 3),
    "sem_ver": (3, 3),
    "missing": (0, None),
    "missing_some": (2, 2),
    "fractional": (1, None),
}
_SEM_VER_RANGES = ("=", "!=", ">", "<", ">=", "<=", "~", "^")


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
    weight, total = _weights(percent)
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


def _weights(percent: float) -> tuple[int, int]:
    """Whole-number weight of `percent` and the total it is a part of: the smallest of 100, 1000, 10,000, 100,000."""
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
        return str(definition.get("defaultVariant", "off"))
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
        case {"if": [_, then, otherwise]}:
            return _either(then, otherwise)
        case {"fractional": [*arguments]}:
            # Not bucketable (no targeting key): the rule returns nothing, and the default counts.
            return {None} | {item[0] for item in arguments if isinstance(item, list) and _weight(item) > 0}
        case _:
            return None


def _either(then: Any, otherwise: Any) -> set[str | None] | None:  # noqa: ANN401 — JSON of any shape
    first, second = _results(then), _results(otherwise)
    return None if first is None or second is None else first | second


def _weight(item: Sequence[Any]) -> int:
    return int(item[1]) if len(item) > 1 else 1


# --- before commit ------------------------------------------------------------------------------------------------


def validate(key: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Hold a definition to what every reader accepts, and return it as it is to be stored.

    References to shared rules are inlined (`$evaluators` of the same definition), and only `state`, `variants`,
    `defaultVariant`, `targeting` and `metadata` are kept.

    Args:
        key: the flag's key, `<model>.<version>`.
        definition: in flagd's format, as parsed from JSON.

    Raises:
        InvalidInput: it is not one; the message names the offending path and what is allowed there.
    """
    if not _KEY.fullmatch(key):
        raise InvalidInput(f'flag key "{key}" may hold letters, digits, "-", "_" and "." only')
    if not isinstance(definition, Mapping):
        raise InvalidInput(f"{key}: a flag's definition is an object with {', '.join(KEPT_FIELDS)}")
    if definition.get("state") != "ENABLED":
        raise _wrong(key, "state", f'must be "ENABLED"; to switch a version off, claim "off" ({_shown(definition)})')
    if definition.get("variants") != VARIANTS:
        raise _wrong(key, "variants", f"must be exactly {VARIANTS}")
    if definition.get("defaultVariant") not in VARIANTS:
        raise _wrong(key, "defaultVariant", f"must be one of {', '.join(VARIANTS)}")
    kept = {name: definition[name] for name in ("state", "variants", "defaultVariant")}
    kept["variants"] = dict(VARIANTS)
    if definition.get("targeting"):
        kept["targeting"] = _Rules(key, definition.get("$evaluators") or {}).checked(definition["targeting"])
    if definition.get("metadata"):
        kept["metadata"] = _metadata(key, definition["metadata"])
    return kept


def _shown(definition: Mapping[str, Any]) -> str:
    return f"got {definition['state']!r}" if "state" in definition else "it is missing"


def _wrong(key: str, path: str, what: str) -> InvalidInput:
    return InvalidInput(f"{key}: {path}: {what}")


def _metadata(key: str, metadata: object) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        raise _wrong(key, "metadata", "must be an object")
    for name, value in metadata.items():
        if not isinstance(name, str) or not name:
            raise _wrong(key, "metadata", "keys must be text that is not empty")
        if not isinstance(value, str | int | float) or _not_finite(value):
            raise _wrong(key, f"metadata.{name}", "must be text, a finite number, true or false")
    return dict(metadata)


def _not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


class _Rules:
    """Checks one flag's targeting rule against flagd's schema, and inlines its references."""

    def __init__(self, key: str, evaluators: object) -> None:
        self._key = key
        self._evaluators = evaluators if isinstance(evaluators, Mapping) else {}
        self._nodes = 0

    def checked(self, targeting: object) -> dict[str, Any]:
        """The rule with its references inlined. Raises InvalidInput."""
        if not isinstance(targeting, Mapping):
            raise self._wrong("targeting", "must be a rule: an object with one operator")
        rule = self._argument(targeting, "targeting", depth=0)
        self._result(rule, "targeting")
        assert isinstance(rule, dict)
        return rule

    def _wrong(self, path: str, what: str) -> InvalidInput:
        return _wrong(self._key, path, what)

    def _argument(self, value: Any, path: str, *, depth: int) -> Any:  # noqa: ANN401 — JSON of any shape
        self._nodes += 1
        if depth > DEEPEST_RULE or self._nodes > MOST_NODES:
            raise self._wrong(path, f"a rule may be {DEEPEST_RULE} levels deep and have {MOST_NODES} parts")
        if isinstance(value, Mapping):
            return self._rule(value, path, depth=depth)
        if isinstance(value, list | tuple):
            return [self._argument(item, f"{path}[{i}]", depth=depth + 1) for i, item in enumerate(value)]
        if _not_finite(value):
            raise self._wrong(path, "numbers must be finite")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise self._wrong(path, f"{type(value).__name__} is not JSON")

    def _rule(self, rule: Mapping[str, Any], path: str, *, depth: int) -> Any:  # noqa: ANN401 — JSON of any shape
        if len(rule) != 1:
            raise self._wrong(path, f"a rule is an object with one operator, got {len(rule)}")
        operator, operands = next(iter(rule.items()))
        where = f"{path}.{operator}"
        if operator == "$ref":
            return self._inlined(operands, where, depth=depth)
        if operator == "var":
            return {"var": self._variable(operands, where)}
        if operator not in _ARITY:
            known = " ".join(sorted([*_ARITY, "var"]))
            raise self._wrong(path, f'"{operator}" is no operator of flagd; known are {known}')
        self._count(operator, operands, where)
        checked = [self._argument(item, f"{where}[{i}]", depth=depth + 1) for i, item in enumerate(operands)]
        self._particular(operator, checked, where)
        return {operator: checked}

    def _inlined(self, name: object, path: str, *, depth: int) -> Any:  # noqa: ANN401 — JSON of any shape
        if not isinstance(name, str) or name not in self._evaluators:
            known = ", ".join(sorted(map(str, self._evaluators))) or "none"
            raise self._wrong(path, f"there is no shared rule {name!r} in $evaluators; known: {known}")
        return self._argument(self._evaluators[name], path, depth=depth + 1)

    def _variable(self, operand: object, path: str) -> Any:  # noqa: ANN401 — JSON of any shape
        """`"name"`, or `["name", default]` with a plain default."""
        name, *default = operand if isinstance(operand, list | tuple) and operand else [operand]
        if not isinstance(name, str) or not name:
            raise self._wrong(path, "needs the name of an attribute")
        if len(default) > 1 or any(isinstance(item, Mapping | list | tuple) or _not_finite(item) for item in default):
            raise self._wrong(path, "takes a name and at most one plain default")
        if name.startswith("$flagd.") and name not in {"$flagd.timestamp", "$flagd.flagKey"}:
            raise self._wrong(path, 'flagd gives "$flagd.timestamp" and "$flagd.flagKey" only')
        return [name, *default] if isinstance(operand, list | tuple) else name

    def _count(self, operator: str, operands: object, path: str) -> None:
        fewest, most = _ARITY[operator]
        if not isinstance(operands, list | tuple):
            raise self._wrong(path, "operands must be a list")
        if len(operands) < fewest or (most is not None and len(operands) > most):
            span = f"{fewest}" if most == fewest else f"{fewest} to {most}" if most else f"at least {fewest}"
            raise self._wrong(path, f"takes {span} operands, got {len(operands)}")

    def _particular(self, operator: str, operands: Sequence[Any], path: str) -> None:
        """What an operator asks of its operands beyond their number."""
        if operator == "fractional":
            self._fractional(operands, path)
        elif operator == "sem_ver" and operands[1] not in _SEM_VER_RANGES:
            raise self._wrong(f"{path}[1]", f"must be one of {' '.join(_SEM_VER_RANGES)}")
        elif operator == "missing":
            self._names(operands, path)
        elif operator == "missing_some":
            if not isinstance(operands[0], int | float) or not isinstance(operands[1], list):
                raise self._wrong(path, "takes a number and a list of attribute names")
            self._names(operands[1], f"{path}[1]")

    def _names(self, names: Iterable[object], path: str) -> None:
        for i, name in enumerate(names):
            if not isinstance(name, str):
                raise self._wrong(f"{path}[{i}]", "must be the name of an attribute")

    def _fractional(self, operands: Sequence[Any], path: str) -> None:
        skip = 0 if isinstance(operands[0], list) else 1
        if len(operands) == skip:
            raise self._wrong(path, 'needs weighted variants, like ["shadow", 25]')
        if skip and not isinstance(operands[0], dict | str):
            raise self._wrong(f"{path}[0]", "must be the expression to bucket by, or the first weighted variant")
        total = sum(self._bucket(item, f"{path}[{i}]") for i, item in enumerate(operands[skip:], start=skip))
        if not 0 < total <= LARGEST_WEIGHT_SUM:
            raise self._wrong(path, f"weights must add up to 1 to {LARGEST_WEIGHT_SUM}, got {total}")

    def _bucket(self, item: object, path: str) -> int:
        match item:
            case [str(variant)]:
                weight: object = 1
            case [str(variant), value]:
                weight = value
            case _:
                raise self._wrong(path, 'must be a variant and its weight, like ["shadow", 25]')
        if variant not in VARIANTS:
            raise self._wrong(f"{path}[0]", f'"{variant}" is no claim; allowed are {", ".join(VARIANTS)}')
        if isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
            raise self._wrong(f"{path}[1]", f"weight must be a whole number that is not negative, got {weight!r}")
        return weight

    def _result(self, rule: object, path: str) -> None:
        """What the rule returns must be a claim wherever that can be seen without a request."""
        match rule:
            case {"if": [_, then, otherwise]}:
                self._result(then, f"{path}.if[1]")
                self._result(otherwise, f"{path}.if[2]")
            case dict() | None:
                return
            case str() if rule in VARIANTS:
                return
            case _:
                raise self._wrong(path, f"{rule!r} is no claim; allowed are {', '.join(VARIANTS)} and null")
