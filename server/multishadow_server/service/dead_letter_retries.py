"""A worker tries dead letters again, beside the captures that it reads, and without holding them up."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from multishadow_server.core import dead_letter_policy, dead_letters
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.dead_letter_policy import DeadLetterPolicy
from multishadow_server.core.dead_letters import LONGEST_DETAIL, LetterState
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Model, flag_key
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.withheld import TOO_LARGE, WRITES
from multishadow_server.errors import MultishadowError, StoreUnavailable
from multishadow_server.service.ending import INNER_PATIENCE_SECONDS, end
from multishadow_server.service.outage import Outage
from multishadow_server.service.partition_work import ConfigurationInHand
from multishadow_server.service.ports import Attempt, ClaimedLetter, LetterQueue
from multishadow_server.service.shadowing import Shadowing

# Of each version at once: they share its slots with fresh captures, which matter more.
OF_EACH = 4
# How long a letter is left alone whose version could not be asked for want of a slot, an open window, or the like.
POSTPONED_SECONDS = 30.0
GIVE_BACK_SECONDS = 1.0
_ANSWERED = frozenset({Outcome.OK, Outcome.DIVERGED, Outcome.UNCOMPARABLE})
# What nobody may get a copy of is not sent later either; and nobody was asked, so that it is no attempt.
_WITHHELD = frozenset({TOO_LARGE, WRITES})
# Asked again later, a version that does not exist, or our own fault, would be so still.
_FINAL_DROPS = frozenset({dead_letters.INTERNAL_ERROR, "unknown_version"})

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Refusal:
    """Why a letter is not tried."""

    why: str


class DeadLetterRetries:
    """One worker process's share of the retries; several take from one queue.

    Args:
        queue: the letters that wait.
        shadowing: the process's: retries go through the same slots and limits as fresh captures.
        configuration: followed as it changes.
        counters: the process's.
        draw: uniform in [0, 1).
        interval: seconds between looks at the queue.
        drain_seconds: longest time for attempts under way when it stops.
    """

    def __init__(
        self,
        queue: LetterQueue,
        shadowing: Shadowing,
        configuration: ConfigurationInHand,
        *,
        counters: Counter[str],
        draw: Callable[[], float],
        interval: float,
        drain_seconds: float,
    ) -> None:
        self._queue = queue
        self._shadowing = shadowing
        self._configuration = configuration
        self._counters = counters
        self._draw = draw
        self._interval = interval
        self._drain_seconds = drain_seconds
        self._outage = Outage()
        # By flag key of the version: one that hangs holds up its own letters alone.
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._untried: dict[int, ClaimedLetter] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Try letters as they fall due, until `stop` is set; then finish what is under way, or give it back."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await self._take_safely()
                await asyncio.wait({stopping}, timeout=self._interval)
            if self._under_way:
                await asyncio.wait(self._under_way.values(), timeout=self._drain_seconds)
        finally:
            await end(stopping, *self._under_way.values(), patience=INNER_PATIENCE_SECONDS)
            await self._give_back()

    async def _take_safely(self) -> None:
        try:
            await self._take()
        except StoreUnavailable as error:
            if self._outage.begins():
                _logger.warning("dead letters wait until the store is back: %s", error)
        except MultishadowError as error:
            _logger.warning("dead letters wait: %s", error)
        except Exception:
            # A letter that nobody can take must not end a worker that counts captures.
            _logger.exception("dead letters cannot be taken")
        else:
            self._outage.ends()

    async def _take(self) -> None:
        self._under_way = {key: task for key, task in self._under_way.items() if not task.done()}
        claimed = await self._queue.claim(busy=self._under_way.keys(), of_each=OF_EACH)
        by_version: dict[str, list[ClaimedLetter]] = {}
        for letter in claimed:
            by_version.setdefault(flag_key(letter.model, letter.version), []).append(letter)
            self._untried[letter.id] = letter
        for key, letters in by_version.items():
            self._under_way[key] = asyncio.create_task(self._try_all(letters))

    async def _try_all(self, letters: Sequence[ClaimedLetter]) -> None:
        await asyncio.gather(*(self._try_safely(letter) for letter in letters))

    async def _try_safely(self, letter: ClaimedLetter) -> None:
        try:
            await self._try(letter)
        except MultishadowError as error:
            # It falls due again when its claim is over, and its version is asked once more.
            _logger.warning("what became of dead letter %d could not be written: %s", letter.id, error)
        except Exception:
            _logger.exception("dead letter %d could not be tried", letter.id)

    async def _try(self, letter: ClaimedLetter) -> None:
        configuration = await self._configuration.at_least(0)
        model = configuration.models.get(letter.model)
        policy = model.dead_letters if model else None
        epoch = _epoch_for(letter, configuration, model)
        if isinstance(epoch, _Refusal):
            attempt = Attempt(
                state=LetterState.PARKED, attempts=letter.attempts, outcome=Outcome.DROPPED, detail=epoch.why
            )
        else:
            seen = await self._shadowing.ask_again(letter.capture, epoch, configuration, letter.version)
            attempt = after(letter, seen, policy, draw=self._draw())
            if model is not None and model.privacy.payloads is not Payloads.FULL:
                # The letter is of a time when more might be stored; what a shadow says now may repeat the request.
                attempt = replace(attempt, detail="")
        self._untried.pop(letter.id, None)
        if await self._queue.settle(letter, attempt):
            self._counters[f"dead_letter_retries.{attempt.state}"] += 1

    async def _give_back(self) -> None:
        if not self._untried:
            return
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._queue.give_back(list(self._untried.values()))
        except (MultishadowError, TimeoutError) as error:
            _logger.warning("%d dead letters fall due later: %s", len(self._untried), error)


def after(letter: ClaimedLetter, seen: Observation, policy: DeadLetterPolicy | None, *, draw: float) -> Attempt:
    """What one attempt comes to.

    One that somebody asked for is one attempt: when it fails, the letter is parked again.

    Args:
        letter: as it was taken.
        seen: what the shadow made of it.
        policy: its model's at present.
        draw: uniform in [0, 1), for the backoff.
    """
    attempt = Attempt(
        state=LetterState.PARKED,
        attempts=letter.attempts + 1,
        outcome=seen.outcome,
        reason=seen.reason,
        detail=seen.detail[:LONGEST_DETAIL],
    )
    if seen.outcome in _ANSWERED:
        return replace(attempt, state=LetterState.ANSWERED, similarity=seen.similarity)
    if seen.outcome is Outcome.DROPPED and seen.reason in _WITHHELD:
        return replace(attempt, attempts=letter.attempts)
    if seen.outcome is Outcome.DROPPED and seen.reason not in _FINAL_DROPS:
        # Nobody was asked: that is no attempt.
        wait = POSTPONED_SECONDS * (0.5 + draw / 2)
        return replace(attempt, state=LetterState.WAITING, attempts=letter.attempts, wait=wait)
    if letter.asked or policy is None or not dead_letters.fails_for_now(policy, seen):
        return attempt
    if attempt.attempts > policy.retries:
        return attempt
    wait = dead_letter_policy.backoff(policy, attempts=attempt.attempts, draw=draw)
    return replace(attempt, state=LetterState.WAITING, wait=wait)


def _epoch_for(letter: ClaimedLetter, configuration: Configuration, model: Model | None) -> Epoch | _Refusal:
    """By which terms a letter is tried: those of the epoch that it counted in, while its experiment goes on.

    A version that nobody compares any more gets no traffic by itself; somebody who asks for it may have it.
    """
    if model is None or model.version(letter.version) is None:
        return _Refusal(why=f"there is no version {letter.model}.{letter.version} any more")
    own = next((epoch for epoch in configuration.epochs if epoch.id == letter.epoch_id), None)
    if letter.asked:
        return replace(own or _without_experiment(letter, model), windows=())
    if own is None or not any(_goes_on(own, epoch, letter.version) for epoch in configuration.epochs):
        return _Refusal(why="its experiment is over; `shadowctl deadletter retry` tries it all the same")
    return own


def _goes_on(own: Epoch, epoch: Epoch, version: str) -> bool:
    same = epoch.experiment_id == own.experiment_id
    return same and epoch.until_revision is None and version in epoch.candidates


def _without_experiment(letter: ClaimedLetter, model: Model) -> Epoch:
    """The terms of a letter whose experiment is long over: the model's present ones. Nothing is counted by them."""
    return Epoch(
        id=letter.epoch_id or 0,
        experiment_id=0,
        model=letter.model,
        number=0,
        live=letter.capture.live,
        candidates=(letter.version,),
        comparator=model.comparator,
        from_revision=0,
        until_revision=None,
        opened_at=0.0,
        reason="",
        bucket_seconds=1,
    )
