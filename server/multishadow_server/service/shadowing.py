"""One capture goes to its shadows: who is called, and what each made of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core import windows as hours
from multishadow_server.core.capture import Capture, Metadata
from multishadow_server.core.comparison import Comparison, Verdict
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.dead_letters import INTERNAL_ERROR
from multishadow_server.core.experiment import Epoch, epoch_of
from multishadow_server.core.metadata import header_text
from multishadow_server.core.model import Version
from multishadow_server.core.noise_floor import NOISE, is_sampled
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.protocols import PREDICT_STREAM
from multishadow_server.core.request_ids import tellable
from multishadow_server.core.shadow_counts import ShadowTally
from multishadow_server.errors import InvalidInput
from multishadow_server.service.in_flight import CallSlots
from multishadow_server.service.ports import Answer, Comparer, ModelGateway
from multishadow_server.service.version_guard import Pass, VersionGuard

SHADOW_KEY = "x-shadow-deployment"
REQUEST_ID_KEY = "x-multishadow-request-id"
LONGEST_DETAIL = 300
# A window's last captures are still on their way when it closes.
WINDOW_GRACE_SECONDS = 60.0

DEADLINE_EXCEEDED = 4
# By number; https://grpc.io/docs/guides/status-codes/
STATUS_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

_OUTCOMES = {
    Verdict.AGREE: Outcome.OK,
    Verdict.DIVERGE: Outcome.DIVERGED,
    Verdict.UNCOMPARABLE: Outcome.UNCOMPARABLE,
}

_logger = logging.getLogger(__name__)


class Fate(StrEnum):
    """What became of a capture; all but `observed` called nobody."""

    OBSERVED = "observed"
    LIVE_FAILED = "live_failed"
    NO_EXPERIMENT = "no_experiment"
    NO_CANDIDATE = "no_candidate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shadowed:
    """What became of one capture.

    Args:
        capture: it.
        fate: see Fate.
        epoch: whose statistics it belongs to; None without an experiment.
        observations: one per shadow that is a candidate of the epoch.
        strangers: shadows that are no candidates of the epoch; they were not called.
        noise: what the live version made of it when it was asked again; None when it was not.
    """

    capture: Capture
    fate: Fate
    epoch: Epoch | None = None
    observations: Sequence[Observation] = ()
    strangers: int = 0
    noise: Observation | None = None


def assigned_epoch(capture: Capture, configuration: Configuration) -> Epoch | None:
    """Whose statistics a capture belongs to.

    None: no experiment's, as none covered it or its hours were over; or the configuration is older than its decision.
    """
    if configuration.revision < capture.revision:
        return None
    epoch = epoch_of(configuration.epochs, model=capture.model, live=capture.live, revision=capture.revision)
    return epoch if epoch is not None and collects_at(epoch, capture.received_at) else None


def collects_at(epoch: Epoch, received_at: float) -> bool:
    """Whether a request that was received then is part of the epoch, in seconds since the Unix epoch.

    A machine that does not know a window's time zone counts nothing: it would call shadows at the wrong hours.
    """
    try:
        return epoch.collects_at(received_at)
    except InvalidInput as error:
        _logger.error("experiment %d of %s is left out: %s", epoch.experiment_id, epoch.model, error)  # noqa: TRY400  the message says all
        return False


def sampled_candidates(capture: Capture, epoch: Epoch) -> tuple[str, ...]:
    """The candidates that a capture is sampled to."""
    return tuple(name for name in dict.fromkeys(capture.shadows) if name in epoch.candidates)


def copies_of(capture: Capture, epoch: Epoch) -> tuple[str, ...]:
    """Whom a capture is copied to: its candidates and, where the noise floor is measured, `NOISE`."""
    called = sampled_candidates(capture, epoch)
    return (*called, NOISE) if called and is_sampled(capture, epoch) else called


class Shadowing:
    """Sends captures to their shadows, as one process does: its call slots are shared by all partitions.

    Args:
        gateway: calls versions.
        comparer: compares their answers with the captured one.
        slots: limits the calls under way.
        guard: says who may be called; by default one that has all partitions.
        clock: the time, in seconds since the Unix epoch.
        tally: counts what is observed.
    """

    def __init__(
        self,
        *,
        gateway: ModelGateway,
        comparer: Comparer,
        slots: CallSlots,
        guard: VersionGuard | None = None,
        clock: Callable[[], float] = time.time,
        tally: ShadowTally | None = None,
    ) -> None:
        self._gateway = gateway
        self._comparer = comparer
        self._slots = slots
        self._guard = guard or VersionGuard()
        self._clock = clock
        self._tally = ShadowTally() if tally is None else tally

    async def shadow(
        self, capture: Capture, configuration: Configuration, *, repeated: Collection[str] = ()
    ) -> Shadowed:
        """Call all shadows of the capture concurrently and compare what they answer.

        Args:
            capture: the request with its live answer.
            configuration: not older than the capture's decision.
            repeated: shadows that count this input already; they are not called again.

        Never raises: a shadow's trouble, or ours with it, is its observation.
        """
        epoch = assigned_epoch(capture, configuration)
        if epoch is None:
            return Shadowed(capture=capture, fate=Fate.NO_EXPERIMENT)
        called = sampled_candidates(capture, epoch)
        strangers = len(capture.shadows) - len(called)
        if not called or capture.status_code:
            fate = Fate.LIVE_FAILED if called else Fate.NO_CANDIDATE
            return Shadowed(capture=capture, fate=fate, epoch=epoch, strangers=strangers)
        self._guard.follow(configuration)
        refused = self._guard.refuses(capture)
        metadata = _metadata(capture)
        copies = copies_of(capture, epoch)
        wanted = [name for name in copies if name not in repeated]
        observing = [] if refused else [self._observe(capture, epoch, configuration, name, metadata) for name in wanted]
        # One shadow needs no task of its own.
        observed = await asyncio.gather(*observing) if len(observing) > 1 else [await each for each in observing]
        if refused:
            observed = [_dropped(name, refused) for name in wanted]
        known = [Observation(version=name, outcome=Outcome.DUPLICATE) for name in copies if name in repeated]
        observations = {each.version: each for each in (*known, *observed)}
        for each in observations.values():
            self._tally.note(capture.model, each)
        return Shadowed(
            capture=capture,
            fate=Fate.OBSERVED,
            epoch=epoch,
            noise=observations.pop(NOISE, None),
            observations=list(observations.values()),
            strangers=strangers,
        )

    async def ask_again(
        self, capture: Capture, epoch: Epoch, configuration: Configuration, version: str
    ) -> Observation:
        """Call one shadow with a capture that it was called with before; never raises, as above.

        What nobody may get a copy of any more, since its model was said to write, is not sent again either.
        """
        self._guard.follow(configuration)
        if refused := self._guard.refuses(capture):
            return _dropped(version, refused)
        observation = await self._observe(capture, epoch, configuration, version, _metadata(capture))
        self._tally.note(capture.model, observation)
        return observation

    async def _observe(
        self, capture: Capture, epoch: Epoch, configuration: Configuration, name: str, metadata: Metadata
    ) -> Observation:
        model = configuration.models.get(capture.model)
        version = model.version(epoch.live if name == NOISE else name) if model else None
        if version is None:
            return _dropped(name, "unknown_version")
        try:
            if not self._in_time(epoch):
                return _dropped(name, "window_closed")
            answer = await self._call(version, capture, metadata)
            return await self._judge(epoch, capture, name, answer)
        except Exception as error:
            # A capture that breaks our own code must neither stop its partition nor count against the shadow.
            _logger.exception(
                "a request to %s.%s could not be shadowed",
                capture.model,
                name,
                extra={"request_id": tellable(capture.request_id), "model": capture.model, "version": name},
            )
            return Observation(
                version=name, outcome=Outcome.DROPPED, reason=INTERNAL_ERROR, detail=repr(error)[:LONGEST_DETAIL]
            )

    def _in_time(self, epoch: Epoch) -> bool:
        """Whether the epoch's shadows may be called now: a worker that is far behind may come when it is too late."""
        now = self._clock()
        return hours.open_at(epoch.windows, now) or hours.open_at(epoch.windows, now - WINDOW_GRACE_SECONDS)

    async def _call(self, version: Version, capture: Capture, metadata: Metadata) -> Answer | str:
        """The version's answer, or the reason why it was not asked."""
        admitted = await self._guard.admit(version, capture)
        if isinstance(admitted, str):
            return admitted
        try:
            return await self._call_in_turn(version, capture, metadata, admitted)
        finally:
            admitted.give_back()

    async def _call_in_turn(
        self, version: Version, capture: Capture, metadata: Metadata, admitted: Pass
    ) -> Answer | str:
        if not await self._slots.enter(version):
            return "in_flight_limit"
        answered = False
        try:
            if revoked := self._guard.revoked(version, admitted):
                return revoked
            call = self._gateway.call_stream if capture.method == PREDICT_STREAM else self._gateway.call
            answer = await call(
                version.address,
                capture.method,
                version.asked(capture.request),
                metadata=metadata,
                deadline=time.monotonic() + version.timeout,
            )
            answered = answer.status_code != DEADLINE_EXCEEDED
            self._guard.ended(admitted, answer.status_code)
            return answer
        finally:
            self._slots.leave(version, answered=answered)

    async def _judge(self, epoch: Epoch, capture: Capture, name: str, answer: Answer | str) -> Observation:
        if isinstance(answer, str):
            return _dropped(name, answer)
        if answer.status_code:
            return _failed(name, answer)
        comparison = await self._comparer.compare(epoch.comparator, capture.response, answer.response)
        return _compared(name, answer, comparison)


