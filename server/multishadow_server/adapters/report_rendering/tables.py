"""What the tables of a report show, row by row, for HTML and Markdown alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from multishadow_server.core.cost import Estimate, Option
from multishadow_server.core.diagnosis import Fault
from multishadow_server.core.findings import Interval
from multishadow_server.core.gates import Gate, GateState, Review, Verdict
from multishadow_server.core.latency import SLOW
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.week_counts import Categories
from multishadow_server.core.week_words import NONE, money, per_cent, span
from multishadow_server.core.weekly_report import CandidateWeek, EpochWeek

GRAVE = frozenset({Fault.COMPARATOR_FAILING, Fault.COMPARATOR_DOUBTFUL, Fault.SHADOW_DEAD, Fault.SHADOW_SILENT})
_BAND_KINDS = {Band.SAFE: "good", Band.INVESTIGATE: "warn", Band.EDGE_CASES: "warn", Band.DO_NOT_ROLL_OUT: "bad"}
_VERDICT_KINDS = {Verdict.PROMOTE: "good", Verdict.REJECT: "bad", Verdict.HOLD: "warn"}
_GATE_KINDS = {GateState.PASS: "good", GateState.FAIL: "bad"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of numbers: its name, its cells, and whether it is a total or a part of the row above."""

    name: str
    cells: tuple[str, ...]
    kind: str = ""


def categories(candidates: Sequence[CandidateWeek]) -> tuple[Row, ...]:
    """What became of all copies: the rows add up to the last one."""

    def row(name: str, field: str, kind: str = "") -> Row:
        return Row(name=name, kind=kind, cells=tuple(_part(each.categories, field) for each in candidates))

    return (
        row("agreed, in time", "agreed"),
        row(f"slow: agreed, over {SLOW:g} times live's time", "slow"),
        row("prediction disagreement", "disagreed"),
        row("of these slow, too", "disagreed_slowly", "of"),
        row("timeout", "timeout"),
        row("error", "error"),
        row("uncomparable", "uncomparable"),
        row("dropped, never sent", "dropped"),
        row("repeated input, not sent", "duplicate"),
        row("observed", "observed", "total"),
    )


def _part(of: Categories, field: str) -> str:
    count = getattr(of, field)
    return f"{count:,} ({per_cent(count / of.observed)})" if count and field != "observed" else f"{count:,}"


def interval(of: Interval | None) -> str:
    """From … to …."""
    return NONE if of is None else f"{per_cent(of.lower)} to {per_cent(of.upper)}"


def points(of: Interval | None) -> str:
    """A difference in percentage points, with its interval."""
    if of is None:
        return NONE
    return f"{100 * of.estimate:+.2g} pp ({100 * of.lower:+.2g} to {100 * of.upper:+.2g})"


def change(candidate: CandidateWeek) -> str:
    """The week before, and whether anything is proven of the difference."""
    before = candidate.before
    if before is None or before.interval is None:
        return "epoch is younger"
    proof = "proven change" if candidate.proven_change else "no proven change"
    return f"{per_cent(before.interval.estimate)} ({before.bad:,} of {before.n:,}), {proof}"


def rank(candidate: CandidateWeek) -> str:
    """The ranks that the evidence leaves."""
    standing = candidate.standing
    if not standing.ranked:
        return NONE
    if standing.rank_best == standing.rank_worst:
        return f"{standing.rank_best}"
    return f"{standing.rank_best} to {standing.rank_worst}"


def band_kind(band: Band) -> str:
    """Its colour."""
    return _BAND_KINDS.get(band, "")


def verdict_kind(review: Review) -> str:
    """Its colour."""
    return _VERDICT_KINDS.get(review.verdict, "")


def gate_kind(gate: Gate) -> str:
    """Its colour."""
    return _GATE_KINDS.get(gate.state, "warn" if gate.holds_up else "")


def gate_name(gate: Gate) -> str:
    """In words."""
    return gate.name.replace("_", " ")


def gate_state(gate: Gate) -> str:
    """In words; a waiver is told."""
    return f"{gate.state}, waived by {gate.waiver.by}" if gate.waiver else str(gate.state)


def progress(review: Review) -> str:
    """How many gates are out of the way."""
    done = sum(not gate.holds_up for gate in review.gates)
    return f"{done} of {len(review.gates)} gates are out of the way"


def title(epoch: EpochWeek) -> str:
    """What was compared with what."""
    names = ", ".join(candidate.version for candidate in epoch.candidates)
    return f"Experiment {epoch.experiment.id}, epoch {epoch.epoch.number}: {names} beside {epoch.epoch.live}"


def revisions(epoch: EpochWeek) -> str:
    """Which revisions of the flags the epoch covers."""
    last = epoch.epoch.until_revision
    return (
        f"from revision {epoch.epoch.from_revision}"
        if last is None
        else (f"revisions {epoch.epoch.from_revision} to {last - 1}")
    )


def reasons(candidate: CandidateWeek) -> tuple[tuple[str, str], ...]:
    """Why calls failed, copies were dropped, or answers could not be compared: (what, counts)."""
    found = []
    for what, counts in candidate.reasons.items():
        if counts:
            ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            found.append((what, ", ".join(f"{count:,} {reason or 'unknown'}" for reason, count in ordered)))
    return tuple(found)


def option(estimate: Estimate, each: Option) -> tuple[str, ...]:
    """A share with what it costs: share, multiplier, GPUs, a day, what is to come, saves, decides in, later."""
    currency = estimate.price.currency if estimate.price else ""
    bill = each.bill
    later = NONE if each.later is None else ("as now" if abs(each.later) < 1e-9 else _signed(each.later))
    decides = span(each.days) if each.in_time is not False else f"{span(each.days)}, after the time box"
    return (
        per_cent(each.fraction) + (" (now)" if each.fraction == estimate.fraction else ""),
        f"{bill.multiplier:.2f}",
        NONE if bill.gpus is None else f"{bill.gpus:,}",
        money(bill.per_day, currency),
        money(bill.to_come, currency),
        money(each.saves, currency),
        "decided" if each.days == 0 else decides,
        later,
    )


OPTION_HEADERS = ("share", "requests ×", "GPUs", "a day", "still to come", "saves", "decides in", "later by")


def _signed(days: float) -> str:
    return f"{span(days)} later" if days > 0 else f"{span(-days)} sooner"
