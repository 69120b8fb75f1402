"""The live path: one request in, the live version's answer out, a capture aside.

Nothing on it waits for anything but the live version: the decision is made from what is in memory, and the capture is
offered to a buffer that takes it or drops it at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from multishadow_server.core import routing, sampling_share, targeting, writes
from multishadow_server.core.capture import Capture, DropTally, Metadata, size_of
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.duplicates import turn_fingerprint
from multishadow_server.core.hot_value import hot_value
from multishadow_server.core.live_counts import LiveTally
from multishadow_server.core.metadata import without_credentials
from multishadow_server.core.prediction import Json
from multishadow_server.core.protocols import MODEL_FIELD, Protocol
from multishadow_server.core.routing import Claims, Decision
from multishadow_server.core.withheld import TOO_LARGE
from multishadow_server.errors import (
    DeadlineExpired,
    FailedPrecondition,
    InvalidInput,
    MultishadowError,
    NotFound,
    Unavailable,
)
from multishadow_server.service import ports
from multishadow_server.service.capture_buffer import CaptureBuffer
from multishadow_server.service.live_routes import Route, explained, listed, other_protocol, route_of
from multishadow_server.service.live_stream import KeptAnswer, LiveStream, Room, Streaming
from multishadow_server.service.sampling_watch import Sampling

REQUEST_ID = "x-multishadow-request-id"
DEADLINE_EXCEEDED = 4
UNAVAILABLE = 14
# Callers give up by their own clocks, before the deadline as it is known here: gRPC rounds a timeout up by as much as a
# hundredth when it is told (core/ext/transport/chttp2/transport/timeout_encoding.cc), and a request is under way for a
# while: so many seconds, or such a part of a short timeout.
ROUNDED_UP = 0.01
UNDER_WAY_SECONDS, UNDER_WAY_SHARE = 0.05, 0.1
# Requests fall into few combinations of claims; those decisions are made once per revision.
MOST_DECISIONS = 1_000


@hot_value
class LiveRequest:
    """One request as it arrived.

    Args:
        method: full gRPC method name.
        body: the request's bytes.
        model, request_id, session_id, attributes: read from its envelope; the id is never empty.
        metadata: the caller's.
        deadline: the caller's, on the `time.monotonic` clock; None when it set none.
        received_at: seconds since the Unix epoch.
        protocol: what the request is a message of.
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
    protocol: Protocol = Protocol.MULTISHADOW
    replayed: bool = False

    def flag_context(self) -> targeting.Context:
        """What flags are evaluated with."""
        return targeting.context_of(
            model=self.model, request_id=self.request_id, session_id=self.session_id, attributes=self.attributes
        )


@hot_value
class LiveAnswer:
    """What the caller gets: the answer, who gave it, and the revision of the flags that chose it."""

    answer: ports.Answer
    version: str
    revision: int