def _metadata(capture: Capture) -> Metadata:
    """What the router let through, marked as a shadow's copy: a caller's own marks do not count."""
    ours = ((SHADOW_KEY, "true"), (REQUEST_ID_KEY, header_text(capture.request_id)))
    return (*(entry for entry in capture.metadata if entry[0] not in {SHADOW_KEY, REQUEST_ID_KEY}), *ours)


def _dropped(name: str, reason: str) -> Observation:
    return Observation(version=name, outcome=Outcome.DROPPED, reason=reason)


def _failed(name: str, answer: Answer) -> Observation:
    detail = answer.status_message[:LONGEST_DETAIL]
    if answer.status_code == DEADLINE_EXCEEDED:
        return Observation(
            version=name, outcome=Outcome.TIMEOUT, detail=detail, similarity=0.0, first_latency=answer.first_latency
        )
    known = answer.status_code < len(STATUS_NAMES)
    return Observation(
        version=name,
        outcome=Outcome.ERROR,
        reason=STATUS_NAMES[answer.status_code] if known else "UNKNOWN",
        detail=detail,
        similarity=0.0,
        latency=answer.latency,
        first_latency=answer.first_latency,
    )


def _compared(name: str, answer: Answer, comparison: Comparison) -> Observation:
    return Observation(
        version=name,
        outcome=_OUTCOMES[comparison.verdict],
        reason=comparison.reason,
        detail=comparison.detail,
        similarity=comparison.similarity,
        latency=answer.latency,
        confidence_delta=comparison.confidence_delta,
        live_confidence=comparison.live_confidence,
        response=answer.response,
        first_latency=answer.first_latency,
    )
