"""A whole small system with days of traffic behind it, for browsers to look at: control's web page and all behind it.

One of each role runs in a thread of its own, so that the event loops of tests come and go while it goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import psycopg

import page_traffic
from multishadow.v1 import alarms_pb2 as alarms
from multishadow.v1 import control_pb2 as pb
from multishadow.v1 import prediction_pb2 as prediction
from multishadow.v1 import rollouts_pb2 as rollouts
from multishadow_client._bearer import AsyncBearer
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.app import tokens as on_database
from multishadow_server.settings import Settings
from page_traffic import MODELS, ModelTraffic
from rolling_out import Rollouts
from routers import router
from running_control import control_addresses
from shadowed_traffic import append, connected, working
from waiting import PATIENCE, until

STARTED_WITHIN = 90.0
# On a busy machine even a version that answers at once may take a while.
PATIENT_MS = 30_000
# A model whose live version was promoted, and can be rolled back.
PROMOTED = "chat"
VOUCHED = ("agreement_only", "top_reviewed", "cost", "rollback_plan")
_COPIES = "SELECT sum(n) FROM rollup WHERE family = 'outcome'"
_PAST = """
    UPDATE experiment SET started_at = started_at - interval '2 days';
    UPDATE epoch SET opened_at = opened_at - interval '2 days';
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSystem:
    """A running system.

    Args:
        url: of control's HTTP, without a path.
        database_url: of its store.
        tokens: text by role.
    """

    url: str
    database_url: str
    tokens: Mapping[str, str]


@contextmanager
def page_system(database_url: str, nats_url: str) -> Iterator[PageSystem]:
    """Run it in a thread until the block ends."""
    ready, failed = threading.Event(), list[BaseException]()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, PageSystem]] = []

    async def run() -> None:
        stop = asyncio.Event()
        async with _system(database_url, nats_url) as system:
            running.append((asyncio.get_running_loop(), stop, system))
            ready.set()
            await stop.wait()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001  whoever waits for it raises it
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="page system")
    thread.start()
    try:
        assert ready.wait(STARTED_WITHIN), "the system did not start"
        if failed:
            raise failed[0]
        yield running[0][2]
    finally:
        for loop, stop, _ in running:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failed:
        raise failed[0]


@asynccontextmanager
async def _system(database_url: str, nats_url: str) -> AsyncIterator[PageSystem]:
    settings = Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name="page",
        log_partitions=2,
        worker_linger=0.05,
        kept_sample_per_hour=5,
        report_interval=0.5,
        alarm_clear_after=3_600.0,
        auth="tokens",
    )
    roles = ("viewer", "operator", "admin")
    tokens = {
        role: (await on_database.create(settings, name=f"the-{role}", role=role, life=None)).text for role in roles
    }
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(page_traffic.serving(page_traffic.version(name)))
            for name in ("base", "A", "B", "C")
        }
        client = await stack.enter_async_context(connected(nats_url))
        log = JetStreamLog(client, settings)
        await log.open()
        control, http = await stack.enter_async_context(
            control_addresses(
                database_url,
                **settings.model_dump(include={"nats_url", "log_name", "auth", "alarm_clear_after", "report_interval"}),
            )
        )
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(control, interceptors=[AsyncBearer(tokens["admin"])])
        )
        asked = Rollouts(channel)
        await stack.enter_async_context(working(settings))
        addresses = {name: server.address for name, server in servers.items()}
        for model in MODELS:
            revision = await _compare(asked, model, addresses)
            sent = list(page_traffic.captures(model, until=time.time(), revision=revision))
            await append(log, sent, per_message=100)
        await _all_counted(database_url)
        caller = await stack.enter_async_context(router(database_url, nats_url, settings.log_name))
        await _call(caller.channel)
        await _have_a_history(asked)
        yield PageSystem(url=f"http://{http}", database_url=database_url, tokens=tokens)


async def _compare(asked: Rollouts, model: ModelTraffic, addresses: Mapping[str, str]) -> int:
    """Register a model and start an experiment on its candidates; the revision that it began at."""
    # Whoever was registered first is live.
    names = (*model.versions[1:], model.versions[0]) if model.name == PROMOTED else model.versions
    versions = [pb.VersionSpec(name=name, address=addresses[name], timeout_ms=PATIENT_MS) for name in names]
    more: dict[str, Any] = {}
    if model.name == "spam":
        more["probes"] = alarms.ProbeSet(probes=[_probe()])
        more["dead_letters"] = pb.DeadLetterPolicy(retries=1, first_backoff_seconds=0.1)
    if model.in_session:
        more["sessions"] = pb.SessionTerms(idle_seconds=1_800, turn="turn", first=0)
    await asked.stub.ApplyModel(
        pb.ApplyModelRequest(
            model=model.name,
            versions=versions,
            gates=pb.GateLimits(minimum_duration_seconds=3_600, divergent_samples=5),
            actor="ada",
            **more,
        )
    )
    if model.name == PROMOTED:
        await asked.stub.Promote(
            pb.PromoteRequest(
                model=model.name,
                version=model.versions[0],
                force=True,
                reason="whole sentences",
                actor="ada",
            )
        )
    started = await asked.start(*model.versions[1:], model=model.name, percent=100)
    return int(started.revision)


def _probe() -> alarms.Probe:
    """One that no version passes."""
    request = prediction.PredictRequest(model="spam", request_id="probe", text="A question that was agreed on.")
    expected = prediction.PredictResponse(classification=prediction.Classification(label="no such label"))
    return alarms.Probe(name="agreed", request=request, expected=expected, every_seconds=60)


async def _all_counted(database_url: str) -> None:
    """Wait until every copy counts; then have it all begin as long ago as the requests came."""
    copies = sum(model.requests * (len(model.versions) - 1) for model in MODELS)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:

        async def counted() -> bool:
            found = await (await connection.execute(_COPIES.encode())).fetchone()
            return found is not None and found[0] == copies

        await until(counted, within=STARTED_WITHIN)
        await connection.execute(_PAST.encode())


async def _call(channel: grpc.aio.Channel) -> None:
    """Some live requests, so that there are production figures."""
    predict = channel.unary_unary(
        "/multishadow.v1.PredictionService/Predict",
        request_serializer=prediction.PredictRequest.SerializeToString,
        response_deserializer=prediction.PredictResponse.FromString,
    )
    for number in range(40):
        request = prediction.PredictRequest(model="spam", request_id=f"live-{number}", text=f"message {number}")
        await predict(request, timeout=PATIENCE)


async def _have_a_history(asked: Rollouts) -> None:
    """Flags that changed, a version that is paused, a rollout under way, and people who vouched."""
    for percent in (5, 20, 50):
        await asked.set_flag("A", pb.CLAIM_SHADOW, model="orders", percent=percent, reason=f"ramp to {percent} %")
    for what in VOUCHED:
        await asked.stub.Attest(pb.AttestRequest(model="search", version="A", what=what, note="looked at", actor="ada"))
    wish = rollouts.RolloutWish(
        model="summary", version="A", stages=[10, 50, 100], dwell_seconds=3_600.0, force=True, reason="try it out"
    )
    await asked.rollouts.StartRollout(rollouts.StartRolloutRequest(wish=wish))
