"""What control does of its own accord.

It ends experiments whose time box is over, keeps the others to their schedules, and counts labels that waited.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from multishadow_server.errors import MultishadowError
from multishadow_server.service import experiments, labelling, steering
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import ConfigurationSource, ControlStore, LabelStore

INTERVAL = 2.0

_log = logging.getLogger(__name__)


class Housekeeping:
    """One control process's rounds; several processes may make them at once.

    Args:
        store: where experiments are.
        source: tells the newest revision, which this process reports.
        labels: where labels wait for their requests.
        clock: the time, in seconds since the Unix epoch.
    """

    def __init__(
        self, store: ControlStore, source: ConfigurationSource, labels: LabelStore, *, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._source = source
        self._labels = labels
        self._clock = clock
        self._revision = 0
        self._ended = 0
        self._moved = 0
        self._labels_joined = 0
        self._failed_rounds = 0

    @property
    def revision(self) -> int:
        """The newest revision that was seen."""
        return self._revision

    def counters(self) -> Mapping[str, int]:
        """What was done since the start."""
        return {
            "experiments.ended": self._ended,
            "experiments.moved": self._moved,
            "labels.joined": self._labels_joined,
            "housekeeping.failed_rounds": self._failed_rounds,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Make rounds until `stop` is set. A round that fails is logged, and the next one tries again."""
        while not stop.is_set():
            try:
                await self._round()
            except MultishadowError as error:
                self._failed_rounds += 1
                _log.warning("housekeeping: %s", error)
            except Exception:  # noqa: BLE001  control that ended because of one odd label could roll nothing back
                self._failed_rounds += 1
                _log.exception("a round of housekeeping failed")
            await set_within(stop, INTERVAL)

    async def _round(self) -> None:
        for experiment in await experiments.end_overdue(self._store, clock=self._clock):
            self._ended += 1
            _log.info("experiment %d of %s: %s", experiment.id, experiment.model, experiment.stop_reason)
        for move in await steering.steer(self._store, clock=self._clock):
            self._moved += 1
            _log.info("%s: %s, revision %d", move.experiment.model, move.words, move.revision)
        self._revision = await self._source.revision()
        self._labels_joined += await labelling.sweep(self._store, self._labels, clock=self._clock)
