"""Callers: real samples, one after another, through a router."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

import grpc

from multishadow.v1 import prediction_pb2 as prediction
from multishadow.v1 import prediction_pb2_grpc as prediction_grpc

# As callers have them: several connections, which the kernel spreads over the routers that share the port.
CONNECTIONS = 8
DEADLINE_SECONDS = 10.0
VERSION_KEY = "x-multishadow-version"


@dataclass(kw_only=True, slots=True)
class Tally:
    """What callers got: answers by version, errors by message."""

    answers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        """Requests that have an answer or an error."""
        return self.answers.total() + self.errors.total()

    def describe(self) -> str:
        """In words, e.g. "live 120, A 80, errors 0"."""
        by_version = [f"{version or '?'} {count:,}" for version, count in self.answers.items()]
        return ", ".join([*by_version, f"errors {self.errors.total():,}"])


class Callers:
    """Connections to a router; leaving the block closes them.

    Args:
        router: its address.
    """

    def __init__(self, router: str) -> None:
        self._router = router
        self._resources = AsyncExitStack()
        self._stubs: Sequence[prediction_grpc.PredictionServiceAsyncStub] = ()
        self._run = uuid.uuid4().hex[:8]
        self._numbers = itertools.count()

    async def __aenter__(self) -> Self:
        # gRPC would otherwise make one connection of all channels to the same address.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channels = [grpc.aio.insecure_channel(self._router, options=options) for _ in range(CONNECTIONS)]
        for channel in channels:
            await self._resources.enter_async_context(channel)
        self._stubs = [prediction_grpc.PredictionServiceStub(channel) for channel in channels]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def ask(self, sample: prediction.PredictRequest) -> str:
        """Send one request; return the name of the version that answered. Raises grpc.aio.AioRpcError."""
        number = next(self._numbers)
        request = prediction.PredictRequest()
        request.CopyFrom(sample)
        request.request_id = f"{self._run}-{number}"
        call = self._stubs[number % CONNECTIONS].Predict(request, timeout=DEADLINE_SECONDS)
        await call
        return next((str(value) for key, value in await call.trailing_metadata() if key == VERSION_KEY), "")

    async def count(self, sample: prediction.PredictRequest, tally: Tally) -> None:
        """Send one request and add what came of it."""
        try:
            tally.answers[await self.ask(sample)] += 1
        except grpc.aio.AioRpcError as error:
            tally.errors[f"{error.code().name}: {error.details()}"] += 1

    async def replay(
        self,
        samples: Iterable[prediction.PredictRequest],
        tally: Tally,
        *,
        rate: float,
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send samples at `rate` per second, whether or not earlier ones were answered, and wait for all answers.

        A rate that this machine cannot hold comes out lower: no more than ten seconds' worth are ever under way.
        """
        clock = asyncio.get_running_loop().time
        begin = clock()
        most = asyncio.Semaphore(max(1, round(rate * DEADLINE_SECONDS)))

        async def send(sample: prediction.PredictRequest) -> None:
            try:
                await self.count(sample, tally)
            finally:
                most.release()

        async with asyncio.TaskGroup() as group:
            for number, sample in enumerate(samples):
                await asyncio.sleep(max(0.0, begin + number / rate - clock()))
                if until():
                    break
                await most.acquire()
                group.create_task(send(sample))


async def run(
    samples: Sequence[prediction.PredictRequest],
    router: str,
    stop: asyncio.Event,
    *,
    rate: float,
    seconds: float,
    report: Callable[[str], None],
) -> Tally:
    """Replay samples for some time, over and over; say every second who answered, and in the end what failed."""
    tally = Tally()
    clock = asyncio.get_running_loop().time
    begin = clock()

    def over() -> bool:
        return stop.is_set() or clock() - begin >= seconds

    async with Callers(router) as callers, asyncio.TaskGroup() as group:
        sending = group.create_task(callers.replay(itertools.cycle(samples), tally, rate=rate, until=over))
        while not sending.done():
            await asyncio.wait([sending], timeout=1.0)
            report(f"{clock() - begin:4.0f} s  {tally.describe()}")
    for error, times in tally.errors.most_common(3):
        report(f"{times:,} × {error}")
    return tally
