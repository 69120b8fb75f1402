"""Gates on what people and time have to do: collect for long enough, look at samples, and put plans on record."""

from __future__ import annotations

from multishadow_server.core.experiment import in_words
from multishadow_server.core.gate_findings import wording
from multishadow_server.core.gate_findings.findings import Findings
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import Attestation, Awaits, Gate, GateName, GateState
from multishadow_server.core.reviews import TOP
from multishadow_server.core.statistics.bands import Band


def minimum_duration(found: Findings, limits: GateLimits) -> Gate:
    """Whether the epoch has collected for long enough."""
    missing = limits.minimum_duration - found.collected_for
    return Gate(
        name=GateName.MINIMUM_DURATION,
        state=GateState.PASS if missing <= 0 else GateState.UNKNOWN,
        number=_collected(found),
        bound=f"at least {in_words(limits.minimum_duration)}",
        remedy="" if missing <= 0 else f"{wording.span(missing, up=True)} more",
        awaits=Awaits.TIME,
    )


def _collected(found: Findings) -> str:
    words = wording.span(found.collected_for)
    if found.shadowed_for >= found.collected_for:
        return words
    return f"{words}, {wording.span(found.shadowed_for)} of it inside windows"


def divergent_samples(found: Findings, limits: GateLimits) -> Gate:
    """Whether there are enough divergent comparisons to look at."""
    bad = found.candidate.n - found.candidate.agreed
    # Who is proven safe may never diverge so often; then all that diverged must be there.
    safe = found.candidate.band is Band.SAFE
    needed = min(limits.divergent_samples, bad) if safe else limits.divergent_samples
    enough = found.divergent_samples >= needed
    return Gate(
        name=GateName.DIVERGENT_SAMPLES,
        state=GateState.PASS if enough else GateState.UNKNOWN,
        number=f"{found.divergent_samples:,} stored" + (f" of {bad:,} that diverged" if safe else ""),
        bound=f"at least {limits.divergent_samples:,}" + (", or all that diverged" if safe else ""),
        remedy="" if enough else "more requests",
    )


def top_reviewed(found: Findings) -> Gate:
    """Whether somebody has looked at the worst of them."""
    needed = min(TOP, found.divergent_samples)
    attestation = found.attested.get(Attestation.TOP_REVIEWED)
    done = attestation is not None or (found.candidate.n > 0 and found.reviewed >= needed)
    attest = wording.ATTEST.format(version=found.candidate.version, what=Attestation.TOP_REVIEWED)
    return Gate(
        name=GateName.TOP_REVIEWED,
        state=GateState.PASS if done else GateState.UNKNOWN,
        number=f"{found.reviewed} of {needed} reviewed",
        bound=f"the {TOP} least similar, or all there are, or an attestation",
        remedy="" if done else f"`shadowctl review list {found.candidate.version}`, or {attest}",
        awaits=Awaits.PEOPLE,
        attestation=attestation,
    )


def recorded(found: Findings, name: GateName, what: Attestation, bound: str) -> Gate:
    """Whether somebody put on record what no number shows."""
    attestation = found.attested.get(what)
    attest = wording.ATTEST.format(version=found.candidate.version, what=what)
    return Gate(
        name=name,
        state=GateState.PASS if attestation else GateState.UNKNOWN,
        number=attestation.text if attestation else "not recorded",
        bound=bound,
        remedy="" if attestation else attest,
        awaits=Awaits.PEOPLE,
        attestation=attestation,
    )
