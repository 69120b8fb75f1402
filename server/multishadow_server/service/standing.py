"""How everything stands, for metrics: read when somebody asks, and shared by all who ask at about the same time."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from multishadow_server.core import serving
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.control_metrics import CandidateStanding, Drift, Standing
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.core.gate_findings import apparatus
from multishadow_server.core.rollup import Family
from multishadow_server.errors import FailedPrecondition, MultishadowError, StoreUnavailable
from multishadow_server.service import comparison_report, segments
from multishadow_server.service.ending import end
from multishadow_server.service.ports import AlarmStore, ControlStore, LetterFilter, LetterStore, RolloutStore
from multishadow_server.service.status import QUIET_SECONDS

FRESH_SECONDS = 10.0
"""A reading is good for so long: Prometheus usually asks every 15 s, and each of several asks on its own."""
SEGMENTS_SECONDS = 300.0
"""How often kinds of request are looked at: their counts are the most there are, and their evidence is by the hour."""
PATIENCE_SECONDS = 2.0
"""Longest time that whoever asks waits for a new one; the last one does meanwhile."""

_log = logging.getLogger(__name__)


class StandingReader:
    """Reads how everything stands. While the store is away, what it told last stays, with its age.

    Args:
        store, alarms, rollouts, letters: tell it.
        clock: the time, in seconds since the Unix epoch.
        monotonic: seconds of a clock that only goes forward.
        patience: see PATIENCE_SECONDS.

    Attributes:
        standing: the last reading; None before the first.
        failures: readings that failed.
    """

    def __init__(
        self,
        store: ControlStore,
        alarms: AlarmStore,
        rollouts: RolloutStore,
        letters: LetterStore,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._store = store
        self._alarms = alarms
        self._rollouts = rollouts
        self._letters = letters
        self._clock = clock
        self._monotonic = monotonic
        self._patience = patience
        self._read_at = -math.inf
        self._segments: dict[int, tuple[float, Mapping[str, int]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._away = False
        self.standing: Standing | None = None
        self.failures = 0

    @property
    def age(self) -> float:
        """Of the last reading, in seconds; infinite before the first."""
        return self._monotonic() - self._read_at

    async def refresh(self) -> None:
        """Read anew unless the last reading is fresh; waits a moment at most, and goes on reading after that."""
        if self._reading is None:
            if self.age < FRESH_SECONDS:
                return
            self._reading = asyncio.create_task(self._read())
        reading = self._reading
        await asyncio.wait((reading,), timeout=self._patience)
        if reading.done() and self._reading is reading:
            self._reading = None

    async def aclose(self) -> None:
        """Read no more."""
        await end(self._reading)

    async def _read(self) -> None:
        try:
            self.standing = await self._found()
        except MultishadowError as error:
            self.failures += 1
            if not self._away:
                _log.warning("metrics: how everything stands cannot be read, the last reading stays: %s", error)
            self._away = True
        except Exception:  # noqa: BLE001  whatever it is, it ends no scrape
            # Metrics of everything else are worth having without it.
            self.failures += 1
            if not self._away:
                _log.exception("metrics: how everything stands cannot be read, the last reading stays")
            self._away = True
        else:
            self._read_at, self._away = self._monotonic(), False

    async def _found(self) -> Standing:
        now = self._clock()
        configuration = await self._store.read()
        processes = await self._store.processes()
        running = await self._store.experiments(running=True)
        return Standing(
            now=now,
            live=_live(configuration),
            candidates=[candidate for each in running for candidate in await self._candidates(each)],
            rollouts=await self._rollouts.rollouts(running=True),
            alarms=await self._alarms.alarms(),
            letters=await self._letters.counted(LetterFilter()),
            processes=Counter(each.role for each in processes if now - each.seen_at <= QUIET_SECONDS),
        )

    async def _candidates(self, experiment: Experiment) -> Sequence[CandidateStanding]:
        try:
            found = await comparison_report.compare(self._store, experiment_id=experiment.id, clock=self._clock)
        except FailedPrecondition:
            # It has compared nothing yet.
            return ()
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001  metrics of everything else are worth having without it
            _log.exception("metrics: experiment %d cannot be reported on", experiment.id)
            return ()
        buckets = await self._store.buckets(found.epoch.id, [Family.OUTCOME])
        hours = {start: rollup.tables() for start, rollup in buckets.items()}
        reviews = {review.version: review for review in found.reviews}
        standing = []
        worse = await self._worse_segments(found.epoch)
        for report in found.report.candidates:
            alarm = apparatus.drift_alarm(hours, report.version, bucket_seconds=found.epoch.bucket_seconds)
            way = None if alarm is None else Drift.RISING if alarm.rising else Drift.FALLING
            review = reviews[report.version]
            standing.append(
                CandidateStanding(
                    model=experiment.model, report=report, review=review, drift=way, segments=worse.get(report.version)
                )
            )
        return standing

    async def _worse_segments(self, epoch: Epoch) -> Mapping[str, int]:
        """By candidate: how many kinds of request diverge more often than the others."""
        looked_at, worse = self._segments.get(epoch.id, (-math.inf, {}))
        if self._monotonic() - looked_at < SEGMENTS_SECONDS:
            return worse
        worse = await segments.worse_than_the_rest(self._store, epoch)
        self._segments[epoch.id] = (self._monotonic(), worse)
        return worse


def _live(configuration: Configuration) -> dict[str, str]:
    found = {name: serving.live_version(model, configuration.flags) for name, model in configuration.models.items()}
    return {name: version.name for name, version in found.items() if version is not None}
