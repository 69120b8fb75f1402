"""What the use cases need of the world. Adapters make these real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from multishadow_server.core.capture import Capture, CaptureBatch, Metadata
from multishadow_server.core.comparison import Comparison
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.duplicates import Chunk
from multishadow_server.core.experiment import Epoch, Experiment, RankBy
from multishadow_server.core.gates import Record
from multishadow_server.core.labels import Answered, Marked
from multishadow_server.core.model import Comparator, Model
from multishadow_server.core.observation import Observation
from multishadow_server.core.prediction import Json, Prediction
from multishadow_server.core.reviews import Review, ReviewVerdict
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting import Context

# --- calling model versions ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a version answered.

    Args:
        status_code: gRPC status; 0 is OK.
        status_message: its details.
        response: the response's bytes; empty when it failed.
        latency: duration of the call in seconds.
        initial_metadata, trailing_metadata: as the version sent them, for the caller.
        reached: False when the version could not be reached at all, so that the status is not its own.
    """

    status_code: int
    status_message: str = ""
    response: bytes = b""
    latency: float = 0.0
    initial_metadata: Metadata = ()
    trailing_metadata: Metadata = ()
    reached: bool = True


class ModelGateway(Protocol):
    """Calls versions. Requests and responses pass as bytes."""

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        """Call one version; a gRPC error is an Answer with its status, never an exception.

        `deadline` is a point on the `time.monotonic` clock. Cancelling the coroutine cancels the call.
        """
        ...

    async def aclose(self) -> None:
        """Close every channel."""
        ...


class PredictionCodec(Protocol):
    """Reads a version's response."""

    def decode(self, response: bytes) -> Prediction:
        """Read the bytes of a PredictResponse; `Unreadable` when they are none. Never raises."""
        ...


class Comparer(Protocol):
    """Compares a shadow's answer with the live one."""

    async def compare(self, comparator: Comparator, live: bytes, shadow: bytes) -> Comparison:
        """Compare the bytes of two PredictResponses.

        Never raises: what cannot be read, fails or takes too long is `uncomparable`, with its reason.
        """
        ...


# --- configuration ------------------------------------------------------------------------------------------------


class ConfigurationSource(Protocol):
    """Where routers and workers read models, flags and epochs."""

    async def read(self) -> Configuration:
        """Everything at the present revision. Raises StoreUnavailable."""
        ...

    async def revision(self) -> int:
        """The present revision alone, for a cheap periodic check. Raises StoreUnavailable."""
        ...

    def changes(self) -> AsyncIterator[int]:
        """The present revision, then each one as it is committed (LISTEN/NOTIFY).

        The present one comes first, when listening has begun, so that nothing is missed between two connections.
        Raises StoreUnavailable when the connection is lost.
        """
        ...


class ClaimReader(Protocol):
    """Reads what versions claim for one request."""

    def load(self, configuration: Configuration) -> None:
        """Read from this configuration's flags from now on."""
        ...

    def read(self, keys: Sequence[str], context: Callable[[], Context]) -> Sequence[Claim]:
        """What the flags of these keys say, in their order; a flag that does not exist or fails says `off`.

        `context` makes what rules read (`targeting.context_of`); it is called only when some flag has a rule. It never
        blocks: it runs inside the live path.
        """
        ...


# --- the capture log ----------------------------------------------------------------------------------------------


class CaptureLog(Protocol):
    """The writing end of the capture log."""

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        ...

    @property
    def largest_message(self) -> int:
        """Most bytes of one message."""
        ...

    async def append(self, partition: int, batch: CaptureBatch, *, message_id: str) -> None:
        """Append one message, durably. Appending the same `message_id` again within two minutes changes nothing.

        Raises:
            LogUnavailable: it cannot be reached; the same call may be repeated with the same id.
            LogFull: it is at its size limit.
            MessageTooLarge: the batch is over `largest_message`; nothing was sent.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedBatch:
    """One message of the log as read: its sequence number grows within the log.

    `unreadable` says why a message could not be read; its batch is empty then.
    """

    sequence: int
    batch: CaptureBatch
    unreadable: str = ""


class PartitionReader(Protocol):
    """The reading end of one partition, for its one owner. Messages arrive in order, from the first unacknowledged."""

    @property
    def log_id(self) -> str:
        """Identity of the log's contents: differs after the log was deleted and made again (sequences restart)."""
        ...

    async def fetch(self, *, max_messages: int, wait: float) -> Sequence[LoggedBatch]:
        """Up to `max_messages`, in order; waits up to `wait` seconds for the first one. Raises LogUnavailable."""
        ...

    async def acknowledge(self, batches: Sequence[LoggedBatch]) -> None:
        """They are done with and may be deleted. Raises LogUnavailable."""
        ...

    async def aclose(self) -> None:
        """Stop reading. What was fetched and not acknowledged is delivered again to the next reader."""
        ...


