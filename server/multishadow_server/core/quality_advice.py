"""What to do now, in one plain sentence, where candidates are ranked by labels.

Accuracy is not agreement, so whatever speaks of promotion says what the ranking is by.
"""

from __future__ import annotations

from collections.abc import Sequence

from multishadow_server.core.advice import listed
from multishadow_server.core.findings import CandidateQuality, CandidateReport, PairReport, Quality, State
from multishadow_server.core.statistics.ranking import Verdict

CAVEAT = "this ranks by labels, not by agreement"


def sentence(
    *,
    live: str,
    quality: Quality,
    candidates: Sequence[CandidateReport],
    pairs: Sequence[PairReport],
    state: State,
    margin: float,
) -> str:
    """One sentence that says what to do.

    Args:
        live: the live version's name.
        quality: who was right.
        candidates: all of the epoch, in order of rank.
        pairs: all of theirs.
        state: of the report.
        margin: half-width of equivalence, as a rate.
    """
    if state is State.NO_DATA:
        return _nothing_labelled(quality)
    best = [candidate.version for candidate in candidates if candidate.in_best_set]
    of = {each.version: each for each in quality.candidates}
    leader = of[best[0]]
    if len(best) > 1 and state is State.UNDECIDED:
        return (
            f"{leader.version} is right most often so far ({_accuracy(leader)}), but {listed(best[1:])} may be as good "
            f"or better: keep labelling{_how_long(best, pairs)} and promote nobody yet; {CAVEAT}."
        )
    if len(best) > 1:
        opening = (
            f"{listed(best)} are right most often and proven equivalent (within {margin * 100:g} percentage points)"
        )
    elif len(candidates) == 1:
        opening = f"{leader.version} is the only candidate"
    else:
        opening = f"{leader.version} is right most often, proven against the others"
    return f"{opening}, {_beside_live(leader, live, quality.margin)}; {CAVEAT}."


def _nothing_labelled(quality: Quality) -> str:
    young = f" ({quality.too_young:,} are too young)" if quality.too_young else ""
    return (
        f"No labelled request is old enough to rank by{young}: send labels with `shadowctl label import`, and see what "
        "became of them with `shadowctl label status`."
    )


def _beside_live(leader: CandidateQuality, live: str, margin: float) -> str:
    share = f", {live} on {100 * leader.live_right / leader.n:.3g} %" if leader.n else ""
    beside = f"right on {_accuracy(leader)}{share}"
    worse = f"{100 * margin:g} pp worse than {live} ({beside})"
    if leader.difference is not None and leader.difference.upper < -margin:
        return f"but proven more than {worse}: do not promote it"
    if leader.not_worse:
        return f"and proven less than {worse}: promote it with `shadowctl promote {leader.version}`"
    return f"but not proven yet to be less than {worse}: keep labelling before you promote it"


def _accuracy(quality: CandidateQuality) -> str:
    return f"{100 * quality.right / quality.n:.3g} % of {quality.n:,}" if quality.n else "no labels beside live's"


def _how_long(best: Sequence[str], pairs: Sequence[PairReport]) -> str:
    open_pairs = [pair for pair in pairs if pair.verdict is Verdict.UNDECIDED and {pair.first, pair.second} <= {*best}]
    needed = [pair.requests_needed for pair in open_pairs if best[0] in (pair.first, pair.second)]
    known = [requests for requests in needed if requests is not None]
    if not known or len(known) < len(needed):
        return ""
    return f", roughly {max(known):,} more labelled requests at the present rates,"
