"""Making, rotating and revoking tokens."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from multishadow_server.core import access
from multishadow_server.core.access import Role, State, Token
from multishadow_server.errors import Conflict, FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import names
from multishadow_server.service.ports import TokenStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """A token with its text, which is told once and kept nowhere."""

    token: Token
    text: str


async def create(store: TokenStore, *, name: str, role: str, life: float | None, actor: str) -> Issued:
    """Make a token.

    Args:
        store: where tokens are.
        name: whose it is; the actor of what is done with it.
        role: what it lets its holder do.
        life: seconds until it expires; None is never.
        actor: who makes it.

    Raises:
        InvalidInput: the name, the role or the life is none.
        Conflict: a token that was not revoked has that name.
        FailedPrecondition: there are too many.
        StoreUnavailable: the database is away.
    """
    if not access.is_name(name):
        raise InvalidInput(
            f"name: {name[:80]!r} is no name for a token; allowed are 1 to 63 letters, digits, `-`, `_`, `.` and `@`, "
            "beginning with a letter or digit"
        )
    _check_life(life)
    chosen = role_of(role)
    secret = secrets.token_hex(access.SECRET_BYTES)
    async with store.change(actor) as change:
        known = await change.tokens()
        _check_room(known, name, now=change.now)
        token = Token(
            id=_new_id(known),
            name=name,
            role=chosen,
            digest=access.digest_of(secret),
            created_by=actor,
            created_at=change.now,
            expires_at=None if life is None else change.now + life,
        )
        await change.put(token)
        detail = {"id": token.id, "role": token.role, "expires_at": token.expires_at}
        await change.audit("create_token", name, detail)
    return Issued(token=token, text=access.text_of(token.id, secret))


async def list_tokens(store: TokenStore, *, all_of_them: bool) -> Sequence[Token]:
    """Tokens in order of creation; those that were revoked only with `all_of_them`. Raises StoreUnavailable."""
    return [token for token in await store.tokens() if all_of_them or token.revoked_at is None]


async def rotate(store: TokenStore, named: str, *, grace: float, life: float | None, actor: str) -> Issued:
    """Give a token another secret; the present one stays good for `grace` seconds.

    Args:
        store: where tokens are.
        named: its name, or its id.
        grace: seconds; 0 ends the present secret at once.
        life: seconds until it expires; None lets it last as long again as it was to last.
        actor: who does it.

    Raises:
        InvalidInput: the grace or the life is out of range.
        NotFound: there is no such token.
        FailedPrecondition: it was revoked, or has expired.
        StoreUnavailable: the database is away.
    """
    if not 0 <= grace <= access.LONGEST_GRACE:
        raise InvalidInput(
            f"grace: {grace:g} s is out of range; allowed are 0 s to {access.LONGEST_GRACE / 86_400:g} d"
        )
    _check_life(life)
    secret = secrets.token_hex(access.SECRET_BYTES)
    async with store.change(actor) as change:
        token = _found(await change.tokens(), named)
        state = token.state(change.now)
        if state is not State.VALID:
            raise FailedPrecondition(f"the token {token.name} ({token.id}) is {state}; create another")
        expires_at = token.life_from(change.now) if life is None else change.now + life
        token = token.rotated(access.digest_of(secret), now=change.now, grace=grace, expires_at=expires_at)
        await change.put(token)
        detail = {"id": token.id, "former_until": token.former_until, "expires_at": token.expires_at}
        await change.audit("rotate_token", token.name, detail)
    return Issued(token=token, text=access.text_of(token.id, secret))


async def revoke(store: TokenStore, named: str, *, reason: str, actor: str) -> Token:
    """End a token, with every secret that it has. One that was revoked stays as it is.

    Raises:
        NotFound: there is no such token.
        StoreUnavailable: the database is away.
    """
    async with store.change(actor) as change:
        token = _found(await change.tokens(), named)
        if token.revoked_at is None:
            token = replace(token, revoked_at=change.now, revoked_by=actor, former_digest=None, former_until=None)
            await change.put(token)
            await change.audit("revoke_token", token.name, {"id": token.id, "reason": reason})
    return token


def role_of(words: str) -> Role:
    """The role that is meant. Raises InvalidInput."""
    try:
        return Role(words)
    except ValueError:
        raise InvalidInput(f"role: {words[:80]!r} is none; there are {names.listed(Role)}") from None


def _check_life(life: float | None) -> None:
    if life is not None and not (0 < life <= access.LONGEST_LIFE and math.isfinite(life)):
        longest = access.LONGEST_LIFE / 86_400
        raise InvalidInput(f"expires: {life:g} s is out of range; allowed are more than 0 s to {longest:g} d, or never")


def _check_room(known: Sequence[Token], name: str, *, now: float) -> None:
    for token in known:
        if token.name == name and token.revoked_at is None:
            raise Conflict(
                f"there is a token {name} ({token.id}) that is {token.state(now)}: rotate it for another secret, or "
                "revoke it first"
            )
    if sum(token.state(now) is State.VALID for token in known) >= access.MOST_TOKENS:
        raise FailedPrecondition(
            f"there are {access.MOST_TOKENS:,} valid tokens, and more are not held in memory; revoke some"
        )


def _new_id(known: Sequence[Token]) -> str:
    taken = {token.id for token in known}
    while True:
        candidate = "".join(secrets.choice(access.ID_LETTERS) for _ in range(access.ID_LENGTH))
        if candidate not in taken:
            return candidate


def _found(known: Sequence[Token], named: str) -> Token:
    """By its id, or by its name: then the one that was not revoked, or else the latest."""
    matching = [token for token in known if named in {token.id, token.name}]
    if not matching:
        raise NotFound(f"there is no token {named[:80]!r}; `shadowctl token list` names them")
    return max(matching, key=lambda token: (token.id == named, token.revoked_at is None, token.created_at))
