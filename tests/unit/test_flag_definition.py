"""Which definitions may be stored, and what is said of those that may not."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openfeature.contrib.provider.flagd.resolvers.process.flags import FlagStore
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

from multishadow_server.adapters import flagd_core
from multishadow_server.core import flag_definition, flag_document, targeting_rule
from multishadow_server.core.flags import VARIANTS, claim_definition
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.errors import FailedPrecondition, InvalidInput

PERCENTS = st.integers(1, 100_000).map(lambda thousandths: thousandths / 1000)
SWITCH = {"on": True, "off": False}
NOBODY = 2**53


def ruled(targeting: Any, **fields: Any) -> dict[str, Any]:
    """A version's flag with this rule."""
    return {"state": "ENABLED", "variants": VARIANTS, "defaultVariant": "off", "targeting": targeting, **fields}


def switch(targeting: Any = None, **fields: Any) -> dict[str, Any]:
    """A boolean flag."""
    rule = {} if targeting is None else {"targeting": targeting}
    return {"state": "ENABLED", "variants": SWITCH, "defaultVariant": "off", **rule, **fields}


def free(definition: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return flag_definition.validate("checkout", definition, claim=False, **more)


@given(claim=st.sampled_from([Claim.SHADOW, Claim.LIVE]), percent=PERCENTS)
def test_whatever_claims_make_passes_the_checks_unchanged(claim: Claim, percent: float) -> None:
    definition = claim_definition("spam", claim, percent)
    checked, problems = flag_definition.examine("spam.A", definition, claim=True)
    assert (checked.definition, checked.warnings, problems) == (definition, (), [])


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({}, "state"),
        (ruled(None, state="DISABLED"), 'spam.A: state: must be "ENABLED"'),
        (ruled(None, variants={"on": True}), "variants: must be exactly"),
        (ruled(None, defaultVariant="on"), 'defaultVariant: must be one of off, shadow, live, got "on"'),
        (ruled(None, defaultVariant=None), "defaultVariant: must be one of off, shadow, live; it is missing"),
        (ruled(["live"]), "targeting: must be a rule"),
        (ruled({"fractional": [["live", 2.5], ["off", 1]]}), r"targeting.fractional\[0\]\[1\]: weight must be a whole"),
        (ruled({"fractional": [["live", 25.0], ["off", 1]]}), "weight must be a whole number .* got 25.0"),
        (ruled({"fractional": [["live", True], ["off", 1]]}), "weight must be a whole"),
        (ruled({"fractional": [["live", {"var": "n"}], ["off", 1]]}), "weight must be a whole"),
        (ruled({"fractional": [["live", -1], ["off", 1]]}), "not negative"),
        (ruled({"fractional": [["lvie", 1], ["off", 1]]}), r'fractional\[0\]\[0\]: "lvie" is no variant of this flag'),
        (ruled({"fractional": [["live", 0], ["off", 0]]}), "weights must add up"),
        (ruled({"fractional": [["live", 2**31], ["off", 1]]}), "weights must add up"),
        (ruled({"fractional": [{"var": "x"}]}), "needs weighted variants"),
        (ruled({"fractional": ["x", ["live", 1]]}), r"fractional\[0\]: must be a rule to bucket by"),
        (ruled({"fractional": [["live", 1, 2]]}), "must be a variant and its weight"),
        (ruled({"fractional": []}), "takes at least 1 operands, got 0"),
        (ruled({"if": []}), r"targeting.if: takes at least 1 operands, got 0"),
        (ruled({"if": [{"var": "x"}, "alive", "off"]}), r'targeting.if\[1\]: "alive" is no variant'),
        (ruled({"if": [{"var": "x"}, "live", {"var": "y"}, "of", "off"]}), r'targeting.if\[3\]: "of" is no variant'),
        (ruled({"if": [{"var": "x"}, True, "off"]}), r"if\[1\]: True is no variant"),
        (ruled({"if": [{"var": "x"}, 1, "off"]}), r"if\[1\]: 1 is no variant"),
        (ruled({"if": [{"roll": [6]}, "live", "off"]}), r'targeting.if\[0\]: "roll" is no operator of flagd; known'),
        (ruled({"if": [{"$ref": "beta"}, "live", "off"]}), r'no shared rule "beta" in \$evaluators'),
        (ruled({"if": [{"var": "$flagd.x"}, "live", "off"]}), "flagd gives"),
        (ruled({"if": [{"var": 5}, "live", "off"]}), "name of an attribute"),
        (ruled({"if": [{"var": ["a", "b", "c"]}, "live", "off"]}), "at most one plain default"),
        (ruled({"if": [{"==": [{"var": "x"}, float("nan")]}, "live", "off"]}), r"==\[1\]: numbers must be finite"),
        (ruled({"if": [{"==": [{"var": "x"}, NOBODY]}, "live", "off"]}), r"==\[1\]: whole numbers beyond"),
        (ruled({"if": [{"==": [{"var": "x"}, "\ud800"]}, "live", "off"]}), "half a surrogate"),
        (ruled({"if": [{"sem_ver": [{"var": "v"}, "~>", "1.0.0"]}, "live", "off"]}), r"sem_ver\[1\]"),
        (ruled({"if": [{"sem_ver": [{"var": "v"}, "=", "2.0.0.0"]}, "live", "off"]}), r"sem_ver\[2\]: must be a ver"),
        (ruled({"if": [{"starts_with": [{"var": "v"}, 0]}, "live", "off"]}), r"starts_with\[1\]: must be text"),
        (ruled({"if": [{"missing": [1]}, "live", "off"]}), r"missing\[0\]"),
        (ruled({"if": [{"missing_some": [1, "x"]}, "live", "off"]}), r"missing_some\[1\]: must be a list"),
        (ruled({"if": [{"missing_some": ["x", []]}, "live", "off"]}), "takes a number and a list"),
        (ruled({"and": [], "or": []}), "one operator, got 2"),
        (ruled({"==": "x"}), "operands must be a list"),
        (ruled({"cat": [{1, 2}]}), "set is not JSON"),
        (ruled(None, metadata=["x"]), "metadata: must be an object"),
        (ruled(None, metadata={"owner": None}), "metadata.owner"),
        (ruled(None, metadata={"flagSetId": "shop"}), "metadata.flagSetId: the flags of versions are in the default"),
    ],
)
def test_a_bad_definition_of_a_versions_flag_is_refused_by_its_path(definition: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        flag_definition.validate("spam.A", definition, claim=True)


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("on", "checkout: a definition is an object with state, variants"),
        (switch(state="enabled"), """state: must be "ENABLED" or "DISABLED" .got \"enabled\""""),
        (switch(variants={}), "variants: must be an object of one or more values"),
        (switch(variants=[True]), "variants: must be an object of one or more values"),
        (switch(variants={"": True, "off": False}), "a variant needs a name"),
        (switch(variants={"on": True, "off": "false"}), "variants.off: is a string, and the others are a boolean"),
        (switch(variants={"on": 1, "off": False}), "variants.off: is a boolean, and the others are a number"),
        (switch(variants={"on": None, "off": False}), "variants.on: must be a boolean, a number, text or an object"),
        (switch(variants={"on": [1], "off": [2]}), "variants.on: must be a boolean, a number, text or an object"),
        (switch(variants={"on": {"a": [NOBODY]}, "off": {}}), r"variants.on.a\[0\]: whole numbers beyond"),
        (switch(variants={"on": {"a": float("inf")}, "off": {}}), r"variants.on.a: numbers must be finite"),
        (switch(variants={"on": "\x00", "off": ""}), r"variants.on: text must not hold NUL"),
        (switch(defaultVariant="of"), 'defaultVariant: must be one of on, off, got "of"'),
        (switch(defaultVariant=""), 'defaultVariant: must be one of on, off, got ""'),
        (switch(defaultVariant=False), "defaultVariant: must be one of on, off, got False"),
        (switch(defaultVarient="on"), "defaultVarient: is no field of a flag; did you mean defaultVariant"),
        (switch({"if": [{"var": "x"}, "On", "off"]}), r'targeting.if\[1\]: "On" is no variant of this flag'),
        (switch({"fractional": [["on", 1], [True, 1]]}), r"fractional\[1\]\[0\]: True is no variant"),
        (switch(metadata={"flagSetId": "a,b"}), "metadata.flagSetId: must be 1 to 200 printable ASCII"),
        (switch(metadata={"flagSetId": " a"}), "metadata.flagSetId: must be 1 to 200 printable ASCII"),
        (switch(metadata={"flagSetId": "größe"}), "metadata.flagSetId: must be 1 to 200 printable ASCII"),
        (switch(metadata={"flagSetId": ""}), "left out, it is the default set"),
        (switch(metadata={"flagSetId": 7}), "metadata.flagSetId: must be 1 to 200 printable ASCII"),
        (switch(variants={"on": "x" * 300_000, "off": ""}), "bytes as JSON; at most 262,144 are allowed"),
    ],
)
def test_a_bad_definition_of_any_flag_is_refused_by_its_path(definition: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        free(definition)


def test_all_problems_of_a_definition_are_told_at_once() -> None:
    definition = switch({"iff": []}, state="on", defaultVariant="x", metadata={"owner": []})
    _, problems = flag_definition.examine("checkout", definition, claim=False)
    assert [problem.split(": ")[1] for problem in problems] == [
        "state",
        "defaultVariant",
        "targeting",
        "metadata.owner",
    ]


@pytest.mark.parametrize(
    "variants",
    [SWITCH, {"a": 1, "b": 2.5}, {"a": "x"}, {"a": {"b": [1, {"c": None}]}, "b": {}}, {"": 1, "x": 2}],
)
def test_flags_of_every_type_pass(variants: dict[str, Any]) -> None:
    named = {name or "zero": value for name, value in variants.items()}
    definition = {"state": "DISABLED", "variants": named, "defaultVariant": next(iter(named))}
    assert free(definition) == definition


@pytest.mark.parametrize("missing", [{}, {"defaultVariant": None}])
def test_a_flag_without_a_default_leaves_it_to_the_code(missing: dict[str, Any]) -> None:
    checked = free({"state": "ENABLED", "variants": SWITCH, **missing})
    assert "defaultVariant" not in checked
    core = FlagdCore()
    core.set_flags({"flags": {"checkout": copy.deepcopy(checked)}})
    assert core.resolve_boolean_value("checkout", True).value is True
    assert core.resolve_boolean_value("checkout", False).value is False


def test_a_boolean_that_a_rule_returns_is_the_variant_of_that_name() -> None:
    definition = {
        "state": "ENABLED",
        "variants": {"true": 1, "false": 0},
        "targeting": {"if": [{"var": "x"}, True, False]},
    }
    assert free(definition) == definition


@pytest.mark.parametrize(
    ("weights", "warned"),
    [
        ([25, 75], False),
        ([1, 999], False),
        ([1, 99_999], False),
        ([1, 1, 1], False),
        ([25, 70], True),
        ([30, 70, 20], True),
        ([1, 2], True),
        ([100], False),
    ],
)
def test_weights_that_do_not_add_up_to_100_are_told_with_what_they_come_to(weights: list[int], warned: bool) -> None:
    names = ["a", "b", "c"][: len(weights)]
    definition = {"state": "ENABLED", "variants": dict.fromkeys(names, 1), "defaultVariant": "a"}
    definition["targeting"] = {"fractional": [[name, weight] for name, weight in zip(names, weights, strict=True)]}
    checked, problems = flag_definition.examine("checkout", definition, claim=False)
    assert not problems
    assert bool(checked.warnings) is warned
    if weights == [25, 70]:
        (warning,) = checked.warnings
        assert warning == (
            "checkout: targeting.fractional: weights add up to 95, not 100; flagd takes them as relative: "
            "a 26.32 %, b 73.68 %"
        )


def test_a_field_that_no_reader_knows_is_left_out_and_told() -> None:
    checked, problems = flag_definition.examine("checkout", switch(owner="search", source="file.json"), claim=False)
    assert (checked.definition, problems) == (switch(), [])
    assert checked.warnings == ("checkout: owner: is no field of a flag, and is left out",)


def test_a_rule_too_deep_for_readers_is_refused() -> None:
    rule: Any = {"var": "x"}
    for _ in range(200):
        rule = {"!": [rule]}
    with pytest.raises(InvalidInput, match="32 levels deep"):
        free(switch({"if": [rule, "on", "off"]}))


def test_a_rule_with_too_many_parts_is_refused() -> None:
    with pytest.raises(InvalidInput, match="10000 parts"):
        free(switch({"if": [{"in": [{"var": "user"}, ["u"] * 10_001]}, "on", "off"]}))


def test_a_variant_too_deep_for_readers_is_refused() -> None:
    value: Any = {}
    for _ in range(200):
        value = {"a": value}
    with pytest.raises(InvalidInput, match="32 levels deep"):
        free(switch(variants={"on": value, "off": {}}))


def test_shared_rules_that_refer_to_each_other_in_a_circle_are_refused() -> None:
    definition = switch({"$ref": "a"}, **{"$evaluators": {"a": {"!": [{"$ref": "a"}]}}})
    with pytest.raises(InvalidInput, match="levels deep"):
        free(definition)


@pytest.mark.parametrize("key", ["", "spam A", "spam/A", "späm.A", ".", "..", "x" * 201, "a\n"])
def test_a_key_that_stock_clients_cannot_ask_for_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="letters, digits"):
        flag_definition.validate(key, switch(), claim=False)
    with pytest.raises(InvalidInput, match="letters, digits"):
        flag_definition.check_key(key)


