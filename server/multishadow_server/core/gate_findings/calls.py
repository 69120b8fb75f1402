"""Gates on the calls to the candidate: how long they take, and how many fail."""

from __future__ import annotations

import math

import numpy as np

from multishadow_server.core.gate_findings import wording
from multishadow_server.core.gate_findings.findings import Findings
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import Gate, GateName, GateState
from multishadow_server.core.rollup import Family
from multishadow_server.core.statistics import quantiles, sequences
from multishadow_server.core.withheld import CIRCUIT_OPEN


def latency(found: Findings, limits: GateLimits) -> Gate:
    """Whether its slowest answers keep up with the live version's; advisory while it is a shadow."""
    name, version = GateName.LATENCY, found.candidate.version
    tables, threshold = found.tables, math.log(2 / found.report.alpha)
    timed = tables.get((Family.LATENCY, version), {})
    own = quantiles.p99(timed, log_threshold=threshold)
    live = quantiles.p99(tables.get((Family.LIVE_LATENCY, version), {}), log_threshold=threshold)
    state = GateState.UNKNOWN
    if own[1] <= limits.latency_ratio * live[0] and math.isfinite(own[1]):
        state = GateState.PASS
    elif own[0] > limits.latency_ratio * live[1]:
        state = GateState.FAIL
    remedy = {
        GateState.PASS: "",
        GateState.FAIL: "make it faster, or give it more replicas",
        GateState.UNKNOWN: "more requests",
    }
    return Gate(
        name=name,
        state=state,
        number=f"p99 {wording.milliseconds(own)} beside live's {wording.milliseconds(live)}"
        if timed
        else "no answer was timed yet",
        bound=f"at most {limits.latency_ratio:g} times live's p99",
        remedy=remedy[state],
        # A shadow is called by a worker, on other machines and under other load than a live version is.
        advisory=not found.serving,
    )


def failures(found: Findings, limits: GateLimits) -> Gate:
    """Whether errors and timeouts are proven to be rare.

    Calls that an open circuit spared the candidate count as failed: it opened because the candidate failed, and tried
    all along whether that was over. Otherwise a candidate would look the better the sooner it was left in peace.
    """
    name, bound = GateName.FAILURES, f"proven below {wording.percent(limits.failures)}"
    candidate = found.candidate
    if not candidate.n:
        return wording.not_compared(name, bound)
    spared = candidate.dropped_by_reason.get(CIRCUIT_OPEN, 0)
    failed, n = candidate.errors + candidate.timeouts + spared, candidate.n + spared
    lower, upper = sequences.rate(
        bad=np.array([float(failed)]), n=np.array([float(n)]), log_threshold=found.log_threshold
    )
    among = f" ({spared:,} of them spared by its open circuit)" if spared else ""
    number = f"{failed:,} of {n:,} calls failed{among}, at most {wording.at_most(float(upper[0]))} proven"
    if upper[0] < limits.failures:
        return Gate(name=name, state=GateState.PASS, number=number, bound=bound)
    failing = bool(lower[0] >= limits.failures)
    return Gate(
        name=name,
        state=GateState.FAIL if failing else GateState.UNKNOWN,
        number=number,
        bound=bound,
        remedy="repair what fails, then start anew" if failing else "more requests",
    )
