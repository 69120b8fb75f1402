"""Compiled flags read exactly as flagd-core reads them."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

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


def ruled(targeting: Any, default: str = "off") -> dict[str, Any]:
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


OPERANDS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(["", "live", "shadow", "off", "true", "3", "1.5", "x", "user", "ключ", "a" * 30, "b" * 300]),
)
VARS = st.one_of(
    st.sampled_from(
        ["user", "n", "flag", "items", "items.0", "items.length", "nested.deep", "targetingKey", "shadowKey"]
    ),
    st.tuples(st.sampled_from(["missing", "n", "nested.none"]), OPERANDS).map(list),
).map(lambda name: {"var": name})
WEIGHTED = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([*VARIANTS, "nobody"]), st.integers(-5, 400)).map(list),
        st.sampled_from([["live"], ["shadow"]]),
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


def operators(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def of(names: list[str], fewest: int, most: int) -> st.SearchStrategy[Any]:
        return st.builds(
            lambda name, items: {name: items}, st.sampled_from(names), st.lists(inner, min_size=fewest, max_size=most)
        )

    return st.one_of(
        of(["==", "!=", "===", "!==", "<", "<=", ">", ">=", "in", "%", "-", "/", "starts_with", "ends_with"], 2, 2),
        of(["<", "<=", "+", "*", "cat", "merge", "min", "max", "and", "or", "substr"], 1, 3),
        of(["!", "!!"], 1, 1),
        of(["if"], 1, 5),
        st.builds(lambda by, items: {"fractional": [by, *items]}, inner, WEIGHTED),
        WEIGHTED.map(lambda items: {"fractional": items}),
        st.lists(st.sampled_from(["n", "user", "gone"]), max_size=3).map(lambda names: {"missing": names}),
        st.lists(inner, max_size=3),
    )  # fmt: skip


RULES = st.recursive(st.one_of(OPERANDS, VARS), operators, max_leaves=12).filter(lambda rule: isinstance(rule, dict))
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "user": st.sampled_from(["", "user", "u-7", "ключ"]),
        "n": st.one_of(st.integers(-3, 300), st.floats(allow_nan=False, allow_infinity=False, width=32)),
        "flag": st.booleans(),
        "items": st.lists(OPERANDS, max_size=3),
        "nested": st.fixed_dictionaries({}, optional={"deep": OPERANDS, "none": st.none()}),
    },
)


@settings(max_examples=1500, deadline=None)
@given(rule=RULES, default=st.sampled_from([*VARIANTS]), key=st.sampled_from(["", "s-1", "s-2"]), attributes=ATTRIBUTES)
def test_a_compiled_rule_claims_what_flagd_core_claims(
    rule: dict[str, Any], default: str, key: str, attributes: dict[str, Any]
) -> None:
    logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)
    definition = ruled(rule, default)
    context = request_of(key, **attributes)
    assume(compile_flag("spam.A", definition) is not None)
    assert read("spam.A", definition, context) == interpreted("spam.A", definition, context)


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
