"""What the pages of an experiment cost the server: `python bench/experiment_page.py [--hours 336] [--serve]`.

Fills a PostgreSQL with two weeks of hours of an experiment of five candidates, and prints how long each page takes
from its request to its last byte, over HTTP, one after the other: at first, when its figures have to be worked out, and
then, when they are reused; with the processor time of this process, which serves and asks. `--serve` leaves it open to
look at.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.migration import migrate
from multishadow_server.app import control
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.model import Comparator, LabelTerms, Model, Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.routing import Claim
from multishadow_server.core.session_terms import SessionTerms, Unit
from multishadow_server.core.tally import Tally
from multishadow_server.service import experiments
from multishadow_server.service.experiments import Terms
from multishadow_server.service.ports import Flush
from multishadow_server.settings import Settings

MODEL = "spam"
# The chance that each diverges; C falls over in the last third, D is bad for one country alone.
RATES: Mapping[str, float] = {"A": 0.004, "B": 0.006, "C": 0.02, "D": 0.03, "E": 0.11}
COUNTRIES = ("DE", "NO", "FR", "US", "IN", "BR")
CLIENTS = tuple(f"client-{number}" for number in range(12))
PAGES = ("", "/course", "/answers", "/gates", "/segments?candidate=D")
ROUNDS = 9
HOUR = 3_600


async def main() -> None:
    """Fill, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=int, default=336)
    parser.add_argument("--captures", type=int, default=600, help="of each hour; comparisons are five times as many")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = EmbeddedPostgres(Path(folder) / "data")
        try:
            engine.start()
            await _measure(engine.create_database("bench"), asked)
        finally:
            engine.stop()


async def _measure(url: str, asked: argparse.Namespace) -> None:
    migrate(url)
    epoch = await _begin(url, hours=asked.hours)
    total = await _fill(url, epoch, hours=asked.hours, captures=asked.captures)
    print(f"{total:,} comparisons of {len(RATES)} candidates in {asked.hours} hours")
    stop, served = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = Settings(database_url=url, control_listen="127.0.0.1:0", http_listen=f"127.0.0.1:{asked.port}")
    role = asyncio.create_task(control.run(settings, stop, ready=lambda _: None, http_ready=served.set_result))
    address = await served
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=600) as client:
        for page in ("/ui/experiments", *(f"/ui/experiments/{epoch.experiment_id}{page}" for page in PAGES)):
            print(await _timed(client, page))
    if asked.serve:
        print(f"look at http://{address}/ui/experiments/{epoch.experiment_id}", flush=True)
        await asyncio.Event().wait()
    stop.set()
    await role


async def _timed(client: httpx.AsyncClient, page: str) -> str:
    times, spent, size = [], [], 0
    for _ in range(ROUNDS):
        started, worked = time.perf_counter(), time.process_time()
        response = await client.get(page)
        times.append(1000 * (time.perf_counter() - started))
        spent.append(1000 * (time.process_time() - worked))
        size = len(response.content)
        if response.status_code != 200:
            return f"{page}: {response.status_code}"
    again, working = statistics.median(times[1:]), statistics.median(spent[1:])
    return (
        f"{page}: first {times[0]:.0f} ms ({spent[0]:.0f} of this process), then median {again:.0f} ms "
        f"({working:.0f}), most {max(times[1:]):.0f} ms; {size / 1024:.0f} KiB"
    )


async def _begin(url: str, *, hours: int) -> Epoch:
    """A model and its running experiment, begun that many hours ago."""
    engine = open_engine(url)
    store = PostgresControl(engine)
    names = ("prod", *RATES)
    model = Model(
        name=MODEL,
        comparator=Comparator(threshold=0.85),
        labels=LabelTerms(),
        sessions=SessionTerms(unit=Unit.REQUEST),
        versions=tuple(
            Version(model=MODEL, name=name, address=f"127.0.0.1:9{number:03}", ordinal=number)
            for number, name in enumerate(names)
        ),
    )
    async with store.change("bench") as change:
        await change.put_model(model)
        await change.put_versions(model)
        for version in model.versions:
            claim = claim_definition(MODEL, Claim.OFF)
            await change.put_flag(version.flag_key, claim, reason="registered")
    terms = Terms(
        model=MODEL,
        candidates=tuple(RATES),
        percent=25,
        duration=(hours + 72) * HOUR,
        noise_percent=2,
        bucket_seconds=HOUR,
    )
    await experiments.start_experiment(store, terms, actor="ann@laptop")
    await engine.dispose()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            "UPDATE experiment SET started_at = started_at - %s, ends_at = ends_at - %s",
            "UPDATE epoch SET opened_at = opened_at - %s + 0 * %s",
        ):
            connection.execute(statement.encode(), [timedelta(hours=hours)] * 2)
    engine = open_engine(url)
    (epoch,) = (await PostgresControl(engine).read()).epochs
    await engine.dispose()
    return epoch


