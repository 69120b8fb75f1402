"""Whether a copy may be sent to a version now: pauses, caps, rates, budgets and circuits, as one worker keeps them.

It goes by the newest configuration that the process has read, and not by the one that a capture was decided by: a pause
has to hold for what is in the log already. Versions that have neither limits nor a pause, and models that do not write,
are in none of its tables, so that they cost a look-up and no more.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from multishadow_server.core import targeting, writes
from multishadow_server.core.admission import Admission
from multishadow_server.core.capture import Capture
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.model import Version
from multishadow_server.core.shadow_circuit import UNABLE, ShadowCircuit, Way
from multishadow_server.core.version_limits import CircuitTerms, Pause
from multishadow_server.core.withheld import BANDWIDTH, BUDGET, CIRCUIT_OPEN, PAUSED, RATE_LIMIT, TOO_LARGE, WRITES
from multishadow_server.core.writes import NO_WRITES, Writes

VersionKey = tuple[str, str]
"""(model, version)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """A copy may be sent. It has to be given back afterwards, whether the guard was told how the call ended or not."""

    circuit: ShadowCircuit | None = None
    way: Way = Way.USUAL

    def give_back(self) -> None:
        """It is done with."""
        if self.circuit is not None:
            self.circuit.give_back(self.way)


_FREE = Pass()


