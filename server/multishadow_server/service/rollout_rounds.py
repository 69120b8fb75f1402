"""Control goes on with rollouts by itself: looks, decides, acts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from multishadow_server.core import rollout as rules
from multishadow_server.core.rollout import Move, Rollout
from multishadow_server.errors import Conflict, MultishadowError
from multishadow_server.service import rollout_findings, rollout_moves
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import ControlStore, RolloutStore
from multishadow_server.service.steering import CONTROL

_log = logging.getLogger(__name__)


class RolloutRounds:
    """One control process's rounds; several processes may make them at once, see `rollout_moves`.

    Nothing is kept in the process: one that is killed in the middle of a stage is followed by whichever looks next.

    Args:
        store: flags, experiments, processes.
        records: rollouts and live counts.
        interval: seconds between looks.
    """

    def __init__(self, store: ControlStore, records: RolloutStore, *, interval: float) -> None:
        self._store = store
        self._records = records
        self._interval = interval
        self._moves = 0
        self._failed_rounds = 0

    def counters(self) -> Mapping[str, int]:
        """What was done since the start."""
        return {"rollouts.moves": self._moves, "rollouts.failed_rounds": self._failed_rounds}

    async def run(self, stop: asyncio.Event) -> None:
        """Make rounds until `stop` is set. A round that fails is logged, and the next one tries again."""
        while not stop.is_set():
            try:
                for rollout in await self._records.rollouts(running=True):
                    await self._look_safely(rollout)
            except MultishadowError as error:
                self._note_failure("rollouts", error)
            await set_within(stop, self._interval)

    async def _look_safely(self, rollout: Rollout) -> None:
        """One rollout that cannot be looked at must not keep the others waiting."""
        try:
            await self._look(rollout)
        except Conflict as error:
            # Another control was first, or somebody wrote the flags meanwhile; the next look says which.
            _log.info("rollout %d: %s", rollout.id, error)
        except MultishadowError as error:
            self._note_failure(f"rollout {rollout.id} of {rollout.model}", error)
        except Exception:  # noqa: BLE001  see below
            # A rollout that our own code breaks on must end neither control nor the other rollouts.
            self._failed_rounds += 1
            _log.exception("rollout %d of %s could not be looked at", rollout.id, rollout.model)

    async def _look(self, rollout: Rollout) -> None:
        now = await self._records.now()
        checkup = await rollout_findings.checkup(self._store, self._records, rollout, now=now)
        decision = rules.decide(rollout, now=now, checkup=checkup)
        if decision.move in {Move.WAIT, Move.HOLD}:
            return
        baseline = None
        if decision.move in rollout_moves.ENTERING:
            baseline = await rollout_findings.baseline(self._store, rollout, now=now)
        await rollout_moves.carry_out(
            self._store, rollout, decision, actor=CONTROL, guardrails=checkup.guardrails, baseline=baseline
        )
        self._moves += 1
        _log.info("rollout %d of %s: %s: %s", rollout.id, rollout.model, decision.move, decision.why)

    def _note_failure(self, what: str, error: MultishadowError) -> None:
        self._failed_rounds += 1
        _log.warning("%s: %s", what, error)