def test_shared_rules_are_inlined_and_foreign_fields_dropped() -> None:
    beta = {"in": ["beta", {"var": "groups"}]}
    given = switch(
        {"if": [{"$ref": "beta"}, "on", {"$ref": "late"}]},
        metadata={"owner": "search", "tier": 1},
        source="https://example.com",
        **{"$evaluators": {"beta": beta}},
    )
    late = {"if": [{">": [{"var": "$flagd.timestamp"}, 7]}, "on", None]}
    assert free(given, evaluators={"late": late}) == switch(
        {"if": [beta, "on", late]}, metadata={"owner": "search", "tier": 1}
    )


# --- keys and their owners ----------------------------------------------------------------------------------------

SPAM = Model(name="spam", versions=(Version(model="spam", name="A.1", address="a:1"),))
MODELS = {"spam": SPAM}


@pytest.mark.parametrize("key", ["spam.", "spam.B", "spam.A", "spam.A.1.x"])
def test_a_key_that_a_models_version_could_own_is_kept_for_versions(key: str) -> None:
    with pytest.raises(FailedPrecondition, match=r'begin with "spam." belong to the versions of the model spam'):
        flag_definition.check_free(key, MODELS)


@pytest.mark.parametrize("key", ["spam", "spammer.A", "checkout", "eggs.A.1", "spam.A.1"])
def test_other_keys_are_free(key: str) -> None:
    flag_definition.check_free(key, MODELS)
    assert (flag_definition.version_of(key, MODELS) is not None) is (key == "spam.A.1")


