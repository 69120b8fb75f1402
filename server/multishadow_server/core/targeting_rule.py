"""Targeting rules as flagd takes them: JsonLogic with flagd's own operators, held to its schema before they are stored.

The schema (https://flagd.dev/schema/v0/targeting.json) says which operators there are and how many operands each
takes. Where readers differ in what they make of something that it allows (a number as a variant, a rule of unbounded
depth), this is stricter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multishadow_server.errors import InvalidInput

# flagd-core evaluates no fractional whose weights add up to more than a 32-bit integer.
LARGEST_WEIGHT_SUM = 2_147_483_647
# Beyond it JavaScript's numbers, and protobuf's Struct, have gaps.
LARGEST_INTEGER = 2**53 - 1
DEEPEST = 32
MOST_NODES = 10_000

# Operators with the fewest and most operands; None: any number.
ARITY: dict[str, tuple[int, int | None]] = {
    **dict.fromkeys(("==", "===", "!=", "!==", ">", ">=", "%", "/", "in"), (2, 2)),
    **dict.fromkeys(("map", "filter", "all", "none", "some"), (2, 2)),
    **dict.fromkeys(("substr", "<", "<="), (2, 3)),
    **dict.fromkeys(("if", "or", "and", "+", "-", "max", "min", "merge", "cat"), (1, None)),
    **dict.fromkeys(("!", "!!"), (1, 1)),
    **dict.fromkeys(("starts_with", "ends_with"), (2, 2)),
    "*": (2, None),
    "reduce": (3, 3),
    "sem_ver": (3, 3),
    "missing": (0, None),
    "missing_some": (2, 2),
    "fractional": (1, None),
}
# The only ones whose single operand may stand without a list around it.
_UNARY = frozenset({"!", "!!"})
_SEM_VER_RANGES = ("=", "!=", ">", "<", ">=", "<=", "~", "^")
# https://semver.org/#is-there-a-suggested-regular-expression-regex-to-check-a-semver-string
_SEM_VER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_FLAGD_VALUES = frozenset({"$flagd.timestamp", "$flagd.flagKey"})


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedRule:
    """A rule that every reader accepts.

    Args:
        rule: with its references inlined.
        warnings: what is allowed and may not be meant, each with its path.
    """

    rule: dict[str, Any]
    warnings: tuple[str, ...]


def check(
    targeting: object, *, variants: Iterable[str], evaluators: Mapping[str, Any], fixed_weights: bool
) -> CheckedRule:
    """Hold a flag's `targeting` to flagd's schema, and inline its references to shared rules.

    Args:
        targeting: as parsed from JSON.
        variants: names of the flag's variants, which are what a rule returns.
        evaluators: shared rules by name, for `{"$ref": name}`.
        fixed_weights: whether the weights of `fractional` must be numbers; otherwise they may be rules.

    Raises:
        InvalidInput: the message begins with the offending path, `targeting.if[1]: …`.
    """
    checker = _Checker(tuple(variants), evaluators, fixed_weights=fixed_weights)
    rule = checker.whole(targeting)
    return CheckedRule(rule=rule, warnings=tuple(checker.warnings))


def check_value(value: object, path: str) -> None:
    """Refuse what JSON, its readers or PostgreSQL cannot hold: NaN, integers beyond 2^53, NUL, half a surrogate pair.

    Raises:
        InvalidInput: the message begins with the path.
    """
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise _wrong(path, "text must not hold NUL or half a surrogate pair")
    elif isinstance(value, float) and not math.isfinite(value):
        raise _wrong(path, "numbers must be finite")
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_INTEGER:
        raise _wrong(path, f"whole numbers beyond ±{LARGEST_INTEGER} lose digits in JavaScript; write it as text")
    elif value is not None and not isinstance(value, bool | int | float):
        raise _wrong(path, f"{type(value).__name__} is not JSON")


def shown(value: object) -> str:
    """A value as a message shows it, however large it is."""
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def named(names: Iterable[object]) -> str:
    """Names as a message lists them, however many there are."""
    every = [str(name) for name in names]
    rest = f" and {len(every) - 20} more" if len(every) > 20 else ""
    return f"{', '.join(every[:20])}{rest}" or "none"


def _wrong(path: str, what: str) -> InvalidInput:
    return InvalidInput(f"{path}: {what}")


class _Checker:
    """Walks one flag's rule."""

    def __init__(self, variants: Sequence[str], evaluators: Mapping[str, Any], *, fixed_weights: bool) -> None:
        self._variants = variants
        self._evaluators = evaluators
        self._fixed_weights = fixed_weights
        self._nodes = 0
        self.warnings: list[str] = []

    def whole(self, targeting: object) -> dict[str, Any]:
        if not isinstance(targeting, Mapping):
            raise _wrong("targeting", "must be a rule: an object with one operator")
        rule = self._argument(targeting, "targeting", depth=0)
        if not isinstance(rule, dict):
            raise _wrong("targeting", "must be a rule, and what it refers to is none")
        self._result(rule, "targeting")
        return rule

    def _argument(self, value: Any, path: str, *, depth: int) -> Any:  # noqa: ANN401 — JSON of any shape
        self._nodes += 1
        if depth > DEEPEST or self._nodes > MOST_NODES:
            raise _wrong(path, f"a rule may be {DEEPEST} levels deep and have {MOST_NODES} parts")
        if isinstance(value, Mapping):
            return self._rule(value, path, depth=depth)
        if isinstance(value, list | tuple):
            return [self._argument(item, f"{path}[{i}]", depth=depth + 1) for i, item in enumerate(value)]
        check_value(value, path)
        return value

    def _rule(self, rule: Mapping[str, Any], path: str, *, depth: int) -> Any:  # noqa: ANN401 — JSON of any shape
        if len(rule) != 1:
            raise _wrong(path, f"a rule is an object with one operator, got {len(rule)}")
        operator, operands = next(iter(rule.items()))
        where = f"{path}.{operator}"
        if operator == "$ref":
            return self._inlined(operands, where, depth=depth)
        if operator == "var":
            return {"var": _variable(operands, where)}
        if operator not in ARITY:
            known = " ".join(sorted([*ARITY, "var"]))
            raise _wrong(path, f"{shown(operator)} is no operator of flagd; known are {known}")
        if operator in _UNARY and not isinstance(operands, list | tuple):
            return {operator: self._argument(operands, where, depth=depth + 1)}
        _count(operator, operands, where)
        checked = [self._argument(item, f"{where}[{i}]", depth=depth + 1) for i, item in enumerate(operands)]
        self._particular(operator, checked, where)
        return {operator: checked}

    def _inlined(self, name: object, path: str, *, depth: int) -> Any:  # noqa: ANN401 — JSON of any shape
        if not isinstance(name, str) or name not in self._evaluators:
            known = named(sorted(map(str, self._evaluators)))
            raise _wrong(path, f"there is no shared rule {shown(name)} in $evaluators; known: {known}")
        return self._argument(self._evaluators[name], path, depth=depth + 1)

    def _particular(self, operator: str, operands: Sequence[Any], path: str) -> None:
        """What an operator asks of its operands beyond their number."""
        if operator == "fractional":
            self._fractional(operands, path)
        elif operator == "sem_ver":
            _sem_ver(operands, path)
        elif operator in {"starts_with", "ends_with"}:
            for i, operand in enumerate(operands):
                if not isinstance(operand, str | dict):
                    raise _wrong(f"{path}[{i}]", f"must be text or a rule, got {shown(operand)}")
        elif operator == "missing":
            _names(operands, path)
        elif operator == "missing_some":
            if isinstance(operands[0], bool) or not isinstance(operands[0], int | float):
                raise _wrong(path, "takes a number and a list of attribute names")
            _names(operands[1], f"{path}[1]")

    def _fractional(self, operands: Sequence[Any], path: str) -> None:
        skip = 0 if isinstance(operands[0], list) else 1
        if len(operands) == skip:
            raise _wrong(path, f'needs weighted variants, like ["{self._variants[0]}", 25]')
        if skip and not isinstance(operands[0], dict):
            raise _wrong(f"{path}[0]", "must be a rule to bucket by, or the first weighted variant")
        weights = [self._bucket(item, f"{path}[{i}]") for i, item in enumerate(operands[skip:], start=skip)]
        numbers = [weight for weight in weights if weight is not None]
        if len(numbers) < len(weights):
            return
        if not 0 < sum(numbers) <= LARGEST_WEIGHT_SUM:
            raise _wrong(path, f"weights must add up to 1 to {LARGEST_WEIGHT_SUM}, got {sum(numbers)}")
        if len(set(numbers)) > 1 and not _is_whole(sum(numbers)):
            self.warnings.append(_uneven(path, [item[0] for item in operands[skip:]], numbers))

    def _bucket(self, item: object, path: str) -> int | None:
        """The weight of one weighted variant; None when a rule gives it."""
        match item:
            case [variant]:
                weight: object = 1
            case [variant, value]:
                weight = value
            case _:
                raise _wrong(path, f'must be a variant and its weight, like ["{self._variants[0]}", 25]')
        self._result(variant, f"{path}[0]")
        if isinstance(weight, dict) and not self._fixed_weights:
            return None
        if isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
            raise _wrong(f"{path}[1]", f"weight must be a whole number that is not negative, got {shown(weight)}")
        return weight

    def _result(self, rule: object, path: str) -> None:
        """What the rule returns must be a variant wherever that can be seen without a request."""
        match rule:
            case {"if": [*parts]}:
                for i in _branches(len(parts)):
                    self._result(parts[i], f"{path}.if[{i}]")
            case dict() | None:
                return
            case bool() if str(rule).lower() in self._variants:  # so flagd reads them
                return
            case str() if rule in self._variants:
                return
            case _:
                raise _wrong(path, f"{shown(rule)} is no variant of this flag; it has {named(self._variants)}")