class CaptureReader(Protocol):
    """Opens partitions of the capture log for reading."""

    async def open(self, partition: int) -> PartitionReader:
        """Take over the partition: a reader that had it before gets nothing more. Raises LogUnavailable."""
        ...


class PartitionLeases(Protocol):
    """Which worker owns which partitions. A lease ends by itself when its process or its connection dies."""

    async def balance(self) -> frozenset[int]:
        """Take free partitions up to a fair share, and return those to work on. Raises StoreUnavailable.

        What is held beyond the share stays held and is not returned: stop working on it, then `release` it. After
        StoreUnavailable no lease is held.
        """
        ...

    async def release(self, partition: int) -> None:
        """Give one back; the caller has stopped working on it. Not held: nothing happens. Raises StoreUnavailable."""
        ...

    async def aclose(self) -> None:
        """Give all back."""
        ...


# --- observations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredComparison:
    """One capture with what its shadows made of it, kept for people to look at.

    `kept_because` is "diverged" (some shadow diverged, or failed) or "sample" (drawn uniformly from the rest).
    """

    epoch_id: int
    capture: Capture
    observations: Sequence[Observation]
    kept_because: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptAnswers:
    """One capture's answers, kept until its label comes."""

    epoch_id: int
    capture: Capture
    observations: Sequence[Observation]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flush:
    """What a worker commits for one micro-batch of one partition, in one transaction.

    Args:
        log_id: see PartitionReader.
        partition: which.
        previous_offset: sequence of the last message committed before; the commit is refused when it is not so.
        offset: sequence of the last message in this micro-batch.
        rollups: additions by (epoch id, start of the bucket in seconds since the Unix epoch).
        comparisons: samples to store.
        answers: what is kept to be labelled, of models that ask for it.
        seen: what to add to the partition's chunks of seen inputs.
        forgotten: chunks up to this number are deleted.
    """

    log_id: str
    partition: int
    previous_offset: int
    offset: int
    rollups: Mapping[tuple[int, int], Rollup] = field(default_factory=dict)
    comparisons: Sequence[StoredComparison] = ()
    answers: Sequence[KeptAnswers] = ()
    seen: Sequence[Chunk] = ()
    forgotten: int = 0


class ObservationStore(Protocol):
    """Where workers put what they saw."""

    async def offset(self, log_id: str, partition: int) -> int:
        """Sequence of the last message whose effect is committed; 0 when there is none. Raises StoreUnavailable."""
        ...

    async def segment_levels(self, epoch_id: int) -> Sequence[str]:
        """The levels of segments that are counted in an epoch. Raises StoreUnavailable."""
        ...

    async def seen_inputs(self, log_id: str, partition: int) -> Sequence[Chunk]:
        """A partition's chunks of seen inputs, by number. Raises StoreUnavailable."""
        ...

    async def commit(self, flush: Flush) -> None:
        """Add the rollups, store samples and seen inputs, and move the offset, all or nothing.

        Raises:
            LeaseLost: the offset is not `previous_offset`: somebody else commits to this partition.
            StoreUnavailable: the outcome is unknown; read `offset` again.
        """
        ...


# --- control ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagRecord:
    """A flag with its last change."""

    key: str
    definition: Mapping[str, Any]
    revision: int
    changed_at: float
    changed_by: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """One promotion, for rolling it back: who was live before, and the two flags as they were."""

    id: int
    model: str
    version: str
    previous: str
    flags_before: Mapping[str, Mapping[str, Any]]
    revision: int
    rolled_back: bool


