"""How long the server takes for each page of the web application, with a million comparisons in store.

    python bench/pages.py [--quick]

Two weeks of an experiment with three candidates: hourly counts of a million comparisons, and what the system keeps of
them under its own quotas: every divergent one up to a thousand an hour, and a sample of a hundred an hour of the rest.
Beside it, what has gathered after a year: changes of flags, an audit log, dead letters, alarms, other experiments.
Control runs as a process of its own, as `multishadow control` starts it. Pages are found by following links from the
first one, until there are some of each of the application's routes, so a new page is measured without a word here;
each is asked for again and again over one connection, and every route has to answer within 200 ms at p99. Exit code 1:
one did not, or no page of a route was found.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from unittest.mock import MagicMock
from urllib.parse import urlsplit

import numpy as np
import psycopg
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.routing import Route

from multishadow.v1 import prediction_pb2 as pb
from multishadow_server.adapters import capture_codec
from multishadow_server.adapters.embedded import EmbeddedPostgres, dies_with_parent
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations, migrate, open_engine
from multishadow_server.adapters.postgres.rollouts import PostgresRollouts
from multishadow_server.core import segments
from multishadow_server.core.capture import Capture, CaptureBatch
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.keeping import Kept
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.protocols import PREDICT
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.routing import Claim
from multishadow_server.core.tally import Tally
from multishadow_server.entrypoints.web import application
from multishadow_server.service import promotion, rollouts
from multishadow_server.service.ports import Flush, StoredComparison
from multishadow_server.service.rollout_planning import Wish

LIMIT_SECONDS = 0.2
COMPARISONS = 1_000_000
HOURS = 14 * 24
CANDIDATES = ("A", "B", "C")
RATES = (0.01, 0.03, 0.08)
DIVERGENT_PER_HOUR, SAMPLE_PER_HOUR = 1_000, 100
COUNTRIES = ("NO", "SE", "DE", "FR", "IT", "ES", "PL", "NL")
# Of an hour's comparisons, so many are drawn, and count for all of them.
DRAWN = 300
MOST_OF_A_ROUTE = 6
MOST_VISITS = 400
_LINK = re.compile(r'href="(/ui/[^"#]*)"')
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


@dataclass(kw_only=True)
class Found:
    """A route with the pages of it that links led to."""

    route: Route
    paths: list[str] = field(default_factory=list)


async def fill(database_url: str, *, scale: float) -> tuple[int, int]:
    """Put everything in store; returns how many comparisons count, and how many are kept."""
    engine = open_engine(database_url)
    begin = (time.time() // 3600 - HOURS) * 3600
    epoch = await _experiment(engine, begin)
    await _rollout(engine)
    await _days(engine, begin)
    counted, kept = await _traffic(engine, epoch, begin, scale=scale)
    async with engine.begin() as connection:
        for statement in _YEAR.split(";"):
            if statement.strip():
                known = {"scale": scale, "letter": _letter()}
                bound = {name: value for name, value in known.items() if f":{name}" in statement}
                await connection.execute(text(statement), bound)
    await engine.dispose()
    return counted, kept


async def _experiment(engine: AsyncEngine, begin: float) -> Epoch:
    names = ("base", *CANDIDATES)
    versions = tuple(Version(model="m", name=name, address="127.0.0.1:9") for name in names)
    model = Model(name="m", versions=versions, comparator=Comparator(threshold=0.9))
    claims = {name: Claim.LIVE if name == "base" else Claim.SHADOW for name in names}
    async with PostgresControl(engine).change("bench") as change:
        await change.put_model(model)
        await change.put_versions(model)
        for version in versions:
            await change.put_flag(version.flag_key, claim_definition("m", claims[version.name]), reason="bench")
        experiment = await change.start_experiment(
            model="m", candidates=CANDIDATES, percent=100, bucket_seconds=3600, duration=30 * 86_400
        )
        epoch = await change.open_epoch(
            experiment, live="base", candidates=CANDIDATES, comparator=model.comparator, reason="bench"
        )
    async with engine.begin() as connection:
        began = {"at": datetime.fromtimestamp(begin, UTC), "id": epoch.id}
        await connection.execute(text("UPDATE epoch SET opened_at = :at WHERE id = :id"), began)
        await connection.execute(text("UPDATE experiment SET started_at = :at"), {"at": began["at"]})
    return epoch


async def _rollout(engine: AsyncEngine) -> None:
    """Another model: one version was promoted, and another is on its way by stages."""
    names = ("base", "next", "newest")
    versions = tuple(Version(model="n", name=name, address="127.0.0.1:9") for name in names)
    store, model = PostgresControl(engine), Model(name="n", versions=versions, comparator=Comparator(threshold=0.9))
    async with store.change("bench") as change:
        await change.put_model(model)
        await change.put_versions(model)
        for version in versions:
            claim = Claim.LIVE if version.name == "base" else Claim.SHADOW
            await change.put_flag(version.flag_key, claim_definition("n", claim), reason="bench")
    reason, force = "bench", True
    await promotion.promote(
        store, _Reachable(), model="n", version="next", actor="bench", reason=reason, force=force, clock=time.time
    )
    async with store.change("bench") as change:
        experiment = await change.start_experiment(
            model="n", candidates=["newest"], percent=100, bucket_seconds=3600, duration=30 * 86_400
        )
        await change.open_epoch(
            experiment, live="next", candidates=["newest"], comparator=model.comparator, reason="bench"
        )
    wish = Wish(model="n", version="newest", stages=(5.0, 25.0, 100.0), dwell=86_400.0, force=force, reason=reason)
    await rollouts.start(store, PostgresRollouts(engine), _Reachable(), wish, actor="bench", clock=time.time)


class _Reachable:
    """A VersionProbe to which every version answers: none of these has to."""

    async def connect(self, address: str, *, within: float) -> None:
        del address, within


def _letter() -> bytes:
    """A dead letter's payload."""
    capture, _ = _request(time.time(), np.zeros(3), np.random.default_rng(7), number=1)
    request = pb.PredictRequest(model="m", text="a request that nobody answered").SerializeToString()
    return capture_codec.encode(CaptureBatch(router="bench", captures=(replace(capture, request=request),)))


