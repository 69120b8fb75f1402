"""What a worker's commit costs, by the number of captures behind it.

    python bench/flush.py

Captures are tallied as a worker does it: three candidates, latencies spread log-normally, 5 % divergences. Each size is
committed over and over into one epoch's present bucket, on an embedded PostgreSQL with its default durability, sizes
taking turns. The rows that a flush touches are distinct counts: they end where the histograms are full. "Samples" adds
20 stored comparisons of 4 KiB to the smallest size.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations, migrate, open_engine
from multishadow_server.core.capture import Capture
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.tally import Tally
from multishadow_server.service.ports import Flush, StoredComparison

SIZES = (100, 1_000, 10_000, 100_000)
ROUNDS = 60
CANDIDATES = ("A", "B", "C")
NOON = 1_795_435_200.0


async def first_epoch(control: PostgresControl) -> Epoch:
    """A model with three candidates, and an epoch that compares them."""
    versions = tuple(Version(model="m", name=name, address="127.0.0.1:9000") for name in ("base", *CANDIDATES))
    model = Model(name="m", versions=versions)
    async with control.change("bench") as change:
        await change.put_model(model)
        await change.put_versions(model)
        experiment = await change.start_experiment(
            model="m", candidates=CANDIDATES, percent=100, bucket_seconds=3600, duration=86_400
        )
        return await change.open_epoch(
            experiment, live="base", candidates=CANDIDATES, comparator=Comparator(), reason="bench"
        )


def tallied(epoch: Epoch, captures: int, rng: np.random.Generator) -> Mapping[tuple[int, int], Rollup]:
    """The rollup of so many captures."""
    tally = Tally()
    for live_latency, *latencies in rng.lognormal(np.log(0.01), 0.4, (captures, 4)):
        observations = [
            Observation(version=version, outcome=outcome, similarity=similarity, latency=latency)
            for version, latency in zip(CANDIDATES, latencies, strict=True)
            for outcome, similarity in [(Outcome.DIVERGED, 0.5) if rng.random() < 0.05 else (Outcome.OK, 0.97)]
        ]
        tally.add_capture(epoch, received_at=NOON, live_latency=live_latency, observations=observations)
    return tally.rollups()


def sample(epoch: Epoch) -> StoredComparison:
    """A comparison of about 4 KiB."""
    capture = Capture(
        request_id="request",
        session_id="session",
        model="m",
        method="/multishadow.v1.PredictionService/Predict",
        attributes={"country": "NO"},
        request=bytes(1024),
        metadata=(),
        live="base",
        shadows=CANDIDATES,
        revision=1,
        response=bytes(1024),
        status_code=0,
        status_message="",
        live_latency=0.01,
        received_at=time.time(),
    )
    observations = [
        Observation(version=version, outcome=Outcome.DIVERGED, similarity=0.5, latency=0.01, response=bytes(700))
        for version in CANDIDATES
    ]
    return StoredComparison(epoch_id=epoch.id, capture=capture, observations=observations, kept_because="diverged")


async def measure(database_url: str) -> Table:
    """Commit every kind of flush in turn, and say what it took."""
    engine = open_engine(database_url)
    store, rng = PostgresObservations(engine), np.random.default_rng(7)
    epoch = await first_epoch(PostgresControl(engine))
    bare = Flush(log_id="bench", partition=0, previous_offset=0, offset=1)
    flushes = {f"{size:,}": replace(bare, rollups=tallied(epoch, size, rng)) for size in SIZES}
    smallest = flushes[f"{SIZES[0]:,}"]
    flushes["100 and 20 samples"] = replace(smallest, comparisons=[sample(epoch)] * 20)
    durations: dict[str, list[float]] = {name: [] for name in flushes}
    offset = 0
    for _ in range(ROUNDS):
        for name, flush in flushes.items():
            began = time.perf_counter()
            await store.commit(replace(flush, previous_offset=offset, offset=offset + 1))
            durations[name].append(time.perf_counter() - began)
            offset += 1
    await engine.dispose()
    return table(flushes, {name: statistics.median(took) for name, took in durations.items()})


def table(flushes: Mapping[str, Flush], medians: Mapping[str, float]) -> Table:
    """Medians, and what they are to the smallest size's."""
    result = Table("captures", "counts", "ms per flush", "ratio", "µs per capture")
    smallest = medians[f"{SIZES[0]:,}"]
    for name, flush in flushes.items():
        counts = sum(len(rollup.cells) for rollup in flush.rollups.values())
        captures = int(name.split()[0].replace(",", ""))
        took = medians[name]
        ratio, each = took / smallest, took / captures * 1e6
        result.add_row(name, f"{counts:,}", f"{took * 1e3:.2f}", f"{ratio:.2f}", f"{each:.3f}")
    return result


def main() -> None:
    """Measure on a PostgreSQL of its own, which ends with the bench."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder) / "data")
        database_url = server.start()
        try:
            migrate(database_url)
            Console().print(asyncio.run(measure(database_url)))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
