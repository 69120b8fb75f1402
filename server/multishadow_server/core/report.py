"""The report: from one epoch's rollup to ranks, verdicts and advice. Its cost does not depend on the counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from multishadow_server.core import advice, divergence_rates, latency, quality_advice, rank_basis, reviews
from multishadow_server.core.divergence_rates import DivergenceRates
from multishadow_server.core.findings import (
    CandidateReport,
    Interval,
    NoiseFloor,
    PairReport,
    Quality,
    Report,
    ReviewCounts,
    State,
)
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.observation import Outcome
from multishadow_server.core.rank_basis import RankBasis
from multishadow_server.core.rollup import Family, Rollup, pair_subject
from multishadow_server.core.session_terms import Unit
from multishadow_server.core.statistics import dispersion, evidence, forecast, ranking, sequences
from multishadow_server.core.statistics.bands import Band, band_of
from multishadow_server.core.statistics.betting import Floats
from multishadow_server.core.statistics.dispersion import Dispersion
from multishadow_server.core.statistics.ranking import Verdict
from multishadow_server.core.tally import MILLIONTHS
from multishadow_server.errors import InvalidInput

__all__ = ["CandidateReport", "Interval", "PairReport", "Report", "State", "build"]

TEST_NAME = "paired betting e-process (a = 10), valid at every look"
EQUIVALENCE_MARGIN = 0.005

_Tables = Mapping[tuple[str, str], Mapping[str, int]]


def build(
    rollup: Rollup,
    *,
    model: str,
    live: str,
    candidates: Sequence[str],
    alpha: float = 0.05,
    buckets: Iterable[Rollup] = (),
    quality: Quality | None = None,
    rank_by_labels: Rollup | None = None,
    unit: Unit = Unit.REQUEST,
) -> Report:
    """Report on an epoch.

    Args:
        rollup: its counts, summed over all buckets.
        model: the model's name, for the advice.
        live: the epoch's live version.
        candidates: all of the epoch, in its order: thresholds hold for the whole family, whoever is looked at.
        alpha: chance that a claim is ever wrong, in (0, 1).
        buckets: the counts of outcomes and of pairs by time bucket, oldest first: what was proven earlier, and to see
            bursts by.
        quality: who was right, of all candidates; shown beside, and mixed with nothing here.
        rank_by_labels: label counts to rank by, of cohorts older than the label delay, with `quality`; None ranks by
            agreement. Bands and rates stay those of agreement.
        unit: what is counted, for the advice; see `session_report.as_requests`.

    Raises:
        InvalidInput: alpha is out of range.
    """
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}; it must lie between 0 and 1, for example 0.05")
    tables = rollup.tables()
    labels = None if rank_by_labels is None else rank_by_labels.tables()
    basis = rank_basis.by_agreement(tables, candidates) if labels is None else rank_basis.by_labels(labels, candidates)
    over_time = [bucket.tables() for bucket in buckets]
    family = _Family.of(tables, over_time, candidates, basis, alpha)
    reports = [_candidate(tables, family, place) for place in family.order]
    # Bursts are seen in divergence; labels come when they come.
    pairs = _pairs(family, over_time if labels is None else ())
    by_quality = quality if labels is not None else None
    state = _state(reports, pairs, by_quality)
    best = [report.version for report in reports if report.in_best_set]
    live_failures = tables.get((Family.LIVE, ""), {}).get("failed", 0)
    return Report(
        live_version=live,
        candidates=tuple(reports),
        pairs=tuple(pairs),
        alpha=alpha,
        family_size=len(pairs),
        evidence_threshold=family.threshold,
        test_name=TEST_NAME,
        advice=advice.sentence(
            model=model,
            live=live,
            candidates=reports,
            pairs=pairs,
            state=state,
            live_failures=live_failures,
            margin=EQUIVALENCE_MARGIN,
            unit=unit,
        )
        if by_quality is None
        else quality_advice.sentence(
            live=live, quality=by_quality, candidates=reports, pairs=pairs, state=state, margin=EQUIVALENCE_MARGIN
        ),
        state=state,
        winner=best[0] if state is State.DECIDED and len(best) == 1 else "",
        live_failures=live_failures,
        noise_floor=_noise_floor(tables, alpha),
        quality=_shown_quality(quality, [report.version for report in reports]),
        review_verdicts=_review_verdicts(tables, reports),
        unit=unit,
    )


def narrow(report: Report, shown: Sequence[str]) -> Report:
    """The report with these candidates alone. Ranks, thresholds and advice stay those among all."""
    candidates = tuple(candidate for candidate in report.candidates if candidate.version in shown)
    return replace(
        report,
        candidates=candidates,
        pairs=tuple(pair for pair in report.pairs if pair.first in shown and pair.second in shown),
        quality=_shown_quality(report.quality, [candidate.version for candidate in candidates]),
        review_verdicts=tuple(counts for counts in report.review_verdicts if counts.version in shown),
    )


def _shown_quality(quality: Quality | None, versions: Sequence[str]) -> Quality | None:
    """In the report's order."""
    if quality is None:
        return None
    by_version = {each.version: each for each in quality.candidates}
    return replace(quality, candidates=tuple(by_version[version] for version in versions))


