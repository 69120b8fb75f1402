"""What gives itself away by its looks: e-mail addresses, payment cards, keys and tokens, telephone numbers.

Every regex is RE2's, which takes time in proportion to the text, whatever the text. They err on the safe side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import re2
from numpy.typing import NDArray

from multishadow_server.core.privacy import CustomPattern, Pattern

Integers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

# Letters of any script: RE2's own classes for them make programs of a hundred thousand instructions.
_WIDE = r"\x{80}-\x{10FFFF}"
_EMAIL = rf"[\w.%+'{_WIDE}-]+(?:@|%40)(?:[\w{_WIDE}-]+\.)+[A-Za-z{_WIDE}][\w{_WIDE}-]+"

# A run of digits with at most one separator between two of them: no-break spaces and the usual dashes among them.
_DIGITS = r"\d(?:[ .\x{A0}\x{2009}\x{202F}\x{2010}-\x{2013}-]?\d){12,}"
_SHORTEST_CARD, _LONGEST_CARD = 13, 19

# From the formats that issuers publish, and gitleaks' and detect-secrets' rules for the same.
_KEYS = (
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
    r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,4}",  # JSON web tokens, signed (3 parts) and encrypted (5)
    r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA)[A-Z0-9]{12,}",
    r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|[srp]k_(?:live|test)_|whsec_)[\w-]{10,}",
    r"\b(?:sk-|hf_|npm_|pypi-|dop_v1_|shpat_|sq0[a-z]{3}-|rk-)[\w-]{16,}",
    r"\bAIza[\w-]{30,}",
    r"\bya29\.[\w-]{20,}",
    r"\bSG\.[\w-]{16,}\.[\w-]{16,}",
)
# These keep what stands before and behind the secret, so that it can be seen what it was.
_NAMED_KEYS = (
    r"(?i)\b((?:bearer|basic|digest)\s+)[\w.~+/=-]{12,}()",
    (
        r"(?i)((?:api[_-]?key|secret|passw(?:or)?d|passphrase|(?:access|auth|refresh|id|bearer)[_-]?token|authorization)"
        r"""["']?\s*(?:[:=]|=>|:=)\s*["']?)[^\s"'`,;&<>\[\]{}]{4,}()"""
    ),
    r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{0,64}:)[^\s/@]{1,256}(@)",
)
# `secret=` and four characters; most names of fields are no longer.
_SHORTEST_KEY = 11
_PHONE = r"(?:\+|\b00)\d(?:[ ().\x{A0}/-]{0,2}\d){6,14}\b|\(?\b\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b"

# Words of a field's name, without what separates them, that make its text a secret whatever it looks like.
_SECRET_NAMES = (
    *("apikey", "secret", "password", "passwd", "passphrase", "privatekey", "authorization", "credential"),
    *("accesstoken", "authtoken", "refreshtoken", "idtoken", "bearertoken"),
)


def compiled_regex(regex: str) -> re2._Regexp:
    """A regex that takes time in proportion to the text, whatever that is. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(regex, options)


@dataclass(frozen=True, kw_only=True, slots=True)
class Detector:
    """Finds one kind of secret; `hide` returns the text without it."""

    name: str
    hide: Callable[[str], str]


def detectors(patterns: Sequence[Pattern], custom: Sequence[CustomPattern]) -> list[Detector]:
    """What hides these patterns, in the order in which they are asked.

    Keys come first: they may hold what looks like a number of a card. Custom ones come before the rest, because whoever
    wrote them knows better.
    """
    found = {Pattern.KEY: _hide_keys, Pattern.EMAIL: _hide_addresses, Pattern.CARD: _hide_cards}
    found[Pattern.PHONE] = _hider(_PHONE, Pattern.PHONE)
    first = [Detector(name=Pattern.KEY, hide=found.pop(Pattern.KEY))] if Pattern.KEY in patterns else []
    own = [Detector(name=each.name, hide=_hider(each.regex, each.name)) for each in custom]
    return [*first, *own, *(Detector(name=name, hide=hide) for name, hide in found.items() if name in patterns)]


def names_a_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: `api_key`, `userPassword`."""
    plain = name.lower().replace("_", "").replace("-", "").replace(".", "").replace(" ", "")
    return any(part in plain for part in _SECRET_NAMES)


def _hider(regex: str, name: str) -> Callable[[str], str]:
    compiled, shown = compiled_regex(regex), f"[{name}]"

    def hide(text: str) -> str:
        return str(compiled.sub(lambda _: shown, text))

    return hide


_ADDRESSES = _hider(_EMAIL, Pattern.EMAIL)


def _hide_addresses(text: str) -> str:
    # Almost no text has one, and asking RE2 takes ten times as long.
    return _ADDRESSES(text) if "@" in text or "%40" in text else text


def _key_hider() -> Callable[[str], str]:
    plain = [_hider(regex, Pattern.KEY) for regex in _KEYS]
    named = [compiled_regex(regex) for regex in _NAMED_KEYS]
    # One look tells almost every text that there is nothing in it.
    any_of_them = compiled_regex("|".join(f"(?:{regex})" for regex in (*_KEYS, *_NAMED_KEYS)))

    def hide(text: str) -> str:
        if len(text) < _SHORTEST_KEY or any_of_them.search(text) is None:
            return text
        for replace in plain:
            text = replace(text)
        for each in named:
            text = each.sub(lambda found: f"{found.group(1)}[{Pattern.KEY}]{found.group(2)}", text)
        return text

    return hide


_hide_keys = _key_hider()
_DIGIT_RUNS = compiled_regex(_DIGITS)


def _hide_cards(text: str) -> str:
    if len(text) < _SHORTEST_CARD:
        return text
    return str(_DIGIT_RUNS.sub(lambda run: _without_cards(run.group()), text))


def _without_cards(run: str) -> str:
    """A run of digits without the numbers of cards in it: ISO/IEC 7812 lengths and first digits, and Luhn's check."""
    codes = np.frombuffer(run.encode("utf-32-le"), dtype=np.uint32)
    places = np.flatnonzero((codes >= ord("0")) & (codes <= ord("9")))
    kept, end = [], 0
    for first, past in _cards(codes[places].astype(np.int64) - ord("0"), _group_starts(places)):
        kept += [run[end : places[first]], f"[{Pattern.CARD}]"]
        end = places[past - 1] + 1
    return "".join([*kept, run[end:]])


def _group_starts(places: Integers) -> Flags:
    """Which digits begin a group, and the end: a number of a card begins and ends where groups do. Shape (n + 1,)."""
    return np.concatenate([[True], np.diff(places) != 1, [True]])


def _cards(digits: Integers, starts: Flags) -> Iterator[tuple[int, int]]:
    """Begin and end of each number of a card; the longest from the left, none overlapping.

    Luhn's sum of any stretch is a difference of two sums from the start, one for each parity of its end; so that a long
    run of digits takes time in proportion to its length.

    Args:
        digits: shape (n,).
        starts: shape (n + 1,), see `_group_starts`.
    """
    doubled = 2 * digits - 9 * (digits > 4)
    even = np.arange(len(digits)) % 2 == 0
    # From the last digit to the left, every second one is doubled: those whose index has the parity of the end.
    sums = [np.concatenate([[0], np.cumsum(np.where(even == (parity == 0), doubled, digits))]) for parity in (0, 1)]
    past = np.zeros(len(digits), dtype=np.int64)
    for length in range(_SHORTEST_CARD, min(_LONGEST_CARD, len(digits)) + 1):
        firsts = np.arange(len(digits) - length + 1)
        ends = firsts + length
        total = np.where(ends % 2 == 0, sums[0][ends] - sums[0][firsts], sums[1][ends] - sums[1][firsts])
        fits = starts[firsts] & starts[ends] & (total % 10 == 0) & (digits[firsts] >= 2) & (digits[firsts] <= 6)
        past[firsts[fits]] = ends[fits]
    free = 0
    for first in map(int, np.flatnonzero(past)):
        if first >= free:
            free = int(past[first])
            yield first, free
