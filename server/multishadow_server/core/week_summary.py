"""A week in one paragraph that everybody understands; the figures behind it stand in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from multishadow_server.core.advice import listed
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.week_words import money, one_in, per_cent

if TYPE_CHECKING:
    from multishadow_server.core.cost import Estimate
    from multishadow_server.core.weekly_report import CandidateWeek, EpochWeek, LiveWeek
    from multishadow_server.core.weeks import Week

_BANDS = {
    Band.SAFE: "below 1 %, which is safe",
    Band.INVESTIGATE: "between 1 and 5 %, which wants looking into",
    Band.EDGE_CASES: "between 5 and 10 %: edge cases",
    Band.DO_NOT_ROLL_OUT: "above 10 %: not to be rolled out",
    Band.UNKNOWN: "unknown",
}


def headline(epochs: Sequence[EpochWeek]) -> str:
    """The week in a few words."""
    if not epochs or not any(candidate.rate.n for epoch in epochs for candidate in epoch.candidates):
        return "Nothing was compared"
    newest = epochs[0]
    if newest.diagnoses:
        first = newest.diagnoses[0]
        whose = f" ({listed(first.versions)})" if first.versions else ""
        more = len(newest.diagnoses) - 1
        return f"{first.fault.capitalize()}{whose}{f', and {more} more to look at' if more else ''}"
    ready = [each.version for each in newest.candidates if each.review and each.review.verdict == "PROMOTE"]
    if ready:
        return f"{listed(ready)} may be promoted"
    return f"{newest.report.winner} is ahead" if newest.report.winner else "Still collecting"


def paragraph(model: str, week: Week, epochs: Sequence[EpochWeek], live: LiveWeek, *, partial: bool) -> str:
    """What happened, what is wrong, what to do, and what it costs."""
    when = f"In week {week} ({week.in_words}{', which is not over yet' if partial else ''})"
    if not epochs:
        callers = f"; callers sent about {live.requests:,} requests" if live.requests else ""
        return f"{when} no experiment of {model} ran{callers}."
    newest, *others = epochs
    said = [_compared(when, model, newest)]
    said += [_rate(candidate, newest.epoch.live) for candidate in newest.candidates if candidate.rate.n]
    if newest.diagnoses:
        said.append("What is wrong: " + " ".join(each.said for each in newest.diagnoses[:2]))
        if (more := len(newest.diagnoses) - 2) > 0:
            said.append(f"There {'is 1 more finding' if more == 1 else f'are {more} more findings'} below.")
    said.append(f"Recommendation: {newest.report.advice}")
    if newest.cost is not None and newest.cost.fraction:
        said.append(_cost(newest.cost))
    if others:
        said.append(
            f"{'1 earlier stretch' if len(others) == 1 else f'{len(others)} earlier stretches'} of the week "
            "(another live version, comparator or set of candidates) stand apart below."
        )
    return " ".join(said)


def _compared(when: str, model: str, epoch: EpochWeek) -> str:
    names = listed(candidate.version for candidate in epoch.candidates)
    verb = "was" if len(epoch.candidates) == 1 else "were"
    if not any(candidate.rate.n for candidate in epoch.candidates):
        return f"{when} {names} should have been compared with {epoch.epoch.live} of {model}, and nothing was compared."
    return (
        f"{when} {names} {verb} compared with {epoch.epoch.live}, which answers callers of {model}, on "
        f"{epoch.captures:,} of their requests."
    )


def _rate(candidate: CandidateWeek, live: str) -> str:
    interval = candidate.rate.interval
    assert interval is not None
    odds = one_in(interval.estimate)
    often = f"{per_cent(interval.estimate)}{f' ({odds})' if odds else ''}"
    said = f"{candidate.version} differed from {live} or failed on {often}"
    if candidate.before is not None and candidate.before.interval is not None:
        former = candidate.before.interval.estimate
        way = "up" if interval.estimate > former else "down"
        said += (
            f", {way} from {per_cent(former)} the week before"
            if candidate.proven_change
            else f", after {per_cent(former)} the week before, which is no proven change"
        )
    # What was proven over the whole epoch, which is more than a week's proof.
    band = candidate.standing.band
    if candidate.standing.band_confirmed:
        said += f"; that is proven to be {_BANDS[band]}"
    return f"{said}."


def _cost(cost: Estimate) -> str:
    bill, shares = cost.present, f"{per_cent(cost.fraction)} of the requests"
    if bill.gpus is None:
        return f"Cost: not known, because {cost.missing[-1].split(':')[0]}."
    gpus = "1 GPU" if bill.gpus == 1 else f"{bill.gpus} GPUs"
    if cost.price is None or bill.for_box is None:
        return f"Shadowing {shares} takes {gpus}."
    return (
        f"Shadowing {shares} takes {gpus}, about {money(bill.per_day, cost.price.currency)} a day and "
        f"{money(bill.for_box, cost.price.currency)} for the whole experiment."
    )