def _review_verdicts(tables: _Tables, reports: Sequence[CandidateReport]) -> tuple[ReviewCounts, ...]:
    return tuple(
        reviews.counted(tables, report.version) for report in reports if (Family.REVIEW, report.version) in tables
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Family:
    """The epoch's candidates, worked out together; arrays are in the epoch's order.

    Args:
        versions: names.
        threshold: evidence that one direction of a pair needs; 0 without pairs.
        log_threshold: its logarithm; inf without pairs.
        log_rate_threshold: ln of the evidence that refutes a divergence rate.
        n, bad: comparisons that count, and the bad ones among them, shapes (k,).
        rates: intervals of the divergence rates.
        only: [i, j] counts requests on which i was bad and j was not, shape (k, k).
        alike: [i, j] counts requests on which both were bad or both were not.
        log_worse: [i, j] is ln e(i>j).
        ranked, best, rank_best, rank_worst: shapes (k,).
        order: places from the best candidate to the worst.
    """

    versions: Sequence[str]
    threshold: float
    log_threshold: float
    log_rate_threshold: float
    n: Floats
    bad: Floats
    rates: DivergenceRates
    only: Floats
    alike: Floats
    log_worse: Floats
    ranked: NDArray[np.bool_]
    best: NDArray[np.bool_]
    rank_best: NDArray[np.int_]
    rank_worst: NDArray[np.int_]
    order: Sequence[int]

    @classmethod
    def of(
        cls, tables: _Tables, buckets: Sequence[_Tables], versions: Sequence[str], basis: RankBasis, alpha: float
    ) -> _Family:
        k = len(versions)
        bad, n = rank_basis.divergence(tables, versions)
        log_rate_threshold = float(np.log(max(k, 1) / alpha))
        log_worse = evidence.log_evidence(basis.only, basis.only.T)
        threshold = ranking.pair_threshold(k, alpha)
        ranked = basis.n > 0
        best = ranking.best_set(log_worse, alpha=alpha) & ranked
        if not best.any():
            # Pairs that were compared on different requests can contradict each other; then nobody is ruled out.
            best = ranked
        # One candidate has no pairs; nothing is ever proven of them.
        log_threshold = float(np.log(threshold)) if threshold else np.inf
        rank_best, rank_worst = ranking.rank_sets(log_worse, log_threshold=log_threshold)
        estimates = basis.bad / np.maximum(basis.n, 1)
        keys = (estimates, rank_worst, rank_best, ~best, ~ranked)
        return cls(
            versions=versions,
            threshold=threshold,
            log_threshold=log_threshold,
            log_rate_threshold=log_rate_threshold,
            n=n,
            bad=bad,
            rates=divergence_rates.running(buckets, versions, bad=bad, n=n, log_threshold=log_rate_threshold),
            only=basis.only,
            alike=basis.alike,
            log_worse=log_worse,
            ranked=ranked,
            best=best,
            rank_best=rank_best,
            rank_worst=rank_worst,
            order=np.lexsort(keys).tolist(),
        )


def _candidate(tables: _Tables, family: _Family, place: int) -> CandidateReport:
    version = family.versions[place]
    outcomes = tables.get((Family.OUTCOME, version), {})
    n, ranked = int(family.n[place]), bool(family.ranked[place])
    uncomparable, dropped = outcomes.get(Outcome.UNCOMPARABLE, 0), outcomes.get(Outcome.DROPPED, 0)
    lower, upper = float(family.rates.lower[place]), float(family.rates.upper[place])
    estimate = int(family.bad[place]) / max(n, 1)
    band, band_proven = (band_of(upper), band_of(lower)) if n else (Band.UNKNOWN, Band.UNKNOWN)
    moved = bool(family.rates.moved[place])
    # What is known of a mean over a change says nothing of the rate now, nor will more of the same.
    confirmed = n > 0 and band == band_proven and not moved
    similarity = tables.get((Family.SIMILARITY_SUM, version), {}).get("sum", 0) / (MILLIONTHS * max(n, 1))
    return CandidateReport(
        version=version,
        n=n,
        agreed=outcomes.get(Outcome.OK, 0),
        diverged=outcomes.get(Outcome.DIVERGED, 0),
        errors=outcomes.get(Outcome.ERROR, 0),
        timeouts=outcomes.get(Outcome.TIMEOUT, 0),
        uncomparable=uncomparable,
        dropped=dropped,
        completeness=n / max(n + uncomparable + dropped, 1),
        divergence=Interval(estimate=estimate, lower=lower, upper=upper) if n else None,
        band=band,
        band_confirmed=confirmed,
        band_proven=band_proven,
        similarity=similarity if n else None,
        latency_p50_ms=_milliseconds(tables, Family.LATENCY, version, 50),
        latency_p99_ms=_milliseconds(tables, Family.LATENCY, version, 99),
        live_latency_p50_ms=_milliseconds(tables, Family.LIVE_LATENCY, version, 50),
        live_latency_p99_ms=_milliseconds(tables, Family.LIVE_LATENCY, version, 99),
        ranked=ranked,
        rank_best=int(family.rank_best[place]) if ranked else 0,
        rank_worst=int(family.rank_worst[place]) if ranked else 0,
        in_best_set=bool(family.best[place]),
        dropped_by_reason=tables.get((Family.DROPPED_REASON, version), {}),
        uncomparable_by_reason=tables.get((Family.UNCOMPARABLE_REASON, version), {}),
        errors_by_reason=tables.get((Family.ERROR_REASON, version), {}),
        comparisons_needed=None
        if n == 0 or confirmed or moved
        else forecast.comparisons_needed(bad=family.bad[place], n=n, log_threshold=family.log_rate_threshold),
        duplicates=outcomes.get(Outcome.DUPLICATE, 0),
        over_noise=_over_noise(tables, family, version),
        rate_moved=moved,
        first_latency_p50_ms=_milliseconds(tables, Family.FIRST_LATENCY, version, 50),
        first_latency_p99_ms=_milliseconds(tables, Family.FIRST_LATENCY, version, 99),
        live_first_latency_p50_ms=_milliseconds(tables, Family.LIVE_FIRST_LATENCY, version, 50),
        live_first_latency_p99_ms=_milliseconds(tables, Family.LIVE_FIRST_LATENCY, version, 99),
    )


def _over_noise(tables: _Tables, family: _Family, version: str) -> Interval | None:
    statuses = tables.get((Family.PAIR, pair_subject(version, NOISE)), {})
    worse, better = statuses.get("bo", 0), statuses.get("ob", 0)
    n = worse + better + statuses.get("oo", 0) + statuses.get("bb", 0)
    if not n:
        return None
    lower, upper = sequences.paired(
        only_first=np.array([worse]),
        only_second=np.array([better]),
        neither_or_both=np.array([n - worse - better]),
        log_threshold=np.log(2) + family.log_rate_threshold,
    )
    return Interval(estimate=(worse - better) / n, lower=float(lower[0]), upper=float(upper[0]))


def _noise_floor(tables: _Tables, alpha: float) -> NoiseFloor | None:
    outcomes = tables.get((Family.OUTCOME, NOISE), {})
    bad = rank_basis.bad_of(outcomes)
    n = bad + outcomes.get(Outcome.OK, 0)
    if not n:
        return None
    lower, upper = sequences.rate(bad=np.array([bad]), n=np.array([n]), log_threshold=-np.log(alpha))
    diverged = outcomes.get(Outcome.DIVERGED, 0)
    return NoiseFloor(
        n=n,
        diverged=diverged,
        failed=bad - diverged,
        divergence=Interval(estimate=bad / n, lower=float(lower[0]), upper=float(upper[0])),
    )


def _milliseconds(tables: _Tables, family: Family, version: str, percent: int) -> float | None:
    seconds = latency.percentile(tables.get((family, version), {}), percent)
    return None if seconds is None else seconds * 1000


def _pairs(family: _Family, buckets: Sequence[_Tables]) -> list[PairReport]:
    places = list(combinations(family.order, 2))
    if not places:
        return []
    i, j = np.array(places).T
    only_first, only_second, alike = family.only[i, j], family.only[j, i], family.alike[i, j]
    n = only_first + only_second + alike
    first_worse, second_worse = family.log_worse[i, j], family.log_worse[j, i]
    lower, upper = sequences.paired(
        only_first=only_first,
        only_second=only_second,
        neither_or_both=alike,
        log_threshold=family.log_threshold,
    )
    verdicts = ranking.verdicts(
        first_worse=first_worse,
        second_worse=second_worse,
        log_threshold=family.log_threshold,
        lower=lower,
        upper=upper,
        margin=EQUIVALENCE_MARGIN,
    )
    undecided = np.flatnonzero([verdict is Verdict.UNDECIDED for verdict in verdicts])
    needed = forecast.requests_needed(
        only_first=only_first[undecided],
        only_second=only_second[undecided],
        neither_or_both=alike[undecided],
        log_threshold=family.log_threshold,
        margin=EQUIVALENCE_MARGIN,
    )
    needed_of = dict(zip(undecided.tolist(), needed, strict=True))
    p_raw = evidence.anytime_p(evidence.log_two_sided(first_worse, second_worse))
    p_adjusted = evidence.anytime_p(np.maximum(first_worse, second_worse), family=2 * len(places))
    dispersions = _dispersions(family.versions, buckets)
    return [
        PairReport(
            first=family.versions[places[pair][0]],
            second=family.versions[places[pair][1]],
            n=int(n[pair]),
            only_first_bad=int(only_first[pair]),
            only_second_bad=int(only_second[pair]),
            difference=Interval(
                estimate=float((only_first[pair] - only_second[pair]) / max(n[pair], 1)),
                lower=float(lower[pair]),
                upper=float(upper[pair]),
            ),
            log_evidence_first_worse=float(first_worse[pair]),
            log_evidence_second_worse=float(second_worse[pair]),
            p_raw=float(p_raw[pair]),
            p_adjusted=float(p_adjusted[pair]),
            verdict=verdicts[pair],
            requests_needed=needed_of.get(pair),
            dispersion=(found.ratio if (found := dispersions[frozenset(places[pair])]) else None),
            overdispersed=found is not None and found.is_excessive,
        )
        for pair in range(len(places))
    ]


def _dispersions(versions: Sequence[str], buckets: Sequence[_Tables]) -> Mapping[frozenset[int], Dispersion | None]:
    """By the pair's places; which of the two comes first does not matter to it."""
    if not buckets:
        return {frozenset(pair): None for pair in combinations(range(len(versions)), 2)}
    only = np.array([rank_basis.discordance(tables, versions, Family.PAIR)[0] for tables in buckets])
    return {
        frozenset((i, j)): dispersion.dispersion(only[:, i, j], only[:, j, i])
        for i, j in combinations(range(len(versions)), 2)
    }


def _state(candidates: Sequence[CandidateReport], pairs: Sequence[PairReport], by_quality: Quality | None) -> State:
    ranked = [candidate for candidate in candidates if candidate.ranked]
    best = {candidate.version for candidate in candidates if candidate.in_best_set}
    if not ranked:
        return State.NO_DATA
    if len(candidates) == 1:
        alone = ranked[0].band_confirmed if by_quality is None else by_quality.candidates[0].not_worse
        return State.DECIDED if alone else State.UNDECIDED
    among_best = [pair for pair in pairs if {pair.first, pair.second} <= best]
    settled = all(pair.verdict is Verdict.EQUIVALENT for pair in among_best)
    return State.DECIDED if settled and len(ranked) > 1 else State.UNDECIDED
