"""Staged rollouts of the demo's digit classifiers on real processes, while control is killed in the middle of them."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import struct_pb2
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from multishadow.v1 import control_pb2, prediction_pb2, rollouts_pb2
from multishadow_server.adapters.deployment import Deployment
from multishadow_server.demo import digits
from multishadow_server.settings import Settings
from rolling_out import Rollouts
from version_servers import Context, VersionServer, serving
from waiting import PATIENCE, until

CONNECTIONS = 6
PAUSE = 0.02
# The base of one model is replaced by a tree that is wrong a fifth of the time; that of the other, which was trained
# on a hundred images, by the classifier that saw them all.
MODELS = {"worse": {"base": "base", "new": "C"}, "better": {"base": "B", "new": "base"}}
STAGES = (30.0, 60.0, 100.0)


@dataclass
class Callers:
    """Real samples, one after another, to both models; `labels` says what was right."""

    address: str
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: list[grpc.aio.AioRpcError] = field(default_factory=list)
    labels: list[tuple[str, int]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def run(self, stop: asyncio.Event) -> None:
        """Call until `stop`."""
        samples, truth = digits.samples(), digits.images()[3]
        async with asyncio.TaskGroup() as callers:
            for _ in range(CONNECTIONS):
                callers.create_task(self._call(stop, samples, truth))

    async def _call(
        self, stop: asyncio.Event, samples: Sequence[prediction_pb2.PredictRequest], truth: digits.Labels
    ) -> None:
        # Without its own subchannel pool, channels to one address share a connection, and so a router.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            predict = channel.unary_unary(
                "/multishadow.v1.PredictionService/Predict",
                request_serializer=prediction_pb2.PredictRequest.SerializeToString,
                response_deserializer=prediction_pb2.PredictResponse.FromString,
            )
            while not stop.is_set():
                number = next(self._numbers)
                place, model = number % len(samples), tuple(MODELS)[number % 2]
                request = prediction_pb2.PredictRequest()
                request.CopyFrom(samples[place])
                request.model, request.request_id = model, f"request-{number}"
                call = predict(request, timeout=PATIENCE)
                try:
                    await call
                except grpc.aio.AioRpcError as error:
                    self.errors.append(error)
                else:
                    trailing = {str(key): str(value) for key, value in await call.trailing_metadata() or ()}
                    self.answers[model, trailing["x-multishadow-version"]] += 1
                    if model == "better":
                        self.labels.append((request.request_id, int(truth[place])))
                # Callers that never pause take the time in which control starts again, and shadows are compared.
                await asyncio.sleep(PAUSE)


@asynccontextmanager
async def version_servers() -> AsyncIterator[dict[str, VersionServer]]:
    """The demo's classifiers, each trained once."""
    async with AsyncExitStack() as stack:
        servers = {}
        for name in ("base", "B", "C"):
            trained = digits.train(name)

            async def answer(
                request: prediction_pb2.PredictRequest, _: Context, trained: Any = trained
            ) -> prediction_pb2.PredictResponse:
                return trained.answer(request)  # type: ignore[no-any-return]  # it is bound by default

            servers[name] = await stack.enter_async_context(serving(answer))
        yield servers


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        data_dir=tmp_path / "data",
        router_listen="127.0.0.1:0",
        control_listen="127.0.0.1:0",
        worker_linger=0.2,
        report_interval=0.3,
        rollout_interval=0.2,
    )


