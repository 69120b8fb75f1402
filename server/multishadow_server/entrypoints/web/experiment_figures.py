"""The figures of an experiment's pages: reused for a moment, and worked out before anybody asks."""

from __future__ import annotations

import asyncio
import logging

from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.entrypoints.web import experiment_gates
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.experiment_gates import Counted
from multishadow_server.errors import FailedPrecondition, MultishadowError
from multishadow_server.service import comparison_report, experiment_course, segments
from multishadow_server.service.comparison_report import DEFAULT_ALPHA, ExperimentReport
from multishadow_server.service.ending import set_within
from multishadow_server.service.experiment_course import CountedAnswers, ExperimentCourse
from multishadow_server.service.recent import STANDS_IN_SECONDS
from multishadow_server.service.segments import CandidateSegments

# What is older than an hour no longer stands in for new figures (`service.recent`).
AGAIN_SECONDS = 900.0
# A role that has just begun has better things to do.
FIRST_SECONDS = 5.0
# As many as are kept (`service.recent`) with five candidates each.
MOST_EXPERIMENTS = 7

_log = logging.getLogger(__name__)


class ExperimentFigures:
    """What the pages of an experiment show.

    Args:
        desk: what they are read from, and where they are kept for a moment.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def report(
        self, experiment: Experiment, epoch: Epoch, *, oldest: float = STANDS_IN_SECONDS
    ) -> ExperimentReport:
        """What `shadowctl compare` says, or said at most so many seconds ago."""
        return await self._desk.recent.get(
            ("report", epoch.id),
            lambda: comparison_report.compare(self._desk.store, experiment_id=experiment.id, clock=self._desk.clock),
            oldest=oldest,
        )

    async def course(self, experiment: Experiment, epoch: Epoch) -> ExperimentCourse:
        """Evidence and divergence over time."""
        return await self._desk.recent.get(
            ("course", epoch.id),
            lambda: experiment_course.course(self._desk.store, experiment_id=experiment.id, clock=self._desk.clock),
        )

    async def answers(self, experiment: Experiment, epoch: Epoch) -> CountedAnswers:
        """How answers are spread."""
        return await self._desk.recent.get(
            ("answers", epoch.id),
            lambda: experiment_course.answers(self._desk.store, experiment_id=experiment.id, clock=self._desk.clock),
        )

    async def pace(self, epoch: Epoch, found: ExperimentReport) -> Counted:
        """How fast it goes on, for what gates still wait for."""
        return await self._desk.recent.get(("pace", epoch.id), lambda: experiment_gates.read_pace(self._desk, found))

    async def segments(self, experiment: Experiment, epoch: Epoch, candidate: str) -> CandidateSegments:
        """A candidate by kinds of request."""
        return await self._desk.recent.get(
            ("segments", epoch.id, candidate),
            lambda: segments.list_segments(
                self._desk.store,
                model="",
                candidate=candidate,
                experiment_id=experiment.id,
                alpha=DEFAULT_ALPHA,
                clock=self._desk.clock,
            ),
        )

    async def keep_at_hand(
        self, stop: asyncio.Event, *, first: float = FIRST_SECONDS, again: float = AGAIN_SECONDS
    ) -> None:
        """Work out the figures of running experiments from time to time, until `stop`: nobody's first look waits."""
        wait = first
        while not await set_within(stop, wait):
            await self._work_out_all()
            wait = again

    async def _work_out_all(self) -> None:
        try:
            running = await self._desk.store.experiments(running=True)
        except MultishadowError as error:
            _log.debug("the page's figures are worked out when somebody asks: %s", error)
            return
        for experiment in running[:MOST_EXPERIMENTS]:
            try:
                await self.work_out(experiment)
            except MultishadowError as error:
                _log.debug("the figures of experiment %d are worked out when somebody asks: %s", experiment.id, error)
            except Exception:  # noqa: BLE001  nobody waits for it; whoever looks next is told what is wrong
                _log.exception("the figures of experiment %d cannot be worked out", experiment.id)

    async def work_out(self, experiment: Experiment) -> None:
        """All figures of an experiment, one after the other."""
        try:
            subject = await comparison_report.subject_of(self._desk.store, model="", experiment_id=experiment.id)
        except FailedPrecondition:
            # It has compared nothing yet.
            return
        epoch = subject.epoch
        found = await self.report(experiment, epoch)
        await self.pace(epoch, found)
        await self.course(experiment, epoch)
        await self.answers(experiment, epoch)
        for candidate in epoch.candidates:
            await self.segments(experiment, epoch, candidate)
