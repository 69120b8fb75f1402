"""How strict a model's gates are."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GateLimits:
    """What a candidate has to keep to before it may be promoted.

    Args:
        minimum_duration: shortest time that an epoch must have collected for, seconds: a week has every weekday.
        divergence: the divergence rate must be proven below this.
        inferiority: by how much the accuracy may be below the live version's.
        latency_ratio: largest 99th percentile of latency, as a multiple of the live version's.
        failures: the rate of errors and timeouts must be proven below this.
        completeness: smallest share of copies that end in a comparison.
        divergent_samples: how many divergent comparisons must be there to look at.
    """

    minimum_duration: float = 7 * DAY
    divergence: float = 0.01
    inferiority: float = 0.01
    latency_ratio: float = 2.0
    failures: float = 0.01
    completeness: float = 0.99
    divergent_samples: int = 50
