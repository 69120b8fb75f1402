"""How much PostgreSQL's disk grows in a day, by table, with as much traffic as there may be.

    python bench/database_growth.py

One experiment with three candidates and hourly buckets: a day's counts, with latencies over two orders of magnitude and
20 attributes of 20 values; a day's stored comparisons and dead letters at their limits, with
payloads of 2 KiB. Sizes are PostgreSQL's own (`pg_total_relation_size`: rows, TOAST and indexes), after as many updates
as a worker's second-by-second commits would make them HOT.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flush import CANDIDATES, first_epoch, sample
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations, migrate, open_engine
from multishadow_server.core.capture import Capture
from multishadow_server.core.dead_letters import DeadLetter, LetterState
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.segments import MOST_LEVELS
from multishadow_server.core.tally import Tally
from multishadow_server.service.ports import Flush

HOURS = 24
CAPTURES = 2_000
FEATURES = 20
COMMITS = 5
STORED_PER_DAY = 24 * 1_100
LETTERS = 10_000
AT_ONCE = 100


async def _commit(store: PostgresObservations, offset: int, **what: Any) -> int:  # noqa: ANN401  fields of Flush by name
    await store.commit(Flush(log_id="b", partition=0, previous_offset=offset, offset=offset + 1, **what))
    return offset + 1


async def measure(database_url: str) -> Table:
    """A day of everything, then the sizes."""
    engine = open_engine(database_url)
    store, rng = PostgresObservations(engine), np.random.default_rng(7)
    epoch = await first_epoch(PostgresControl(engine))
    offset = 0
    for hour in range(HOURS):
        for _ in range(COMMITS):
            flush = Flush(
                log_id="b", partition=0, previous_offset=offset, offset=offset + 1, rollups=_hour(epoch, hour, rng)
            )
            await store.commit(flush)
            offset += 1
    for _ in range(STORED_PER_DAY // AT_ONCE):
        samples = [sample(epoch) for _ in range(AT_ONCE)]
        await store.commit(
            Flush(log_id="b", partition=0, previous_offset=offset, offset=offset + 1, comparisons=samples)
        )
        offset += 1
    for _ in range(LETTERS // AT_ONCE):
        letters = [_letter(epoch, sample(epoch).capture) for _ in range(AT_ONCE)]
        await store.commit(
            Flush(log_id="b", partition=0, previous_offset=offset, offset=offset + 1, dead_letters=letters)
        )
        offset += 1
    result = Table("what", "rows", "MB", "bytes per row")
    for name, what in (("rollup", "counts of one experiment's day"), ("comparison", "stored comparisons of a day"),
                       ("dead_letter", "dead letters at their limit")):  # fmt: skip
        rows, size = await _size(engine, name)
        result.add_row(f"{name}: {what}", f"{rows:,}", f"{size / 1e6:,.1f}", f"{size / rows:,.0f}")
    await engine.dispose()
    return result


def _hour(epoch: Epoch, hour: int, rng: np.random.Generator) -> Mapping[tuple[int, int], Rollup]:
    tally = Tally()
    received_at = epoch.opened_at // 3600 * 3600 + 3600.0 * hour
    for live, *latencies in rng.lognormal(np.log(0.01), 0.8, (CAPTURES // COMMITS, 4)):
        observations = [
            Observation(
                version=version, outcome=Outcome.DIVERGED if similarity < 0.85 else Outcome.OK, similarity=similarity,
                latency=latency,
            )
            for version, latency, similarity in zip(CANDIDATES, latencies, rng.random(3), strict=True)
        ]  # fmt: skip
        segments = [f"attributes.feature{n}={rng.integers(MOST_LEVELS)}" for n in range(FEATURES)]
        tally.add_capture(
            epoch, received_at=received_at, live_latency=live, observations=observations, segments=segments
        )
    return tally.rollups()


def _letter(epoch: Epoch, capture: Capture) -> DeadLetter:
    return DeadLetter(
        model="m", version="A", epoch_id=epoch.id, state=LetterState.PARKED, outcome=Outcome.TIMEOUT, most=LETTERS,
        capture=Capture(**{
            **{name: getattr(capture, name) for name in Capture.__dataclass_fields__}, "request": os.urandom(1024),
        }),
    )  # fmt: skip


async def _size(engine: AsyncEngine, table: str) -> tuple[int, int]:
    whole = (
        f"coalesce((SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('{table}')), "
        f"pg_total_relation_size('{table}'))"
    )
    query = text(f"SELECT (SELECT count(*) FROM {table}), {whole}")
    async with engine.connect() as connection:
        rows, size = (await connection.execute(query)).one()
    return int(rows), int(size)


def main() -> None:
    """Measure on a PostgreSQL of its own, which ends with the bench."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder) / "data")
        database_url = server.start()
        try:
            migrate(database_url)
            began = time.monotonic()
            Console().print(asyncio.run(measure(database_url)))
            Console().print(f"in {time.monotonic() - began:.0f} s")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