class Staging(Rollouts):
    """The rollouts of several models."""

    async def begin(self, model: str, **fields: Any) -> None:
        """Compare the two versions on every request, and start the rollout."""
        await self.stub.StartExperiment(
            control_pb2.StartExperimentRequest(
                model=model, candidates=["new"], bucket_seconds=1, duration_seconds=3_600, actor="ada"
            )
        )
        wish = rollouts_pb2.RolloutWish(
            model=model, version="new", stages=STAGES, dwell_seconds=1.0, force=True, reason="a rehearsal", **fields
        )
        await self.rollouts.StartRollout(rollouts_pb2.StartRolloutRequest(wish=wish))

    async def view(self, model: str) -> Any:
        """How a model's rollout stands; a control that starts again is waited for."""
        request = rollouts_pb2.GetRolloutRequest(model=model)
        return await self.rollouts.GetRollout(request, wait_for_ready=True, timeout=PATIENCE)

    async def ends(self, model: str, state: str) -> None:
        """Wait for a model's rollout to end, which must be like this."""

        async def ended() -> bool:
            return bool((await self.view(model)).rollout.HasField("ended_at"))

        await until(ended)
        rollout = (await self.view(model)).rollout
        assert rollout.state == state, rollout.note

    async def kill(self) -> None:
        """SIGKILL the control that answers, and wait until another one does."""
        (killed,) = await self._processes()
        os.kill(killed, signal.SIGKILL)

        async def another_answers() -> bool:
            try:
                found = await self._processes()
            except grpc.aio.AioRpcError:
                return False
            return any(pid != killed for pid in found)

        await until(another_answers)

    async def _processes(self) -> list[int]:
        """Process ids of controls; one that was killed is there, too, until it is taken for dead."""
        status = await self.stub.GetStatus(control_pb2.GetStatusRequest(), wait_for_ready=True)
        found = [process for process in status.processes if process.role == "control" and process.alive]
        newest = max(process.started_at.ToNanoseconds() for process in found)
        return [process.pid for process in found if process.started_at.ToNanoseconds() == newest]

    async def tell_labels(self, callers: Callers, stop: asyncio.Event) -> None:
        """Tell what the right answers were as they become known; what control was away for is told again."""
        told = 0
        while not stop.is_set():
            await asyncio.sleep(0.2)
            known = callers.labels[told:]
            requests = [
                control_pb2.ImportLabelsRequest(
                    model="better", request_id=request_id, value=struct_pb2.Value(string_value=str(label))
                )
                for request_id, label in known
            ]
            try:
                if requests:
                    await self.stub.ImportLabels(iter(requests))
            except grpc.aio.AioRpcError:
                continue
            told += len(known)


@pytest.mark.timeout(300)
async def test_a_worse_version_rolls_itself_back_and_a_better_one_completes_though_control_is_killed_in_both(
    settings: Settings,
) -> None:
    async with AsyncExitStack() as stack:
        # More threads than these small models need only wait for one another.
        stack.enter_context(threadpool_limits(limits=1))
        servers = await stack.enter_async_context(version_servers())
        endpoints = await stack.enter_async_context(Deployment(settings, routers=2, workers=1, report=print))
        control = Staging(await stack.enter_async_context(grpc.aio.insecure_channel(endpoints.control)))
        for model, versions in MODELS.items():
            await control.stub.ApplyModel(
                control_pb2.ApplyModelRequest(
                    model=model,
                    versions=[
                        control_pb2.VersionSpec(name=name, address=servers[trained].address)
                        for name, trained in versions.items()
                    ],
                    labels=control_pb2.LabelTerms(delay_seconds=0, keep_seconds=3_600),
                )
            )
        await control.begin("worse", max_divergence=0.02)
        # Better is different: its divergence is accepted, and labels say that it is right more often.
        await control.begin("better", max_divergence=0.4)
        # Nobody called yet: neither can have ended, however slow the machine is.
        assert [(await control.view(model)).rollout.state for model in MODELS] == ["running", "running"]
        callers, stop = Callers(endpoints.router), asyncio.Event()
        calling = asyncio.create_task(callers.run(stop))
        telling = asyncio.create_task(control.tell_labels(callers, stop))
        try:
            await control.kill()
            await control.ends("worse", "aborted")
            await control.ends("better", "completed")
        finally:
            stop.set()
            await calling
            await telling
        worse, better = await control.view("worse"), await control.view("better")

    assert callers.errors == []
    # Proven to differ from the base by more than was accepted: severely, or broken with no smaller stage to go back to.
    assert "divergence (" in worse.rollout.note
    assert (worse.rollout.state, worse.events[-1].percent) == ("aborted", 0)
    assert [(event.move, event.percent) for event in better.events] == [
        ("start", 30),
        ("advance", 60),
        ("advance", 100),
        ("complete", 100),
    ]
    (accuracy,) = [each for each in better.events[-1].findings if each.name == "accuracy"]
    assert accuracy.found.startswith("+"), accuracy
    # Who was never meant to answer more than a share did not; who completed answers everything.
    assert callers.answers["worse", "new"] < callers.answers["worse", "base"]
    assert callers.answers["better", "new"] > 0
