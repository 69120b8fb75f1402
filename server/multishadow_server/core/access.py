"""Who may do what: roles, tokens, and what a token that was shown is worth."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, replace
from enum import StrEnum

PREFIX = "ms"
SECRET_BYTES = 32
ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 8
# Valid ones; each control holds them all in memory.
MOST_TOKENS = 1_000
LONGEST_LIFE = 10 * 365 * 86_400.0
LONGEST_GRACE = 30 * 86_400.0
DEFAULT_GRACE = 86_400.0

# The longest that is looked at: what is longer is none, whatever it costs to find out.
_LONGEST_SHOWN = len(PREFIX) + ID_LENGTH + 2 * SECRET_BYTES + 2
_SHOWN = re.compile(rf"{PREFIX}_([{ID_LETTERS}]{{{ID_LENGTH}}})_([0-9a-f]{{{2 * SECRET_BYTES}}})", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}", re.ASCII)
# What an unknown token is held against, so that it takes the same time as a wrong one.
_NOBODYS = hashlib.sha256(b"").digest()


class Role(StrEnum):
    """What a token lets its holder do; each role may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether who has this role may do what `other` may."""
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


class State(StrEnum):
    """What a token is at some time."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Verdict(StrEnum):
    """What a token that was shown is worth."""

    VALID = "valid"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    REPLACED = "replaced"


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A token as it is kept: whoever reads all of it cannot show it.

    Args:
        id: part of the token's text; names it in messages and logs.
        name: whose it is; the actor of every change that is made with it.
        role: what it lets its holder do.
        digest: SHA-256 of the secret. The secret is 256 random bits, so that nothing slower is needed: there is nothing
            to guess from (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html is about
            what people choose).
        created_by, created_at: by whom, and when (seconds since the Unix epoch, as all times here).
        expires_at: from when on it is worth nothing; None is never.
        rotated_at: when it got its present secret; None while it has its first.
        former_digest, former_until: the secret before that, and until when it is good.
        last_used_at: when it was shown last, to within some minutes; None is never.
        revoked_at, revoked_by: None and empty while it is not.
    """

    id: str
    name: str
    role: Role
    digest: bytes
    created_by: str
    created_at: float
    expires_at: float | None = None
    rotated_at: float | None = None
    former_digest: bytes | None = None
    former_until: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str = ""

    def state(self, now: float) -> State:
        """What it is at that time."""
        if self.revoked_at is not None:
            return State.REVOKED
        return State.EXPIRED if self.expires_at is not None and self.expires_at <= now else State.VALID

    def rotated(self, digest: bytes, *, now: float, grace: float, expires_at: float | None) -> Token:
        """With another secret; the present one stays good for `grace` seconds, but no longer than it was to be."""
        until = now + grace if self.expires_at is None else min(now + grace, self.expires_at)
        return replace(
            self,
            digest=digest,
            rotated_at=now,
            former_digest=self.digest if grace else None,
            former_until=until if grace else None,
            expires_at=expires_at,
        )

    def life_from(self, now: float) -> float | None:
        """When it ends if its life begins anew now: it lasts as long as it was to last before."""
        if self.expires_at is None:
            return None
        began = self.created_at if self.rotated_at is None else self.rotated_at
        return now + (self.expires_at - began)


@dataclass(frozen=True, slots=True)
class Shown:
    """A token as its holder shows it."""

    id: str
    secret: str


def text_of(token_id: str, secret: str) -> str:
    """The token's text, which its holder is given once. A scanner of leaked secrets knows it by its beginning."""
    return f"{PREFIX}_{token_id}_{secret}"


def shown(text: str) -> Shown | None:
    """Read a token's text; None when it is none."""
    match = _SHOWN.fullmatch(text) if len(text) == _LONGEST_SHOWN else None
    return Shown(match[1], match[2]) if match else None


def digest_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def is_name(text: str) -> bool:
    """Whether a token may be called that."""
    return _NAME.fullmatch(text) is not None


def judge(token: Token | None, secret: str, *, now: float) -> Verdict:
    """What a secret is worth; it takes as long whether or not there is such a token, and whatever is wrong with it.

    Args:
        token: the one with the id that was shown; None when there is none.
        secret: that was shown.
        now: seconds since the Unix epoch.
    """
    digest = digest_of(secret)
    known = _NOBODYS if token is None else token.digest
    former = _NOBODYS if token is None or token.former_digest is None else token.former_digest
    is_present = hmac.compare_digest(digest, known)
    is_former = hmac.compare_digest(digest, former)
    if token is None or not (is_present or is_former):
        return Verdict.UNKNOWN
    state = token.state(now)
    if state is not State.VALID:
        return Verdict(state)
    if not is_present and (token.former_until is None or token.former_until <= now):
        return Verdict.REPLACED
    return Verdict.VALID
