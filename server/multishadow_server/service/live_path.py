"""The live path: one request in, the live version's answer out, a capture aside.

Nothing on it waits for anything but the live version: the decision is made from what is in memory, and the capture is
offered to a buffer that takes it or drops it at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from multishadow_server.core import routing, serving, targeting
from multishadow_server.core.capture import Capture, Metadata, size_of
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.live_counts import LiveTally, Share
from multishadow_server.core.metadata import without_credentials
from multishadow_server.core.model import Model
from multishadow_server.core.prediction import Json
from multishadow_server.core.routing import Claim, Decision
from multishadow_server.errors import DeadlineExpired, FailedPrecondition, InvalidInput, NotFound, Unavailable
from multishadow_server.service import ports
from multishadow_server.service.capture_buffer import CaptureBuffer

REQUEST_ID = "x-multishadow-request-id"
DEADLINE_EXCEEDED = 4
UNAVAILABLE = 14
MOST_NAMED = 20
# Requests fall into few combinations of claims; those decisions are made once per revision.
MOST_DECISIONS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveRequest:
    """One request as it arrived.

    Args:
        method: full gRPC method name.
        body: the request's bytes.
        model, request_id, session_id, attributes: read from its envelope; the id is never empty.
        metadata: the caller's.
        deadline: the caller's, on the `time.monotonic` clock; None when it set none.
        received_at: seconds since the Unix epoch.
        replayed: it was answered once before: nobody's traffic, so it is neither captured nor counted.
    """

    method: str
    body: bytes
    model: str
    request_id: str
    session_id: str
    attributes: Mapping[str, Json]
    metadata: Metadata
    deadline: float | None
    received_at: float
    replayed: bool = False

    def flag_context(self) -> targeting.Context:
        """What flags are evaluated with."""
        return targeting.context_of(
            model=self.model, request_id=self.request_id, session_id=self.session_id, attributes=self.attributes
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveAnswer:
    """What the caller gets: the answer, who gave it, and the revision of the flags that chose it."""

    answer: ports.Answer
    version: str
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Route:
    """A model, ready to decide: its versions and their flags in order of registration."""

    model: Model
    names: tuple[str, ...]
    flag_keys: tuple[str, ...]
    addresses: Mapping[str, str]
    last_known_live: str | None
    revision: int
    decisions: dict[tuple[bool, tuple[Claim, ...]], Decision | None]


class LivePath:
    """Answers requests with the live version's answer, and captures the sampled ones.

    Args:
        gateway: calls versions.
        claims: reads what versions claim.
        buffer: takes captures.
        fingerprint: takes the fingerprint of a model's name and a request's bytes.
        flag_age: seconds since the flags were last known to be current.
        stale_after: flags older than so many seconds stop shadowing; the last known live version goes on serving.
        served: counts who served how.

    Attributes:
        counters: what happened so far, by name.
    """

    def __init__(
        self,
        *,
        gateway: ports.ModelGateway,
        claims: ports.ClaimReader,
        buffer: CaptureBuffer,
        fingerprint: Callable[[str, bytes], bytes],
        flag_age: Callable[[], float],
        stale_after: float,
        served: LiveTally | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._served = LiveTally() if served is None else served
        self._claims = claims
        self._buffer = buffer
        self._fingerprint = fingerprint
        self._flag_age = flag_age
        self._stale_after = stale_after
        self._monotonic = monotonic
        self._routes: Mapping[str, _Route] | None = None
        self.counters: Counter[str] = Counter()

    def load(self, configuration: Configuration) -> None:
        """Decide by this configuration from now on. Requests under way keep their decision."""
        before = self._routes or {}
        self._claims.load(configuration)
        self._routes = {
            name: _route(model, configuration, before.get(name)) for name, model in configuration.models.items()
        }

    async def answer(self, request: LiveRequest) -> LiveAnswer:
        """Answer one request.

        Raises:
            InvalidInput: it names no model.
            NotFound: there is no such model.
            FailedPrecondition: the model has no version.
            Unavailable: the configuration was never read.
            DeadlineExpired: the caller's deadline has passed; nobody was called.

        A live version that fails is an answer, with its status, not an exception.
        """
        self.counters["requests"] += 1
        route = self._route_of(request.model)
        claims = self._claims.read(route.flag_keys, request.flag_context)
        # Flags of our own are in memory: what cannot wait is not awaited.
        decision = self._decide(route, tuple(claims if isinstance(claims, Sequence) else await claims))
        now = self._monotonic()
        deadline = now + route.model.default_timeout if request.deadline is None else request.deadline
        if deadline <= now:
            raise DeadlineExpired("the deadline had passed when the request arrived; the live version was not called")
        attempt = _Attempt(route=route, decision=decision, request=request, deadline=deadline)
        try:
            version, answer = await self._call_live(attempt)
        except asyncio.CancelledError:
            self._note_cancelled(attempt, started=now)
            raise
        self._count(attempt, version, answer)
        self._capture(attempt, version, answer)
        return LiveAnswer(answer=answer, version=version, revision=decision.revision)

    def _route_of(self, model: str) -> _Route:
        if self._routes is None:
            raise Unavailable(
                "this router has not read its configuration yet; try again, and if it lasts see that PostgreSQL runs "
                "(MULTISHADOW_DATABASE_URL)"
            )
        route = self._routes.get(model)
        if route is not None:
            return route
        if not model:
            raise InvalidInput(f"the request names no model; set its field `model`. Models: {_listed(self._routes)}")
        raise NotFound(f'there is no model "{model[:64]}"; models: {_listed(self._routes)}')

    def _decide(self, route: _Route, claims: tuple[Claim, ...]) -> Decision:
        shadowing = self._flag_age() <= self._stale_after
        decision = route.decisions.get((shadowing, claims))
        if decision is None:
            decision = routing.decide(
                tuple(zip(route.names, claims, strict=True)),
                last_known_live=route.last_known_live,
                revision=route.revision,
                shadowing=shadowing,
            )
            if len(route.decisions) < MOST_DECISIONS:
                route.decisions[shadowing, claims] = decision
        if decision is None:
            raise FailedPrecondition(
                f'the model "{route.model.name}" has no version yet; register one with `shadowctl apply -f model.yaml`'
            )
        return decision

    async def _call_live(self, attempt: _Attempt) -> tuple[str, ports.Answer]:
        """The live version's answer; when it is UNAVAILABLE, that of the next older one that claims `live` too."""
        decision = attempt.decision
        answer = await self._call(attempt, decision.live)
        if answer.status_code != UNAVAILABLE or not decision.fallbacks:
            return decision.live, _explained(answer, attempt.route, decision.live)
        for version in decision.fallbacks:
            other = await self._call(attempt, version)
            if other.status_code != UNAVAILABLE:
                self.counters["fallbacks"] += 1
                return version, other
        return decision.live, _explained(answer, attempt.route, decision.live)

    async def _call(self, attempt: _Attempt, version: str) -> ports.Answer:
        request = attempt.request
        return await self._gateway.call(
            attempt.route.addresses[version],
            request.method,
            request.body,
            metadata=(*request.metadata, (REQUEST_ID, request.request_id)),
            deadline=attempt.deadline,
        )

    def _note_cancelled(self, attempt: _Attempt, *, started: float) -> None:
        """The caller went away: nothing is captured. Or its deadline passed: that is the live version's failure."""
        now = self._monotonic()
        if now < attempt.deadline:
            self.counters["cancelled"] += 1
            return
        timeout = ports.Answer(status_code=DEADLINE_EXCEEDED, status_message="Deadline Exceeded", latency=now - started)
        self._count(attempt, attempt.decision.live, timeout)
        self._capture(attempt, attempt.decision.live, timeout)

    def _count(self, attempt: _Attempt, version: str, answer: ports.Answer) -> None:
        """Count it for the version that was chosen: if another one had to answer, that is the chosen one's failure."""
        if attempt.request.replayed:
            self.counters["replayed"] += 1
            return
        decision = attempt.decision
        covered = version != decision.live
        self._served.note(
            Share(attempt.route.model.name, decision.live, decision.revision),
            seconds=answer.latency,
            failed=covered or answer.status_code != 0,
            timed_out=not covered and answer.status_code == DEADLINE_EXCEEDED,
            covered=covered,
        )

    def _capture(self, attempt: _Attempt, version: str, answer: ports.Answer) -> None:
        """Offer what happened to the buffer, if anybody shadows this request."""
        if attempt.request.replayed:
            return
        if answer.status_code:
            self.counters["live_failures"] += 1
        request, decision = attempt.request, attempt.decision
        shadows = decision.shadows
        if version != decision.live:
            shadows = tuple(name for name in shadows if name != version)
        if not shadows:
            return
        self.counters["sampled"] += 1
        self._buffer.offer(
            size_of(request.body, answer.response),
            partial(self._captured, attempt, answer, live=version, shadows=shadows),
        )

    def _captured(self, attempt: _Attempt, answer: ports.Answer, *, live: str, shadows: tuple[str, ...]) -> Capture:
        request = attempt.request
        return Capture(
            request_id=request.request_id,
            session_id=request.session_id,
            model=request.model,
            method=request.method,
            attributes=request.attributes,
            request=request.body,
            metadata=without_credentials(request.metadata),
            live=live,
            shadows=shadows,
            revision=attempt.decision.revision,
            response=answer.response,
            status_code=answer.status_code,
            status_message=answer.status_message,
            live_latency=answer.latency,
            received_at=request.received_at,
            fingerprint=self._fingerprint(request.model, request.body),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    """One request with its decision and the point on the monotonic clock by which it must be answered."""

    route: _Route
    decision: Decision
    request: LiveRequest
    deadline: float


def _route(model: Model, configuration: Configuration, before: _Route | None) -> _Route:
    """Who serves when a request finds no live claim: the version whose flag last said `live` to everybody.

    It is taken from flags alone, not from requests, so that all routers agree on it whatever traffic each one saw.
    """
    standing = serving.standing(model, configuration.flags)
    known = before.last_known_live if before else None
    return _Route(
        model=model,
        names=tuple(version.name for version in model.versions),
        flag_keys=tuple(version.flag_key for version in model.versions),
        addresses={version.name: version.address for version in model.versions},
        last_known_live=standing.name if standing else known,
        revision=configuration.revision,
        decisions={},
    )


def _explained(answer: ports.Answer, route: _Route, version: str) -> ports.Answer:
    """A version that could not be reached has said nothing; then the message says who, where, and what to do."""
    if answer.reached:
        return answer
    where = f'the live version "{route.model.name}.{version}" at {route.addresses[version]}'
    what = "see that it runs and that its address is right (`shadowctl get versions`)"
    return replace(answer, status_message=f"{where} cannot be reached: {answer.status_message}; {what}")


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return ", ".join(known[:MOST_NAMED]) + more or "none yet (`shadowctl apply -f model.yaml` registers one)"
