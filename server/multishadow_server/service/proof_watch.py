"""Control looks whether experiments have proven something that has to be told: a winner, or that a gate fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from multishadow_server.core import webhook_events
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.webhooks import Event, EventType
from multishadow_server.errors import FailedPrecondition, MultishadowError, NotFound, StoreUnavailable
from multishadow_server.service import comparison_report
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import ControlStore, WebhookQueue

INTERVAL = 30.0
"""Seconds between looks. A report costs some milliseconds, however much was compared, and nobody waits for it."""

AFTER_SECONDS = 3_600.0
"""For so long after its end an experiment is looked at: workers may still count what was asked before."""

_TOLD = (EventType.WINNER_PROVEN, EventType.GATE_FAILED)

_log = logging.getLogger(__name__)


class ProofWatch:
    """One control process's looks; several may make them: what they find is told once, see `Event.once`.

    Args:
        store: where experiments are.
        queue: where what is told goes.
        clock: the time, in seconds since the Unix epoch.
        interval: seconds between looks.
    """

    def __init__(
        self, store: ControlStore, queue: WebhookQueue, *, clock: Callable[[], float], interval: float = INTERVAL
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._interval = interval
        self._failed = 0

    def counters(self) -> Mapping[str, int]:
        """Looks that failed since the start."""
        return {"webhooks.failed_looks": self._failed}

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set. A look that fails is logged, and the next one tries again."""
        while not stop.is_set():
            try:
                await self.look()
            except MultishadowError as error:
                self._failed += 1
                _log.warning("looking for winners: %s", error)
            except Exception:  # noqa: BLE001  control that ended because of one odd count could roll nothing back
                self._failed += 1
                _log.exception("a look for winners failed")
            await set_within(stop, self._interval)

    async def look(self) -> int:
        """Tell what is proven by now and was not told; returns how many deliveries that makes.

        Raises StoreUnavailable.
        """
        if not await self._queue.told(_TOLD):
            return 0
        found: list[Event] = []
        for experiment in await self._store.experiments():
            if experiment.running or self._ended_lately(experiment):
                found += await self._proofs(experiment.id)
        return await self._queue.enqueue(found)

    def _ended_lately(self, experiment: Experiment) -> bool:
        """Whether workers may still have counted what proves something."""
        ended = experiment.stopped_at
        return ended is not None and self._clock() - ended < AFTER_SECONDS

    async def _proofs(self, experiment_id: int) -> list[Event]:
        try:
            report = await comparison_report.compare(self._store, experiment_id=experiment_id, clock=self._clock)
        except (FailedPrecondition, NotFound):  # it has compared nothing yet, or is gone
            return []
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001  what is wrong with one experiment keeps nothing of the others back
            _log.exception("what experiment %d has proven cannot be told", experiment_id)
            return []
        return webhook_events.proofs(report.experiment, report.epoch, report.report, report.reviews, at=report.read_at)
