"""What gives itself away by its looks."""

from __future__ import annotations

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core.privacy import CustomPattern, Pattern
from multishadow_server.core.secret_patterns import detectors, names_a_secret


def hidden(text: str, *patterns: Pattern, custom: tuple[CustomPattern, ...] = ()) -> str:
    for detector in detectors(patterns or tuple(Pattern), custom):
        text = detector.hide(text)
    return text


@pytest.mark.parametrize(
    "address",
    [
        "alice@example.com",
        "o'neil+tag@mail.example.co.uk",
        "ärger@bücher.example",
        "ALICE_99@EXAMPLE.COM",
        "alice%40example.com",
        "a.b-c@sub.domain.museum",
    ],
)
def test_addresses_are_found_wherever_they_stand(address: str) -> None:
    assert hidden(f"to <{address}>, please.", Pattern.EMAIL) == "to <[email]>, please."


@pytest.mark.parametrize("text", ["a@b", "@handle", "size 3@4", "alice at example.com", "x@ example.com"])
def test_what_is_no_address_stays(text: str) -> None:
    assert hidden(text, Pattern.EMAIL) == text


# Numbers that the networks publish for tests: Visa, Mastercard (both ranges), American Express, Diners, Discover, JCB.
CARDS = (
    "4111111111111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "30569309025904",
    "6011111111111117",
    "3530111333300000",
)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("separator", ["", " ", "-", "\u00a0", "."])
def test_cards_are_found_however_they_are_grouped(card: str, separator: str) -> None:
    grouped = separator.join(card[start : start + 4] for start in range(0, len(card), 4))
    assert hidden(f"card {grouped}, thanks", Pattern.CARD) == "card [card], thanks"


def test_a_card_is_found_among_other_digits() -> None:
    assert hidden("order 12 4111 1111 1111 1111 123", Pattern.CARD) == "order 12 [card] 123"
    assert hidden("no4111111111111111x", Pattern.CARD) == "no[card]x"
    assert hidden("4111111111111111 5555555555554444", Pattern.CARD) == "[card] [card]"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn's check fails
        "1795435200000000",  # a time in microseconds
        "41111111111111111111111",  # longer than any card
        "411111111111",  # shorter
        "2026-11-26 09:30:00.123456",
    ],
)
def test_digits_that_are_no_card_stay(text: str) -> None:
    assert hidden(text, Pattern.CARD) == text


def luhn(digits: str) -> bool:
    """As everybody writes it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


@given(st.from_regex(r"[3-6][0-9]{12,18}", fullmatch=True))
def test_a_number_is_a_cards_if_and_only_if_luhns_check_holds(digits: str) -> None:
    assert (hidden(digits, Pattern.CARD) == "[card]") is luhn(digits)


KEYS = (
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11ABCDEFG0abcdefghij_klmnop",
    "xoxb-123456789012-abcdefghijkl",
    "sk_live_abcdefghijklmnop",
    "sk-proj-abcdefghijklmnopqrstuvwx",
    "AIzaSyA-abcdefghijklmnopqrstuvwxyz01234",
    "glpat-abcdefghijklmnopqrst",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nlines\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIEow and it is cut",
)


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_keys_and_tokens_are_found_by_their_forms(key: str) -> None:
    assert hidden(f"use {key}", Pattern.KEY) == "use [key]"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: [key] [key]"),
        ("password=hunter2!&user=al", "password=[key]&user=al"),
        ('{"api_key": "a1b2c3d4"}', '{"api_key": "[key]"}'),
        ("postgres://al:s3cret@db:5432/x", "postgres://al:[key]@db:5432/x"),
        ("client_secret: 'zzzz-yyyy'", "client_secret: '[key]'"),
    ],
)
def test_what_is_named_a_secret_is_hidden_and_its_name_is_not(text: str, left: str) -> None:
    assert hidden(text, Pattern.KEY) == left


def test_numbers_of_telephones_are_hidden_on_request_only() -> None:
    text = "call +47 22 33 44 55, 0047 22334455 or (555) 123-4567"
    assert hidden(text, Pattern.PHONE) == "call [phone], [phone] or [phone]"
    assert hidden(text, Pattern.EMAIL, Pattern.CARD, Pattern.KEY) == text


def test_a_regex_of_ones_own_is_hidden_under_its_name() -> None:
    order = CustomPattern(name="order", regex=r"ORD-\d{6}")
    assert hidden("ask for ORD-123456", Pattern.EMAIL, custom=(order,)) == "ask for [order]"


@pytest.mark.parametrize("name", ["api_key", "userPassword", "X-Auth-Token", "client secret", "Authorization"])
def test_fields_are_known_for_secrets_by_their_names(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["key", "tokens", "max_tokens", "session", "author", "pass_rate"])
def test_fields_with_innocent_names_are_left_alone(name: str) -> None:
    assert not names_a_secret(name)


@given(st.text())
def test_hiding_twice_is_hiding_once(text: str) -> None:
    once = hidden(text)
    assert hidden(once) == once


HOSTILE = ("4 ", "4111111111111111 ", "a@b.", "a@bb.cc ", "eyJ", "password=", "-----BEGIN PRIVATE KEY-----", "+1 ")


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_takes_longer_than_its_length_allows(piece: str) -> None:
    """Twice the text takes about twice the time; quadratic searching would take four times, backtracking for ever."""
    custom = (CustomPattern(name="nested", regex=r"(a+)+$"), CustomPattern(name="pairs", regex=r"(x+x+)+y"))

    def seconds(size: int) -> float:
        text = (piece * size)[:size] + "a" * (size // 4) + "!" + "x" * (size // 4)
        began = time.process_time()
        hidden(text, custom=custom)
        return time.process_time() - began

    seconds(1_000)  # compiles
    assert seconds(100_000) < 10 * seconds(25_000) + 0.2


def test_secrets_are_found_in_the_midst_of_anything() -> None:
    draw = random.Random(5)
    for _ in range(200):
        before, after = ("".join(draw.choices(string.ascii_letters + " ,;\n", k=30)) for _ in range(2))
        said = hidden(f"{before} alice@example.com {after} 4111-1111-1111-1111 {before}")
        assert "[email]" in said
        assert "[card]" in said
