"""How versions stand with probes, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment, storable_json
from multishadow_server.adapters.postgres.tables import ProbeChangeRow, ProbeStateRow
from multishadow_server.core.probe_state import ProbeChange, ProbeOutcome, ProbeState
from multishadow_server.service.ports import ProbeClaim, ProbeKey

MOST_CHANGES = 50
"""Lines of history that are kept of one version and one probe."""


class PostgresProbes:
    """A ProbeStore.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def idle(self) -> Mapping[ProbeKey, float]:
        """For how long nobody took it upon themselves to ask, in seconds."""
        async with reaching(self._engine, "reading probes"), self._engine.connect() as connection:
            rows = (await connection.execute(_IDLE)).all()
        return {ProbeKey(row.model, row.version, row.probe): float(row.idle) for row in rows}

    async def claim(self, key: ProbeKey, *, every: float) -> ProbeClaim | None:
        """Take it upon oneself to ask now. One statement: of two controls, the row's lock lets one through."""
        bound = {**key._asdict(), "every": every}
        async with reaching(self._engine, "claiming a probe"), self._engine.begin() as connection:
            row = (await connection.execute(_CLAIM, bound)).one_or_none()
        if row is None:
            return None
        return ProbeClaim(key=key, at=row.claimed_at.timestamp(), state=_state_of(key, row.state, row.answer))

    async def record(self, claim: ProbeClaim, state: ProbeState, changes: Sequence[ProbeChange]) -> None:
        """Keep how it stands now, unless somebody has asked again since."""
        key = claim.key._asdict()
        own = update(ProbeStateRow).filter_by(**key, claimed_at=moment(claim.at))
        async with reaching(self._engine, "recording a probe"), self._engine.begin() as connection:
            kept = await connection.execute(own.values(state=_record(state), answer=state.answer))
            if kept.rowcount and changes:
                await connection.execute(insert(ProbeChangeRow).values([_line(claim.key, each) for each in changes]))
                await connection.execute(_FORGET, {**key, "most": MOST_CHANGES})

    async def states(self, model: str = "", *, answers: bool = False) -> Sequence[ProbeState]:
        """How versions stand, by model, version and probe; answers may be large, and are read where asked for."""
        bound = {"model": model, "answers": answers}
        async with reaching(self._engine, "reading probes"), self._engine.connect() as connection:
            rows = (await connection.execute(_STATES, bound)).all()
        keys = [ProbeKey(row.model, row.version, row.probe) for row in rows]
        found = (_state_of(key, row.state, row.answer, row.settled_at) for key, row in zip(keys, rows, strict=True))
        return [state for state in found if state is not None]

    async def settle(self, key: ProbeKey, changed_at: float) -> None:
        """Changes of the answer up to this one are settled."""
        own = update(ProbeStateRow).filter_by(**key._asdict()).values(settled_at=changed_at)
        async with reaching(self._engine, "settling a probe"), self._engine.begin() as connection:
            await connection.execute(own)

    async def changes(
        self, model: str, *, version: str = "", probe: str = "", most: int
    ) -> Sequence[tuple[ProbeKey, ProbeChange]]:
        """What became of probes, newest first."""
        wanted = select(ProbeChangeRow).where(ProbeChangeRow.model == model)
        if version:
            wanted = wanted.where(ProbeChangeRow.version == version)
        if probe:
            wanted = wanted.where(ProbeChangeRow.probe == probe)
        wanted = wanted.order_by(col(ProbeChangeRow.id).desc()).limit(most)
        async with reaching(self._engine, "reading a probe's history"), AsyncSession(self._engine) as session:
            return [
                (
                    ProbeKey(row.model, row.version, row.probe),
                    ProbeChange(at=row.at.timestamp(), before=row.before, after=row.after, detail=row.detail),
                )
                for row in await session.exec(wanted)
            ]


def _record(state: ProbeState) -> dict[str, Any]:
    record = asdict(state)
    for beside in ("answer", "model", "version", "probe", "settled_at"):
        del record[beside]
    stored = storable_json(record)
    assert isinstance(stored, dict)
    return stored


def _state_of(
    key: ProbeKey, record: Mapping[str, Any] | None, answer: bytes, settled_at: float | None = None
) -> ProbeState | None:
    if record is None:
        return None
    fields = {**record, "outcome": ProbeOutcome(record["outcome"])}
    return ProbeState(**key._asdict(), answer=bytes(answer), settled_at=settled_at, **fields)


def _line(key: ProbeKey, change: ProbeChange) -> dict[str, Any]:
    line = {**key._asdict(), **asdict(change), "at": moment(change.at)}
    return line | {"detail": storable_json(change.detail)}


_IDLE = text(
    "SELECT model, version, probe, extract(epoch FROM clock_timestamp() - claimed_at) AS idle FROM probe_state"
)
_STATES = text(
    "SELECT model, version, probe, state, settled_at, CASE WHEN :answers THEN answer ELSE '' END AS answer "
    "FROM probe_state WHERE :model IN ('', model) ORDER BY model, version, probe"
)
_CLAIM = text(
    "INSERT INTO probe_state (model, version, probe, claimed_at, answer) "
    "VALUES (:model, :version, :probe, clock_timestamp(), '') "
    "ON CONFLICT (model, version, probe) DO UPDATE SET claimed_at = clock_timestamp() "
    "WHERE probe_state.claimed_at <= clock_timestamp() - make_interval(secs => :every) "
    "RETURNING claimed_at, state, answer"
)
_FORGET = text(
    "DELETE FROM probe_change WHERE model = :model AND version = :version AND probe = :probe AND id <= ("
    "SELECT id FROM probe_change WHERE model = :model AND version = :version AND probe = :probe "
    "ORDER BY id DESC OFFSET :most LIMIT 1)"
)