def _branches(operands: int) -> Sequence[int]:
    """Places in an `if` of what it can return: after each condition, and the last one when it stands alone."""
    return [*range(1, operands, 2), *([operands - 1] if operands % 2 else [])]


def _variable(operand: object, path: str) -> Any:  # noqa: ANN401 — JSON of any shape
    """`"name"`, or `["name", default]` with a plain default; the empty name is the element that `map` is at."""
    name, *default = operand if isinstance(operand, list | tuple) and operand else [operand]
    if not isinstance(name, str):
        raise _wrong(path, "needs the name of an attribute")
    if len(default) > 1 or any(isinstance(item, Mapping | list | tuple) for item in default):
        raise _wrong(path, "takes a name and at most one plain default")
    for value in (name, *default):
        check_value(value, path)
    if name.startswith("$flagd.") and name not in _FLAGD_VALUES:
        raise _wrong(path, 'flagd gives "$flagd.timestamp" and "$flagd.flagKey" only')
    return [name, *default] if isinstance(operand, list | tuple) else name


def _count(operator: str, operands: object, path: str) -> None:
    fewest, most = ARITY[operator]
    if not isinstance(operands, list | tuple):
        raise _wrong(path, "operands must be a list")
    if len(operands) < fewest or (most is not None and len(operands) > most):
        span = f"{fewest}" if most == fewest else f"{fewest} to {most}" if most else f"at least {fewest}"
        raise _wrong(path, f"takes {span} operands, got {len(operands)}")