def test_a_version_takes_over_a_flag_of_its_shape_and_no_other() -> None:
    flag_definition.check_takeover(SPAM.versions, {"spam.A.1": claim_definition("spam", Claim.SHADOW, 5)})
    with pytest.raises(FailedPrecondition, match=r"another flag of that key, which says on, off"):
        flag_definition.check_takeover(SPAM.versions, {"spam.A.1": switch()})


def test_definitions_are_told_apart_where_python_does_not() -> None:
    assert not flag_definition.same({"a": True}, {"a": 1})
    assert not flag_definition.same({"a": 25}, {"a": 25.0})
    assert not flag_definition.same({"a": 25}, None)
    assert flag_definition.same({"a": 1, "b": 2}, {"b": 2, "a": 1})


def test_all_flags_together_fit_into_one_message_to_a_client() -> None:
    many = {f"f{i}": switch(metadata={"note": "x" * 200_000}) for i in range(15)}
    flag_definition.check_set(many)
    with pytest.raises(InvalidInput, match="reach in-process clients in one message"):
        flag_definition.check_set({**many, "one-more": many["f0"]})


# --- what passes, readers take ------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-NOBODY, NOBODY),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["on", "off", "1.2.3", "=", "\x00", "\ud800"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
VARS = st.one_of(
    st.just({"var": "n"}), st.just({"var": ""}), st.builds(lambda default: {"var": ["n", default]}, SCALARS)
)
CONDITIONS = st.recursive(
    st.one_of(SCALARS, VARS),
    lambda inner: st.one_of(
        st.builds(
            lambda name, items: {name: items}, st.sampled_from([*targeting_rule.ARITY]), st.lists(inner, max_size=3)
        ),
        st.builds(lambda item: {"!": item}, inner),
        st.builds(
            lambda items: {"fractional": items},
            st.lists(st.tuples(inner, st.one_of(st.integers(-1, 9), inner)).map(list), min_size=1, max_size=3),
        ),
    ),
    max_leaves=8,
)
RULES = st.builds(lambda condition: {"if": [condition, "on", "off"]}, CONDITIONS) | CONDITIONS
DEFINITIONS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["ENABLED", "DISABLED"]),
        "variants": st.one_of(
            st.just(SWITCH),
            st.just({"on": 1, "off": 0.5}),
            st.just({"on": "yes", "off": "no"}),
            st.fixed_dictionaries({"on": st.dictionaries(st.text(max_size=4), JSON, max_size=3), "off": st.just({})}),
            st.dictionaries(st.sampled_from(["on", "off", "true"]), JSON, max_size=3),
        ),
    },
    optional={
        "defaultVariant": st.sampled_from(["on", "off", None, "", True]),
        "targeting": st.one_of(RULES, JSON),
        "metadata": st.one_of(st.dictionaries(st.text(max_size=4), SCALARS, max_size=3), JSON),
        "$evaluators": st.just({"beta": {"var": "n"}}),
    },
)


