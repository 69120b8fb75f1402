"""Workers are killed with SIGKILL under load, again and again: every capture counts exactly once."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multishadow.v1 import prediction_pb2
from multishadow_server.core.capture import Capture
from multishadow_server.settings import Settings
from shadowed_traffic import Stage, append, staged
from version_servers import Behaviour, Context, answering, diverges_on, diverging, failing
from waiting import until

KILLS = 6
BURSTS = 30
PER_BURST = 40


class Workers:
    """Worker processes; a killed one is replaced."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._environment = {
            **os.environ,
            "MULTISHADOW_DATABASE_URL": str(settings.database_url),
            "MULTISHADOW_NATS_URL": str(settings.nats_url),
            "MULTISHADOW_LOG_NAME": settings.log_name,
            "MULTISHADOW_WORKER_LINGER": "0.02",
        }
        self._log = folder / "workers.log"
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start one more."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "multishadow_server", "worker"]
            self._running.append(subprocess.Popen(command, env=self._environment, stdout=log, stderr=log))

    def kill(self, place: int) -> None:
        """SIGKILL one and start another in its place."""
        worker = self._running.pop(place)
        worker.kill()
        worker.wait(10)
        self.start()

    def all_ready(self) -> bool:
        """Whether each has said so: one that is still starting would end by the signal, not in order."""
        said = self._log.read_text()
        return all(re.search(rf"ready on \S*-{worker.pid}$", said, re.MULTILINE) for worker in self._running)

    def stop(self) -> None:
        """End all of them in order; each must end well."""
        for worker in self._running:
            worker.terminate()
        codes = [worker.wait(30) for worker in self._running]
        assert set(codes) == {0}, self._log.read_text()[-3000:]


@contextmanager
def workers(settings: Settings, folder: Path, *, count: int) -> Iterator[Workers]:
    running = Workers(settings, folder)
    try:
        for _ in range(count):
            running.start()
        yield running
    finally:
        running.stop()


async def test_every_capture_counts_exactly_once_however_often_workers_are_killed(
    database_url: str, nats_url: str, log_name: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=4)
    gate = asyncio.Event()
    gate.set()
    behaviours = {"A": _held(gate, answering()), "B": diverging(0.2), "C": failing()}
    async with staged(settings, behaviours) as stage:
        with workers(settings, tmp_path, count=2) as running:
            sent = await _load_and_kill(stage, running, gate)
            await until(stage.drained)
        assert await stage.counts.family("error_reason") == Counter({("C", "INTERNAL"): len(sent)})
        diverged = sum(diverges_on(capture.request_id, 0.2) for capture in sent)
        assert await stage.counts.outcomes() == Counter(
            {
                ("A", "ok"): len(sent),
                ("B", "ok"): len(sent) - diverged,
                ("B", "diverged"): diverged,
                ("C", "error"): len(sent),
            }
        )
        assert stage.servers["A"].calls.total() > len(sent), "no kill hit a micro-batch under way"


async def _load_and_kill(stage: Stage, running: Workers, gate: asyncio.Event) -> list[Capture]:
    """Log captures without pause, and kill workers in the middle of them."""
    dice = random.Random(7)
    sent: list[Capture] = []
    kills = 0
    for burst in range(BURSTS):
        due = kills < KILLS and burst >= (kills + 1) * BURSTS // (KILLS + 1)
        if due:
            # From here on calls stay under way, however fast the workers are: the kill lands within a micro-batch.
            gate.clear()
        captures = stage.captures(PER_BURST, prefix=f"burst-{burst}")
        await append(stage.log, captures, per_message=5)
        sent += captures
        if due:
            await until(lambda: stage.servers["A"].under_way)
            await asyncio.to_thread(running.kill, dice.randrange(2))
            gate.set()
            kills += 1
    assert kills == KILLS
    await until(running.all_ready)
    return sent


def _held(gate: asyncio.Event, behaviour: Behaviour) -> Behaviour:
    """The same behaviour while the gate is open."""

    async def predict(request: prediction_pb2.PredictRequest, context: Context) -> prediction_pb2.PredictResponse:
        await gate.wait()
        return await behaviour(request, context)

    return predict
