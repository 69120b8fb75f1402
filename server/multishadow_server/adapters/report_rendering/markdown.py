"""A weekly report in Markdown (GitHub's, for its tables)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from multishadow_server.adapters.report_rendering import tables
from multishadow_server.core.cost import Estimate
from multishadow_server.core.week_words import day, minute, per_cent, span
from multishadow_server.core.weekly_report import CandidateWeek, EpochWeek, WeeklyReport

# What Markdown, or HTML in it, would make of a name that callers chose.
_CODE = re.compile(r"(`[^`]+`)")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def render(report: WeeklyReport) -> str:
    """The whole report."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: WeeklyReport) -> Iterator[str]:
    yield f"# {_text(report.model)}, week {report.week}"
    yield ""
    partial = " · **the week is not over**" if report.partial else ""
    yield f"{report.week.in_words}, Monday to Sunday in UTC · made {minute(report.built_at)}{partial}"
    yield ""
    yield f"**{_text(report.headline)}.** {_plain(report.summary)}"
    for epoch in report.epochs:
        yield from _epoch(epoch)
    yield from ("", "## What callers asked", "")
    yield f"About {report.live.requests:,} live requests this week. Shadows have no part in this number."
    yield from ("", "---", "", f"Rates: {_text(report.formula)}. The JSON form holds every figure.")


def _epoch(epoch: EpochWeek) -> Iterator[str]:
    yield from ("", f"## {_text(tables.title(epoch))}", "")
    yield (
        f"{tables.revisions(epoch)} · epoch since {minute(epoch.epoch.opened_at)} ({_text(epoch.epoch.reason)}) · "
        f"{epoch.captures:,} sampled requests this week, {epoch.live_failures:,} failed by live itself · answers agree "
        f"from a similarity of {epoch.epoch.comparator.threshold:g}"
    )
    if epoch.diagnoses:
        yield from ("", "### What is wrong", "")
        for each in epoch.diagnoses:
            whose = f" ({_text(', '.join(each.versions))})" if each.versions else ""
            yield f"- **{each.fault.capitalize()}{whose}.** {_text(f'{each.said} {each.meaning}')}"
            yield f"  What to do: {_plain(each.remedy)}."
            yield f"  Seen by: {_plain(each.evidence)}."
    yield from ("", "### Divergence", "", f"**Recommendation:** {_plain(epoch.report.advice)}", "")
    yield from _table(
        ("candidate", "this week", "bad of compared", "interval", "week before", "band, epoch so far", "rank"),
        (_standing(candidate) for candidate in epoch.candidates),
    )
    for candidate in epoch.candidates:
        if len(candidate.days) > 1:
            yield from ("", f"{_text(candidate.version)} by day: " + "; ".join(_days(candidate)) + ".")
    yield from ("", "### What became of every copy", "")
    yield from _table(
        ("category", *(candidate.version for candidate in epoch.candidates)),
        ((row.name, *row.cells) for row in tables.categories(epoch.candidates)),
    )
    for candidate in epoch.candidates:
        for what, counts in tables.reasons(candidate):
            yield from ("", f"{_text(candidate.version)}, {what}: {_text(counts)}")
    yield from ("", "### Random or systematic?", "")
    for candidate in epoch.candidates:
        yield f"- **{_text(candidate.version)}**: {_text(candidate.pattern.said)}"
        for look in candidate.pattern.looks:
            found = {None: "can't tell", True: "found", False: "not found"}[look.found]
            yield f"  - {found}: {_text(look.said)} ({_text(look.test)})"
    yield from _gates(epoch.candidates)
    yield from _cases(epoch.candidates)
    if epoch.cost is not None:
        yield from _cost(epoch.cost)


def _standing(candidate: CandidateWeek) -> Sequence[str]:
    interval, standing = candidate.rate.interval, candidate.standing
    return (
        candidate.version,
        per_cent(interval.estimate if interval else None),
        f"{candidate.rate.bad:,} of {candidate.rate.n:,}",
        tables.interval(interval),
        tables.change(candidate),
        f"{standing.band}{'' if standing.band_confirmed or not standing.n else ' (provisional)'}",
        tables.rank(candidate),
    )


def _days(candidate: CandidateWeek) -> Iterator[str]:
    for each in candidate.days:
        rate = each.rate
        if rate.interval is not None:
            yield f"{day(each.starts_at)} {per_cent(rate.interval.estimate)} ({rate.bad:,} of {rate.n:,})"


def _gates(candidates: Iterable[CandidateWeek]) -> Iterator[str]:
    yield from ("", "### Gates", "")
    for candidate in candidates:
        if candidate.review is None:
            continue
        yield f"- **{_text(candidate.version)}: {candidate.review.verdict}**, {tables.progress(candidate.review)}"
        for gate in candidate.review.holding:
            missing = f" Missing: {_plain(gate.remedy)}." if gate.remedy else ""
            yield f"  - {tables.gate_name(gate)}: {_text(gate.number)}; asked for: {_text(gate.bound)}.{missing}"


def _cases(candidates: Iterable[CandidateWeek]) -> Iterator[str]:
    yield from ("", "### The most divergent cases", "")
    rows = [
        (
            candidate.version,
            f"{case.distance:.3f}",
            minute(case.received_at),
            " ".join(part for part in (case.detail, case.request_id) if part) or "–",
            f"`{case.command}`",
        )
        for candidate in candidates
        for case in candidate.cases
    ]
    if rows:
        yield from _table(("candidate", "distance", "received", "what differed", "look at it"), rows, raw=(4,))
    else:
        yield "No divergent answer of this week is stored."


def _cost(cost: Estimate) -> Iterator[str]:
    yield from ("", "### Cost", "")
    measured = f" ({_text(cost.traffic.measured)})" if cost.traffic.measured else ""
    left = f"{span(cost.days_left)} of {span(cost.box_days)} are left"
    yield f"{cost.traffic.rps:,.4g} live requests a second{measured}; {left}."
    yield ""
    yield from _table(tables.OPTION_HEADERS, (tables.option(cost, option) for option in cost.options))
    for missing in cost.missing:
        yield from ("", f"Not known: {_plain(missing)}.")


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, raw: Sequence[int] = ()) -> Iterator[str]:
    yield "| " + " | ".join(_text(header) for header in headers) + " |"
    yield "|" + "---|" * len(headers)
    for row in rows:
        cells = (cell if place in raw else _text(cell) for place, cell in enumerate(row))
        yield "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """A sentence of ours, in which `commands` stay code; what callers named is in it, too, and stays text."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if _CODE.fullmatch(part) else _SPECIAL.sub(r"\\\1", part) for part in parts)


def _text(text: str) -> str:
    """Text as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
