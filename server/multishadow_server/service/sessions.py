"""Looking at stored sessions: which diverged, and their turns in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from multishadow_server.core.observation import BAD
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.errors import InvalidInput, NotFound
from multishadow_server.service import comparison_report, names
from multishadow_server.service.ports import ControlStore, SessionRecords, StoredTurn

MOST_SESSIONS = 1_000
DEFAULT_SESSIONS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownTurn:
    """A stored turn; `place` is the caller's number, or its place among the stored ones."""

    place: int
    stored: StoredTurn


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownSession:
    """The stored turns of one session, in order."""

    model: str
    session_id: str
    live: str
    candidates: tuple[str, ...]
    turns: Sequence[ShownTurn]
    numbered: bool
    protocol: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedSession:
    """One session, as far as its turns were stored.

    Args:
        session_id: the caller's.
        began_at: when its first stored turn was received, seconds since the Unix epoch.
        last_at: when its last one was.
        turns: how many were stored.
        bad_turns: of these, those in which some candidate was bad.
        bad_by_version: how many were bad, by candidate.
        first_bad: the place of the first bad one, by candidate; see ShownTurn.
    """

    session_id: str
    began_at: float
    last_at: float
    turns: int
    bad_turns: int
    bad_by_version: Mapping[str, int]
    first_bad: Mapping[str, int]


async def list_sessions(
    store: ControlStore, records: SessionRecords, *, model: str, version: str, experiment_id: int, most: int
) -> tuple[str, list[ListedSession]]:
    """Sessions of an experiment's present epoch in which a candidate was bad, the newest first; and the model's name.

    Args:
        store: where experiments are.
        records: where stored comparisons are.
        model: empty: the only model there is, or the experiment's.
        version: the candidate; empty for any.
        experiment_id: 0: the running experiment, or else the latest.
        most: at most so many; 0 for twenty.

    Raises:
        InvalidInput: `most` is out of range, or the model must be named.
        NotFound: no such model, experiment or candidate.
        FailedPrecondition: there is nothing yet.
        StoreUnavailable: the database is away.
    """
    if not 0 <= most <= MOST_SESSIONS:
        raise InvalidInput(
            f"most: {most} is out of range; allowed are 1 to {MOST_SESSIONS:,}, and 0 for {DEFAULT_SESSIONS}"
        )
    found = await comparison_report.subject_of(store, model=model, experiment_id=experiment_id)
    epoch = found.epoch
    if version and version not in epoch.candidates:
        raise NotFound(
            f"experiment {epoch.experiment_id} of {epoch.model} does not compare {version!r}; its candidates are "
            f"{names.listed(epoch.candidates)}"
        )
    terms = found.configuration.models[epoch.model].sessions
    stored = await records.divergent_sessions(epoch.id, version=version, most=most or DEFAULT_SESSIONS)
    grouped = groupby(stored, key=lambda turn: turn.session_id)
    return epoch.model, [_listed(session_id, in_order(list(turns), terms)[0]) for session_id, turns in grouped]


async def get_session(
    store: ControlStore, records: SessionRecords, *, model: str, session_id: str, experiment_id: int
) -> ShownSession:
    """The stored turns of one session, in order.

    Raises:
        InvalidInput: no session is named, or the model must be.
        NotFound: nothing of this session is stored, or no such model or experiment.
        FailedPrecondition: there is nothing yet.
        StoreUnavailable: the database is away.
    """
    if not session_id:
        raise InvalidInput("session_id: name a session; `shadowctl sessions` lists those that diverged")
    found = await comparison_report.subject_of(store, model=model, experiment_id=experiment_id)
    epoch = found.epoch
    stored = await records.session(epoch.id, session_id)
    if not stored:
        raise NotFound(
            f"nothing of a session {session_id[:80]!r} is stored for experiment {epoch.experiment_id} of "
            f"{epoch.model}; `shadowctl sessions` lists those that diverged, and old ones are dropped by the day"
        )
    turns, numbered = in_order(stored, found.configuration.models[epoch.model].sessions)
    return ShownSession(
        model=epoch.model,
        session_id=session_id,
        live=epoch.live,
        candidates=epoch.candidates,
        turns=turns,
        numbered=numbered,
        protocol=epoch.comparator.protocol,
    )


def in_order(stored: Sequence[StoredTurn], terms: SessionTerms | None) -> tuple[Sequence[ShownTurn], bool]:
    """A session's turns by the caller's numbers, or else as they were received; and whether it is the former."""
    numbers = [terms.turn_of(turn.attributes) if terms else None for turn in stored]
    known = [number for number in numbers if number is not None]
    if len(known) < len(stored):
        return [ShownTurn(place=place, stored=turn) for place, turn in enumerate(stored, start=1)], False
    ordered = sorted(zip(known, stored, strict=True), key=lambda pair: (pair[0], pair[1].received_at))
    return [ShownTurn(place=number, stored=turn) for number, turn in ordered], True


def _listed(session_id: str, turns: Sequence[ShownTurn]) -> ListedSession:
    bad = [(turn.place, each.version) for turn in turns for each in turn.stored.observations if each.outcome in BAD]
    received = [turn.stored.received_at for turn in turns]
    versions = dict.fromkeys(version for _, version in bad)
    return ListedSession(
        session_id=session_id,
        began_at=min(received),
        last_at=max(received),
        turns=len(turns),
        bad_turns=len({place for place, _ in bad}),
        bad_by_version={name: sum(version == name for _, version in bad) for name in versions},
        first_bad={name: min(place for place, version in bad if version == name) for name in versions},
    )
