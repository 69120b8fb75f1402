"""Deciding who is let in: by the token that they show."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from multishadow_server.core import access
from multishadow_server.core.access import Role, Shown, Token, Verdict
from multishadow_server.errors import MultishadowError, NotAuthenticated, NotPermitted
from multishadow_server.service.refusals import MOST_IN_A_WINDOW, Refusals, place_of
from multishadow_server.service.token_watch import TokenWatch

SCHEME = "bearer "

_log = logging.getLogger(__name__)
_MISSING = (
    "this needs a token: give it as `authorization: Bearer …` (shadowctl: MULTISHADOW_TOKEN or --token-file); an admin "
    "makes one with `shadowctl token create`"
)
_UNKNOWN = "this token is worth nothing here: it is mistyped, of another deployment, or was revoked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Whoever was let in.

    Args:
        name: of the token.
        role: what they may do.
        shown: what they showed; kept to see whether it is still worth something, and never written anywhere.
    """

    name: str
    role: Role
    shown: Shown

    def __repr__(self) -> str:
        return f"Caller({self.name}, {self.role}, {self.shown.id})"


class Doorkeeper:
    """Lets callers in by their tokens.

    Args:
        watch: knows the tokens.
        clock: the time, in seconds since the Unix epoch.
        monotonic: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        watch: TokenWatch,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch = watch
        self._clock = clock
        self._monotonic = monotonic
        self._refusals = Refusals()
        self._counters: Counter[str] = Counter()

    def counters(self) -> Mapping[str, int]:
        """Who was not let in, since the start."""
        return dict(self._counters)

    async def admit(self, headers: Sequence[str | bytes], least: Role, *, to: str) -> Caller:
        """Who they are.

        Args:
            headers: every `authorization` header that came.
            least: the role that is needed.
            to: what they ask for, for the message.

        Raises:
            NotAuthenticated: they showed no token, or one that is worth nothing.
            NotPermitted: theirs has a lesser role.
            Unavailable: tokens cannot be checked.
        """
        shown = _shown(headers)
        if self._watch.is_stale:
            await self._watch.look_again()
        token = self._watch.find(shown.id)
        verdict = access.judge(token, shown.secret, now=self._clock())
        if verdict is not Verdict.VALID and await self._watch.look_again():
            # It may have been made, or rotated, a moment ago.
            token = self._watch.find(shown.id)
            verdict = access.judge(token, shown.secret, now=self._clock())
        if token is None or verdict is not Verdict.VALID:
            raise NotAuthenticated(_reason(token, verdict))
        if not token.role.includes(least):
            raise NotPermitted(
                f"{token.name} is a token for the role {token.role}, and {to} needs {least}: ask an admin for one"
            )
        self._watch.note_use(token.id)
        return Caller(name=token.name, role=token.role, shown=shown)

    async def until_ended(self, caller: Caller) -> MultishadowError:
        """Wait until what a caller showed is worth nothing any more; what to tell them then."""
        while True:
            await self._watch.next_tick()
            try:
                token = self._watch.find(caller.shown.id)
            except MultishadowError as error:
                return error
            verdict = access.judge(token, caller.shown.secret, now=self._clock())
            if verdict is not Verdict.VALID:
                return NotAuthenticated(_reason(token, verdict))

    def note_refusal(self, peer: str, error: MultishadowError, *, to: str) -> bool:
        """Count somebody who was not let in, and log it; True when this peer comes too often to be told why.

        Args:
            peer: where they come from.
            error: why; its message holds no secret.
            to: what they asked for.
        """
        kind = "forbidden" if isinstance(error, NotPermitted) else "unauthenticated"
        if not isinstance(error, NotAuthenticated | NotPermitted):
            self._counters["auth.unchecked"] += 1
            return False
        self._counters[f"auth.{kind}"] += 1
        count = self._refusals.note(place_of(peer), now=self._monotonic())
        if count == 1:
            _log.warning("%s was refused %s: %s", peer, to, error)
        elif count == MOST_IN_A_WINDOW + 1:
            _log.warning("%s was refused %d times within a minute; no more is said of it", place_of(peer), count)
        if count > MOST_IN_A_WINDOW:
            self._counters["auth.throttled"] += 1
        return count > MOST_IN_A_WINDOW


def _shown(headers: Sequence[str | bytes]) -> Shown:
    """The token in the headers. Raises NotAuthenticated."""
    if not headers:
        raise NotAuthenticated(_MISSING)
    if len(headers) > 1:
        raise NotAuthenticated("several `authorization` headers came; give one")
    (header,) = headers
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    if text[: len(SCHEME)].lower() != SCHEME:
        raise NotAuthenticated(_MISSING)
    shown = access.shown(text[len(SCHEME) :].strip())
    if shown is None:
        raise NotAuthenticated("what was shown is no token of multishadow; one begins with `ms_`")
    return shown


def _reason(token: Token | None, verdict: Verdict) -> str:
    """Only who has the secret is told what became of the token."""
    if token is None or verdict is Verdict.UNKNOWN:
        return _UNKNOWN
    named = f"the token {token.name} ({token.id})"
    match verdict:
        case Verdict.EXPIRED:
            return f"{named} expired at {_moment(token.expires_at)}; an admin makes another"
        case Verdict.REVOKED:
            return f"{named} was revoked at {_moment(token.revoked_at)} by {token.revoked_by}"
        case _:
            return f"{named} was rotated, and this secret of it is no longer good; take the new one"


def _moment(at: float | None) -> str:
    return "an unknown time" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
