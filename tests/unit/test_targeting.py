"""Compiled flags read exactly as flagd-core reads them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

from multishadow_server.adapters.openfeature_flags import ConfigurationProvider, OpenFeatureClaims
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting import compile_flag, context_of

VARIANTS = {"off": "off", "shadow": "shadow", "live": "live"}


def interpreted(key: str, definition: dict[str, Any], context: dict[str, Any]) -> Claim:
    """The claim as the stock client reads it: a default of `off`, also for every error."""
    core = FlagdCore()
    attributes = {name: value for name, value in context.items() if name != "targetingKey"}
    try:
        core.set_flags({"flags": {key: copy.deepcopy(definition)}})
        subject = EvaluationContext(targeting_key=context["targetingKey"], attributes=attributes)
        return Claim.of(core.resolve_string_value(key, "off", subject).value)
    except (OpenFeatureError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError):
        return Claim.OFF


def ruled(targeting: Any, default: Any = "off") -> dict[str, Any]:
    return {"state": "ENABLED", "variants": VARIANTS, "defaultVariant": default, "targeting": targeting}


def request_of(key: str, **attributes: Any) -> dict[str, Any]:
    return context_of(model="spam", request_id="r-1", session_id=key, attributes=attributes)


def read(key: str, definition: dict[str, Any], context: dict[str, Any]) -> Claim:
    compiled = compile_flag(key, definition)
    assert compiled is not None
    return compiled.evaluate(context)


@pytest.mark.parametrize(
    ("version", "key", "percent", "claim"),
    [("A", "user-1", 25, "shadow"), ("A", "user-3", 25, "off"), ("B", "user-1", 25, "shadow"),
     ("C", "user-17", 5, "shadow"), ("A", "user-612", 0.1, "shadow")],
)  # fmt: skip
def test_the_short_form_of_fractional_gives_the_golden_buckets(
    version: str, key: str, percent: float, claim: str
) -> None:
    weight, total = (1, 1000) if percent < 1 else (int(percent), 100)
    definition = ruled({"fractional": [["shadow", weight], ["off", total - weight]]})
    assert read(f"spam.{version}", definition, request_of(key)) == claim
    assert interpreted(f"spam.{version}", definition, request_of(key)) == claim


NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**53 + 1, 2**64, -(2**63), -(2**63) - 1, 0.0, -0.0, 0.1, 1e300]),
    # A request's attributes come from protobuf's Struct, whose numbers may be none.
    st.floats(width=32),
)
TEXTS = st.sampled_from(
    ["", "live", "shadow", "off", "true", "false", "null", "3", " 3 ", "1.5", "0x10", "inf", "NaN", "x", "user", "ключ",
     "1.2.3", "v2", "2.0.0-rc.1+5", "^", "~", ">=", "a" * 23, "a" * 24, "b" * 300]
)  # fmt: skip
OPERANDS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
# Objects that are no rule: the interpreter gives them as they are.
DATA = st.sampled_from([{}, {"a": 1, "b": 2}])
NAMES = st.sampled_from(
    ["user", "n", "flag", "items", "items.0", "items.7", "items.-1", "items.length", "user.length", "user.0",
     "nested.deep", "nested", "nothing", "targetingKey", "shadowKey", "model", "sessionId", "a.b.c"]
)  # fmt: skip
VARS = st.one_of(
    NAMES, NAMES.map(lambda name: [name]), st.tuples(st.sampled_from(["gone", "n", "nested.none"]), OPERANDS).map(list)
).map(lambda name: {"var": name})
WEIGHTED = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([*VARIANTS, "nobody", True, None, 3]),
            st.one_of(st.integers(-5, 400), st.sampled_from([2**31, 1.5, True, "50", None])),
        ).map(list),
        st.sampled_from([["live"], ["shadow"], [], ["live", 1, 2], "live"]),
    ),
    min_size=1,
    max_size=4,
)


ABSENT = st.lists(st.sampled_from(["n", "user", "gone", "nested.deep"]), max_size=3)
RANGES = st.sampled_from(["=", "!=", "<", ">=", "^", "~"])


def operators(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What the compiler knows, with too few and too many operands, too."""

    def of(names: list[str], fewest: int, most: int) -> st.SearchStrategy[Any]:
        return st.builds(
            lambda name, items: {name: items}, st.sampled_from(names), st.lists(inner, min_size=fewest, max_size=most)
        )

    return st.one_of(
        of(["==", "!=", "===", "!==", "<", "<=", ">", ">=", "in", "%", "-", "/", "starts_with", "ends_with"], 0, 3),
        of(["<", "<=", "+", "*", "cat", "merge", "min", "max", "and", "or", "substr"], 0, 4),
        of(["!", "!!"], 0, 2),
        of(["if", "?:"], 0, 6),
        st.builds(lambda operator, operand: {operator: operand}, st.sampled_from(["!", "!!", "-", "cat"]), OPERANDS),
        st.builds(lambda by, items: {"fractional": [by, *items]}, inner, WEIGHTED),
        WEIGHTED.map(lambda items: {"fractional": items}),
        ABSENT.map(lambda names: {"missing": names}),
        st.builds(lambda need, names: {"missing_some": [need, names]}, NUMBERS, ABSENT),
        st.lists(inner, max_size=3),
    )  # fmt: skip


