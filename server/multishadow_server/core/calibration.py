"""Which threshold to compare by: the most lenient one that is proven to miss few real differences.

A pair of answers was told apart, or told to be the same, by a label or by a person. At a threshold t the pairs that are
really different and have similarity ≥ t are missed: they count as agreement. The missed rate is their share of all
compared requests, so a rate of divergence is too low by at most that much.

Pairs are not told apart evenly: people look at divergent answers first. So the rate is put together from two strata,
answers that agreed and answers that diverged at the epoch's threshold, weighted by how many of each were compared:

    R(t) = w_ok · P(really different, s ≥ t | agreed) + w_diverged · P(really different, s ≥ t | diverged)

with an upper confidence sequence for each (half of α each). R falls as t rises. Thresholds are walked from the
strictest; the walk stops at the first whose upper bound is above β (fixed-sequence testing: Angelopoulos et al., "Learn
then test", 2021), which costs no further α. Every candidate with pairs has to keep to β.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multishadow_server.core.observation import Outcome
from multishadow_server.core.rollup import Family, Rollup
from multishadow_server.core.statistics import sequences
from multishadow_server.errors import FailedPrecondition, InvalidInput

DEFAULT_MISSED = 0.01
STRICTEST, MOST_LENIENT, STEP = 1000, 500, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One threshold of the walk, for the candidate that misses most at it.

    Args:
        threshold: in (0, 1].
        version: that candidate.
        missed: share of compared requests that are really different and would count as agreement.
        missed_upper: its upper bound; holds however often somebody looks.
        false_alarms: share of compared requests that are really the same and would count as divergence.
        proven: whether the bound is at most β.
    """

    threshold: float
    version: str
    missed: float
    missed_upper: float
    false_alarms: float
    proven: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The walk, from the strictest threshold to the first that is not proven.

    Args:
        threshold: the epoch's.
        proposed: the last one that is proven; None when none is.
        steps: in order.
        told_agreeing: pairs that agreed and were told apart, or told to be the same, over all candidates.
        told_divergent: likewise of those that diverged.
    """

    threshold: float
    proposed: float | None
    steps: tuple[Step, ...]
    told_agreeing: int
    told_divergent: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stratum:
    """Pairs that agreed, or that diverged: `weight` is their share; counts by similarity in ‰, shape (1001,)."""

    weight: float
    real: np.ndarray[tuple[int], np.dtype[np.int64]]
    same: np.ndarray[tuple[int], np.dtype[np.int64]]

    @property
    def n(self) -> int:
        return int(self.real.sum() + self.same.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    version: str
    agreed: _Stratum
    diverged: _Stratum


def calibrate(
    rollup: Rollup, *, candidates: Sequence[str], threshold: float, missed: float = DEFAULT_MISSED, alpha: float = 0.05
) -> Calibration:
    """Walk the thresholds.

    Args:
        rollup: an epoch's counts.
        candidates: whose pairs to go by; those without any are left out.
        threshold: the epoch's.
        missed: β, the largest missed rate to allow, in (0, 1).
        alpha: chance that the proposed threshold misses more, ever, in (0, 1).

    Raises:
        InvalidInput: β or α is out of range.
        FailedPrecondition: nobody told any pair apart, or the threshold does not decide about such answers.
    """
    for name, share in (("missed", missed), ("alpha", alpha)):
        if not 0 < share < 1:
            raise InvalidInput(f"{name}: {share:g} is out of range; allowed is (0, 1)")
    tables = rollup.tables()
    told = [_candidate(tables, version) for version in candidates if (Family.DIFFERENCE, version) in tables]
    told = [each for each in told if each.agreed.n + each.diverged.n]
    _check(told, threshold)
    steps = tuple(_walk(told, round(threshold * 1000), missed=missed, log_threshold=float(np.log(2 / alpha))))
    proven = [step.threshold for step in steps if step.proven]
    return Calibration(
        threshold=threshold,
        proposed=proven[-1] if proven else None,
        steps=steps,
        told_agreeing=sum(each.agreed.n for each in told),
        told_divergent=sum(each.diverged.n for each in told),
    )


def _check(told: Sequence[_Candidate], threshold: float) -> None:
    if not told:
        raise FailedPrecondition(
            "nobody has told any answers apart yet: look at some with `shadowctl review list` and `shadowctl review "
            "list --agreeing`, or send labels with `shadowctl label import`"
        )
    edge = round(threshold * 1000)
    for each in told:
        above, below = _counts(each.diverged)[edge:], _counts(each.agreed)[:edge]
        if above.sum() or below.sum():
            raise FailedPrecondition(
                "a threshold decides about embeddings and texts only; these answers agree or diverge by other rules"
            )


def _walk(told: Sequence[_Candidate], present: int, *, missed: float, log_threshold: float) -> Iterator[Step]:
    for permille in range(STRICTEST, MOST_LENIENT - 1, -STEP):
        worst = max(
            (_step(each, permille, present, missed=missed, log_threshold=log_threshold) for each in told),
            key=lambda step: step.missed_upper,
        )
        yield worst
        if not worst.proven:
            return


def _step(each: _Candidate, permille: int, present: int, *, missed: float, log_threshold: float) -> Step:
    strata = (each.agreed, each.diverged)
    real = [int(stratum.real[permille:].sum()) for stratum in strata]
    same = [int(stratum.same[:permille].sum()) for stratum in strata]
    upper = _upper(real, [stratum.n for stratum in strata], log_threshold)
    if permille >= present:
        # What diverged lies below the present threshold, and so below this one.
        upper[1] = 0.0
    bound = sum(stratum.weight * share for stratum, share in zip(strata, upper, strict=True))
    return Step(
        threshold=permille / 1000,
        version=each.version,
        missed=_weighted(strata, real),
        missed_upper=bound,
        false_alarms=_weighted(strata, same),
        proven=bound <= missed,
    )


def _upper(bad: Sequence[int], n: Sequence[int], log_threshold: float) -> list[float]:
    counts = np.array(bad, dtype=float), np.array(n, dtype=float)
    _, upper = sequences.rate(bad=counts[0], n=counts[1], log_threshold=log_threshold)
    return [float(bound) for bound in upper]


def _weighted(strata: Sequence[_Stratum], counts: Sequence[int]) -> float:
    return sum(stratum.weight * count / max(stratum.n, 1) for stratum, count in zip(strata, counts, strict=True))


def _candidate(tables: Mapping[tuple[str, str], Mapping[str, int]], version: str) -> _Candidate:
    outcomes = tables.get((Family.OUTCOME, version), {})
    agreed, diverged = outcomes.get(Outcome.OK, 0), outcomes.get(Outcome.DIVERGED, 0)
    weights = {Outcome.OK: agreed / max(agreed + diverged, 1), Outcome.DIVERGED: diverged / max(agreed + diverged, 1)}
    counts = {(verdict, kind): np.zeros(1001, dtype=np.int64) for verdict in weights for kind in ("real", "same")}
    for level, number in tables[Family.DIFFERENCE, version].items():
        verdict, permille, kind = level.split("/")
        counts[Outcome(verdict), kind][int(permille)] += number
    strata = {
        verdict: _Stratum(weight=weight, real=counts[verdict, "real"], same=counts[verdict, "same"])
        for verdict, weight in weights.items()
    }
    return _Candidate(version=version, agreed=strata[Outcome.OK], diverged=strata[Outcome.DIVERGED])


def _counts(stratum: _Stratum) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return stratum.real + stratum.same
