"""What a rollout watches: the new version's share of the live requests beside the base's, while both serve.

Each guardrail is judged at every look, and not at the end of a stage alone, so all bounds are confidence sequences.
α is the chance that any guardrail is ever broken in a rollout of a version that keeps to the limits; it is split evenly
over the guardrails and the times at which a stage is entered, since each entry begins with counts of its own.

Limits are tolerances: a version that is worse by less than one is not stopped by it. Twice or more of that is *severe*,
and is acted on at once. Where the evidence does not exclude a severe difference yet, a stage waits for more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from multishadow_server.core.gate_findings import wording
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.statistics import quantiles, two_samples
from multishadow_server.core.statistics.non_inferiority import LabelledPair
from multishadow_server.core.statistics.two_samples import Bounds, Rate

DEFAULT_ALPHA = 0.05
# The band "do not roll out" begins there: no limit makes more than that a small matter.
SEVERE_DIVERGENCE = 0.10
MILLISECOND = 1e-3


class GuardrailName(StrEnum):
    """What is compared."""

    ERRORS = "errors"
    LATENCY = "latency"
    DIVERGENCE = "divergence"
    ACCURACY = "accuracy"


class Standing(StrEnum):
    """What a guardrail says.

    `kept`: nothing is proven against the version, and a severe difference is excluded. `waiting`: not excluded yet.
    `broken`: worse by more than the limit, proven. `severe`: worse by far more. `unwatched`: nobody measures it.
    """

    KEPT = "kept"
    WAITING = "waiting"
    BROKEN = "broken"
    SEVERE = "severe"
    UNWATCHED = "unwatched"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """By how much the new version may be worse.

    Args:
        errors: share of failed requests above the base's; `severe_errors` likewise.
        latency_ratio: p99 as a multiple of the base's; twice that is severe.
        latency_slack: seconds by which p99 may be longer whatever the multiple: 2 ms instead of 0.5 harm nobody.
        divergence: share of the new version's live answers that the base, shadowing, answers differently.
        divergence_rise: by how much that may lie above what was measured while the new version shadowed.
        accuracy: share of right answers below the base's, by labels; five times that is severe.
        alpha: chance that any of them is ever broken by a version that keeps to them.
    """

    errors: float = 0.01
    severe_errors: float = 0.05
    latency_ratio: float = 2.0
    latency_slack: float = 0.010
    divergence: float = 0.01
    divergence_rise: float = 0.02
    accuracy: float = 0.01
    alpha: float = DEFAULT_ALPHA

    @property
    def severe_divergence(self) -> float:
        """Where divergence is severe."""
        return max(SEVERE_DIVERGENCE, 2 * self.divergence)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was counted since the stage was entered.

    Args:
        new: live requests of the new version.
        base: those of the version that it replaces; at 100 %, where it has none, those of the stages before.
        base_is_earlier: whether `base` is from the stages before.
        reverse: of the new version's live answers, those that the base answered differently as a shadow; None when
            nobody compares.
        forward: of the base's live answers, those that the new version answered differently as a shadow.
        labels: the new version beside the base on labelled requests since the rollout began; None when there are none.
        unreadable: why comparisons could not be read; empty when they could.
    """

    new: LiveCounts = field(default_factory=LiveCounts)
    base: LiveCounts = field(default_factory=LiveCounts)
    base_is_earlier: bool = False
    reverse: Rate | None = None
    forward: Rate | None = None
    labels: LabelledPair | None = None
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guardrail:
    """One guardrail with its numbers.

    Args:
        name: what is compared.
        standing: what it says.
        new, base: the figures of both, in words.
        found: the difference and its bounds, in words.
        limit: what is allowed, in words.
        bounds: the difference that is judged, for programs: a share, or a ratio for latency; None where there is none.
    """

    name: GuardrailName
    standing: Standing
    new: str = ""
    base: str = ""
    found: str = ""
    limit: str = ""
    bounds: Bounds | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How strictly to judge.

    Args:
        limits: the tolerances.
        minimum_requests: live requests that each of the two versions must have had in the stage.
        entries: how many times stages can be entered at most; α is split over them.
        watched: the guardrails that this rollout has.
    """

    limits: Limits
    minimum_requests: int
    entries: int
    watched: frozenset[GuardrailName]

    @property
    def log_threshold(self) -> float:
        """Ln of the evidence that one side of one comparison of one guardrail needs."""
        return math.log(2 * len(GuardrailName) * self.entries / self.limits.alpha)


def assess(evidence: Evidence, rules: Rules) -> tuple[Guardrail, ...]:
    """Judge the evidence by every guardrail, in the order of GuardrailName."""
    return (
        _errors(evidence, rules),
        _latency(evidence, rules),
        _divergence(evidence, rules),
        _accuracy(evidence, rules),
    )


def _errors(evidence: Evidence, rules: Rules) -> Guardrail:
    limits = rules.limits
    new = Rate(bad=evidence.new.failed, n=evidence.new.requests)
    base = Rate(bad=evidence.base.failed, n=evidence.base.requests)
    found = two_samples.difference(new, base, log_threshold=rules.log_threshold)
    enough = min(new.n, base.n) >= rules.minimum_requests
    if found.lower > limits.severe_errors:
        standing = Standing.SEVERE
    elif found.lower > limits.errors:
        standing = Standing.BROKEN
    else:
        standing = Standing.KEPT if enough and found.upper < limits.severe_errors else Standing.WAITING
    return Guardrail(
        name=GuardrailName.ERRORS,
        standing=standing,
        new=_of(new, "failed"),
        base=_of(base, "failed") + _when(evidence),
        found=_points(found),
        limit=f"{100 * limits.errors:+g} pp ({100 * limits.severe_errors:+g} pp is severe)",
        bounds=found,
    )


def _latency(evidence: Evidence, rules: Rules) -> Guardrail:
    limits = rules.limits
    new = quantiles.p99(evidence.new.latencies, log_threshold=rules.log_threshold)
    base = quantiles.p99(evidence.base.latencies, log_threshold=rules.log_threshold)
    counted = min(sum(evidence.new.latencies.values()), sum(evidence.base.latencies.values()))

    def exceeds(ratio: float) -> bool:
        return new[0] > max(ratio * base[1], base[1] + limits.latency_slack)

    if exceeds(2 * limits.latency_ratio):
        standing = Standing.SEVERE
    elif exceeds(limits.latency_ratio):
        standing = Standing.BROKEN
    else:
        standing = Standing.KEPT if counted >= rules.minimum_requests else Standing.WAITING
    ratio = Bounds(estimate=math.nan, lower=_ratio(new[0], base[1]), upper=_ratio(new[1], base[0]))
    return Guardrail(
        name=GuardrailName.LATENCY,
        standing=standing,
        new=f"p99 {_milliseconds(new)}",
        base=f"p99 {_milliseconds(base)}{_when(evidence)}",
        found=f"× {_number(ratio.lower)} – {_number(ratio.upper)}",
        limit=f"× {limits.latency_ratio:g} and {1000 * limits.latency_slack:g} ms more "
        f"(× {2 * limits.latency_ratio:g} is severe)",
        bounds=ratio,
    )


def _divergence(evidence: Evidence, rules: Rules) -> Guardrail:
    """Two questions: does it diverge more than was accepted, and more than it did while it shadowed?"""
    limits, reverse = rules.limits, evidence.reverse
    name = GuardrailName.DIVERGENCE
    limit = f"{_percent(limits.divergence)} ({_percent(limits.severe_divergence)} is severe)"
    if name not in rules.watched:
        return Guardrail(name=name, standing=Standing.UNWATCHED, limit=limit, found="no experiment compares them")
    if reverse is None:
        lost = evidence.unreadable or "the experiment that compared them has ended"
        return Guardrail(name=name, standing=Standing.WAITING, limit=limit, found=lost)
    found = two_samples.bounds(reverse, log_threshold=rules.log_threshold)
    forward = evidence.forward or Rate(bad=0, n=0)
    rise = two_samples.difference(reverse, forward, log_threshold=rules.log_threshold)
    if found.lower > limits.severe_divergence:
        standing = Standing.SEVERE
    elif found.lower > limits.divergence or rise.lower > limits.divergence_rise:
        standing = Standing.BROKEN
    else:
        enough = reverse.n >= rules.minimum_requests and found.upper < limits.severe_divergence
        standing = Standing.KEPT if enough else Standing.WAITING
    return Guardrail(
        name=name,
        standing=standing,
        new=_of(reverse, "diverged"),
        base=f"{_of(forward, 'diverged')} while it shadowed" if forward.n else "",
        found=f"{_percent(found.estimate)}, {wording.at_least(found.lower)} – {wording.at_most(found.upper)}",
        limit=limit,
        bounds=found,
    )


def _accuracy(evidence: Evidence, rules: Rules) -> Guardrail:
    """Labels may come a day later, so nothing waits for them; those that are there are heeded."""
    limits, labels, name = rules.limits, evidence.labels, GuardrailName.ACCURACY
    limit = f"{-100 * limits.accuracy:+g} pp ({-500 * limits.accuracy:+g} pp is severe)".replace("-", "−")
    if name not in rules.watched:
        return Guardrail(name=name, standing=Standing.UNWATCHED, limit=limit, found="no labels are kept")
    if labels is None or not labels.n:
        return Guardrail(name=name, standing=Standing.KEPT, limit=limit, found="no label yet; nothing waits for them")
    if labels.log_worse(5 * limits.accuracy) >= rules.log_threshold:
        standing = Standing.SEVERE
    elif labels.log_worse(limits.accuracy) >= rules.log_threshold:
        standing = Standing.BROKEN
    else:
        standing = Standing.KEPT
    found = f"{100 * labels.difference:+.2f} pp on {labels.n:,} labelled requests".replace("-", "−")
    return Guardrail(
        name=name,
        standing=standing,
        new=f"{labels.only_candidate_right:,} right alone",
        base=f"{labels.only_live_right:,} right alone",
        found=found,
        limit=limit,
    )


def requests_to_clear(rules: Rules) -> int:
    """Live requests after which a version that never fails is past the guardrail `errors`: a stage needs as many."""
    n = rules.minimum_requests
    while (
        _errors(Evidence(new=LiveCounts(requests=n), base=LiveCounts(requests=n)), rules).standing is not Standing.KEPT
    ):
        n += max(1, n // 20)
    return n


def by_standing(guardrails: Sequence[Guardrail]) -> Mapping[Standing, tuple[Guardrail, ...]]:
    """Guardrails by what they say; every standing is there."""
    return {standing: tuple(each for each in guardrails if each.standing is standing) for standing in Standing}


def in_words(guardrails: Sequence[Guardrail]) -> str:
    """E.g. "errors (+7.10 pp, +2.20 – +14.02; limit +1 pp)"."""
    return "; ".join(f"{each.name} ({each.found}; limit {each.limit})" for each in guardrails)


def _of(rate: Rate, what: str) -> str:
    return f"{rate.bad:,} of {rate.n:,} {what}"


def _when(evidence: Evidence) -> str:
    return " (before)" if evidence.base_is_earlier else ""


def _points(found: Bounds) -> str:
    values = (f"{100 * value:+.2f}" for value in (found.estimate, found.lower, found.upper))
    estimate, lower, upper = (value.replace("-", "−") for value in values)
    return f"{estimate} pp, {lower} – {upper}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _ratio(first: float, second: float) -> float:
    if math.isinf(first):
        return math.inf if math.isfinite(second) else math.nan
    return first / second if second else math.inf


def _number(value: float) -> str:
    if math.isnan(value):
        return "?"
    return "∞" if math.isinf(value) else f"{value:.2g}"


def _milliseconds(ends: tuple[float, float]) -> str:
    lower, upper = ("∞" if math.isinf(end) else f"{end / MILLISECOND:.3g}" for end in ends)
    return f"{lower} – {upper} ms"