async def _days(engine: AsyncEngine, begin: float) -> None:
    """Partitions of the days that have passed, as there would be had control run since."""
    first = datetime.fromtimestamp(begin, UTC).date()
    async with engine.begin() as connection:
        for day in (first + timedelta(days=n) for n in range(HOURS // 24 + 1)):
            name, until = f"comparison_{day:%Y%m%d}", day + timedelta(days=1)
            if (await connection.execute(text("SELECT to_regclass(:name)"), {"name": name})).scalar_one() is None:
                await connection.execute(text(f"CREATE TABLE {name} (LIKE comparison INCLUDING ALL)"))
                await connection.execute(
                    text(f"ALTER TABLE comparison ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{until}')")
                )


async def _traffic(engine: AsyncEngine, epoch: Epoch, begin: float, *, scale: float) -> tuple[int, int]:
    """Hour by hour: counts of all comparisons, and those that are kept under the system's quotas (`core.keeping`)."""
    store, rng = PostgresObservations(engine), np.random.default_rng(7)
    an_hour = int(COMPARISONS * scale / HOURS)
    kept = 0
    for hour in range(HOURS):
        draws = rng.random((an_hour, 3))
        bad: NDArray[np.bool_] = np.any(draws < np.array(RATES), axis=1)
        divergent, rest = np.flatnonzero(bad)[:DIVERGENT_PER_HOUR], np.flatnonzero(~bad)
        sample = rng.choice(rest, min(SAMPLE_PER_HOUR, rest.size), replace=False)
        drawn = min(DRAWN, an_hour)
        tally, comparisons = Tally(), list[StoredComparison]()
        for n in {*divergent.tolist(), *sample.tolist(), *range(drawn)}:
            at = begin + 3600.0 * (hour + n / an_hour)
            capture, observations = _request(at, draws[n], rng, number=hour * an_hour + n)
            if n < drawn:
                tally.add_capture(
                    epoch, received_at=at, live_latency=capture.live_latency, observations=observations,
                    segments=segments.levels_of(capture, observations),
                )  # fmt: skip
            if bad[n] or n in sample:
                comparisons.append(_stored(epoch, capture, observations, Kept.DIVERGED if bad[n] else Kept.SAMPLE))
        rollups = {
            place: Rollup({cell: round(count * an_hour / drawn) for cell, count in rollup.cells.items()})
            for place, rollup in tally.rollups().items()
        }
        flush = Flush(log_id="b", partition=0, previous_offset=hour, offset=hour + 1, rollups=rollups)
        await store.commit(replace(flush, comparisons=comparisons))
        kept += len(comparisons)
    return an_hour * HOURS, kept


def _request(
    at: float, draws: NDArray[np.float64], rng: np.random.Generator, *, number: int
) -> tuple[Capture, Sequence[Observation]]:
    """One request with what its candidates made of it: A differs on 1 %, B on 3 %, and C on 8 %."""
    latencies, similarities = rng.lognormal(np.log(0.02), 0.6, 4), rng.beta(2, 2, 3)
    observations = [
        Observation(
            version=version, outcome=Outcome.DIVERGED if draw < rate else Outcome.OK, latency=float(latency),
            similarity=float(similarity) * 0.9 if draw < rate else 0.95,
            detail=f"ROUGE-L F1 {similarity * 0.9:.4f} is below 0.9" if draw < rate else "",
        )
        for version, rate, draw, latency, similarity in zip(
            CANDIDATES, RATES, draws, latencies[1:], similarities, strict=True
        )
    ]  # fmt: skip
    capture = Capture(
        request_id=f"request-{number:08}", session_id=f"session-{number // 5:08}", model="m", method=PREDICT,
        attributes={
            "country": COUNTRIES[number % len(COUNTRIES)], "premium": number % 7 == 0, "age": float(18 + number % 60),
            "app": {"version": f"3.{number % 12}"},
        },
        request=b"", metadata=(), live="base", shadows=CANDIDATES, revision=1, response=b"", status_code=0,
        status_message="", live_latency=float(latencies[0]), received_at=at,
    )  # fmt: skip
    return capture, observations


def _stored(epoch: Epoch, capture: Capture, observations: Sequence[Observation], why: Kept) -> StoredComparison:
    """With its bytes, which most requests need not have: texts of about 200 words."""
    number = int(capture.request_id[-8:])
    words = [f"word{(number * 31 + n * 17) % 997}" for n in range(200)]
    live = pb.PredictResponse(text=" ".join(words)).SerializeToString()
    words[number % 200 : number % 200 + 20] = ["another"] * 12
    other = pb.PredictResponse(text=" ".join(words)).SerializeToString()
    request = pb.PredictRequest(model="m", request_id=capture.request_id, text=" ".join(words[::3])).SerializeToString()
    whole = replace(capture, request=request, response=live)
    seen = [replace(each, response=other if each.outcome is Outcome.DIVERGED else live) for each in observations]
    return StoredComparison(epoch_id=epoch.id, capture=whole, observations=seen, kept_because=why)


# What gathers in a year beside an experiment's traffic.
_YEAR = """
INSERT INTO review (comparison_id, version, epoch_id, verdict, reviewed_by, reviewed_at)
SELECT id, 'C', epoch_id, 'live better', 'ada', received_at FROM comparison
WHERE kept_because = 'diverged' AND id % 40 = 0;
INSERT INTO audit_log (at, actor, action, subject, detail)
SELECT now() - n * interval '3 minutes', 'ada', 'set_flag', 'm.A', '{"to": "shadow"}'
FROM generate_series(1, CAST(100000 * :scale AS int)) AS n;
INSERT INTO experiment (model, candidates, percent, noise_percent, rank_by, bucket_seconds, started_at, ends_at,
                        started_by, stopped_at, stop_reason)
SELECT 'm', '{A,B}', 25, 0, 'agreement', 3600, now() - (n + 20) * interval '1 day', now() - (n + 10) * interval '1 day',
       'ada', now() - (n + 10) * interval '1 day', 'its time box is over'
FROM generate_series(1, 300) AS n;
INSERT INTO flag_revision (key, revision, definition, changed_at, changed_by, reason)
SELECT 'm.A', -n, definition, now() - n * interval '1 hour', 'ada', 'bench'
FROM generate_series(1, 2000) AS n, flag_revision WHERE key = 'm.A' AND revision > 0;
INSERT INTO dead_letter (model, version, request_id, session_id, state, attempts, outcome, reason, detail, received_at,
                         cut, payload, created_at, changed_at, expires_at, claim, retry)
SELECT 'm', 'A', 'request-' || n, '', 'parked', 5, 'timeout', '', '', now(), false, :letter, now(), now(),
       now() + interval '7 days', '', '' FROM generate_series(1, 10000) AS n;
INSERT INTO alarm (kind, model, subject, detail, raised_at, seen_at, cleared_at, acknowledged_by, note)
SELECT 'shadow_silent', 'm', 'A', 'bench', now() - n * interval '1 hour', now() - n * interval '1 hour',
       now() - n * interval '50 minutes', '', '' FROM generate_series(1, 2000) AS n
"""


@contextmanager
def control(database_url: str) -> Iterator[tuple[str, int]]:
    """Control as a process of its own, until the block ends; its HTTP's address, and its clock of processor time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "multishadow_server", "control", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--http-listen", f"127.0.0.1:{port}", "--database-url", database_url],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "MULTISHADOW_AUTH": "off"},
        preexec_fn=dies_with_parent(),  # noqa: PLW1509  one system call, looked up before the fork
    )
    try:
        _wait_for(port, process)
        # The id of another process's clock on Linux (clock_getcpuclockid(3)).
        yield f"127.0.0.1:{port}", (~process.pid << 3) | 2
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError("control did not start")


class Browser:
    """Asks for pages over one connection that stays open."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60)

    def get(self, path: str) -> tuple[int, str, float]:
        """The page's status, its text, and how long it took in seconds."""
        began = time.perf_counter()
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        body = response.read()
        return response.status, body.decode(errors="replace"), time.perf_counter() - began


def routes() -> Sequence[Found]:
    """Everything that the application answers a GET on, but for its files."""
    # Routes are made of what answers them, which is not asked for anything here.
    pages, desk = MagicMock(), MagicMock()
    made = (route for part in application.PARTS for route in part(pages, desk))
    return [Found(route=route) for route in made if isinstance(route, Route) and "GET" in (route.methods or ())]


def explore(browser: Browser, found: Sequence[Found]) -> None:
    """Follow links from the first page on, a few pages of each route, those that were seen least first."""
    waiting, seen = deque(["/ui/"]), {"/ui/"}
    visits = 0
    while waiting and visits < MOST_VISITS:
        path = waiting.popleft()
        owner = next((each for each in found if _fits(each.route, path)), None)
        if owner is None or len(owner.paths) >= MOST_OF_A_ROUTE:
            continue
        status, body, _ = browser.get(path)
        visits += 1
        if status == 200:
            owner.paths.append(path)
            for link in map(unescape, _LINK.findall(body)):
                if link not in seen:
                    seen.add(link)
                    waiting.append(link)


def _fits(route: Route, path: str) -> bool:
    return route.path_regex.match(urlsplit(path).path) is not None


def complete(found: Sequence[Found], browser: Browser, ids: Mapping[str, object]) -> None:
    """Ask for routes that no link led to by ids that are there."""
    for each in found:
        names = _PARAMETER.findall(each.route.path)
        if not each.paths and all(name in ids for name in names):
            path = _PARAMETER.sub(lambda name: str(ids[name.group(1)]), each.route.path)
            if browser.get(path)[0] == 200:
                each.paths.append(path)


# What is asked of a list beyond what links lead to: filters that fit almost nothing, far places, every order.
HARD = (
    "?sort=newest&which=all",
    "?sort=slowest&which=all",
    "?sort=oldest&which=diverged&version=A",
    "?which=agreed",
    "?which=failed",
    "?which=all&segment=country%3DNO&version=A&least=0.5&most=0.52",
    "?which=all&segment=country%3DXX",
    "?reviewed=no&version=C&slower=100",
    "?reviewed=yes&which=all",
    "?after=0.45~60000",
    "?sort=newest&segment=app.version%3D3.4",
)


def harden(found: Sequence[Found]) -> None:
    """Add what is hardest for lists of comparisons."""
    for each in found:
        if each.route.path.endswith("/divergences") and each.paths:
            each.paths += [urlsplit(each.paths[0]).path + query for query in HARD]


def measure(browser: Browser, found: Sequence[Found], clock: int, *, times: int) -> tuple[Table, bool]:
    """Every page again and again, in turns; whether all answer in time.

    Processor time is control's own for one request: what a busy machine does not change, without the database's.
    """
    table = Table("page", "pages", "p50 ms", "p99 ms", "processor ms", "slowest of them", "")
    good = True
    for each in found:
        took: dict[str, list[float]] = {path: [] for path in each.paths}
        began = time.clock_gettime(clock)
        failed = [path for _ in range(times) for path in took if not _asked(browser, path, took[path])]
        spent = time.clock_gettime(clock) - began
        every = sorted(second for seconds in took.values() for second in seconds)
        if not every or failed:
            table.add_row(each.route.path, "0", "–", "–", "–", (failed or ["–"])[0], "NONE FOUND")
            good = False
            continue
        p50, p99 = (float(np.quantile(every, q)) for q in (0.5, 0.99))
        worst = max(took, key=lambda path: float(np.median(took[path])))
        # A page that is always slow is slow, however many others there are.
        slow = p99 > LIMIT_SECONDS or float(np.median(took[worst])) > LIMIT_SECONDS
        good = good and not slow
        table.add_row(
            each.route.path, str(len(took)), f"{p50 * 1e3:,.1f}", f"{p99 * 1e3:,.1f}",
            f"{spent / len(every) * 1e3:,.1f}", f"{np.median(took[worst]) * 1e3:,.0f} ms {worst}",
            "SLOW" if slow else "",
        )  # fmt: skip
    return table, good


def _asked(browser: Browser, path: str, took: list[float]) -> bool:
    status, _, seconds = browser.get(path)
    took.append(seconds)
    return status == 200


async def _ids(database_url: str) -> Mapping[str, object]:
    engine = open_engine(database_url)
    async with engine.connect() as connection:
        row = (
            await connection.execute(
                text(
                    "SELECT (SELECT min(id) FROM experiment) AS experiment_id, (SELECT min(id) FROM comparison) AS "
                    "comparison_id, (SELECT min(id) FROM dead_letter) AS letter_id, (SELECT min(name) FROM model) AS "
                    "model, (SELECT min(key) FROM flag) AS key, (SELECT min(id) FROM rollout) AS rollout_id"
                )
            )
        ).mappings().one()  # fmt: skip
    await engine.dispose()
    return {name: value for name, value in row.items() if value is not None}


def main() -> int:
    """Measure on a PostgreSQL and a control of its own, which end with the bench."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="a tenth of the comparisons, and fewer rounds")
    quick = arguments.parse_args().quick
    console = Console(width=200)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder) / "data")
        database_url = server.start()
        try:
            migrate(database_url)
            began = time.monotonic()
            counted, kept = asyncio.run(fill(database_url, scale=0.1 if quick else 1.0))
            console.print(
                f"{counted:,} comparisons count, {kept:,} of them are kept: in {time.monotonic() - began:.0f} s"
            )
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
            with control(database_url) as (address, clock):
                browser, found = Browser(address), routes()
                explore(browser, found)
                complete(found, browser, asyncio.run(_ids(database_url)))
                harden(found)
                table, good = measure(browser, found, clock, times=5 if quick else 20)
            console.print(table)
        finally:
            server.stop()
    console.print(
        "every page answers in time" if good else f"not every page answers within {LIMIT_SECONDS * 1e3:.0f} ms"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
