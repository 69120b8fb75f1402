"""Whom the requests of one session were shadowed to over time, read from what the model's flags said when.

A session has no other way to know whether it was seen whole: requests that were not sampled left nothing behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from multishadow_server.core import routing, serving, targeting
from multishadow_server.core.model import Model
from multishadow_server.core.routing import Claim, Decision

# Routers hear of a change within moments, and their clocks are not the database's.
FOLLOWING_SECONDS = 1.0

Definition = Mapping[str, Any]

_OF_THE_SESSION = ("targetingKey", "shadowKey", "sessionId", "model")
# They name what they read otherwise than `var` does.
_BY_NAME = {"missing", "missing_some"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagChange:
    """One change of a flag.

    Args:
        key: the flag's.
        at: when it was changed, seconds since the Unix epoch.
        revision: what it made.
        definition: what it says from then on, in flagd's format; None where it was deleted.
    """

    key: str
    at: float
    revision: int
    definition: Definition | None


class FlagHistory:
    """What the flags of one model's versions said when.

    Args:
        model: the model, with its versions in order of registration.
        changes: those since some time, and for each flag the last one before; in any order.
    """

    def __init__(self, model: Model, changes: Iterable[FlagChange]) -> None:
        self._model = model
        # Before the first change that is known, there was nothing.
        self._states: list[_State] = [_State(at=-math.inf, flags={})]
        ordered = sorted(changes, key=lambda change: change.revision)
        for _, together in groupby(ordered, key=lambda change: change.revision):
            written = list(together)
            flags = {**self._states[-1].flags, **{change.key: change.definition for change in written}}
            kept = {key: definition for key, definition in flags.items() if definition is not None}
            self._states.append(_State(at=written[0].at, flags=kept))

    def held(self, session_id: str, *, live: str, candidates: Sequence[str], since: float, until: float) -> set[str]:
        """The candidates for which nothing changed: each request of the session in that time went to it, or none did.

        Args:
            session_id: what the session is drawn by.
            live: the version that its requests were answered by.
            candidates: those in question.
            since: seconds since the Unix epoch.
            until: likewise.
        """
        states = self._between(since, until)
        if len(states) == 1:
            return set(candidates)
        decisions = [self._decision(state, session_id) for state in states]
        if None in decisions:
            return set()
        return {name for name in candidates if len({_gets(each, live, name) for each in decisions}) == 1}

    def _between(self, since: float, until: float) -> list[_State]:
        """The states in force in that time."""
        since, until = since - FOLLOWING_SECONDS, until + FOLLOWING_SECONDS
        before = [state for state in self._states if state.at <= since]
        return [before[-1], *(state for state in self._states if since < state.at <= until)]

    def _decision(self, state: _State, session_id: str) -> Decision | None:
        """What was decided for the session; None when more than its id has a say, or there was no version."""
        context = targeting.context_of(
            model=self._model.name, request_id=session_id, session_id=session_id, attributes={}
        )
        claims: list[tuple[str, Claim]] = []
        for version in self._model.versions:
            definition = serving.flag_of(version, state.flags)
            flag = state.compiled(version.flag_key, definition)
            if flag is None or not _reads_the_session_alone(definition.get("targeting")):
                return None
            claims.append((version.name, flag.evaluate(context)))
        standing = serving.standing(self._model, state.flags)
        return routing.decide(claims, last_known_live=standing.name if standing else None, revision=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """All flags from one time on."""

    at: float
    flags: Mapping[str, Definition]
    known: dict[str, targeting.CompiledFlag | None] = field(default_factory=dict)

    def compiled(self, key: str, definition: Definition) -> targeting.CompiledFlag | None:
        """Its flag, compiled once."""
        if key not in self.known:
            self.known[key] = targeting.compile_flag(key, definition)
        return self.known[key]


def _reads_the_session_alone(rule: Any) -> bool:  # noqa: ANN401  JSON of any shape
    """Whether a rule is the same for every request of a session: what attributes they had is not kept."""
    if isinstance(rule, list):
        return all(map(_reads_the_session_alone, rule))
    if not isinstance(rule, dict):
        return True
    if rule.keys() & _BY_NAME:
        return False
    return all(
        operand in _OF_THE_SESSION if operator == "var" else _reads_the_session_alone(operand)
        for operator, operand in rule.items()
    )


def _gets(decision: Decision | None, live: str, candidate: str) -> bool:
    return decision is not None and decision.live == live and candidate in decision.shadows
