"""What is kept of a model's requests and answers: in which form, without what, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Payloads(StrEnum):
    """In which form requests and answers are stored, from all of them to nothing."""

    FULL = "full"
    REDACTED = "redacted"
    HASHED = "hashed"
    NONE = "none"

    @property
    def strictness(self) -> int:
        """The larger, the less can be read."""
        return list(Payloads).index(self)

    @property
    def readable(self) -> bool:
        """Whether people can read what is stored, and labels be held against it."""
        return self in {Payloads.FULL, Payloads.REDACTED}


class Pattern(StrEnum):
    """What is found in any text by its looks."""

    EMAIL = "email"
    CARD = "card"
    KEY = "key"
    PHONE = "phone"


# Phone numbers look like too many other things to be hidden unasked.
DEFAULT_PATTERNS = (Pattern.EMAIL, Pattern.CARD, Pattern.KEY)


@dataclass(frozen=True, kw_only=True, slots=True)
class CustomPattern:
    """A regular expression in RE2's syntax; what it finds is stored as `[name]`."""

    name: str
    regex: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyTerms:
    """What is kept of a model's traffic.

    Args:
        payloads: in which form requests and answers are stored.
        paths: what is hidden wherever it stands: `input.user.email`, `output.*.name`, `attributes.phone`. `*` is any
            key or index of one level, and everything below a path is hidden with it.
        patterns: what is hidden in any text.
        custom: regular expressions that are hidden in any text.
        keep: seconds that comparisons and answers are kept at most; None for as long as the deployment keeps them.
        keep_bytes: most bytes of them that are kept, the newest ones; None for no bound of the model's own.
    """

    payloads: Payloads = Payloads.FULL
    paths: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    custom: tuple[CustomPattern, ...] = ()
    keep: float | None = None
    keep_bytes: int | None = None

    @property
    def rules(self) -> bool:
        """Whether it says what to hide."""
        return bool(self.paths or self.patterns or self.custom)


UNRESTRICTED = PrivacyTerms()