@given(definition=DEFINITIONS, claim=st.booleans(), value=SCALARS)
def test_stock_in_process_clients_load_whatever_passes_the_checks(definition: Any, claim: bool, value: Any) -> None:
    if claim:
        definition = {**definition, "variants": VARIANTS}
    checked, problems = flag_definition.examine("flag", definition, claim=claim)
    if problems:
        return
    flagd_core.load("flag", checked.definition)
    assert flag_definition.examine("flag", checked.definition, claim=claim) == (
        flag_definition.Checked(definition=checked.definition, warnings=checked.warnings),
        [],
    )
    # As it travels: JSON that strict readers take, and that comes back as the same.
    text = json.dumps({"flags": {"good": switch(), "flag": checked.definition}}, allow_nan=False)
    assert flag_definition.same(json.loads(text)["flags"]["flag"], checked.definition)
    text.encode()
    assert "\\u0000" not in text
    changed: list[Any] = []
    FlagStore(changed.append).update(json.loads(text))
    core = FlagdCore()
    core.set_flags(text)
    assert core.resolve_boolean_value("good", True).value is False, "one flag never costs the others"
    try:
        result = core._resolve("flag", "code", EvaluationContext("key", {"n": value}))
    except (OpenFeatureError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError):
        return  # of operands that the request brings; readers fall back to the code's default
    assert result.value in [*checked.definition["variants"].values(), "code"]


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"state": "ON", "variants": SWITCH},
        {"state": "ENABLED", "variants": {}},
        {"state": "ENABLED", "variants": SWITCH, "defaultVariant": ["on"]},
        {"state": "ENABLED", "variants": SWITCH, "metadata": {"": 1}},
        {"state": "ENABLED", "variants": SWITCH, "unknown": 1},
    ],
)
def test_flagd_core_itself_is_asked_last(definition: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="checkout: flagd-core does not load this definition"):
        flagd_core.load("checkout", definition)


def test_a_name_that_stands_twice_is_found_at_once_among_a_hundred_thousand() -> None:
    # Looking at each in all that stand before it would keep control from everything else for many minutes.
    members = ",".join(f'"{n}":0' for n in (*range(100_000), 99_999))
    with pytest.raises(InvalidInput, match='document: "99999" stands twice in one object'):
        flag_document.parse(f"{{{members}}}", "document")


def test_a_number_of_thousands_of_digits_is_refused_as_any_other_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="checkout: a number has too many digits"):
        flag_document.parse(f'{{"variants": {{"on": {"9" * 5_000}}}}}', "checkout")
