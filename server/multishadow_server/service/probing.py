"""Control asks every version its model's probes, and says how versions stand with them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core import probe_state
from multishadow_server.core.capture import Metadata
from multishadow_server.core.model import Model, Version
from multishadow_server.core.probe import LARGEST_ANSWER, Probe
from multishadow_server.core.probe_state import Asked, ProbeChange, ProbeState
from multishadow_server.errors import MultishadowError
from multishadow_server.service import names
from multishadow_server.service.ending import end, set_within
from multishadow_server.service.ports import (
    Answer,
    Comparer,
    ControlStore,
    ModelGateway,
    ProbeClaim,
    ProbeKey,
    ProbeStore,
)
from multishadow_server.service.shadowing import REQUEST_ID_KEY, SHADOW_KEY
from multishadow_server.service.statuses import status_word

PROBE_KEY = "x-multishadow-probe"
PREDICT = "/multishadow.v1.PredictionService/Predict"
# Askings under way at once, so that a hundred versions that hang do not hold a hundred connections.
MOST_AT_ONCE = 16
SHORTEST_PAUSE = 0.05

_log = logging.getLogger(__name__)


class ProbeRounds:
    """One control process's askings; several processes may run, and one of them asks each time, see `ProbeStore.claim`.

    Args:
        store: tells models and their versions.
        probes: where it is kept how they stand.
        gateway: calls versions.
        comparer: compares answers.
        interval: longest time between looks at what is due, in seconds.
    """

    def __init__(
        self, store: ControlStore, probes: ProbeStore, gateway: ModelGateway, comparer: Comparer, *, interval: float
    ) -> None:
        self._store = store
        self._probes = probes
        self._gateway = gateway
        self._comparer = comparer
        self._interval = interval
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._asking: dict[ProbeKey, asyncio.Task[None]] = {}
        self._asked = 0
        self._failed_rounds = 0

    def counters(self) -> Mapping[str, int]:
        """What was done since the start."""
        return {"probes.asked": self._asked, "probes.failed_rounds": self._failed_rounds}

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop` is set. A round that fails is logged, and the next one tries again."""
        try:
            while not stop.is_set():
                pause = await self._safe_round()
                await set_within(stop, pause)
        finally:
            await end(*self._asking.values())

    async def _safe_round(self) -> float:
        try:
            return await self._round()
        except MultishadowError as error:
            self._failed_rounds += 1
            _log.warning("probes: %s", error)
        except Exception:  # noqa: BLE001  one odd probe must not end control
            self._failed_rounds += 1
            _log.exception("a round of probes failed")
        return self._interval

    async def _round(self) -> float:
        """Begin what is due; returns the seconds until something may be due next."""
        configuration = await self._store.read(experiments=False)
        if not any(model.probes for model in configuration.models.values()):
            return self._interval
        idle = await self._probes.idle()
        pause = self._interval
        for model, version, probe in _pairs(configuration.models):
            key = ProbeKey(model.name, version.name, probe.name)
            wait = probe.every - idle.get(key, probe.every)
            if wait > 0 or key in self._asking:
                pause = min(pause, max(wait, SHORTEST_PAUSE)) if wait > 0 else pause
                continue
            task = asyncio.create_task(self._ask_safely(key, model, version, probe))
            self._asking[key] = task
            task.add_done_callback(lambda _, key=key: self._asking.pop(key, None))  # type: ignore[misc]  # bound at once
        return pause

    async def _ask_safely(self, key: ProbeKey, model: Model, version: Version, probe: Probe) -> None:
        try:
            async with self._room:
                claim = await self._probes.claim(key, every=probe.every)
                if claim is not None:
                    await self._ask(claim, model, version, probe)
        except MultishadowError as error:
            self._failed_rounds += 1
            _log.warning("probe %s of %s.%s: %s", probe.name, model.name, version.name, error)
        except Exception:  # noqa: BLE001  one odd answer must not keep the others from being asked
            self._failed_rounds += 1
            _log.exception("probe %s of %s.%s failed in control", probe.name, model.name, version.name)

    async def _ask(self, claim: ProbeClaim, model: Model, version: Version, probe: Probe) -> None:
        answer = await self._gateway.call(
            version.address,
            PREDICT,
            version.asked(probe.request),
            metadata=_metadata(claim, probe),
            deadline=time.monotonic() + version.timeout,
        )
        self._asked += 1
        asked = await self._judged(claim, model, version, probe, answer)
        state = probe_state.noted(claim.state, probe, version, asked)
        await self._probes.record(claim, state, probe_state.changes(claim.state, state))

    async def _judged(self, claim: ProbeClaim, model: Model, version: Version, probe: Probe, answer: Answer) -> Asked:
        if answer.status_code:
            word = status_word(answer.status_code)
            return Asked(at=claim.at, latency=answer.latency, failure=word, detail=answer.status_message)
        if len(answer.response) > LARGEST_ANSWER:
            detail = f"{len(answer.response):,} bytes; at most {LARGEST_ANSWER:,} are kept"
            return Asked(at=claim.at, latency=answer.latency, failure="answer_too_large", detail=detail)
        terms = probe_state.comparator(probe, model.comparator)
        former = probe_state.former_answer(claim.state, probe, version)
        return Asked(
            at=claim.at,
            latency=answer.latency,
            response=answer.response,
            known=await self._comparer.compare(terms, probe.expected, answer.response) if probe.expected else None,
            former=await self._comparer.compare(terms, former, answer.response) if former else None,
        )


