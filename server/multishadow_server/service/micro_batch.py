"""What a run of finished messages of one partition comes to: rollups, samples to store, and counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from multishadow_server.core import dead_letters, labels, redaction, segments
from multishadow_server.core.capture import Capture, DropTally
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.dead_letters import DeadLetter
from multishadow_server.core.duplicates import SeenInputs
from multishadow_server.core.experiment import epoch_of
from multishadow_server.core.keeping import Keeper
from multishadow_server.core.model import Model
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.segments import KnownLevels
from multishadow_server.core.sessions import NO_CHANGES, SessionChanges, SessionKey
from multishadow_server.core.tally import Tally
from multishadow_server.service.ports import Flush, KeptAnswers, LoggedBatch, StoredComparison
from multishadow_server.service.shadowing import Fate, Shadowed, collects_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """One message of the log whose shadows have all answered, or had their time.

    Args:
        logged: the message.
        configuration: what its captures were assigned by.
        shadowed: what became of its captures, in their order.
        keys: of the inputs that they were the first to have, see `duplicates`.
    """

    logged: LoggedBatch
    configuration: Configuration
    shadowed: Sequence[Shadowed]
    keys: bytes = b""


class MicroBatch:
    """Adds up finished messages.

    Args:
        keeper: chooses what is stored.
        draw: uniform in [0, 1).
        seen: the partition's.
        levels: the process's; it knows those of all epochs here.
        divergent: sessions in which some turn was bad.
    """

    def __init__(
        self,
        *,
        keeper: Keeper,
        draw: Callable[[], float],
        seen: SeenInputs,
        levels: KnownLevels,
        divergent: Collection[SessionKey] = (),
    ) -> None:
        self._keeper = keeper
        self._draw = draw
        self._seen = seen
        self._levels = levels
        self._divergent = divergent
        self._keys: list[bytes] = []
        self._tally = Tally()
        self._comparisons: list[StoredComparison] = []
        self._answers: list[KeptAnswers] = []
        self._letters: list[DeadLetter] = []
        self._messages: list[LoggedBatch] = []
        self.counters: Counter[str] = Counter()

    @property
    def messages(self) -> Sequence[LoggedBatch]:
        """What it stands for, in order."""
        return self._messages

    def add(self, finished: Finished) -> None:
        """Count one message: the next one of its partition."""
        self._messages.append(finished.logged)
        self._keys.append(finished.keys)
        if finished.logged.unreadable:
            self.counters["unreadable_message"] += 1
            self._letters.append(dead_letters.unreadable_letter(finished.logged.unreadable, finished.logged.raw))
        for shadowed in finished.shadowed:
            self._add_shadowed(shadowed, finished.configuration)
            if _to_be_labelled(shadowed, finished.configuration):
                self._keep_answers(shadowed)
        for drop in finished.logged.batch.drops:
            self._add_drop(drop, finished.configuration)

    def flush(
        self,
        *,
        log_id: str,
        partition: int,
        previous_offset: int,
        sessions: SessionChanges = NO_CHANGES,
        ended: Mapping[tuple[int, int], Rollup] | None = None,
    ) -> Flush:
        """What is to be committed for it; asked for once.

        Args:
            log_id: see PartitionReader.
            partition: which.
            previous_offset: of the commit before.
            sessions: what changed of open sessions.
            ended: counts of those that ended, as the rollups of a Flush.
        """
        rollups = dict(self._tally.rollups())
        for where, added in (ended or {}).items():
            rollups[where] = rollups.get(where, Rollup()) + added
        seen, forgotten = self._seen.remember(b"".join(self._keys))
        return Flush(
            log_id=log_id,
            partition=partition,
            previous_offset=previous_offset,
            offset=self._messages[-1].sequence,
            rollups=rollups,
            comparisons=self._comparisons,
            answers=self._answers,
            dead_letters=self._letters,
            seen=seen,
            forgotten=forgotten,
            sessions=sessions,
        )

    def _add_shadowed(self, shadowed: Shadowed, configuration: Configuration) -> None:
        capture = shadowed.capture
        model = configuration.models.get(capture.model)
        self.counters["captures"] += 1
        self.counters[f"captures.{shadowed.fate}"] += 1
        if shadowed.strangers:
            self.counters["not_a_candidate"] += shadowed.strangers
        if shadowed.epoch is None:
            return
        if shadowed.fate is Fate.LIVE_FAILED:
            self._tally.add_live_failure(shadowed.epoch, received_at=capture.received_at)
        elif shadowed.fate is Fate.OBSERVED:
            self._tally.add_capture(
                shadowed.epoch,
                received_at=capture.received_at,
                live_latency=capture.live_latency,
                live_first_latency=capture.live_first_latency,
                observations=shadowed.observations,
                noise=shadowed.noise,
                segments=self._levels.bounded(
                    shadowed.epoch.id,
                    segments.levels_of(
                        _countable(capture, model),
                        shadowed.observations,
                        attributes=model.segments if model else (),
                    ),
                ),
            )
            self._count(shadowed.observations)
            if shadowed.noise is not None:
                self.counters[f"noise.{shadowed.noise.outcome}"] += 1
            self._keep(shadowed)
            self._write_off(shadowed, model)

    def _count(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            self.counters[f"observations.{observation.outcome}"] += 1
            if observation.outcome is Outcome.DROPPED:
                self.counters[f"dropped.{observation.reason}"] += 1

    def _keep(self, shadowed: Shadowed) -> None:
        assert shadowed.epoch is not None
        if all(observation.outcome is Outcome.DUPLICATE for observation in shadowed.observations):
            return
        kept = self._keeper.choose(
            shadowed.epoch.id,
            received_at=shadowed.capture.received_at,
            observations=shadowed.observations,
            draw=self._draw(),
            of_divergent_session=shadowed.capture.in_session
            and SessionKey(shadowed.capture.model, shadowed.capture.session_id) in self._divergent,
        )
        if kept is not None:
            self._tally.add_stored(
                shadowed.epoch, received_at=shadowed.capture.received_at, observations=shadowed.observations
            )
            self._comparisons.append(
                StoredComparison(
                    epoch_id=shadowed.epoch.id,
                    capture=shadowed.capture,
                    observations=shadowed.observations,
                    kept_because=kept,
                )
            )

    def _write_off(self, shadowed: Shadowed, model: Model | None) -> None:
        """Note which of its calls are to be tried again, or looked at by people. They count already."""
        assert shadowed.epoch is not None
        letters = dead_letters.letters_of(
            shadowed.capture,
            shadowed.observations,
            model.dead_letters if model else None,
            epoch_id=shadowed.epoch.id,
            draw=self._draw,
        )
        for letter in letters:
            self._letters.append(letter)
            self.counters[f"dead_letters.{letter.state}"] += 1

    def _keep_answers(self, shadowed: Shadowed) -> None:
        assert shadowed.epoch is not None
        if not labels.small_enough(shadowed.capture, shadowed.observations):
            self.counters["answers.too_large"] += 1
            return
        self.counters["answers.kept"] += 1
        self._answers.append(
            KeptAnswers(epoch_id=shadowed.epoch.id, capture=shadowed.capture, observations=shadowed.observations)
        )

    def _add_drop(self, drop: DropTally, configuration: Configuration) -> None:
        self.counters["log_drops"] += drop.count
        epoch = epoch_of(configuration.epochs, model=drop.model, live=drop.live, revision=drop.revision)
        if epoch is None or not collects_at(epoch, drop.received_at):
            self.counters["log_drops.no_experiment"] += drop.count
            return
        versions = [name for name in drop.shadows if name in epoch.candidates]
        if versions:
            self._tally.add_drops(
                epoch, received_at=drop.received_at, versions=versions, reason=drop.reason, count=drop.count
            )


def _countable(capture: Capture, model: Model | None) -> Capture:
    """The capture with those attributes that may be stored: a level of a segment is an attribute's value."""
    if model is None or not capture.attributes:
        return capture
    attributes = redaction.segment_attributes(model.privacy, capture.attributes, named=model.segments)
    return capture if attributes is capture.attributes else replace(capture, attributes=attributes)


def _to_be_labelled(shadowed: Shadowed, configuration: Configuration) -> bool:
    model = configuration.models.get(shadowed.capture.model)
    return model is not None and model.labels is not None and any(map(labels.was_asked, shadowed.observations))