def _sem_ver(operands: Sequence[Any], path: str) -> None:
    for i in (0, 2):
        match operands[i]:
            case {"var": _}:
                continue
            case str() if _SEM_VER.fullmatch(operands[i]):
                continue
            case _:
                raise _wrong(f"{path}[{i}]", f'must be a version like "1.2.3" or a "var", got {shown(operands[i])}')
    if operands[1] not in _SEM_VER_RANGES:
        raise _wrong(f"{path}[1]", f"must be one of {' '.join(_SEM_VER_RANGES)}, got {shown(operands[1])}")


def _names(names: object, path: str) -> None:
    if not isinstance(names, list):
        raise _wrong(path, "must be a list of attribute names")
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise _wrong(f"{path}[{i}]", "must be the name of an attribute")


def _is_whole(total: int) -> bool:
    """Whether weights that add up to this read as percents, of any fineness: 100, 1000, and so on."""
    return total >= 100 and set(str(total)[1:]) == {"0"} and str(total)[0] == "1"


def _uneven(path: str, variants: Sequence[Any], weights: Sequence[int]) -> str:
    shares = ", ".join(
        f"{variant if isinstance(variant, str) else '…'} {100 * weight / sum(weights):.4g} %"
        for variant, weight in zip(variants, weights, strict=True)
    )
    return f"{path}: weights add up to {sum(weights)}, not 100; flagd takes them as relative: {shares}"