def _metadata(claim: ProbeClaim, probe: Probe) -> Metadata:
    """Marked as no caller's request, also for the live version: it must not act on it as it does for callers."""
    return (
        (PROBE_KEY, "true"),
        (SHADOW_KEY, "true"),
        (REQUEST_ID_KEY, f"probe-{probe.name}-{round(claim.at * 1000)}"),
    )


def _pairs(models: Mapping[str, Model]) -> Iterator[tuple[Model, Version, Probe]]:
    for model in models.values():
        for version in model.versions:
            for probe in model.probes:
                yield model, version, probe


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeView:
    """One probe of one version; `state` is None until it was asked as it is now."""

    version: Version
    probe: Probe
    state: ProbeState | None


async def list_probes(
    store: ControlStore, probes: ProbeStore, *, model: str = "", answers: bool = False
) -> Sequence[ProbeView]:
    """How versions stand with the probes that there are now, by model, version and probe, with their answers or not.

    Raises:
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    configuration = await store.read(experiments=False)
    models = {model: names.model_of(configuration, model)} if model else configuration.models
    states = {
        ProbeKey(each.model, each.version, each.probe): each for each in await probes.states(model, answers=answers)
    }
    return present(models, states)


def present(models: Mapping[str, Model], states: Mapping[ProbeKey, ProbeState]) -> Sequence[ProbeView]:
    """Probes as they are registered now, with what is known of them as such."""
    views = []
    for model, version, probe in _pairs(dict(sorted(models.items()))):
        state = states.get(ProbeKey(model.name, version.name, probe.name))
        current = state is not None and (state.address, state.fingerprint) == (version.address, probe.fingerprint)
        views.append(ProbeView(version=version, probe=probe, state=state if current else None))
    return views


async def probe_changes(
    store: ControlStore, probes: ProbeStore, *, model: str, version: str, probe: str, most: int
) -> Sequence[tuple[ProbeKey, ProbeChange]]:
    """What became of a model's probes, newest first.

    Raises:
        NotFound: there is no such model or version.
        StoreUnavailable: the database is away.
    """
    found = names.only_model(await store.read(experiments=False), model)
    if version:
        names.version_of(found, version)
    return await probes.changes(found.name, version=version, probe=probe, most=most)
