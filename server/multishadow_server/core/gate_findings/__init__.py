"""What each gate finds in an epoch's counts."""

from __future__ import annotations

from collections.abc import Iterator

from multishadow_server.core.gate_findings import apparatus, calls, diligence, merit
from multishadow_server.core.gate_findings.findings import Findings
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import Attestation, Gate, GateName

__all__ = ["Findings", "find"]


def find(found: Findings, limits: GateLimits) -> Iterator[Gate]:
    """Every gate of a candidate, in the order of GateName."""
    yield diligence.minimum_duration(found, limits)
    yield merit.divergence(found, limits)
    yield merit.best_set(found)
    yield merit.quality(found, limits)
    yield calls.latency(found, limits)
    yield calls.failures(found, limits)
    yield apparatus.completeness(found, limits)
    yield apparatus.sample_ratio(found)
    yield apparatus.drift(found)
    yield merit.segments(found)
    yield diligence.divergent_samples(found, limits)
    yield diligence.top_reviewed(found)
    yield diligence.recorded(found, GateName.COST, Attestation.COST, "what the candidate costs to run")
    yield diligence.recorded(found, GateName.ROLLBACK_PLAN, Attestation.ROLLBACK_PLAN, "who rolls back, when and how")