class Change(Protocol):
    """One change of the configuration: a transaction that holds the lock on the revision.

    Everything written in it belongs to revision `configuration.revision + 1`, and is announced when it commits. A
    change that wrote nothing makes no revision.
    """

    @property
    def configuration(self) -> Configuration:
        """As it was when the lock was taken."""
        ...

    @property
    def revision(self) -> int:
        """The revision that this change makes."""
        ...

    @property
    def now(self) -> float:
        """The transaction's time, seconds since the Unix epoch."""
        ...

    async def put_model(self, model: Model) -> None:
        """Create or update the model's own settings (not its versions)."""
        ...

    async def put_versions(self, model: Model) -> None:
        """Create or update its versions."""
        ...

    async def put_flag(self, key: str, definition: Mapping[str, Any], *, reason: str) -> None:
        """Set a flag; the former definition stays in the history."""
        ...

    async def running_experiment(self, model: str) -> Experiment | None:
        """The model's running experiment."""
        ...

    async def start_experiment(
        self,
        *,
        model: str,
        candidates: Sequence[str],
        percent: float,
        bucket_seconds: int,
        duration: float,
        noise_percent: float = 0.0,
        rank_by: RankBy = RankBy.AGREEMENT,
    ) -> Experiment:
        """Record a new experiment that starts now."""
        ...

    async def stop_experiment(self, experiment: Experiment, *, reason: str) -> Experiment:
        """Record that it ended now."""
        ...

    async def open_epoch(
        self,
        experiment: Experiment,
        *,
        live: str,
        candidates: Sequence[str],
        comparator: Comparator,
        reason: str,
    ) -> Epoch:
        """Open its next epoch, from this change's revision on."""
        ...

    async def close_epoch(self, epoch: Epoch) -> None:
        """Close it: it covers no revision from this change's on."""
        ...

    async def record_promotion(
        self, *, model: str, version: str, previous: str, flags_before: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Remember a promotion, so that it can be rolled back."""
        ...

    async def last_promotion(self, model: str) -> Promotion | None:
        """The newest promotion of the model that was not rolled back."""
        ...

    async def mark_rolled_back(self, promotion: Promotion) -> None:
        """It has been taken back."""
        ...

    async def put_on_record(self, epoch: Epoch, *, version: str, subject: str, waiver: bool, text: str) -> None:
        """Keep an attestation or a waiver for ever, in the change's actor's name. It makes no revision."""
        ...

    async def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Add a line to the audit log, with the change's actor."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessStatus:
    """What a process says of itself."""

    role: str
    instance: str
    host: str
    pid: int
    started_at: float
    revision: int
    counters: Mapping[str, int]
    seen_at: float = 0.0


class ControlStore(Protocol):
    """What control reads and changes."""

    def change(self, actor: str) -> AbstractAsyncContextManager[Change]:
        """Begin a change; leaving the block commits, an exception in it undoes everything. Raises StoreUnavailable."""
        ...

    async def read(self) -> Configuration:
        """Everything at the present revision. Raises StoreUnavailable."""
        ...

    async def flags(self) -> Sequence[FlagRecord]:
        """Every flag with its last change, by key."""
        ...

    async def experiments(self, model: str | None = None) -> Sequence[Experiment]:
        """Newest first."""
        ...

    async def epochs(self, experiment_id: int) -> Sequence[Epoch]:
        """An experiment's epochs, by number."""
        ...

    async def rollup(self, epoch_id: int) -> Rollup:
        """An epoch's counts, summed over its buckets."""
        ...

    async def buckets(self, epoch_id: int, families: Sequence[str]) -> Mapping[int, Rollup]:
        """An epoch's counts of these families, by the bucket's start in seconds since the Unix epoch, oldest first."""
        ...

    async def reviewed_of_top(self, epoch_id: int, version: str) -> tuple[int, int]:
        """Of a candidate's least similar divergent answers (at most ten): how many have a verdict, and how many are."""
        ...

    async def gate_records(self, epoch_id: int) -> Sequence[Record]:
        """Attestations and waivers of an epoch, oldest first."""
        ...

    async def processes(self) -> Sequence[ProcessStatus]:
        """What processes last said of themselves, newest first."""
        ...


# --- labels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRecord:
    """A label as it is stored.

    Args:
        model, request_id: whose it is.
        value: what the right answer is said to be.
        recorded_by: who said so.
        epoch_id, bucket_start: where it counts, the latter in whole seconds since the Unix epoch; None while it waits
            for its request.
        marks: what it counts for; none while it waits.
    """

    model: str
    request_id: str
    value: Json
    recorded_by: str
    epoch_id: int | None = None
    bucket_start: int | None = None
    marks: tuple[Marked, ...] = ()


class LabelChange(Protocol):
    """One change of the labels of one model: a transaction that holds the locks of the labels that it touches."""

    async def claim(self, values: Mapping[str, Json], *, actor: str) -> Mapping[str, LabelRecord]:
        """Lock the labels of these requests, and return those that were there; the others wait from now on."""
        ...

    async def arrived(self, *, most: int) -> Sequence[LabelRecord]:
        """Lock labels that still wait although their request's answers are there by now."""
        ...

    async def answers(self, request_ids: Collection[str], *, since: float) -> Mapping[str, Answered]:
        """The first answers that were kept of each of these requests, if it was received after `since`."""
        ...

    async def put(self, records: Sequence[LabelRecord]) -> None:
        """Write what these labels are, and what they count for."""
        ...

    async def add(self, rollups: Mapping[tuple[int, int], Rollup]) -> None:
        """Add counts by (epoch id, start of the bucket in seconds since the Unix epoch); they may be negative."""
        ...

    async def count(self, tally: Mapping[str, int]) -> None:
        """Add to what the model's labels came to."""
        ...

    async def forget(self, *, before: float) -> int:
        """Delete labels that were recorded before then; returns how many of them still waited."""
        ...


class LabelStore(Protocol):
    """Where labels are."""

    def change(self, model: str) -> AbstractAsyncContextManager[LabelChange]:
        """Change labels; leaving the block commits, an exception in it undoes everything. Raises StoreUnavailable."""
        ...

    async def tally(self, model: str) -> Mapping[str, int]:
        """How many of a model's labels came to what, and how many wait for their request. Raises StoreUnavailable."""
        ...


# --- reviews ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonLine:
    """One candidate's answer in a stored comparison, in a line; `verdict` is None until somebody looked at it."""

    id: int
    request_id: str
    received_at: float
    version: str
    similarity: float | None
    detail: str
    verdict: ReviewVerdict | None


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptComparison:
    """A stored comparison, with everything that was kept of it, and what people said of it."""

    id: int
    epoch: Epoch
    request_id: str
    received_at: float
    request: bytes
    response: bytes
    observations: Sequence[Observation]
    reviews: Sequence[Review]


class ReviewStore(Protocol):
    """Where stored comparisons and verdicts on them are. Every method raises StoreUnavailable."""

    async def comparisons(self, epoch_id: int, *, version: str, agreeing: bool, most: int) -> Sequence[ComparisonLine]:
        """Stored comparisons of an epoch, a line for each candidate's answer; the least similar answers first.

        Args:
            epoch_id: the epoch.
            version: whose answers; empty for all candidates'.
            agreeing: the uniform sample of those that agreed, newest first, instead of those that diverged.
            most: at most so many.
        """
        ...

    async def comparison(self, comparison_id: int) -> KeptComparison | None:
        """One stored comparison with everything that was kept of it; None when there is none."""
        ...

    async def record(self, comparison: KeptComparison, *, version: str, verdict: ReviewVerdict, actor: str) -> None:
        """Record a verdict and count it; a former one on the same answer is taken back."""
        ...


class VersionProbe(Protocol):
    """Asks whether a version's server is there at all."""

    async def connect(self, address: str, *, within: float) -> None:
        """Connect to it and hang up. Raises VersionUnavailable when that takes longer than `within` seconds."""
        ...


class CaptureBacklog(Protocol):
    """How far workers are behind."""

    async def waiting(self) -> int:
        """Messages of the capture log that no worker has finished. Raises LogUnavailable."""
        ...


class ProcessRegistry(Protocol):
    """Where processes report themselves."""

    async def report(self, status: ProcessStatus) -> None:
        """Say how this process is. Raises StoreUnavailable."""
        ...

    async def withdraw(self, instance: str) -> None:
        """This process ends in order."""
        ...
