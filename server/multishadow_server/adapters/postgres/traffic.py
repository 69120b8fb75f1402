"""Stored traffic as a whole: what there is, in which form, and holding it to other terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import reclaiming
from multishadow_server.adapters.postgres.engine import cancelled_first, reaching, translated
from multishadow_server.adapters.postgres.erasing import Erasing
from multishadow_server.adapters.postgres.hash_key import PostgresHashKey
from multishadow_server.adapters.postgres.rewriting import Rewriting
from multishadow_server.adapters.postgres.tables import AuditRow
from multishadow_server.core.model import Model
from multishadow_server.core.redaction import PayloadRewriter, Policy, Seal
from multishadow_server.service.ports import Erased, Rewritten, Selection, StoredTraffic


class PostgresTraffic:
    """A TrafficStore. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
        rewriter: of the wire format.
        hash_key: see `PostgresHashKey`.
    """

    def __init__(self, engine: AsyncEngine, rewriter: PayloadRewriter, *, hash_key: str | None) -> None:
        self._engine = engine
        self._rewriter = rewriter
        self._hash_key = PostgresHashKey(engine, given=hash_key)
        self._erasing = Erasing(engine)

    async def seal(self) -> Seal:
        """See `PostgresHashKey.seal`."""
        return await self._hash_key.seal()

    async def stored(self, model: str) -> Sequence[StoredTraffic]:
        """What is stored of a model's traffic, by table and form."""
        with cancelled_first(), translated(self._engine.url, "looking at stored traffic"):
            async with self._engine.begin() as connection:
                await connection.execute(text("SET LOCAL statement_timeout = 0"))
                rows = (await connection.execute(_STORED, {"model": model})).all()
        return [
            StoredTraffic(
                what=row.what,
                payloads=row.payloads,
                rows=row.rows,
                size=int(row.size),
                oldest_at=row.oldest_at.timestamp(),
            )
            for row in rows
        ]

    async def rewrite(self, model: Model) -> Rewritten:
        """Hold what is stored to the model's terms, some rows in each transaction, and give the space back."""
        policy = Policy(terms=model.privacy, seal=await self.seal(), rewriter=self._rewriter)
        rewriting = Rewriting(self._engine, model, policy)
        counts: Counter[str] = await rewriting.run()
        freed = await reclaiming.reclaim(self._engine.url, rewriting.touched)
        return Rewritten(**counts, bytes_freed=freed)

    async def erase(self, model: str, selection: Selection) -> Erased:
        """Delete rows and free their space."""
        return await self._erasing.erase(model, selection)

    async def count(self, model: str, selection: Selection) -> Erased:
        """What `erase` would delete."""
        return await self._erasing.count(model, selection)

    async def audit(self, action: str, model: str, detail: Mapping[str, Any], *, actor: str) -> None:
        """Add a line to the audit log."""
        line = {
            "at": func.clock_timestamp(),
            "actor": actor,
            "action": action,
            "subject": model,
            "detail": dict(detail),
        }
        async with reaching(self._engine, "writing the audit log"), self._engine.begin() as connection:
            await connection.execute(insert(AuditRow).values(line))


_STORED = text(
    """
    SELECT 'comparisons' AS what, payloads, count(*) AS rows, min(received_at) AS oldest_at,
        sum(pg_column_size(request) + pg_column_size(response) + pg_column_size(shadow_responses)
            + pg_column_size(attributes) + pg_column_size(observations)) AS size
    FROM comparison JOIN epoch ON epoch.id = epoch_id JOIN experiment ON experiment.id = epoch.experiment_id
    WHERE experiment.model = :model GROUP BY payloads
    UNION ALL
    SELECT 'answers', payloads, count(*), min(received_at),
        sum(pg_column_size(live) + pg_column_size(responses) + pg_column_size(observations))
    FROM answer WHERE model = :model GROUP BY payloads
    UNION ALL
    SELECT 'labels', '', count(*), min(recorded_at), sum(pg_column_size(value)) FROM label WHERE model = :model
    HAVING count(*) > 0
    ORDER BY what, payloads
    """
)