class VersionGuard:
    """Keeps to the limits of versions, as one of several workers.

    Limits are of all workers together. Each worker keeps to its share of them, which is that of the log's partitions it
    works on: a partition has one worker at a time, so the shares never add up to more than one, and captures are spread
    over partitions evenly. A worker never needs to ask another one.

    Args:
        share: this worker's share of the partitions, in [0, 1].
        clock: the time, in seconds since the Unix epoch.
        monotonic: seconds on a clock that only goes forward.
        sleep: lets so many of them pass.
    """

    def __init__(
        self,
        *,
        share: Callable[[], float] = lambda: 1.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._share = share
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._revision = -1
        self._guarded: dict[VersionKey, _Guarded] = {}
        self._writes: Mapping[str, Writes] = {}
        self._caps: Mapping[str, int] = {}
        self._live_rates: Mapping[VersionKey, float] = {}

    def follow(self, configuration: Configuration) -> None:
        """Go by this configuration, unless a newer one is known."""
        if configuration.revision <= self._revision:
            return
        self._revision = configuration.revision
        models = configuration.models.values()
        self._writes = {model.name: model.writes for model in models if model.writes}
        self._caps = {model.name: model.max_request_bytes for model in models if model.max_request_bytes}
        before = self._guarded
        self._guarded = {
            (version.model, version.name): _Guarded.of(version, before.get((version.model, version.name)))
            for model in models
            for version in model.versions
            if version.pause is not None or version.limits.any
        }

    @property
    def budgeted(self) -> frozenset[VersionKey]:
        """The versions whose live requests count into a budget."""
        return frozenset(key for key, each in self._guarded.items() if each.version.limits.budget is not None)

    def note_live(self, rates: Mapping[VersionKey, float]) -> None:
        """What versions answer callers, in requests per second; a version that is missing answers none."""
        self._live_rates = rates

    def refuses(self, capture: Capture) -> str:
        """Why nobody may get a copy of this capture; empty when somebody may."""
        if self._writes.get(capture.model, NO_WRITES).covers(capture.method) or writes.is_marked(
            capture.metadata, capture.attributes
        ):
            return WRITES
        cap = self._caps.get(capture.model)
        return TOO_LARGE if cap is not None and len(capture.request) > cap else ""

    async def admit(self, version: Version, capture: Capture) -> Pass | str:
        """A pass for a copy, after a wait of a few seconds at most; or the reason why it may not be sent."""
        key = (version.model, version.name)
        guarded = self._guarded.get(key)
        if guarded is None:
            return _FREE
        limits = guarded.version.limits
        if limits.max_request_bytes is not None and len(capture.request) > limits.max_request_bytes:
            return TOO_LARGE
        if self._is_paused(key):
            return PAUSED
        way = guarded.circuit.way(self._monotonic()) if guarded.circuit else Way.USUAL
        if way is None:
            return CIRCUIT_OPEN
        admitted = Pass(circuit=guarded.circuit, way=way) if guarded.circuit else _FREE
        refused = await self._paced(guarded, capture, admitted)
        return refused or admitted

    def revoked(self, version: Version, admitted: Pass) -> str:
        """Why a copy that was admitted may not be sent after all; empty when it may.

        To be asked when its turn comes: the version may have been paused, or have failed, while it waited.
        """
        if self._is_paused((version.model, version.name)):
            return PAUSED
        opened = admitted.circuit is not None and admitted.circuit.is_open
        return CIRCUIT_OPEN if opened and admitted.way is Way.USUAL else ""

    def ended(self, admitted: Pass, status_code: int) -> None:
        """A call ended with this gRPC status; 0 is OK."""
        if admitted.circuit is not None:
            admitted.circuit.ended(admitted.way, worked=status_code not in UNABLE, now=self._monotonic())

    def circuits(self) -> Mapping[VersionKey, bool]:
        """Whether each version's circuit is open, of those that have one."""
        return {key: each.circuit.is_open for key, each in self._guarded.items() if each.circuit is not None}

    def counters(self) -> Mapping[str, int]:
        """Circuits that are open now, and how often any opened; what has not happened is left out."""
        counted: Counter[str] = Counter()
        for (model, version), guarded in self._guarded.items():
            circuit = guarded.circuit
            if circuit is not None and circuit.opened:
                counted["circuits.opened"] += circuit.opened
                counted[f"circuit_open.{model}.{version}"] = int(circuit.is_open)
        return counted

    def _is_paused(self, key: VersionKey) -> bool:
        guarded = self._guarded.get(key)
        pause: Pause | None = guarded.version.pause if guarded else None
        return pause is not None and pause.holds_at(self._clock())

    async def _paced(self, guarded: _Guarded, capture: Capture, admitted: Pass) -> str:
        """Why the rates refuse a copy; empty when they let it through, which may take a moment."""
        rates = self._rates(guarded.version)
        if not rates:
            return ""
        now = self._monotonic()
        guarded.admission.set_rates(rates, now=now)
        # No model's name has a colon: the draw has nothing to do with those that requests are sampled by.
        draw = targeting.shadow_draw(
            f"{capture.model}:limits", session_id=capture.session_id, request_id=capture.request_id
        )
        verdict = guarded.admission.ask(size=len(capture.request), draw=draw, now=now)
        if verdict.refused:
            admitted.give_back()
            return verdict.refused
        if verdict.wait:
            try:
                await self._sleep(verdict.wait)
            except BaseException:
                admitted.give_back()
                raise
        return ""

    def _rates(self, version: Version) -> Mapping[str, float]:
        limits, share = version.limits, self._share()
        rates = {}
        if limits.requests_per_second is not None:
            rates[RATE_LIMIT] = limits.requests_per_second * share
        if limits.bytes_per_second is not None:
            rates[BANDWIDTH] = limits.bytes_per_second * share
        if limits.budget is not None:
            left = limits.budget - self._live_rates.get((version.model, version.name), 0.0)
            rates[BUDGET] = max(0.0, left) * share
        return rates


@dataclass(frozen=True, kw_only=True, slots=True)
class _Guarded:
    """A version with limits, or a pause, and what is kept of it."""

    version: Version
    admission: Admission
    circuit: ShadowCircuit | None

    @classmethod
    def of(cls, version: Version, before: _Guarded | None) -> _Guarded:
        """What was kept stays, as long as it is the same implementation and the same terms."""
        if before is None or before.version.address != version.address:
            return cls(version=version, admission=Admission(), circuit=_circuit(version.limits.circuit))
        same = before.version.limits.circuit == version.limits.circuit
        circuit = before.circuit if same else _circuit(version.limits.circuit)
        return cls(version=version, admission=before.admission, circuit=circuit)


def _circuit(terms: CircuitTerms | None) -> ShadowCircuit | None:
    return ShadowCircuit(terms) if terms else None