class LivePath:
    """Answers requests with the live version's answer, and captures the sampled ones.

    Args:
        gateway: calls versions.
        claims: reads what versions claim.
        buffer: takes captures.
        fingerprint: takes the fingerprint of a protocol, a model's name and a request's bytes.
        streaming: how streamed answers are kept until they end.
        flag_age: seconds since the flags were last known to be current.
        stale_after: flags older than so many seconds stop shadowing; the last known live version goes on serving.
        served: counts who served how.
        sampling: how much of what flags sample is captured.

    Attributes:
        ready: whether a configuration was loaded.
        counters: what happened so far, by name.
    """

    def __init__(
        self,
        *,
        gateway: ports.ModelGateway,
        claims: ports.ClaimReader,
        buffer: CaptureBuffer,
        fingerprint: Callable[[Protocol, str, bytes], bytes],
        streaming: Streaming,
        flag_age: Callable[[], float],
        stale_after: float,
        served: LiveTally | None = None,
        sampling: Sampling | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._served = LiveTally() if served is None else served
        self._sampling = Sampling() if sampling is None else sampling
        self._claims = claims
        self._buffer = buffer
        self._fingerprint = fingerprint
        self._streaming = streaming
        self._room = Room(streaming.room)
        self._flag_age = flag_age
        self._stale_after = stale_after
        self._monotonic = monotonic
        self._routes: Mapping[str, Route] = {}
        self.ready = False
        self.counters: Counter[str] = Counter()

    def load(self, configuration: Configuration) -> None:
        """Decide by this configuration from now on. Requests under way keep their decision."""
        self._claims.load(configuration)
        self._routes = {
            name: route_of(model, configuration, self._routes.get(name)) for name, model in configuration.models.items()
        }
        self.ready = True

    async def answer(self, request: LiveRequest) -> LiveAnswer:
        """Answer one request.

        Raises:
            InvalidInput: it names no model.
            NotFound: there is no such model.
            FailedPrecondition: the model has no version, or speaks another protocol.
            Unavailable: the configuration was never read.
            DeadlineExpired: the caller's deadline has passed; nobody was called.

        A live version that fails is an answer, with its status, not an exception.
        """
        self.counters["requests"] += 1
        attempt = await self._begin(request)
        try:
            version, answer = await self._call_live(attempt)
        except asyncio.CancelledError:
            self._note_cancelled(attempt)
            raise
        self._count(attempt, version, answer)
        self._capture(attempt, version, answer)
        return LiveAnswer(answer=answer, version=version, revision=attempt.decision.revision)

    async def stream(self, request: LiveRequest) -> LiveStream:
        """Answer one request with a stream, once its first message is there; raises what `answer` does.

        An older version answers only when the live one was UNAVAILABLE before its first message.
        """
        self.counters["requests"] += 1
        attempt = await self._begin(request)
        try:
            version, opened, first = await self._open_live(attempt)
            initial_metadata = await opened.initial_metadata() if first is not None else opened.ended().initial_metadata
        except asyncio.CancelledError:
            self._note_cancelled(attempt)
            raise
        # Decided once: the share may be another one when the answer ends. What nobody will get takes no room meanwhile.
        copied = bool(attempt.shadows_beside(version)) and not request.replayed
        left_out = self._left_out(attempt) if copied else ""
        kept = KeptAnswer(self._streaming, self._room) if copied and not left_out else None
        return LiveStream(
            opened,
            first,
            initial_metadata=initial_metadata,
            version=version,
            revision=attempt.decision.revision,
            kept=kept,
            on_end=partial(self._note_stream, attempt, version, kept, left_out),
            on_abandon=partial(self._note_cancelled, attempt, left_out=left_out),
        )

    async def pass_on(self, request: LiveRequest) -> LiveAnswer:
        """Ask the live version about itself; raises what `answer` does. It is neither counted for it nor captured."""
        self.counters["passed_on"] += 1
        attempt = await self._begin(request)
        version, answer = await self._call_live(attempt)
        return LiveAnswer(answer=answer, version=version, revision=attempt.decision.revision)

    async def _begin(self, request: LiveRequest) -> _Attempt:
        route = self._routes.get(request.model)
        if route is None or route.model.protocol is not request.protocol:
            raise self._unroutable(request, route)
        claims = self._claims.read(route.flag_keys, request.flag_context)
        # Flags of our own are in memory: what cannot wait is not awaited.
        claimed = claims if isinstance(claims, tuple) else await claims
        shadowing = self._flag_age() <= self._stale_after
        decision = route.decisions.get((shadowing, claimed)) or self._decide(route, claimed, shadowing=shadowing)
        now = self._monotonic()
        deadline = now + route.model.default_timeout if request.deadline is None else request.deadline
        if deadline <= now:
            raise DeadlineExpired("the deadline had passed when the request arrived; the live version was not called")
        return _Attempt(route=route, decision=decision, request=request, deadline=deadline, started=now)

    def _unroutable(self, request: LiveRequest, route: Route | None) -> MultishadowError:
        if not self.ready:
            return Unavailable(
                "this router has not read its configuration yet; try again, and if it lasts see that PostgreSQL runs "
                "(MULTISHADOW_DATABASE_URL)"
            )
        if route is not None:
            return FailedPrecondition(other_protocol(route.model))
        if not request.model:
            field = MODEL_FIELD[request.protocol]
            return InvalidInput(f"the request names no model; set its field `{field}`. Models: {listed(self._routes)}")
        return NotFound(f'there is no model "{request.model[:64]}"; models: {listed(self._routes)}')

    def _decide(self, route: Route, claims: Claims, *, shadowing: bool) -> Decision:
        decision = routing.decide(
            tuple(zip(route.names, claims, strict=True)),
            last_known_live=route.last_known_live,
            revision=route.revision,
            shadowing=shadowing,
        )
        if decision is None:
            raise FailedPrecondition(
                f'the model "{route.model.name}" has no version yet; register one with `shadowctl apply -f model.yaml`'
            )
        if len(route.decisions) < MOST_DECISIONS:
            route.decisions[shadowing, claims] = decision
        return decision

    async def _call_live(self, attempt: _Attempt) -> tuple[str, ports.Answer]:
        """The live version's answer; when it is UNAVAILABLE, that of the next older one that claims `live` too."""
        decision = attempt.decision
        answer = await self._call(attempt, decision.live)
        if answer.reached and (answer.status_code != UNAVAILABLE or not decision.fallbacks):
            return decision.live, answer
        for version in decision.fallbacks:
            other = await self._call(attempt, version)
            if other.status_code != UNAVAILABLE:
                self.counters["fallbacks"] += 1
                return version, other
        return decision.live, explained(answer, attempt.route, decision.live)

    def _call(self, attempt: _Attempt, version: str) -> Awaitable[ports.Answer]:
        request, route = attempt.request, attempt.route
        return self._gateway.call(
            route.addresses[version],
            request.method,
            request.body + route.renamings[version],
            metadata=(*request.metadata, (REQUEST_ID, request.request_id)),
            deadline=attempt.deadline,
        )

    async def _open_live(self, attempt: _Attempt) -> tuple[str, ports.AnswerStream, bytes | None]:
        """Who streams the answer, the stream, and its first message; as `_call_live`."""
        decision = attempt.decision
        opened, first = await self._open(attempt, decision.live)
        if first is None and opened.ended().status_code == UNAVAILABLE:
            for version in decision.fallbacks:
                other, its_first = await self._open(attempt, version)
                if its_first is not None or other.ended().status_code != UNAVAILABLE:
                    self.counters["fallbacks"] += 1
                    return version, other, its_first
        return decision.live, opened, first

    async def _open(self, attempt: _Attempt, version: str) -> tuple[ports.AnswerStream, bytes | None]:
        request, route = attempt.request, attempt.route
        opened = self._gateway.stream(
            route.addresses[version],
            request.method,
            request.body + route.renamings[version],
            metadata=(*request.metadata, (REQUEST_ID, request.request_id)),
            deadline=attempt.deadline,
        )
        return opened, await opened.next()

    def _note_stream(
        self, attempt: _Attempt, version: str, kept: KeptAnswer | None, left_out: str, answer: ports.Answer
    ) -> ports.Answer:
        """A streamed answer has ended; how it ended, for the caller."""
        self._count(attempt, version, answer)
        lost = kept.lost if kept is not None and not answer.status_code else ""
        whole = kept.whole() if kept is not None else b""
        response = b"" if answer.status_code else whole
        self._capture(attempt, version, replace(answer, response=response), lost=lost, left_out=left_out)
        return explained(answer, attempt.route, version)

    def _note_cancelled(self, attempt: _Attempt, *, left_out: str | None = None) -> None:
        """The caller went away: nothing is captured. Or its deadline passed: that is the live version's failure."""
        now = self._monotonic()
        if now < attempt.given_up_at():
            self.counters["cancelled"] += 1
            return
        seconds = now - attempt.started
        timeout = ports.Answer(status_code=DEADLINE_EXCEEDED, status_message="Deadline Exceeded", latency=seconds)
        self._count(attempt, attempt.decision.live, timeout)
        self._capture(attempt, attempt.decision.live, timeout, left_out=left_out)

    def _count(self, attempt: _Attempt, version: str, answer: ports.Answer) -> None:
        """Count it for the version that was chosen: if another one had to answer, that is the chosen one's failure."""
        if attempt.request.replayed:
            self.counters["replayed"] += 1
            return
        decision = attempt.decision
        covered = version != decision.live
        self._served.note(
            attempt.route.shares[decision.live],
            seconds=answer.latency,
            failed=covered or answer.status_code != 0,
            timed_out=not covered and answer.status_code == DEADLINE_EXCEEDED,
            covered=covered,
        )

    def _capture(
        self, attempt: _Attempt, version: str, answer: ports.Answer, *, lost: str = "", left_out: str | None = None
    ) -> None:
        """Offer what happened to the buffer, if anybody shadows this request; or count why it is lost.

        `left_out` is what `_left_out` said of it, where it was asked before.
        """
        if attempt.request.replayed:
            return
        if answer.status_code:
            self.counters["live_failures"] += 1
        shadows = attempt.shadows_beside(version)
        if not shadows:
            return
        if reason := self._left_out(attempt) if left_out is None else left_out:
            self.counters[reason] += 1
            return
        self.counters["sampled"] += 1
        if attempt.route.caps and self._is_over_cap(attempt, live=version, shadows=shadows):
            return
        captured = partial(self._captured, attempt, answer, version, shadows)
        if lost:
            self._buffer.drop(captured(), lost)
        else:
            self._buffer.offer(size_of(attempt.request.body, answer.response), captured)

    def _left_out(self, attempt: _Attempt) -> str:
        """Why this request is no part of the sample although flags say so, as a counter's name; empty when it is."""
        request, declared = attempt.request, attempt.route.writes
        if (declared is not None and declared.covers(request.method)) or writes.is_marked(
            request.metadata, request.attributes
        ):
            return "writes.not_shadowed"
        share = self._sampling.share
        if share < 1 and share <= sampling_share.draw(
            request.model, session_id=request.session_id, request_id=request.request_id
        ):
            return "sampling.passed_over"
        return ""

    def _is_over_cap(self, attempt: _Attempt, *, live: str, shadows: tuple[str, ...]) -> bool:
        """Whether none of the shadows may get so large a request; then that is all that is captured of it.

        Where some may, it is captured whole, and workers leave out the others.
        """
        request, caps = attempt.request, attempt.route.caps
        size = len(request.body)
        if any(size <= caps.get(name, size) for name in shadows):
            return False
        self._buffer.refuse(
            DropTally(
                model=request.model,
                live=live,
                shadows=shadows,
                revision=attempt.decision.revision,
                reason=TOO_LARGE,
                count=1,
                received_at=request.received_at,
            )
        )
        return True

    def _captured(self, attempt: _Attempt, answer: ports.Answer, live: str, shadows: tuple[str, ...]) -> Capture:
        request = attempt.request
        in_session, turn, fingerprint = self._identity(attempt)
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
            fingerprint=fingerprint,
            live_first_latency=answer.first_latency,
            in_session=in_session,
            turn=turn,
        )

    def _identity(self, attempt: _Attempt) -> tuple[bool, int | None, bytes]:
        """Whether it is a turn of a session, its number, and what it has in common with others that count once."""
        request, terms = attempt.request, attempt.route.model.sessions
        if terms is None or not request.session_id:
            return False, None, self._fingerprint(request.protocol, request.model, request.body)
        turn = terms.turn_of(request.attributes)
        same = request.request_id if turn is None else f"#{turn}"
        return True, turn, turn_fingerprint(request.model, request.session_id, same)


@hot_value
class _Attempt:
    """One request with its decision, and the points on the monotonic clock between which it must be answered."""

    route: Route
    decision: Decision
    request: LiveRequest
    deadline: float
    started: float

    def given_up_at(self) -> float:
        """From when on a cancelled call was given up because its time was over, by its caller's clock."""
        timeout = self.deadline - self.started
        return self.deadline - ROUNDED_UP * timeout - min(UNDER_WAY_SECONDS, UNDER_WAY_SHARE * timeout)

    def shadows_beside(self, version: str) -> tuple[str, ...]:
        """Who gets a copy, when this version answered."""
        shadows = self.decision.shadows
        return shadows if version == self.decision.live else tuple(name for name in shadows if name != version)