async def _fill(url: str, epoch: Epoch, *, hours: int, captures: int) -> int:
    draw = random.Random(7)
    first = int(time.time()) // HOUR * HOUR - (hours - 1) * HOUR
    engine, total = open_engine(url), 0
    observations = PostgresObservations(engine)
    for hour in range(hours):
        tally, start = Tally(), first + hour * HOUR
        for _ in range(int(captures * (0.7 + 0.3 * draw.random()))):
            total += _add(tally, epoch, start, late=hour > hours * 2 // 3, draw=draw)
        extra = _labels(draw) + _sessions(draw)
        rollups = {key: rollup + extra for key, rollup in tally.rollups().items()}
        await observations.commit(
            Flush(log_id="bench", partition=0, previous_offset=hour, offset=hour + 1, rollups=rollups)
        )
    await engine.dispose()
    return total


def _add(tally: Tally, epoch: Epoch, start: int, *, late: bool, draw: random.Random) -> int:
    country, client = draw.choice(COUNTRIES), draw.choice(CLIENTS)
    received = start + draw.random() * HOUR
    hardness = draw.random()
    seen = [
        _observation(version, rate * (3 if version == "C" and late else 1), country, hardness, draw)
        for version, rate in RATES.items()
    ]
    noise = _observation("prod", 0.001, country, 1.0, draw) if draw.random() < 0.08 else None
    tenth = int(10 * draw.random())
    tally.add_capture(
        epoch,
        received_at=received,
        live_latency=draw.lognormvariate(-4.2, 0.35),
        observations=seen,
        noise=noise,
        segments=[
            f"hour (UTC)={int(received // HOUR) % 24:02d}",
            f"request bytes=[{draw.choice(('100, 200', '200, 500', '500, 1000', '50, 100'))})",
            f"live confidence=[{tenth / 10:g}, {(tenth + 1) / 10:g}{']' if tenth == 9 else ')'}",
            f"attributes.country={country}",
            f"attributes.client={client}",
        ],
    )
    return len(seen)


def _observation(version: str, rate: float, country: str, hardness: float, draw: random.Random) -> Observation:
    if version == "D":
        rate = 0.12 if country == "NO" else 0.012
    chance = draw.random()
    # What is hard for one is hard for others too: half of the divergence is common.
    diverged = chance < rate / 2 or hardness < rate / 2
    if version == "E" and chance > 0.985:
        return Observation(version=version, outcome=Outcome.ERROR, reason="UNAVAILABLE", latency=0.001)
    if version == "E" and chance > 0.975:
        return Observation(version=version, outcome=Outcome.TIMEOUT)
    if version == "B" and chance > 0.9985:
        return Observation(version=version, outcome=Outcome.DROPPED, reason="rate_limit")
    if version == "C" and chance > 0.9995:
        return Observation(version=version, outcome=Outcome.UNCOMPARABLE, reason="empty_text", latency=0.01)
    exact = draw.random() < 0.6
    return Observation(
        version=version,
        outcome=Outcome.DIVERGED if diverged else Outcome.OK,
        similarity=draw.uniform(0.2, 0.849) if diverged else 1.0 if exact else 1 - 0.15 * draw.random() ** 3,
        latency=draw.lognormvariate(-4.0 - (0.4 if version == "A" else 0.0), 0.3 + 0.2 * (version == "E")),
        confidence_delta=draw.gauss(0.01 if version == "D" else 0.0, 0.05),
    )


def _labels(draw: random.Random) -> Rollup:
    cells: dict[Cell, int] = {}
    right = {"prod": 0.93, "A": 0.935, "B": 0.93, "C": 0.91, "D": 0.92, "E": 0.86}
    for _ in range(20):
        marks = {version: "o" if draw.random() < share else "x" for version, share in right.items()}
        for version, mark in marks.items():
            cell = Cell(Family.LABEL, version, "o" if mark == "o" else "b")
            cells[cell] = cells.get(cell, 0) + 1
            if version != "prod":
                both = ("o" if marks["prod"] == "o" else "b") + ("o" if mark == "o" else "b")
                pair = Cell(Family.LABEL_PAIR, f"prod|{version}", both)
                cells[pair] = cells.get(pair, 0) + 1
    return Rollup(cells)


def _sessions(draw: random.Random) -> Rollup:
    cells: dict[Cell, int] = {Cell(Family.SESSION, "", "ended"): 12, Cell(Family.SESSION, "", "turns"): 48}
    for length in range(1, 8):
        cells[Cell(Family.SESSION_LENGTH, "", str(length))] = 2
    for version, rate in RATES.items():
        cells[Cell(Family.SESSION, version, "o")] = 10
        cells[Cell(Family.SESSION, version, "b")] = int(draw.random() < 8 * rate)
        for turn in range(1, 8):
            n = 14 - 2 * turn + 2
            bad = sum(draw.random() < rate * (1 + turn / 3) for _ in range(n))
            cells[Cell(Family.TURN, version, f"{turn}/o")] = n - bad
            if bad:
                cells[Cell(Family.TURN, version, f"{turn}/b")] = bad
    return Rollup(cells)


if __name__ == "__main__":
    asyncio.run(main())
