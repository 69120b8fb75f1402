"""Tokens: their text, what is kept of it, and what one is worth that is shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multishadow_server.core import access
from multishadow_server.core.access import Role, Shown, State, Token, Verdict

NOON = 1_795_435_200.0
SECRET = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


def token(**more: object) -> Token:
    values: dict[str, object] = {
        "id": "k3v9x2qa",
        "name": "ci-bot",
        "role": Role.OPERATOR,
        "digest": access.digest_of(SECRET),
        "created_by": "ann",
        "created_at": NOON,
        **more,
    }
    return Token(**values)  # type: ignore[arg-type]  # tests name real fields


def test_each_role_may_do_what_those_before_it_may() -> None:
    assert [[role.includes(other) for other in Role] for role in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_tokens_text_reads_back_and_its_secret_is_not_kept() -> None:
    text = access.text_of("k3v9x2qa", SECRET)
    assert access.shown(text) == Shown("k3v9x2qa", SECRET)
    assert SECRET not in repr(token())
    assert len(token().digest) == 32


@given(st.text(max_size=120) | st.from_regex(r"ms_[0-9a-z]{6,9}_[0-9a-f]{60,66}\n?"))
@settings(max_examples=100)
def test_whatever_text_is_shown_it_is_a_token_or_none(text: str) -> None:
    found = access.shown(text)
    if found is None:
        return
    assert text == access.text_of(found.id, found.secret)
    assert re.fullmatch("[0-9a-f]{64}", found.secret)


@pytest.mark.parametrize(
    ("held", "secret", "verdict"),
    [
        (token(), SECRET, Verdict.VALID),
        (token(), OTHER, Verdict.UNKNOWN),
        (None, SECRET, Verdict.UNKNOWN),
        (None, "", Verdict.UNKNOWN),
        (token(expires_at=NOON), SECRET, Verdict.EXPIRED),
        (token(expires_at=NOON + 1), SECRET, Verdict.VALID),
        (token(revoked_at=NOON, revoked_by="ann"), SECRET, Verdict.REVOKED),
        (token(revoked_at=NOON, expires_at=NOON - 9), SECRET, Verdict.REVOKED),
        # Only who has the secret is told what became of a token.
        (token(revoked_at=NOON), OTHER, Verdict.UNKNOWN),
        (token(former_digest=access.digest_of(OTHER), former_until=NOON + 1), OTHER, Verdict.VALID),
        (token(former_digest=access.digest_of(OTHER), former_until=NOON), OTHER, Verdict.REPLACED),
        (token(former_digest=access.digest_of(OTHER), former_until=NOON + 1, expires_at=NOON), OTHER, Verdict.EXPIRED),
    ],
)
def test_what_a_token_is_worth(held: Token | None, secret: str, verdict: Verdict) -> None:
    assert access.judge(held, secret, now=NOON) is verdict


def test_a_rotation_keeps_the_former_secret_for_its_grace_and_no_longer_than_it_was_to_last() -> None:
    rotated = token(expires_at=NOON + 100).rotated(b"n" * 32, now=NOON, grace=500, expires_at=NOON + 900)
    assert (rotated.former_digest, rotated.former_until) == (access.digest_of(SECRET), NOON + 100)
    assert (rotated.digest, rotated.rotated_at, rotated.expires_at) == (b"n" * 32, NOON, NOON + 900)
    at_once = token().rotated(b"n" * 32, now=NOON, grace=0, expires_at=None)
    assert (at_once.former_digest, at_once.former_until) == (None, None)
    assert access.judge(at_once, SECRET, now=NOON) is Verdict.UNKNOWN


def test_a_rotated_token_lasts_as_long_again_as_it_was_to_last() -> None:
    assert token().life_from(NOON + 50) is None
    first = token(expires_at=NOON + 90)
    assert first.life_from(NOON + 50) == NOON + 140
    again = token(expires_at=NOON + 140, rotated_at=NOON + 50)
    assert again.life_from(NOON + 130) == NOON + 220


def test_the_state_of_a_token() -> None:
    assert token().state(NOON) is State.VALID
    assert token(expires_at=NOON).state(NOON) is State.EXPIRED
    assert token(expires_at=NOON, revoked_at=NOON).state(NOON) is State.REVOKED


@pytest.mark.parametrize("name", ["ci-bot", "ann@example.org", "a", "9", "a" * 63])
def test_names_of_tokens(name: str) -> None:
    assert access.is_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a(as b)", "ä", "a\n", "a" * 64, "a/b"])
def test_what_is_no_name_of_a_token(name: str) -> None:
    assert not access.is_name(name)