def every_operator(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Those that are only interpreted among them."""
    items = st.one_of(st.just({"var": "items"}), inner)
    each = st.one_of(st.just({"var": ""}), st.just({"==": [{"var": ""}, 1]}), inner)
    weight = st.one_of(inner, st.integers(0, 100))
    return st.one_of(
        operators(inner),
        st.lists(inner, min_size=2, max_size=4).map(lambda operands: {"sem_ver": operands}),
        st.builds(lambda a, op, b: {"sem_ver": [a, op, b]}, inner, RANGES, inner),
        st.builds(
            lambda name, data, rule: {name: [data, rule]},
            st.sampled_from(["map", "filter", "all", "none", "some"]), items, each,
        ),
        st.builds(lambda data, start: {"reduce": [data, {"var": "accumulator"}, start]}, items, inner),
        st.builds(lambda variant, share: {"fractional": [[variant, share], ["off", 50]]}, inner, weight),
        st.builds(lambda by, variant: {"fractional": [by, [variant, 50], ["off", 50]]}, inner, inner),
        st.builds(lambda name: {"missing": name}, inner),
        st.builds(lambda name: {"var": name}, inner),
        st.just({"var": "$flagd.flagKey"}),
        st.just({"no_such_operator": []}),
    )  # fmt: skip


def shown_through_a_claim(result: Any, way: int) -> Any:
    """A rule that shows what another comes to: left to itself, almost every random rule comes to no variant at all."""
    match way:
        case 0:
            return {"if": [result, "live", "shadow"]}
        case 1:
            # The bucket depends on every bit of the result and on its type, so a difference shows in half of the keys.
            return {"fractional": [result, ["live", 1], ["shadow", 1]]}
        case 2:
            return {"fractional": [{"cat": [{"var": "shadowKey"}, result]}, ["live", 1], ["shadow", 1], ["off", 1]]}
        case _:
            return result


def rules(extended: Any) -> st.SearchStrategy[Any]:
    inner = st.recursive(st.one_of(OPERANDS, VARS, DATA), extended, max_leaves=14)
    return st.builds(shown_through_a_claim, inner, st.integers(0, 3)).filter(lambda rule: isinstance(rule, dict))


ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "user": st.sampled_from(["", "user", "u-7", "ключ", "1.2.3"]),
        "n": NUMBERS,
        "flag": st.booleans(),
        "nothing": st.none(),
        "items": st.lists(st.one_of(OPERANDS, st.lists(OPERANDS, max_size=2)), max_size=3),
        "nested": st.fixed_dictionaries({}, optional={"deep": OPERANDS, "none": st.none()}),
    },
)
KEYS = st.sampled_from(["", "s-1", "s-2", "ключ", "k" * 24, "k" * 256])
DEFAULTS = st.sampled_from([*VARIANTS, "nobody", "", None, True])


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Both evaluators tell of every rule that fails, which is most of them here."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=800)
@given(rule=rules(operators), default=DEFAULTS, key=KEYS, attributes=ATTRIBUTES)
def test_a_compiled_rule_claims_what_flagd_core_claims(
    rule: dict[str, Any], default: Any, key: str, attributes: dict[str, Any]
) -> None:
    definition = ruled(rule, default)
    context = request_of(key, **attributes)
    assume(compile_flag("spam.A", definition) is not None)
    assert read("spam.A", definition, context) == interpreted("spam.A", definition, context)


@settings(max_examples=500)
@given(rule=rules(every_operator), default=DEFAULTS, key=KEYS, attributes=ATTRIBUTES)
def test_whatever_the_rule_a_router_reads_what_a_stock_client_reads(
    claims: OpenFeatureClaims, rule: dict[str, Any], default: Any, key: str, attributes: dict[str, Any]
) -> None:
    definition = ruled(rule, default)
    context = request_of(key, **attributes)
    claims.load(Configuration(revision=1, flags={"spam.A": definition}))
    assert claims.read(("spam.A",), lambda: context) == (interpreted("spam.A", definition, context),)


@pytest.fixture(scope="module")
def claims() -> Iterator[OpenFeatureClaims]:
    claims = OpenFeatureClaims(ConfigurationProvider())
    yield claims
    claims.close()


@given(
    claim=st.sampled_from([Claim.SHADOW, Claim.LIVE]),
    percent=st.floats(0.001, 100).map(lambda percent: round(percent, 3)),
    session=st.text(max_size=40),
)
def test_every_definition_that_claims_make_is_compiled_and_equals_flagd_core(
    claim: Claim, percent: float, session: str
) -> None:
    definition = claim_definition("spam", claim, percent)
    context = request_of(session)
    assert read("spam.A", definition, context) == interpreted("spam.A", definition, context)


@pytest.mark.parametrize(
    "rule",
    [
        {"sem_ver": [{"var": "n"}, ">=", "1.0.0"]},
        {"if": [{"some": [{"var": "items"}, {"==": [{"var": ""}, 1]}]}, "live", "off"]},
        {"if": [{">": [{"var": "$flagd.timestamp"}, 5]}, "live", "off"]},
        {"var": ""},
        {"var": {"cat": ["n", "ame"]}},
        {"log": "live"},
        {"missing": {"cat": ["$flagd", ".flagKey"]}},
        {"fractional": [["live", {"var": "n"}], ["off", 50]]},
        {"no_such_operator": []},
    ],
)
def test_a_rule_that_needs_the_interpreter_is_not_compiled(rule: dict[str, Any]) -> None:
    assert compile_flag("spam.A", ruled(rule)) is None


def test_a_flag_without_a_rule_is_known_without_evaluating() -> None:
    compiled = compile_flag("spam.A", claim_definition("spam", Claim.LIVE))
    assert compiled is not None
    assert compiled.constant is Claim.LIVE


def test_a_disabled_flag_claims_nothing() -> None:
    compiled = compile_flag("spam.A", {**claim_definition("spam", Claim.LIVE), "state": "DISABLED"})
    assert compiled is not None
    assert compiled.constant is Claim.OFF


def test_targeting_falls_from_the_session_to_the_user_to_the_request() -> None:
    def key(session: str, **attributes: Any) -> str:
        context = context_of(model="m", request_id="r", session_id=session, attributes=attributes)
        return f"{context['targetingKey']} {context['shadowKey']}"

    assert key("s", user="u") == "s s"
    assert key("", user="u") == "u r"
    assert key("", user=7) == "r r"
    assert key("") == "r r"


def test_attributes_cannot_pose_as_what_the_router_knows() -> None:
    context = request_of("s-1", model="other", requestId="x", shadowKey="y", targetingKey="z")
    assert (context["model"], context["requestId"], context["shadowKey"], context["targetingKey"]) == (
        "spam", "r-1", "s-1", "s-1",
    )  # fmt: skip
