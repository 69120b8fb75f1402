"""Flag definitions compiled to closures, once per revision, for the router's path.

The meaning is flagd-core's, which interprets a rule's JSON anew for every evaluation. What a rule means does not change
with the request, so it is walked once here; what remains per request is one call per operator. Operators do what they
do there because they are the same functions (json_logic's). A rule with an operator that is not known here is not
compiled, and its reader falls back to flagd-core; a property test holds the two together on random rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import cbor2
import mmh3
from json_logic.builtins import BUILTINS, not_, op_var, to_bool  # type: ignore[import-untyped]  # ships none

from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting_rule import LARGEST_WEIGHT_SUM

Context: TypeAlias = dict[str, Any]
"""What rules read: see `context_of`."""
Rule: TypeAlias = Callable[[Context], Any]

# Not among them: `log`, which writes to stdout.
_EAGER: dict[str, Any] = {name: function for name, function in BUILTINS.items() if name not in {"log", "var"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class CompiledFlag:
    """A flag that is ready to be read.

    Args:
        constant: its claim when it has no rule, so that nothing needs to be evaluated.
        evaluate: its claim for a context; never raises.
    """

    constant: Claim | None
    evaluate: Callable[[Context], Claim]


def context_of(*, model: str, request_id: str, session_id: str, attributes: Mapping[str, Any]) -> Context:
    """What flags are evaluated with.

    The request's attributes, and over them: `targetingKey` (the session, else the attribute `user`, else the request:
    what a version's live share is drawn by), `shadowKey` (the session, else the request: what all samples of a model
    are drawn by), `model`, `requestId` and `sessionId`.
    """
    user = attributes.get("user")
    return {
        **attributes,
        "targetingKey": session_id or (user if isinstance(user, str) and user else request_id),
        "shadowKey": session_id or request_id,
        "model": model,
        "requestId": request_id,
        "sessionId": session_id,
    }


def compile_flag(key: str, definition: Mapping[str, Any]) -> CompiledFlag | None:
    """Compile one flag, or return None when its rule has an operator that is only interpreted.

    Args:
        key: the flag's key, which the short form of `fractional` buckets by.
        definition: in flagd's format.

    What flagd-core answers with an error (a variant that does not exist, a rule that fails) is the claim `off`.
    """
    variants = definition.get("variants") or {}
    default = _claim_of_variant(definition.get("defaultVariant"), variants)
    if definition.get("state") != "ENABLED":
        return _constant(Claim.OFF)
    targeting = definition.get("targeting")
    if not targeting:
        return _constant(default)
    try:
        rule = _compile(key, targeting)
    except _OnlyInterpreted:
        return None
    claims = {name: _claim_of_variant(name, variants) for name in variants}
    return CompiledFlag(constant=None, evaluate=_reading(rule, claims, default))


def _constant(claim: Claim) -> CompiledFlag:
    return CompiledFlag(constant=claim, evaluate=lambda _: claim)


def _claim_of_variant(variant: object, variants: Mapping[str, Any]) -> Claim:
    name = str(variant).lower() if isinstance(variant, bool) else variant
    return Claim.of(variants.get(name)) if isinstance(name, str) else Claim.OFF


def _reading(rule: Rule, claims: Mapping[str, Claim], default: Claim) -> Callable[[Context], Claim]:
    def evaluate(context: Context) -> Claim:
        try:
            variant = rule(context)
        except Exception:  # noqa: BLE001  a rule may fail in any way on a request; flagd-core calls each an error: off
            return Claim.OFF
        if variant is None:
            return default
        if isinstance(variant, bool):
            variant = str(variant).lower()
        return claims.get(variant if isinstance(variant, str) else str(variant), Claim.OFF)

    return evaluate


# --- rules --------------------------------------------------------------------------------------------------------


class _OnlyInterpreted(Exception):
    """The rule needs the interpreter."""


def _compile(key: str, logic: Any) -> Rule:  # noqa: ANN401  JSON of any shape
    if isinstance(logic, list):
        return _list_of([_compile(key, item) for item in logic])
    if not isinstance(logic, dict) or len(logic) != 1:
        return lambda _: logic
    operator, operands = next(iter(logic.items()))
    return _compile_operator(key, operator, operands if isinstance(operands, list) else [operands])


def _compile_operator(key: str, operator: str, operands: list[Any]) -> Rule:
    if operator == "var":
        return _variable(operands)
    if operator == "fractional":
        return _fractional(key, operands)
    if operator in {"missing", "missing_some"} and not _plain(operands):
        raise _OnlyInterpreted  # names that are only known then could be flagd's own
    arguments = [_compile(key, operand) for operand in operands]
    if operator in _CONTROL:
        return _CONTROL[operator](arguments)
    if operator in _EAGER:
        return _apply(_EAGER[operator], arguments)
    raise _OnlyInterpreted


def _list_of(items: Sequence[Rule]) -> Rule:
    return lambda context: [item(context) for item in items]


def _plain(value: Any) -> bool:  # noqa: ANN401  JSON of any shape
    """Whether it is data and holds no rule."""
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return not isinstance(value, dict)


def _variable(operands: Sequence[Any]) -> Rule:
    """An attribute by its name."""
    name = operands[0] if operands else None
    # The whole context, and flagd's own values (its timestamp), are only the interpreter's to give.
    if not isinstance(name, str) or not name or name.split(".")[0] == "$flagd" or not _plain(list(operands)):
        raise _OnlyInterpreted
    default = operands[1] if len(operands) > 1 else None
    if "." in name:
        return lambda context: op_var(context, name, default)

    def variable(context: Context) -> Any:  # noqa: ANN401  an attribute of any type
        value = context.get(name)
        return default if value is None else value

    return variable


def _condition(arguments: Sequence[Rule]) -> Rule:
    """`if`: pairs of a condition and its result, then a result for the rest."""
    pairs = [(arguments[i], arguments[i + 1]) for i in range(0, len(arguments) - 1, 2)]
    rest = arguments[-1] if len(arguments) % 2 else None

    def condition(context: Context) -> Any:  # noqa: ANN401  a rule's result
        for test, result in pairs:
            if to_bool(test(context)):
                return result(context)
        return None if rest is None else rest(context)

    return condition


def _junction(arguments: Sequence[Rule], *, ends: Callable[[Any], bool]) -> Rule:
    """`and`, `or`: the first argument that decides, else the last."""

    def junction(context: Context) -> Any:  # noqa: ANN401  a rule's result
        current = None
        for argument in arguments:
            current = argument(context)
            if ends(current):
                break
        return current

    return junction


def _apply(function: Callable[..., Any], arguments: Sequence[Rule]) -> Rule:
    match arguments:
        case [first, second]:
            return lambda context: function(context, first(context), second(context))
        case _:
            return lambda context: function(context, *[argument(context) for argument in arguments])


def _text_test(test: Callable[[str, str], bool], arguments: Sequence[Rule]) -> Rule:
    def compare(context: Context) -> bool | None:
        values = [argument(context) for argument in arguments]
        if len(values) != 2 or not all(isinstance(value, str) for value in values):
            return None
        return test(*values)

    return compare


# Operators that do not simply take the values of all their arguments.
_CONTROL: dict[str, Callable[[Sequence[Rule]], Rule]] = {
    "if": _condition,
    "?:": _condition,
    "and": partial(_junction, ends=not_),
    "or": partial(_junction, ends=to_bool),
    "starts_with": partial(_text_test, str.startswith),
    "ends_with": partial(_text_test, str.endswith),
}


def shadow_draw(model: str, *, session_id: str, request_id: str) -> float:
    """The draw in [0, 1) that a model's samples share: a `shadow` flag of share f gets a request iff it is below f.

    It is `fractional` of `{"cat": [model, {"var": "shadowKey"}]}`, which is what such flags bucket by.
    """
    return float(mmh3.hash(_text(model + (session_id or request_id)), signed=False) / 2**32)


# --- bucketing ----------------------------------------------------------------------------------------------------


def _fractional(key: str, operands: Sequence[Any]) -> Rule:
    """flagd-core 2's `fractional`: murmur3-32 of the canonical CBOR of what is bucketed by, times the weights' sum."""
    if not operands:
        return lambda _: None
    if isinstance(operands[0], list):
        if not _plain(list(operands)):
            raise _OnlyInterpreted
        return _without_encoding_errors(_bucketed_by_target(key, _Buckets.of(operands)))
    if not _plain(list(operands[1:])):
        raise _OnlyInterpreted
    return _without_encoding_errors(_bucketed_by(key, _compile(key, operands[0]), operands[1:]))


def _bucketed_by_target(key: str, buckets: _Buckets | None) -> Rule:
    # A CBOR array of two texts; the first never changes.
    prefix = b"\x82" + _text(key)

    def bucket(context: Context) -> Any:  # noqa: ANN401  a variant of any type
        target = context.get("targetingKey")
        if not isinstance(target, str) or not target or buckets is None:
            return None
        return buckets.at(prefix + _text(target))

    return bucket


def _bucketed_by(key: str, expression: Rule, weighted: Sequence[Any]) -> Rule:
    buckets = _Buckets.of(weighted)

    def bucket(context: Context) -> Any:  # noqa: ANN401  a variant of any type
        value = expression(context)
        if isinstance(value, list | tuple):
            # flagd-core decides by what the expression gave, and takes a list for the first weighted variant.
            return _bucketed_by_target(key, _Buckets.of([value, *weighted]))(context)
        if value is None or buckets is None:
            return None
        return buckets.at(_text(value) if isinstance(value, str) else _canonical(value))

    return bucket


def _without_encoding_errors(rule: Rule) -> Rule:
    """What cannot be encoded is not bucketed; the interpreter says so in its log, and returns nothing."""

    def quiet(context: Context) -> Any:  # noqa: ANN401  a variant of any type
        try:
            return rule(context)
        except (UnicodeEncodeError, cbor2.CBOREncodeError):
            return None

    return quiet


class _Buckets:
    """Weighted variants, in order."""

    def __init__(self, upper_ends: Sequence[tuple[int, Any]]) -> None:
        self._upper_ends = upper_ends
        self._total = upper_ends[-1][0]

    @classmethod
    def of(cls, weighted: Sequence[Any]) -> _Buckets | None:
        """Read `[["a", 25], ["b", 75]]`; None when flagd-core would not evaluate it."""
        upper_ends, total = [], 0
        for item in weighted:
            weight = _weight_of(item)
            if weight is None:
                return None
            total += weight
            upper_ends.append((total, item[0]))
        return cls(upper_ends) if 0 < total <= LARGEST_WEIGHT_SUM else None

    def at(self, encoded: bytes) -> Any:  # noqa: ANN401  a variant of any type
        """The variant whose range the hash falls into."""
        place = (mmh3.hash(encoded, signed=False) * self._total) >> 32
        return next(variant for end, variant in self._upper_ends if place < end)


def _weight_of(item: Any) -> int | None:  # noqa: ANN401  JSON of any shape
    if not isinstance(item, list | tuple) or not 1 <= len(item) <= 2:
        return None
    weight = item[1] if len(item) == 2 else 1
    return max(0, weight) if isinstance(weight, int) and not isinstance(weight, bool) else None


def _text(value: str) -> bytes:
    """A text in CBOR (RFC 8949, 3.1: major type 3); a tenth of the general encoder's time."""
    data = value.encode()
    size = len(data)
    if size < 24:
        return bytes((0x60 + size,)) + data
    if size < 256:
        return bytes((0x78, size)) + data
    return b"\x79" + size.to_bytes(2) + data if size < 65_536 else b"\x7a" + size.to_bytes(4) + data


def _canonical(value: Any) -> bytes:  # noqa: ANN401  an attribute of any type
    return cbor2.dumps(_whole_numbers(value), canonical=True)


def _whole_numbers(value: Any) -> Any:  # noqa: ANN401  an attribute of any type
    """Floats without a fraction become integers within 64 bits, as flagd's bucketing asks for."""
    if isinstance(value, dict):
        return {name: _whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer() and -(2**63) <= value <= 2**64 - 1:
        return int(value)
    return value
