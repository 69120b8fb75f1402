"""Gates on the candidate's answers: how often they differ, on which requests, and whether they are right."""

from __future__ import annotations

from multishadow_server.core.advice import listed
from multishadow_server.core.findings import State
from multishadow_server.core.gate_findings import wording
from multishadow_server.core.gate_findings.findings import Findings
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import Attestation, Awaits, Gate, GateName, GateState
from multishadow_server.core.session_terms import Unit
from multishadow_server.core.statistics.bands import Band

MOST_NAMED = 3


def divergence(found: Findings, limits: GateLimits) -> Gate:
    """Whether it is proven to diverge rarely."""
    name, bound = GateName.DIVERGENCE, f"proven below {wording.percent(limits.divergence)}"
    rate = found.candidate.divergence
    if rate is None:
        return wording.not_compared(name, bound)
    number = (
        f"{wording.percent(rate.estimate)}, between {wording.at_least(rate.lower)} and {wording.at_most(rate.upper)}"
    )
    if found.report.unit is Unit.SESSION:
        number = f"{number} of sessions"
    if found.candidate.rate_moved:
        # A mean of before and after a change proves nothing: an outage ends, and a candidate that broke is broken.
        return Gate(
            name=name,
            state=GateState.UNKNOWN if rate.lower < limits.divergence else GateState.FAIL,
            number=f"{number}; it changed over time",
            bound=bound,
            remedy="find out what changed, then start anew",
            awaits=Awaits.PEOPLE,
        )
    if rate.upper < limits.divergence:
        return Gate(name=name, state=GateState.PASS, number=number, bound=bound)
    if rate.lower < limits.divergence:
        return Gate(name=name, state=GateState.UNKNOWN, number=number, bound=bound, remedy=f"more {found.report.unit}s")
    final = found.candidate.band_proven is Band.DO_NOT_ROLL_OUT
    return Gate(
        name=name, state=GateState.FAIL, number=number, bound=bound, remedy=_of_divergence(final=final), final=final
    )


def _of_divergence(*, final: bool) -> str:
    return "another candidate" if final else "find out what diverges; if it is meant to, waive this with the reason"


def best_set(found: Findings) -> Gate:
    """Whether it is the best, or proven equivalent to the best."""
    name, bound = GateName.BEST_SET, "the best, or proven equivalent to the best"
    version = found.candidate.version
    best = [candidate.version for candidate in found.report.candidates if candidate.in_best_set]
    if not found.candidate.ranked:
        return _not_labelled(name, bound) if found.by_labels else wording.not_compared(name, bound)
    number = f"best set: {listed(best)}"
    if version not in best:
        return Gate(
            name=name,
            state=GateState.FAIL,
            number=number,
            bound=bound,
            remedy=f"promote {listed(best, 'or')} instead",
            # Who lost by an outage may win without it.
            final=not found.candidate.rate_moved,
        )
    if len(found.candidates) == 1 or found.report.state is State.DECIDED:
        return Gate(name=name, state=GateState.PASS, number=number, bound=bound)
    return Gate(name=name, state=GateState.UNKNOWN, number=number, bound=bound, remedy=_more_requests(found))


def _more_requests(found: Findings) -> str:
    """What decides the candidate's open pairs."""
    needed = [
        pair.requests_needed
        for pair in found.report.pairs
        if found.candidate.version in (pair.first, pair.second) and pair.requests_needed is not None
    ]
    what = "labelled requests" if found.by_labels else f"{found.report.unit}s"
    return f"roughly {max(needed):,} more {what} at the present rates" if needed else f"more {what}"


def _not_labelled(name: GateName, bound: str) -> Gate:
    """Who is right most often shows on labelled requests alone, however many were compared."""
    return Gate(
        name=name,
        state=GateState.UNKNOWN,
        number="no labels that every candidate can be judged by",
        bound=bound,
        remedy="labels; `shadowctl label status` tells what became of those that came",
    )


def quality(found: Findings, limits: GateLimits) -> Gate:
    """Whether labels prove it no worse than live, or somebody acknowledged agreement only."""
    name, margin = GateName.QUALITY, 100 * limits.inferiority
    bound = f"proven less than {margin:g} pp below live, or acknowledged as agreement only"
    acknowledged = found.attested.get(Attestation.AGREEMENT_ONLY)
    labels = found.labels
    number = (
        f"accuracy {100 * labels.difference:+.2f} pp to live on {labels.n:,} labelled requests"
        if labels.n
        else "no labels"
    )
    if labels.n and labels.log_worse(limits.inferiority) >= found.log_threshold:
        remedy = "a candidate that is right more often"
        return Gate(name=name, state=GateState.FAIL, number=number, bound=bound, remedy=remedy, final=True)
    proven = labels.n and labels.log_not_worse(limits.inferiority) >= found.log_threshold
    if proven or acknowledged:
        return Gate(
            name=name,
            state=GateState.PASS,
            number=number if proven or not acknowledged else f"{number}; agreement only",
            bound=bound,
            attestation=None if proven else acknowledged,
        )
    attest = wording.ATTEST.format(version=found.candidate.version, what=Attestation.AGREEMENT_ONLY)
    return Gate(
        name=name,
        state=GateState.UNKNOWN,
        number=number,
        bound=bound,
        remedy=f"more labels, or {attest}",
        awaits=Awaits.EVIDENCE if labels.n else Awaits.PEOPLE,
    )


def segments(found: Findings) -> Gate:
    """Whether it is proven to diverge more on some kind of request than on the rest."""
    known = found.segments.segments
    worse = [
        each for each in known if each.alert and each.rest_rate is not None and each.rate.estimate > each.rest_rate
    ]
    named = ", ".join(
        f"{each.feature} {each.level}: {wording.percent(each.rate.estimate)} beside "
        f"{wording.percent(each.rest_rate or 0.0)}"
        for each in worse[:MOST_NAMED]
    )
    more = f" and {len(worse) - MOST_NAMED} more" if len(worse) > MOST_NAMED else ""
    name, bound = GateName.SEGMENTS, "no kind of request proven to diverge more than the rest"
    version = found.candidate.version
    if not known:
        return wording.nothing_yet(
            name, bound, number="no kinds of request seen yet", remedy="requests that can be compared, of several kinds"
        )
    return Gate(
        name=name,
        state=GateState.FAIL if worse else GateState.PASS,
        number=named + more if worse else f"none of {len(known):,}",
        bound=bound,
        remedy=f"see `shadowctl segments {version}`, and find out why there" if worse else "",
    )
