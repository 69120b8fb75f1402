"""The demonstration, station by station. Each station says what happens and checks what it claims."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from multishadow.v1 import control_pb2 as control
from multishadow.v1 import control_pb2_grpc as control_grpc
from multishadow.v1 import prediction_pb2 as prediction
from multishadow_server.adapters.deployment import Deployment, Endpoints
from multishadow_server.adapters.processes import Program, Supervisor, multishadow
from multishadow_server.demo import catalogue
from multishadow_server.demo.model import DemoModel
from multishadow_server.demo.presentation import Stage
from multishadow_server.demo.traffic import CONNECTIONS, Callers, Tally
from multishadow_server.errors import FailedPrecondition
from multishadow_server.service.ending import end, unless_set
from multishadow_server.settings import Settings

ACTOR = "demo"
ROUTERS = 2
WORKERS = 1
# What two cores take with ease beside everything else that runs here.
FASTEST_PER_SECOND = 60.0
LOOK_SECONDS = 0.5
COUNTED_WITHIN_SECONDS = 15.0
FOLLOWED_WITHIN_SECONDS = 15.0
FLIPPED_WITHIN_SECONDS = 5.0
CALLS_AFTER_FLIP = 200
# A machine that does other things as well takes its time, and a demonstration that gives up shows nobody anything.
CALL_SECONDS = 60.0

WHY_ALL_THE_SAME = "a demonstration: it diverges least, and is rolled back in a moment"

INTERRUPTED = 130  # exit code, as a shell says it of SIGINT

Samples = Mapping[str, Sequence[prediction.PredictRequest]]
Comparisons = dict[str, control.CompareResponse]


async def tell(stop: asyncio.Event, *, keep: bool, seconds: float, console: Console) -> int:
    """Run the demonstration; leave nothing behind.

    Args:
        stop: ends it early.
        keep: whether to leave everything running at the end until `stop`.
        seconds: how long to send traffic before promoting.
        console: where to print.

    Returns:
        The exit code: 0 when every station did what it claims, 1 when one did not, 130 when `stop` ended it early.

    Raises:
        MultishadowError: something did not start, or control refused what it should not.
    """
    stage = Stage(console)
    begin = time.monotonic()
    async with AsyncExitStack() as resources:
        try:
            if not await unless_set(stop, _play(resources, stage, seconds=seconds, keep=keep)):
                return INTERRUPTED
        except grpc.aio.AioRpcError as error:
            raise FailedPrecondition(f"control answered {error.code().name}: {error.details()}") from error
        if keep:
            await stop.wait()
        stage.chapter("Stopping everything")
    if stage.failures:
        stage.say(f"[bold red]{len(stage.failures)} claims did not hold.[/bold red]")
        return 1
    stage.say(f"Everything held; {time.monotonic() - begin:.0f} s in all. Nothing is left running.")
    return 0


async def _play(resources: AsyncExitStack, stage: Stage, *, seconds: float, keep: bool) -> None:
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="multishadow-demo-")))
    addresses = await _serve_versions(resources, stage)
    endpoints = await _serve_roles(resources, stage, folder)
    channel = grpc.aio.insecure_channel(endpoints.control, options=[("grpc.enable_http_proxy", 0)])
    stub = control_grpc.ControlServiceStub(await resources.enter_async_context(channel))
    callers = await resources.enter_async_context(Callers(endpoints.router))
    samples = {model.name: model.samples() for model in catalogue.models()}

    await _register(stage, stub, addresses)
    comparisons = await _compare_under_traffic(stage, stub, callers, samples, seconds=seconds)
    winner = _conclude(stage, comparisons)
    if winner:
        await _promote_and_roll_back(stage, stub, callers, samples["digits"], winner)
    _by_hand(stage, endpoints, winner=winner or "A", keep=keep)


# --- stations -----------------------------------------------------------------------------------------------------


async def _serve_versions(resources: AsyncExitStack, stage: Stage) -> Mapping[tuple[str, str], str]:
    """Each version in a process of its own; their addresses by (model, version)."""
    stage.chapter("1  Eight versions of two models, each trained and served by a process of its own")
    supervisor = await resources.enter_async_context(Supervisor(report=stage.say, drain_seconds=5.0))
    named = [(model, version) for model in catalogue.models() for version in model.versions]
    programs = [
        Program(name=f"{model.name} {version}", command=multishadow("version-server", model.name, version))
        for model, version in named
    ]
    children = await supervisor.start_together(programs)
    return {(model.name, version): child.address for (model, version), child in zip(named, children, strict=True)}


async def _serve_roles(resources: AsyncExitStack, stage: Stage, folder: Path) -> Endpoints:
    stage.chapter("2  PostgreSQL, nats-server, two routers, a worker and control, in a temporary folder")
    # Whatever stands in the environment is meant for the real thing.
    for side, what in itertools.product(("TLS", "VERSIONS", "NATS"), ("CERT", "KEY", "CA", "CLIENT_CA")):
        # Child processes would find them there.
        os.environ.pop(f"MULTISHADOW_{side}_{what}", None)
    free = "127.0.0.1:0"
    own: dict[str, Any] = {
        "database_url": None,
        "nats_url": None,
        "router_listen": free,
        "control_listen": free,
        "http_listen": free,
        "auth": "off",
    }
    settings = Settings(data_dir=folder, **own)
    deployment = Deployment(settings, routers=ROUTERS, workers=WORKERS, report=stage.say, log_level="error")
    endpoints = await resources.enter_async_context(deployment)
    stage.say(f"callers ask the router at {endpoints.router}; shadowctl asks control at {endpoints.control}")
    stage.say(f"watch it in a browser: http://{endpoints.http}/ui/")
    return endpoints


async def _register(
    stage: Stage, stub: control_grpc.ControlServiceAsyncStub, addresses: Mapping[tuple[str, str], str]
) -> None:
    stage.chapter("3  Register the versions; shadow A, B and C on all traffic")
    for model in catalogue.models():
        await stub.ApplyModel(_registration(model, addresses), timeout=CALL_SECONDS)
        start = control.StartExperimentRequest(model=model.name, candidates=model.candidates, actor=ACTOR)
        await stub.StartExperiment(start, timeout=CALL_SECONDS)
        stage.say(f"{model.name} {model.title}: callers get {model.base}; {', '.join(model.candidates)} get copies")
    # Routers follow within milliseconds. The very first requests would still go unshadowed, and here all are counted.
    status = await stub.GetStatus(control.GetStatusRequest(), timeout=CALL_SECONDS)
    stage.check(
        holds=await _routers_follow(stub, status.revision),
        claim=f"both routers follow revision {status.revision} of the flags",
    )


async def _compare_under_traffic(
    stage: Stage, stub: control_grpc.ControlServiceAsyncStub, callers: Callers, samples: Samples, *, seconds: float
) -> Comparisons:
    """Send each sample at most once, so that every comparison is of a new input; return the final comparisons."""
    rates = {model: min(len(found) / seconds, FASTEST_PER_SECOND) for model, found in samples.items()}
    planned = {model: found[: round(rates[model] * seconds)] for model, found in samples.items()}
    count = sum(len(found) for found in planned.values())
    stage.chapter(f"4  {count:,} real held-out samples as traffic, each sent once, in about {seconds:.0f} s")
    tallies = {model: Tally() for model in planned}
    decided: dict[str, int] = {}
    comparisons: Comparisons = {}
    with stage.progress({model: len(found) for model, found in planned.items()}) as view:

        async def look() -> None:
            for model in planned:
                comparisons[model] = await _compare(stub, model)
                if comparisons[model].state == "decided":
                    decided.setdefault(model, max(report.n for report in comparisons[model].candidates))
            view.update({model: tally.sent for model, tally in tallies.items()}, comparisons, time.monotonic())

        async def send() -> None:
            replays = (callers.replay(found, tallies[model], rate=rates[model]) for model, found in planned.items())
            await asyncio.gather(*replays)

        async with _meanwhile(send()) as sending:
            while not sending.done():
                await look()
                await asyncio.wait([sending], timeout=LOOK_SECONDS)
        deadline = time.monotonic() + COUNTED_WITHIN_SECONDS
        while not _all_counted(comparisons, tallies) and time.monotonic() < deadline:
            await look()
            await asyncio.sleep(LOOK_SECONDS / 5)
    _check_traffic(stage, comparisons, tallies)
    for model, comparison in comparisons.items():
        stage.show(comparison)
        if model in decided:
            stage.say(
                f"{model}: decided after {decided[model]:,} comparisons. It may be looked at any time and as often as "
                "you like; the 95 % hold."
            )
    return comparisons


def _check_traffic(stage: Stage, comparisons: Comparisons, tallies: Mapping[str, Tally]) -> None:
    for model, tally in tallies.items():
        base = catalogue.model_named(model).base
        stage.check(
            holds=tally.answers[base] == tally.sent,
            claim=f"{model}: every caller got an answer, and only ever {base}'s ({tally.describe()})",
        )
        for error, times in tally.errors.most_common(3):
            stage.say(f"[red]{times:,} × {error}[/red]")
    stage.check(
        holds=_all_counted(comparisons, tallies),
        claim="every copy to every candidate was counted exactly once",
    )


def _conclude(stage: Stage, comparisons: Comparisons) -> str | None:
    """The winner to promote. Only a decided comparison has one."""
    comparison = comparisons["digits"]
    expected = catalogue.model_named("digits").candidates[0]
    stage.check(
        holds=comparison.state == "decided" and comparison.winner == expected,
        claim=f"digits: the evidence is in, and {comparison.winner or 'nobody'} is the winner",
    )
    if comparison.state != "decided" or not comparison.winner:
        stage.say("Not decided, so nobody is promoted.")
        return None
    stage.say("summary is left as it is: what its comparison advises takes longer than a demonstration.")
    return comparison.winner


async def _promote_and_roll_back(
    stage: Stage,
    stub: control_grpc.ControlServiceAsyncStub,
    callers: Callers,
    samples: Sequence[prediction.PredictRequest],
    winner: str,
) -> None:
    base = catalogue.model_named("digits").base
    before = await _router_processes(stub)
    tally, over = Tally(), asyncio.Event()
    calls = callers.replay(itertools.cycle(samples), tally, rate=FASTEST_PER_SECOND, until=over.is_set)
    async with _meanwhile(calls) as calling:
        stage.chapter(f"5  Promote {winner}, while callers keep calling")
        promotion = control.PromoteRequest(model="digits", version=winner, actor=ACTOR, reason=WHY_ALL_THE_SAME)
        await _be_refused(stage, stub, promotion)
        promotion.force = True
        await _flip(stage, callers, samples, winner, lambda: stub.Promote(promotion, timeout=CALL_SECONDS))
        stage.chapter(f"6  Roll back to {base}, while callers keep calling")
        rollback = control.RollbackRequest(model="digits", actor=ACTOR, reason="to show that it works")
        await _flip(stage, callers, samples, base, lambda: stub.Rollback(rollback, timeout=CALL_SECONDS))
        over.set()
        await calling
    stage.check(
        holds=not tally.errors and set(tally.answers) == {base, winner},
        claim=f"callers noticed nothing meanwhile: {tally.describe()}",
    )
    for error, times in tally.errors.most_common(3):
        stage.say(f"[red]{times:,} × {error}[/red]")
    after = await _router_processes(stub)
    stage.check(
        holds=before == after and len(after) == ROUTERS,
        claim=f"in the same router processes all along (pids {', '.join(str(pid) for pid, _ in after)})",
    )


async def _be_refused(
    stage: Stage, stub: control_grpc.ControlServiceAsyncStub, promotion: control.PromoteRequest
) -> None:
    """See that a minute of traffic, which nobody vouched for, does not pass the gates."""
    gates = await stub.ListGates(
        control.ListGatesRequest(model=promotion.model, candidates=[promotion.version]), timeout=CALL_SECONDS
    )
    stage.show_gates(gates)
    refusal = ""
    try:
        await stub.Promote(promotion, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        refusal = error.details() or ""
    stage.check(
        holds="minimum_duration" in refusal and "nothing changed" in refusal,
        claim=f"control refuses to promote {promotion.version} after a minute of traffic that nobody vouched for",
    )
    stage.say(f"This is a demonstration, so it goes on all the same, with force and a reason: {promotion.reason}.")


async def _flip(
    stage: Stage,
    callers: Callers,
    samples: Sequence[prediction.PredictRequest],
    version: str,
    change: Callable[[], Awaitable[object]],
) -> None:
    """Make a change of flags, and see the next calls answered by `version`."""
    await change()
    changed = time.monotonic()
    answered = Tally()
    # One call on each connection, so that both routers are asked.
    while answered.answers[version] < CONNECTIONS and time.monotonic() - changed < FLIPPED_WITHIN_SECONDS:
        answered = Tally()
        await asyncio.gather(*(callers.count(sample, answered) for sample in samples[:CONNECTIONS]))
    waited = time.monotonic() - changed
    tally = Tally()
    for number in range(CALLS_AFTER_FLIP):
        await callers.count(samples[number % len(samples)], tally)
    stage.check(
        holds=tally.answers[version] == CALLS_AFTER_FLIP,
        claim=f"one flag was written; {1000 * waited:.0f} ms later {version} had answered on every connection, and it "
        f"answered the next {CALLS_AFTER_FLIP} calls: {tally.describe()}",
    )


def _by_hand(stage: Stage, endpoints: Endpoints, *, winner: str, keep: bool) -> None:
    if keep:
        stage.chapter("Everything keeps running until Ctrl-C. Go on by hand, in another terminal:")
        stage.say(f"export MULTISHADOW_ROUTER={endpoints.router} MULTISHADOW_CONTROL={endpoints.control}")
        stage.say(f"or in a browser: http://{endpoints.http}/ui/")
    else:
        stage.chapter("To go on by hand: multishadow demo --keep, which says where to connect to; then, for example")
    stage.say("multishadow traffic digits --rate 50")
    for command in ("status", "compare --model digits --watch", "get flags", f"promote {winner} --model digits"):
        stage.say(f"shadowctl {command}")
    stage.say("Your own model: see the quick start in README.md.")


# --- what stations are made of --------------------------------------------------------------------------------------


def _registration(model: DemoModel, addresses: Mapping[tuple[str, str], str]) -> control.ApplyModelRequest:
    versions = [control.VersionSpec(name=name, address=addresses[model.name, name]) for name in model.versions]
    return control.ApplyModelRequest(model=model.name, versions=versions, actor=ACTOR)


async def _compare(stub: control_grpc.ControlServiceAsyncStub, model: str) -> control.CompareResponse:
    return await stub.Compare(control.CompareRequest(model=model), timeout=CALL_SECONDS)


def _all_counted(comparisons: Comparisons, tallies: Mapping[str, Tally]) -> bool:
    return all(
        report.n + report.uncomparable + report.dropped + report.duplicates == tallies[model].sent
        for model, comparison in comparisons.items()
        for report in comparison.candidates
    )


async def _router_processes(stub: control_grpc.ControlServiceAsyncStub) -> Sequence[tuple[int, int]]:
    """(pid, start in seconds since the Unix epoch) of every router that lives."""
    status = await stub.GetStatus(control.GetStatusRequest(), timeout=CALL_SECONDS)
    routers = (process for process in status.processes if process.role == "router" and process.alive)
    return sorted((process.pid, process.started_at.seconds) for process in routers)


async def _routers_follow(stub: control_grpc.ControlServiceAsyncStub, revision: int) -> bool:
    """Wait until every router says that it acts on the revision."""
    deadline = time.monotonic() + FOLLOWED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        status = await stub.GetStatus(control.GetStatusRequest(), timeout=CALL_SECONDS)
        routers = [process for process in status.processes if process.role == "router" and process.alive]
        if len(routers) == ROUTERS and all(router.revision >= revision for router in routers):
            return True
        await asyncio.sleep(LOOK_SECONDS / 5)
    return False


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Do some work while the block runs; what is left of it when the block ends is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await end(task)
