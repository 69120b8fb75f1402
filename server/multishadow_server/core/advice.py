"""What to do now, in one plain sentence for a release engineer.

Agreement with live is not quality, so whatever speaks of promotion says what the ranking is by.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from multishadow_server.core.findings import CandidateReport, Interval, PairReport, State
from multishadow_server.core.session_terms import Unit
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.statistics.ranking import Verdict

# Fewer failures in a row may still be a version that is starting.
DEAD_AFTER = 20
LOW_COMPLETENESS = 0.9
CAVEAT = "this ranks by agreement with {live}, not by quality"


def sentence(
    *,
    model: str,
    live: str,
    candidates: Sequence[CandidateReport],
    pairs: Sequence[PairReport],
    state: State,
    live_failures: int,
    margin: float,
    unit: Unit = Unit.REQUEST,
) -> str:
    """One sentence that says what to do.

    Args:
        model: the model's name.
        live: the live version's name.
        candidates: all of the epoch, in order of rank.
        pairs: all of theirs.
        state: of the report.
        live_failures: sampled requests that the live version itself failed.
        margin: half-width of equivalence, as a rate.
        unit: what is counted.
    """
    if state is State.NO_DATA and unit is Unit.SESSION:
        return _no_session(candidates)
    if state is State.NO_DATA:
        return _nothing_compared(model, live, candidates, live_failures)
    best = [candidate for candidate in candidates if candidate.in_best_set]
    if all(_dead(candidate) for candidate in best):
        return _all_dead(best)
    if state is State.UNDECIDED and len(candidates) > 1:
        main = _collecting(best, pairs, sum(candidate.ranked for candidate in candidates), unit)
    elif len(best) > 1:
        main = _equivalent(best, live, margin, unit)
    else:
        main = f"{_standing(best[0], live, candidates, pairs)}, {_what_its_band_means(best[0], live, unit)}"
    return "; ".join([main, *_troubles(candidates, unit)]) + "."


def _no_session(candidates: Sequence[CandidateReport]) -> str:
    return (
        f"No whole session of {listed(candidate.version for candidate in candidates)} has ended yet: a session ends "
        "when no request of it came for as long as the model's file says (`sessions.idle`), and is counted then."
    )


def _nothing_compared(model: str, live: str, candidates: Sequence[CandidateReport], live_failures: int) -> str:
    names = listed(candidate.version for candidate in candidates)
    both = listed([live, *(candidate.version for candidate in candidates)])
    uncomparable = sum(candidate.uncomparable for candidate in candidates)
    dropped = sum(candidate.dropped for candidate in candidates)
    if uncomparable and uncomparable >= dropped:
        reason = _top_reason(candidate.uncomparable_by_reason for candidate in candidates)
        return (
            f"Nothing could be compared: {uncomparable:,} answers were uncomparable, most often because of `{reason}`; "
            f"check that {both} give the same kind of answer."
        )
    if dropped:
        reason = _top_reason(candidate.dropped_by_reason for candidate in candidates)
        return (
            f"Nothing was compared: {dropped:,} copies were dropped before they were sent, most often because of "
            f"`{reason}`; see `shadowctl status` for what falls behind."
        )
    if live_failures:
        return (
            f"Nothing can be compared: the live version {live} itself failed on all {live_failures:,} sampled "
            "requests; repair it first."
        )
    if repeats := sum(candidate.duplicates for candidate in candidates):
        return (
            f"Nothing was compared: all {repeats:,} copies repeat an input that came before in the same time bucket, "
            "where it counts once; send requests whose inputs differ."
        )
    if not candidates:
        return f"There is nothing to compare: no candidate shadows {live} now; start with `shadowctl start`."
    return (
        f"No comparison has arrived yet: check that callers reach {model} through the router, that {names} claim "
        "`shadow` (`shadowctl get flags`), and that a worker runs (`shadowctl status`)."
    )


def _all_dead(best: Sequence[CandidateReport]) -> str:
    names = listed(candidate.version for candidate in best)
    return (
        f"Every call to {names} failed, most often with `{_top_failure(best)}`: check that the versions run and that "
        "their addresses are right (`shadowctl get versions`), and promote nobody."
    )


def _collecting(best: Sequence[CandidateReport], pairs: Sequence[PairReport], ranked: int, unit: Unit) -> str:
    leader, *rivals = best
    if ranked == 1:
        return f"Only {leader.version} could be compared so far, so there is no ranking yet: promote nobody"
    if all(_proven_bad(candidate) for candidate in best):
        names = listed(candidate.version for candidate in best)
        return f"Any of {names} may be the best, but all are proven to diverge on more than 10 %: do not roll any out"
    level = [rival for rival in rivals if _rate(rival).estimate == _rate(leader).estimate]
    if level:
        tied = listed(candidate.version for candidate in (leader, *level))
        opening = f"Nobody leads yet: {tied} diverge equally often so far ({_percent(_rate(leader).estimate)})"
    else:
        others = listed(rival.version for rival in rivals)
        opening = (
            f"{leader.version} leads so far with {_percent(_rate(leader).estimate)} divergence, but {others} may still "
            "be as good or better"
        )
    return f"{opening}: keep collecting{_how_long(leader, rivals, pairs, unit)} and promote nobody yet"


def _how_long(
    leader: CandidateReport, rivals: Sequence[CandidateReport], pairs: Sequence[PairReport], unit: Unit
) -> str:
    open_pairs = [
        pair
        for pair in pairs
        if pair.verdict is Verdict.UNDECIDED
        and leader.version in (pair.first, pair.second)
        and {pair.first, pair.second} <= {leader.version, *(rival.version for rival in rivals)}
    ]
    needed = [pair.requests_needed for pair in open_pairs if pair.requests_needed is not None]
    return _more(max(needed), unit) if needed and len(needed) == len(open_pairs) else ""


def _more(needed: int | None, unit: Unit) -> str:
    return "" if needed is None else f", roughly {needed:,} more {unit}s at the present rates,"


def _equivalent(best: Sequence[CandidateReport], live: str, margin: float, unit: Unit) -> str:
    names = listed(candidate.version for candidate in best)
    opening = f"{names} diverge least from {live} and are proven equivalent (within {margin * 100:g} percentage points)"
    if changed := [candidate.version for candidate in best if candidate.rate_moved]:
        return f"{opening}, {_changed(changed)}"
    worst = max(best, key=lambda candidate: _rate(candidate).upper)
    if worst.band is Band.SAFE:
        return (
            f"{opening}, each below 1 %: choose by cost or latency and promote that one, for example with "
            f"`shadowctl promote {best[0].version}`, if matching {live} is the goal and its gates pass "
            f"(`shadowctl gates {best[0].version}`); {CAVEAT.format(live=live)}"
        )
    if any(_proven_bad(candidate) for candidate in best):
        return f"{opening}, but their divergence is proven above 10 %: do not roll any of them out"
    return (
        f"{opening}, but may diverge on up to {_at_most(_rate(worst).upper)} of {unit}s: find out what "
        f"diverges before you promote one; {CAVEAT.format(live=live)}"
    )


def _standing(
    winner: CandidateReport, live: str, candidates: Sequence[CandidateReport], pairs: Sequence[PairReport]
) -> str:
    beaten = [pair.second for pair in pairs if pair.first == winner.version and pair.verdict is Verdict.BETTER]
    others = [candidate for candidate in candidates if candidate is not winner and candidate.ranked]
    if not others:
        return f"{winner.version} is the only candidate"
    against = f" against {listed(beaten)}" if len(beaten) == len(others) else ""
    return f"{winner.version} diverges least from {live}, proven{against}"


def _what_its_band_means(winner: CandidateReport, live: str, unit: Unit) -> str:
    rate = _rate(winner)
    promote = f"`shadowctl promote {winner.version}`"
    between = f"{_at_least(rate.lower)} to {_at_most(rate.upper)}"
    if winner.rate_moved:
        return _changed([winner.version])
    if winner.band is Band.SAFE:
        return (
            f"and its divergence is proven below 1 %: if matching {live} is the goal and its gates pass "
            f"(`shadowctl gates {winner.version}`), promote it with {promote}; " + CAVEAT.format(live=live)
        )
    if _proven_bad(winner):
        return "but its divergence is proven above 10 %: do not roll it out"
    if not winner.band_confirmed:
        more = _more(winner.comparisons_needed, unit)
        return (
            f"but its divergence may be anywhere from {between}: keep collecting{more} "
            f"until that is narrower, before you promote it with {promote}; {CAVEAT.format(live=live)}"
        )
    what = "which edge cases diverge" if winner.band is Band.EDGE_CASES else "what diverges and why"
    return f"but its divergence is {between}: find out {what} before you promote it with {promote}; " + CAVEAT.format(
        live=live
    )


def _changed(versions: Sequence[str]) -> str:
    """A proof that holds for a mean over a change does not hold for what is there now."""
    gates = listed(f"`shadowctl gates {version}`" for version in versions)
    return (
        f"but the divergence of {listed(versions)} has changed since the epoch began, so nothing is proven of it now: "
        f"find out what happened ({gates}), and start anew before you promote anybody"
    )


def _proven_bad(candidate: CandidateReport) -> bool:
    return candidate.band_proven is Band.DO_NOT_ROLL_OUT and not candidate.rate_moved


def _troubles(candidates: Sequence[CandidateReport], unit: Unit) -> list[str]:
    """A clause for each candidate that is broken, or that its numbers do not speak for."""
    return [trouble for candidate in candidates if (trouble := _trouble(candidate, unit))]


def _trouble(candidate: CandidateReport, unit: Unit) -> str:
    name, copies = candidate.version, candidate.n + candidate.uncomparable + candidate.dropped
    lost = Counter(candidate.uncomparable_by_reason) + Counter(candidate.dropped_by_reason)
    if not copies:
        return _got_nothing(candidate, unit)
    if not candidate.n:
        return f"{name} could not be compared at all (`{_top_reason([lost])}`)"
    if _dead(candidate):
        return (
            f"{name} failed on all {candidate.n:,} calls (`{_top_failure([candidate])}`), so repair it or leave it out"
        )
    if candidate.completeness < LOW_COMPLETENESS:
        share = _percent(candidate.completeness)
        return (
            f"only {share} of the copies for {name} ended in a comparison (`{_top_reason([lost])}`), find out why first"
        )
    return ""


def _got_nothing(candidate: CandidateReport, unit: Unit) -> str:
    if unit is Unit.SESSION:
        return f"no whole session of {candidate.version} has ended yet"
    if candidate.duplicates:
        return f"{candidate.version} got repeated inputs alone, which do not count"
    return f"{candidate.version} got no request yet, check its flag (`shadowctl get flags`)"


def _dead(candidate: CandidateReport) -> bool:
    return candidate.n >= DEAD_AFTER and candidate.errors + candidate.timeouts == candidate.n


def _top_failure(candidates: Iterable[CandidateReport]) -> str:
    return _top_reason({**candidate.errors_by_reason, "timeout": candidate.timeouts} for candidate in candidates)


def _top_reason(counts: Iterable[Mapping[str, int]]) -> str:
    """The most frequent one; the first by name among equals, so that a report is always the same."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return min(total, key=lambda reason: (-total[reason], reason), default="") or "unknown"


def _rate(candidate: CandidateReport) -> Interval:
    if candidate.divergence is None:
        raise ValueError(f"{candidate.version} has no comparisons")
    return candidate.divergence


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _at_least(share: float) -> str:
    """Rounded down: the sentence never claims more than was proven. What a float may be off by is no step."""
    return f"{math.floor(share * 1000 + 1e-9) / 10:g} %"


def _at_most(share: float) -> str:
    """Rounded up, likewise."""
    return f"{math.ceil(share * 1000 - 1e-9) / 10:g} %"


def listed(names: Iterable[str], conjunction: str = "and") -> str:
    """Names as prose: "A, B and C"."""
    *most, last = list(names) or [""]
    return f"{', '.join(most)} {conjunction} {last}" if most else last
