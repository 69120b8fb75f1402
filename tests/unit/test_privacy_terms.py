"""Which privacy terms may be asked for, and what asking for them changes."""

from __future__ import annotations

import pytest

from multishadow.v1 import privacy_pb2 as pb
from multishadow_server.core import privacy_limits, registration
from multishadow_server.core.model import LabelTerms, Model
from multishadow_server.core.model_spec import ModelSpec, VersionSpec
from multishadow_server.core.privacy import CustomPattern, Pattern, Payloads, PrivacyTerms
from multishadow_server.entrypoints import privacy_messages
from multishadow_server.errors import InvalidInput

REDACTED = PrivacyTerms(payloads=Payloads.REDACTED, patterns=(Pattern.EMAIL,))


def redacting(**more: object) -> PrivacyTerms:
    return PrivacyTerms(payloads=Payloads.REDACTED, **more)  # type: ignore[arg-type]  # tests name real fields


def register(present: Model | None, **more: object) -> registration.Registration:
    versions = (VersionSpec(name="base", address="127.0.0.1:9000"),)
    spec = ModelSpec(name="spam", versions=versions, **more)  # type: ignore[arg-type]  # tests name real fields
    return registration.register(present, spec, now=0.0)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("$.input.user", "another notation; write keys with dots"),
        ("input.items[0]", "another notation"),
        ("input/user", "another notation"),
        ("user.email", "must begin with one of input, output, attributes"),
        ("", "must begin with one of"),
        ("input..email", "keys with one dot between them"),
        ("input.", "keys with one dot between them"),
        ("input.**.email", "there is no `\\*\\*`"),
        ("session_id.x", "nothing below session_id"),
        ("input." + "x" * 300, "at most 256 characters"),
    ],
)
def test_a_path_that_is_none_is_refused_with_its_place_and_the_reason(path: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^privacy\.redact\.paths\[1\]: .*{why}"):
        privacy_limits.check(redacting(paths=("input.fine", path)))


@pytest.mark.parametrize(
    ("regex", "why"),
    [
        ("(a", "no regex in RE2's syntax: missing \\)"),
        ("(?=a)b", "Look-arounds and back-references are left out"),
        (r"(a)\1", "invalid escape sequence"),
        ("(a{1000}){1000}", "invalid repetition size"),
        (r"(\pL{1,20}){1,20}x", "too (expensive|large)"),
        ("a*", "finds the empty text"),
        ("", "1 to 500"),
        ("x" * 501, "1 to 500"),
    ],
)
def test_a_regex_that_is_none_or_costs_too_much_is_refused_with_its_place_and_the_reason(regex: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=rf"(?s)^privacy\.redact\.custom\[0\] \(own\)\.regex: .*{why}"):
        privacy_limits.check(redacting(custom=(CustomPattern(name="own", regex=regex),)))


@pytest.mark.parametrize("name", ["", "Own", "9th", "a b", "email", "x" * 40])
def test_a_custom_patterns_name_must_be_one_and_its_own(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"privacy\.redact\.custom\[0\]\.name"):
        privacy_limits.check(redacting(custom=(CustomPattern(name=name, regex="x"),)))


def test_names_that_there_are_not_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match=r"patterns\[1\]: there is no pattern 'ssn'; allowed are email, card, key"):
        privacy_messages.terms_of(pb.Privacy(patterns=["email", "ssn"]))
    with pytest.raises(InvalidInput, match="'secret' is none; allowed are full, redacted, hashed, none"):
        privacy_messages.terms_of(pb.Privacy(payloads="secret"))


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        (PrivacyTerms(patterns=(Pattern.EMAIL,)), "payloads: full stores everything as it is"),
        (PrivacyTerms(payloads=Payloads.REDACTED), "needs to be told what to hide"),
        (PrivacyTerms(keep=1.0), "privacy.keep: .* is out of range"),
        (PrivacyTerms(keep_bytes=5), "privacy.keep_bytes: 5 is out of range"),
        (redacting(paths=("input",) * 101), "101 are too many"),
        (redacting(custom=tuple(CustomPattern(name=f"n{n}", regex="x") for n in range(21))), "21 are too many"),
    ],
)
def test_terms_that_contradict_themselves_or_are_out_of_range_are_refused(terms: PrivacyTerms, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        privacy_limits.check(terms)


def test_what_is_left_unsaid_is_the_safe_thing() -> None:
    assert privacy_messages.terms_of(pb.Privacy()).payloads is Payloads.FULL
    assert privacy_messages.terms_of(pb.Privacy(paths=["input.name"])).payloads is Payloads.REDACTED
    assert privacy_messages.terms_of(pb.Privacy(payloads="redacted")).patterns == ("email", "card", "key")
    assert privacy_messages.terms_of(pb.Privacy(paths=["input.name"])).patterns == ()


def test_terms_survive_being_sent() -> None:
    terms = redacting(
        paths=("input.name",),
        patterns=(Pattern.CARD,),
        custom=(CustomPattern(name="own", regex="x"),),
        keep=86_400.0,
        keep_bytes=1 << 30,
    )
    privacy_limits.check(terms)
    assert privacy_messages.terms_of(privacy_messages.terms_message(terms)) == terms


def test_a_change_of_terms_is_told_and_leaves_what_is_compared_alone() -> None:
    model = register(None).model
    changed = register(model, privacy=REDACTED)
    assert changed.changes == ("privacy: payloads full → payloads redacted; hiding email",)
    assert changed.settings_changed
    assert not changed.replaced
    assert register(changed.model).changes == ()


@pytest.mark.parametrize("payloads", [Payloads.HASHED, Payloads.NONE])
def test_answers_cannot_be_labelled_that_cannot_be_read(payloads: Payloads) -> None:
    labelled = register(None, labels=LabelTerms()).model
    with pytest.raises(InvalidInput, match="say labels: off, or payloads: redacted"):
        register(labelled, privacy=PrivacyTerms(payloads=payloads))
    concealed = register(None, privacy=PrivacyTerms(payloads=payloads)).model
    with pytest.raises(InvalidInput, match="labels are held against answers that are kept"):
        register(concealed, labels=LabelTerms())


def test_answers_are_not_kept_for_less_time_than_their_labels_may_take() -> None:
    with pytest.raises(InvalidInput, match=r"privacy.keep: 1 d is shorter than answers are kept .* \(7 d\)"):
        register(None, labels=LabelTerms(), privacy=PrivacyTerms(keep=86_400.0))
