"""The OpenFeature Remote Evaluation Protocol, 0.3: flags over HTTP.

https://github.com/open-feature/protocol/blob/main/service/openapi.yaml; the event stream is its ADR-0008.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from multishadow_server.core import flag_sets
from multishadow_server.core.flag_sets import SET_FIELD, Selector
from multishadow_server.core.rate import TokenBucket
from multishadow_server.errors import EvaluationFailed, InvalidInput, Unavailable
from multishadow_server.service.flag_feed import FlagFeed
from multishadow_server.service.ports import Evaluation, PublishedFlags

EVALUATE = "/ofrep/v1/evaluate/flags"
EVENTS = "/ofrep/v1/events"
SELECTOR_HEADER = "flagd-selector"
MOST_BODY_BYTES = 256 << 10
BODY_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 20.0
MOST_EVENT_STREAMS = 1_000
# How long who was told of a change is kept waiting for it where it is not yet known: another control told it.
CATCH_UP_SECONDS = 1.0
# Digits of the largest revision that the store can hold.
LONGEST_REVISION = 19

Endpoint = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """Ends a request with a status and a body."""

    def __init__(self, status: int, code: str, details: str, *, retry_after: int | None = None) -> None:
        super().__init__(details)
        self.status = status
        self.body = {"errorCode": code, "errorDetails": details}
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


class _Json(JSONResponse):
    """In ASCII: a context may hold halves of characters, which find their way into messages and are no UTF-8."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Ofrep:
    """Answers OFREP.

    Args:
        feed: the flags.
        evaluations_per_second: most flags that are evaluated in a second; beyond it requests get 429.
        keep_alive: seconds without a change after which an event stream shows that it lives.
        body_seconds: longest time that a request's body may take to come.
        most_streams: most event streams that are open at once.
        monotonic: a clock that only goes forward, seconds.
    """

    def __init__(
        self,
        feed: FlagFeed[Any],
        *,
        evaluations_per_second: float,
        keep_alive: float = KEEP_ALIVE_SECONDS,
        body_seconds: float = BODY_SECONDS,
        most_streams: int = MOST_EVENT_STREAMS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._keep_alive = keep_alive
        self._body_seconds = body_seconds
        self._most_streams = most_streams
        self._monotonic = monotonic
        self._bucket = TokenBucket(rate=evaluations_per_second, tokens=evaluations_per_second, at=monotonic())
        self._streams = 0

    def routes(self) -> Sequence[BaseRoute]:
        """One flag, all flags, and changes as they happen."""
        return [
            Route(EVALUATE, _answering(self._bulk), methods=["POST"]),
            Route(f"{EVALUATE}/{{key:path}}", _answering(self._one), methods=["POST"]),
            Route(EVENTS, _answering(self._events)),
        ]

    async def _one(self, request: Request) -> Response:
        key = request.path_params["key"]
        selector = _selector(request.headers.get(SELECTOR_HEADER, ""))
        context = await _context(request, within=self._body_seconds)
        self._charge(1)
        evaluation = self._feed.evaluate(key, context, selector=selector)
        if evaluation.lacked_targeting_key:
            raise _without_targeting_key(evaluation)
        return _Json(_success(evaluation))

    async def _bulk(self, request: Request) -> Response:
        selector = _selector(request.headers.get(SELECTOR_HEADER, ""))
        context = await _context(request, within=self._body_seconds)
        await self._catch_up(request.query_params.get("flagConfigEtag", ""))
        flags: PublishedFlags = self._feed.flags
        # With a rule that reads the clock, the same flags and context need not give the same answers.
        tag = None if flags.reads_the_clock(selector) else _tag(flags.revision, selector.flag_set, context)
        if tag is not None and _matches(request, tag):
            return Response(status_code=304, headers={"ETag": tag})
        self._charge(len(flags.keys(selector)))
        entries = [_entry(each) for each in self._feed.evaluate_all(context, selector=selector)]
        tag = tag or _tag(entries)
        if _matches(request, tag):
            return Response(status_code=304, headers={"ETag": tag})
        body: dict[str, Any] = {
            "flags": entries,
            "metadata": {SET_FIELD: selector.metadata_set, "version": str(flags.revision)},
            # No origin: behind a proxy it is the one by which this very request came.
            "eventStreams": [{"type": "sse", "endpoint": {"requestUri": _events_uri(selector)}}],
        }
        if self._feed.is_stale:
            body["metadata"]["stale"] = True
        return _Json(body, headers={"ETag": tag})

    async def _events(self, request: Request) -> Response:
        selector = _selector(request.query_params.get("selector", "") or request.headers.get(SELECTOR_HEADER, ""))
        if self._streams >= self._most_streams:
            raise _Refused(429, "GENERAL", f"{self._streams} event streams are open; poll instead", retry_after=5)
        flags = await self._feed.first()
        missed = request.headers.get("last-event-id", str(flags.revision)) != str(flags.revision)
        return StreamingResponse(
            self._stream(flags, selector, missed=missed),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _stream(self, flags: PublishedFlags, selector: Selector, *, missed: bool) -> AsyncIterator[str]:
        """Changes, until the reader leaves or control stops."""
        self._streams += 1
        try:
            yield _refetch(flags) if missed else ": these are the newest flags\n\n"
            while True:
                newer = await self._feed.newer(flags, within=self._keep_alive)
                if newer is None:
                    yield ": still here\n\n"
                    continue
                before, flags = selector.chosen(flags.definitions), newer
                if flag_sets.changes(before, selector.chosen(flags.definitions)):
                    yield _refetch(flags)
        except Unavailable:
            return
        finally:
            self._streams -= 1

    def _charge(self, evaluations: int) -> None:
        self._bucket, wait = self._bucket.take(evaluations, self._monotonic())
        if wait:
            raise _Refused(
                429,
                "GENERAL",
                f"more than {self._bucket.rate:g} flags are asked for in a second",
                retry_after=max(1, math.ceil(wait)),
            )

    async def _catch_up(self, told: str) -> None:
        """Wait for the revision that the client was told of, when it was."""
        revision = told.strip().strip('"')
        if revision.isascii() and revision.isdigit() and len(revision) <= LONGEST_REVISION:
            await self._feed.reach(int(revision), within=CATCH_UP_SECONDS)


def _answering(endpoint: Endpoint) -> Endpoint:
    """Let errors leave as OFREP says them. The key is the path's; a bulk request has none."""

    async def answer(request: Request) -> Response:
        named = {"key": request.path_params["key"]} if "key" in request.path_params else {}
        try:
            return await endpoint(request)
        except _Refused as refused:
            return _Json({**named, **refused.body}, refused.status, refused.headers)
        except EvaluationFailed as error:
            return _Json(_failure(error), 404 if error.code == "FLAG_NOT_FOUND" else 400)
        except Unavailable as error:
            body = {**named, "errorCode": "PROVIDER_NOT_READY", "errorDetails": str(error)}
            return _Json(body, 503, {"Retry-After": "1"})

    return answer


# --- what is asked ------------------------------------------------------------------------------------------------


def _selector(text: str) -> Selector:
    try:
        return flag_sets.selector_of(text)
    except InvalidInput as error:
        raise _Refused(400, "GENERAL", str(error)) from error


async def _context(request: Request, *, within: float) -> Mapping[str, Any]:
    """The evaluation context: that of the body, or none."""
    body = await _body(request, within)
    try:
        asked = json.loads(body, parse_constant=_no_number) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise _Refused(400, "PARSE_ERROR", f"the request's body is no JSON: {error}") from error
    context = asked.get("context", {}) if isinstance(asked, dict) else None
    if not isinstance(context, dict):
        raise _Refused(400, "INVALID_CONTEXT", 'the body must be like {"context": {"targetingKey": "user-1"}}')
    if not isinstance(context.get("targetingKey", ""), str):
        raise _Refused(400, "INVALID_CONTEXT", "context.targetingKey must be text")
    return context


async def _body(request: Request, within: float) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(within):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BODY_BYTES:
                    raise _Refused(413, "INVALID_CONTEXT", f"the body is larger than {MOST_BODY_BYTES} bytes")
    except TimeoutError:
        raise _Refused(408, "GENERAL", f"the body did not come within {within:g} s") from None
    return bytes(body)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _matches(request: Request, tag: str) -> bool:
    given = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return tag in given or "*" in given


# --- what is answered ---------------------------------------------------------------------------------------------


def _success(evaluation: Evaluation) -> dict[str, Any]:
    """One flag. Without a value the caller's default counts; a variant is always named, which stock clients need."""
    value = {} if evaluation.variant is None else {"value": evaluation.value}
    return {
        "key": evaluation.key,
        **value,
        "reason": evaluation.reason,
        "variant": evaluation.variant or "",
        "metadata": dict(evaluation.metadata),
    }


def _failure(error: EvaluationFailed) -> dict[str, Any]:
    return {"key": error.key, "errorCode": error.code, "errorDetails": str(error)}


def _entry(each: Evaluation | EvaluationFailed) -> dict[str, Any]:
    """One flag of many."""
    if isinstance(each, EvaluationFailed):
        return _failure(each)
    return _failure(_without_targeting_key(each)) if each.lacked_targeting_key else _success(each)


def _without_targeting_key(evaluation: Evaluation) -> EvaluationFailed:
    return EvaluationFailed(
        f'flag "{evaluation.key}" draws by the targeting key, and the context has none: give context.targetingKey',
        code="TARGETING_KEY_MISSING",
        key=evaluation.key,
    )


def _tag(*parts: object) -> str:
    """A strong ETag of whatever the answer depends on."""
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16)
    return f'"{digest.hexdigest()}"'


def _events_uri(selector: Selector) -> str:
    # A browser's EventSource sends no headers of ours.
    query = "" if selector.flag_set is None else "?" + urlencode({"selector": f"{SET_FIELD}={selector.flag_set}"})
    return EVENTS + query


def _refetch(flags: PublishedFlags) -> str:
    data = json.dumps({"type": "refetchEvaluation", "etag": f'"{flags.revision}"'})
    return f"id: {flags.revision}\nevent: message\ndata: {data}\n\n"
