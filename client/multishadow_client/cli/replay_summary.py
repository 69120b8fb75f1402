"""What a replay came to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1.replay_pb2 import ReplayResult
from multishadow_client.cli import figures
from multishadow_client.cli.listing_view import table

OUTCOMES = ("agree", "diverged", "uncomparable", "error", "timeout", "answered")
BAD = ("diverged", "uncomparable", "error", "timeout")
# From then on requests did not come as they were meant to.
LATE_SECONDS = 1.0


@dataclass(kw_only=True, slots=True)
class ReplaySummary:
    """Counts that grow with each result.

    Attributes:
        target: who was called, for people.
        total: how many requests there are.
        gone: stored requests that were deleted before they were sent.
        complete: whether every request was sent and answered.
    """

    target: str = ""
    total: int = 0
    gone: int = 0
    complete: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    recorded: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Results so far."""
        return self.outcomes.total()

    @property
    def bad_share(self) -> float:
        """Share of the results that are no agreement, and should be."""
        return sum(self.outcomes[outcome] for outcome in BAD) / self.n if self.n else 0.0

    def add(self, result: ReplayResult) -> None:
        """Count one result."""
        self.outcomes[result.outcome] += 1
        if result.reason:
            self.reasons[f"{result.outcome}: {result.reason}"] += 1
        if result.version:
            self.versions[result.version] += 1
        if result.outcome not in {"error", "timeout"}:
            self.latencies.append(result.latency_ms)
            if result.HasField("recorded_latency_ms"):
                self.recorded.append(result.recorded_latency_ms)
        self.late.append(result.late_ms)

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "target": self.target,
            "total": self.total,
            "results": self.n,
            "complete": self.complete,
            "gone": self.gone,
            "outcomes": {outcome: self.outcomes[outcome] for outcome in OUTCOMES},
            "reasons": dict(self.reasons.most_common()),
            "versions": dict(self.versions),
            "latency_ms": _quantiles(self.latencies),
            "recorded_latency_ms": _quantiles(self.recorded),
            "late_p95_ms": quantile(self.late, 0.95),
        }

    def view(self) -> RenderableType:
        """For people."""
        rows = [
            (outcome, figures.count(self.outcomes[outcome]), figures.percent(self.outcomes[outcome] / self.n))
            for outcome in OUTCOMES
            if self.outcomes[outcome]
        ]
        lines = [
            Text.assemble((f"{figures.count(self.n)} of {figures.count(self.total)}", "bold"), f" to {self.target}"),
            table(("outcome", "requests", "share"), rows, nothing="nothing was answered"),
            *self._latency(),
        ]
        if self.reasons:
            told = ", ".join(f"{figures.count(n)} {reason}" for reason, n in self.reasons.most_common(8))
            lines.append(Text(told, style="dim"))
        if self.versions:
            told = ", ".join(f"{version} {figures.count(n)}" for version, n in self.versions.most_common())
            lines.append(Text(f"answered by: {told}", style="dim"))
        lines.extend(Text(note, style="yellow") for note in self._notes())
        return Group(*lines)

    def _latency(self) -> Sequence[RenderableType]:
        rows = [
            (name, figures.milliseconds(quantile(values, 0.5)), figures.milliseconds(quantile(values, 0.95)))
            for name, values in (("now", self.latencies), ("recorded", self.recorded))
            if values
        ]
        return [table(("latency, ms", "p50", "p95"), rows, nothing="")] if rows else []

    def _notes(self) -> Sequence[str]:
        notes = []
        if not self.complete:
            notes.append(f"stopped before its end: {figures.count(self.total - self.n)} have no result")
        if self.gone:
            notes.append(f"{figures.count(self.gone)} were deleted by retention before they were sent")
        late = quantile(self.late, 0.95)
        if late is not None and late > LATE_SECONDS * 1000:
            notes.append(
                f"the pace was not kept: one in twenty was sent {late / 1000:.1f} s late or more; give it more "
                "--concurrency, or a lower --speed or --rate"
            )
        return notes


def quantile(values: Sequence[float], p: float) -> float | None:
    """The smallest value that a share `p` of all is not above; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(p * len(ordered)) - 1)]


def _quantiles(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": quantile(values, 0.5), "p95": quantile(values, 0.95)}
