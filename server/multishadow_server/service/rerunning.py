"""Sending one stored request again, to the versions that answered it: is the difference still there?

What comes back is shown and forgotten: nothing is counted into an experiment, and nothing is stored but a line of the
audit log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from multishadow_server.core import protocols, writes
from multishadow_server.core.capture import Metadata
from multishadow_server.core.comparison import Comparison
from multishadow_server.core.metadata import REPLAY_KEY, header_text
from multishadow_server.core.model import Model, Version
from multishadow_server.core.observation import COUNTED, Outcome
from multishadow_server.core.payload_glance import PayloadState, state_of
from multishadow_server.errors import FailedPrecondition
from multishadow_server.service import names
from multishadow_server.service.ports import Answer, Comparer, ControlStore, ModelGateway, WholeComparison
from multishadow_server.service.shadowing import LONGEST_DETAIL, REQUEST_ID_KEY, SHADOW_KEY
from multishadow_server.service.statuses import status_word


@dataclass(frozen=True, kw_only=True, slots=True)
class RerunAnswer:
    """What one version answered now.

    Args:
        version: its name.
        failure: its status in a word; empty when it answered.
        detail: what it said to that.
        latency: of the call in seconds.
        response: the answer's bytes; empty when it failed.
        against_live: compared with live's answer of now; None for live itself, and where one of both failed.
        against_stored: compared with its own answer of then; None where one of both failed, or it was not stored.
    """

    version: str
    failure: str = ""
    detail: str = ""
    latency: float
    response: bytes = b""
    against_live: Comparison | None = None
    against_stored: Comparison | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rerun:
    """A stored request, answered again: by live, and by its candidates. `at` is in seconds since the Unix epoch."""

    at: float
    live: RerunAnswer
    answers: Sequence[RerunAnswer]


def obstacle(found: WholeComparison, model: Model) -> str:
    """Why a stored request is not sent again, for a person; empty when it can be."""
    if model.writes.covers(found.method) or writes.is_marked((), found.attributes):
        return "It writes (`writes`, `writing_methods`, or its caller said so): it is not sent again."
    match state_of(found.kept.payloads, found.kept.request):
        case PayloadState.REDACTED:
            return "It was stored redacted: what is left of it is another request, whose answers would say nothing."
        case PayloadState.HASHED:
            return "It was stored as its hash: there is nothing to send."
        case PayloadState.ABSENT:
            return "It was not stored: there is nothing to send."
    return ""


async def rerun(
    store: ControlStore,
    gateway: ModelGateway,
    comparer: Comparer,
    found: WholeComparison,
    *,
    actor: str,
    clock: Callable[[], float],
) -> Rerun:
    """Send a stored request to live and to the candidates that it was sent to then, all at once.

    "Live" is the version that was live then, since its answer is the one that is stored; it is called as what it is
    registered as now, marked as a shadow's copy and as a replay.

    Raises:
        FailedPrecondition: it must not or cannot be sent again.
        NotFound: its model or one of the versions is not there any more.
        StoreUnavailable: the database is away.
    """
    model = names.model_of(await store.read(experiments=False), found.kept.epoch.model)
    if said := obstacle(found, model):
        raise FailedPrecondition(f"comparison {found.kept.id}: {said}")
    asked = [each.version for each in found.kept.observations if each.outcome in COUNTED | {Outcome.UNCOMPARABLE}]
    versions = [names.version_of(model, name) for name in (found.kept.epoch.live, *asked)]
    async with store.change(actor, experiments=False) as change:
        detail = {"comparison": found.kept.id, "to": [version.name for version in versions]}
        await change.audit("rerun", model.name, detail)
    answers = await asyncio.gather(*(_call(gateway, version, found) for version in versions))
    now = [await _judged(comparer, found, version, answers, n) for n, version in enumerate(versions)]
    return Rerun(at=clock(), live=now[0], answers=now[1:])


async def _call(gateway: ModelGateway, version: Version, found: WholeComparison) -> Answer:
    call = gateway.call_stream if found.method == protocols.PREDICT_STREAM else gateway.call
    metadata: Metadata = (
        (REPLAY_KEY, "true"),
        (SHADOW_KEY, "true"),
        (REQUEST_ID_KEY, header_text(found.kept.request_id)),
    )
    return await call(
        version.address,
        found.method,
        version.asked(found.kept.request),
        metadata=metadata,
        deadline=time.monotonic() + version.timeout,
    )


async def _judged(
    comparer: Comparer, found: WholeComparison, version: Version, answers: Sequence[Answer], place: int
) -> RerunAnswer:
    answer, live = answers[place], answers[0]
    if answer.status_code:
        return RerunAnswer(
            version=version.name,
            failure=status_word(answer.status_code),
            detail=answer.status_message[:LONGEST_DETAIL],
            latency=answer.latency,
        )
    kept, terms = found.kept, found.kept.epoch.comparator
    seen = next((each for each in kept.observations if each.version == version.name), None)
    stored = kept.response if place == 0 else seen.response if seen else b""
    return RerunAnswer(
        version=version.name,
        latency=answer.latency,
        response=answer.response,
        against_live=await comparer.compare(terms, live.response, answer.response)
        if place and not live.status_code
        else None,
        against_stored=await comparer.compare(terms, stored, answer.response) if stored else None,
    )
