"""Flags of every kind, and what every client must make of them.

The cases follow the scenarios of flagd's public test bed (github.com/open-feature/flagd-testbed): types, zero values,
targeting, missing defaults, disabled flags, custom operators with their golden buckets, errors, metadata, enriched
context, flag sets; and add multishadow's own claims with theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from serving_flags import Answer, flag

SUITS = ["clubs", "diamonds", "hearts", "spades"]
TEMPLATE = {"showImages": True, "title": "Check out these pics!", "imagesPerPage": 100.0}
CLAIMS = {"off": "off", "shadow": "shadow", "live": "live"}
IS_BALLMER = {"==": [{"var": "email"}, "ballmer@macrosoft.com"]}
BALLMER, SOMEBODY = {"email": "ballmer@macrosoft.com"}, {"email": "ballmer@none.com"}


def suits(*bucketing: Any) -> dict[str, Any]:
    quarter = [[suit, 25] for suit in SUITS]
    return flag({name: name for name in [*SUITS, "wild"]}, "wild", {"fractional": [{"cat": bucketing}, *quarter]})


def words(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def drawn(shadow: int, off: int) -> dict[str, Any]:
    return {"fractional": [["shadow", shadow], ["off", off]]}


def if_ballmer(then: str | None, otherwise: str | None = None) -> dict[str, Any]:
    return {"if": [IS_BALLMER, then, otherwise]}


FLAGS: Mapping[str, Mapping[str, Any]] = {
    "boolean-flag": flag({"on": True, "off": False}, "on"),
    "string-flag": flag({"greeting": "hi", "parting": "bye"}, "greeting"),
    "integer-flag": flag({"one": 1, "ten": 10}, "ten"),
    "float-flag": flag({"tenth": 0.1, "half": 0.5}, "half"),
    "whole-float-flag": flag({"one": 1, "half": 0.5}, "one"),
    "object-flag": flag({"empty": {}, "template": TEMPLATE}, "template"),
    "boolean-zero-flag": flag({"zero": False, "non-zero": True}, "zero"),
    "string-zero-flag": flag({"zero": "", "non-zero": "str"}, "zero"),
    "integer-zero-flag": flag({"zero": 0, "non-zero": 1}, "zero"),
    "float-zero-flag": flag({"zero": 0.0, "non-zero": 1.5}, "zero"),
    "object-zero-flag": flag({"zero": {}, "non-zero": {"a": 1}}, "zero"),
    "string-targeted-zero-flag": flag({"zero": "", "non-zero": "str"}, "non-zero", if_ballmer("zero")),
    "float-targeted-zero-flag": flag({"zero": 0.0, "non-zero": 1.5}, "non-zero", if_ballmer("zero")),
    "null-default-flag": flag({"on": True, "off": False}, None),
    "undefined-default-flag": {"state": "ENABLED", "variants": {"small": 10, "big": 1000}},
    "no-default-targeted-flag": flag(words("CEO", "other"), None, if_ballmer("CEO")),
    "disabled-flag": {**flag(words("on"), "on"), "state": "DISABLED"},
    "fractional-flag": suits({"var": "$flagd.flagKey"}, {"var": "user.name"}),
    "fractional-flag-A-shared-seed": suits("shared-seed", {"var": "user.name"}),
    "fractional-flag-shorthand": flag(
        words("heads", "tails", "draw"), "draw", {"fractional": [["heads"], ["tails", 1]]}
    ),
    "gated-draw-flag": flag(
        words("heads", "tails", "draw"),
        "draw",
        {"if": [{"==": [{"var": "country"}, "NO"]}, {"fractional": [["heads", 1], ["tails", 1]]}, None]},
    ),
    "numeric-seed-flag": flag(
        words(*SUITS), None, {"fractional": [{"cat": ["age-", {"var": "age"}]}, *[[suit, 25] for suit in SUITS]]}
    ),
    "starts-ends-flag": flag(
        words("prefix", "postfix", "none"),
        "none",
        {
            "if": [
                {"starts_with": [{"var": "id"}, "abc"]},
                "prefix",
                {"if": [{"ends_with": [{"var": "id"}, "xyz"]}, "postfix", "none"]},
            ]
        },
    ),
    "version-flag": flag(
        words("old", "new"), "old", {"if": [{"sem_ver": [{"var": "version"}, ">=", "2.0.0"]}, "new", None]}
    ),
    "boolean-variant-flag": flag({"true": 2, "false": 1}, "false", {"if": [True, True, False]}),
    "empty-targeting-flag": flag({"one": 1}, "one", {}),
    "timestamp-flag": flag(
        {"-1": -1, "0": 0, "1": 1}, "0", {"if": [{">": [{"var": "$flagd.timestamp"}, 1_700_000_000]}, "1", "-1"]}
    ),
    "wrong-flag": flag(words("one"), "one"),
    "missing-variant-flag": flag(words("one", "two"), "two", {"if": [True, "three", "one"]}),
    "error-targeting-flag": flag(words("one"), "one", {"invalid": ["this is no rule"]}),
    "context-aware-flag": flag(
        words("internal", "external"),
        "external",
        {"if": [{"==": [{"var": "flagSource"}, "multishadow"]}, "internal", "external"]},
    ),
    "metadata-flag": flag(words("on"), "on", metadata={"string": "1.0.2", "integer": 2, "float": 0.1, "boolean": True}),
    # The golden buckets of the short form are those of their flag's key and the targeting key.
    "spam.A": flag(CLAIMS, "off", {"if": [{"var": "rarely"}, drawn(1, 999), drawn(25, 75)]}),
    "spam.B": flag(CLAIMS, "off", drawn(25, 75)),
    "spam.C": flag(CLAIMS, "off", drawn(5, 95)),
    "digits.A": claim_definition("spam", Claim.SHADOW, 25),
    "digits.B": claim_definition("spam", Claim.SHADOW, 5),
    "payments.limit": flag({"low": 10, "high": 100}, "low", metadata={"flagSetId": "payments", "owner": "ann"}),
}

# kind, key, the caller's default, context, expected
Case = tuple[str, str, Any, Mapping[str, Any], Answer]


def _is(value: Any, reason: str, variant: str | None, error: str | None = None) -> Answer:
    return Answer(value=value, reason=reason, variant=variant, error=error)


def _name(name: str) -> Mapping[str, Any]:
    return {"user": {"name": name}, "targetingKey": "somebody"}


PLAIN: list[Case] = [
    ("boolean", "boolean-flag", False, {}, _is(True, "STATIC", "on")),
    ("string", "string-flag", "bye", {}, _is("hi", "STATIC", "greeting")),
    ("integer", "integer-flag", 1, {}, _is(10, "STATIC", "ten")),
    ("float", "float-flag", 0.1, {}, _is(0.5, "STATIC", "half")),
    ("float", "whole-float-flag", 0.1, {}, _is(1.0, "STATIC", "one")),
    ("object", "object-flag", {}, {}, _is(TEMPLATE, "STATIC", "template")),
    ("boolean", "boolean-zero-flag", True, {}, _is(False, "STATIC", "zero")),
    ("string", "string-zero-flag", "hi", {}, _is("", "STATIC", "zero")),
    ("integer", "integer-zero-flag", 1, {}, _is(0, "STATIC", "zero")),
    ("float", "float-zero-flag", 0.1, {}, _is(0.0, "STATIC", "zero")),
    ("object", "object-zero-flag", {"a": 1}, {}, _is({}, "STATIC", "zero")),
    ("string", "string-targeted-zero-flag", "hi", BALLMER, _is("", "TARGETING_MATCH", "zero")),
    ("string", "string-targeted-zero-flag", "hi", SOMEBODY, _is("str", "DEFAULT", "non-zero")),
    ("float", "float-targeted-zero-flag", 0.1, BALLMER, _is(0.0, "TARGETING_MATCH", "zero")),
    ("float", "float-targeted-zero-flag", 0.1, SOMEBODY, _is(1.5, "DEFAULT", "non-zero")),
    ("boolean", "null-default-flag", True, {}, _is(True, "DEFAULT", None)),
    ("boolean", "null-default-flag", False, {}, _is(False, "DEFAULT", None)),
    ("integer", "undefined-default-flag", 100, {}, _is(100, "DEFAULT", None)),
    ("string", "no-default-targeted-flag", "Founder", SOMEBODY, _is("Founder", "DEFAULT", None)),
    ("string", "no-default-targeted-flag", "Founder", BALLMER, _is("CEO", "TARGETING_MATCH", "CEO")),
    ("string", "disabled-flag", "mine", {}, _is("mine", "DISABLED", None)),
    *(
        ("string", "starts-ends-flag", "x", {"id": name}, _is(end, "TARGETING_MATCH", end))
        for name, end in {"abcdef": "prefix", "uvwxyz": "postfix", "abcxyz": "prefix", "lmnopq": "none"}.items()
    ),
    ("string", "version-flag", "x", {"version": "2.1.0"}, _is("new", "TARGETING_MATCH", "new")),
    ("string", "version-flag", "x", {"version": "2.0.0-alpha"}, _is("old", "DEFAULT", "old")),
    ("integer", "boolean-variant-flag", 0, {}, _is(2, "TARGETING_MATCH", "true")),
    ("integer", "empty-targeting-flag", 0, {}, _is(1, "STATIC", "one")),
    ("integer", "timestamp-flag", 0, {}, _is(1, "TARGETING_MATCH", "1")),
    ("string", "no-such-flag", "mine", {}, _is("mine", "ERROR", None, "FLAG_NOT_FOUND")),
    ("boolean", "wrong-flag", True, {}, _is(True, "ERROR", None, "TYPE_MISMATCH")),
    ("string", "missing-variant-flag", "mine", {}, _is("mine", "ERROR", None, "GENERAL")),
    ("string", "error-targeting-flag", "mine", {}, _is("mine", "ERROR", None, "PARSE_ERROR")),
    ("string", "context-aware-flag", "mine", {}, _is("internal", "TARGETING_MATCH", "internal")),
]  # fmt: skip

GOLDEN: list[tuple[str, Mapping[str, Any], str]] = [
    ("spam.A", {"targetingKey": "user-1"}, "shadow"), ("spam.A", {"targetingKey": "user-3"}, "off"),
    ("spam.B", {"targetingKey": "user-1"}, "shadow"), ("spam.C", {"targetingKey": "user-17"}, "shadow"),
    ("spam.A", {"targetingKey": "user-612", "rarely": True}, "shadow"),
    ("digits.A", {"shadowKey": "user-17"}, "shadow"), ("digits.B", {"shadowKey": "user-17"}, "off"),
    ("digits.A", {"shadowKey": "user-21"}, "shadow"), ("digits.B", {"shadowKey": "user-21"}, "shadow"),
]  # fmt: skip
DRAWN: list[Case] = [
    *(
        ("string", "fractional-flag", "fallback", _name(name), _is(suit, "TARGETING_MATCH", suit))
        for name, suit in {"jack": "diamonds", "queen": "diamonds", "ten": "clubs", "nine": "clubs"}.items()
    ),
    *(
        ("string", "fractional-flag-A-shared-seed", "fallback", _name(name), _is(suit, "TARGETING_MATCH", suit))
        for name, suit in {"seven": "hearts", "eight": "hearts", "nine": "diamonds", "two": "diamonds"}.items()
    ),
    *(
        ("string", "fractional-flag-shorthand", "x", {"targetingKey": key}, _is(side, "TARGETING_MATCH", side))
        for key, side in {
            "jon@company.com": "tails", "jane@company.com": "tails",
            "user-1": "heads", "user-2": "tails", "user-3": "heads",
        }.items()
    ),
    *(
        ("string", key, "x", context, _is(claim, "TARGETING_MATCH", claim))
        for key, context, claim in GOLDEN
    ),
    *(
        ("string", "numeric-seed-flag", "x", {"age": age}, _is(suit, "TARGETING_MATCH", suit))
        for age, suit in {41: "clubs", 42: "spades", 43: "hearts"}.items()
    ),
]  # fmt: skip
"""What is drawn by lot: by murmur3 over CBOR, as flagd-core 2 does."""
CASES = PLAIN + DRAWN
