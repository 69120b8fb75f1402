"""What a worker's shadows make of captures, counted as it happens.

Reports are made from rollups, which are committed in batches, exactly once. These counts are of one process, for
metrics: they tell at once what shadows do, and know of calls that count nowhere, like those of dead letters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from multishadow_server.core.latency_ladder import Distribution, Ladder
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.observation import Observation, Outcome

_REASONED = frozenset({Outcome.UNCOMPARABLE, Outcome.DROPPED, Outcome.ERROR})


class Seen(NamedTuple):
    """What was observed of whom; `reason` is empty where the outcome has none."""

    model: str
    version: str
    outcome: Outcome
    reason: str


class ShadowTally:
    """Counts of one process since it began."""

    def __init__(self) -> None:
        self._seen: Counter[Seen] = Counter()
        self._latencies: dict[tuple[str, str], Ladder] = {}

    def note(self, model: str, observation: Observation) -> None:
        """Count one observation; the noise floor's are of the version `A/A`, and have no latency."""
        version, outcome = observation.version, observation.outcome
        reason = observation.reason if outcome in _REASONED else ""
        self._seen[Seen(model, version, outcome, reason)] += 1
        seconds = math.inf if outcome is Outcome.TIMEOUT else observation.latency
        # An error may come back at once: a version that is broken would look quick.
        if seconds is None or outcome is Outcome.ERROR or version == NOISE:
            return
        ladder = self._latencies.get((model, version))
        if ladder is None:
            ladder = self._latencies[model, version] = Ladder()
        ladder.note(seconds)

    def seen(self) -> Mapping[Seen, int]:
        """How often what was observed."""
        return self._seen

    def latencies(self) -> Mapping[tuple[str, str], Distribution]:
        """How long answers took, by model and version; timeouts lie beyond the last rung."""
        return {key: ladder.value() for key, ladder in self._latencies.items()}
