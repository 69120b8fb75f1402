"""Threshold calibration: the most lenient threshold that is proven to miss few real differences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from multishadow_server.core import calibration
from multishadow_server.core.calibration import Calibration
from multishadow_server.core.labels import difference_cell
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.core.statistics import sequences
from multishadow_server.errors import FailedPrecondition, InvalidInput

THRESHOLD = 0.85
LOG_THRESHOLD = float(np.log(2 / 0.05))


def counts(
    pairs: Mapping[tuple[int, bool], int],
    *,
    agreed: int,
    diverged: int,
    version: str = "A",
    threshold: float = THRESHOLD,
) -> Rollup:
    """Counts of compared requests, and of pairs by (similarity in ‰, really different?)."""
    cells = {
        difference_cell(version, agreed=permille >= threshold * 1000, permille=permille, real=real): number
        for (permille, real), number in pairs.items()
    }
    return Rollup({Cell("outcome", version, "ok"): agreed, Cell("outcome", version, "diverged"): diverged, **cells})


def walk(rollup: Rollup, *versions: str, missed: float = 0.01) -> Calibration:
    return calibration.calibrate(rollup, candidates=versions or ("A",), threshold=THRESHOLD, missed=missed)


def upper(bad: int, n: int) -> float:
    return float(sequences.rate(bad=np.array([float(bad)]), n=np.array([float(n)]), log_threshold=LOG_THRESHOLD)[1][0])


def test_the_walk_stops_at_the_first_threshold_that_is_not_proven() -> None:
    # Of 1,030 pairs that agreed, 30 differ really, all of them at 0.87.
    pairs = {(990, False): 600, (905, False): 400, (870, True): 30, (500, True): 200}
    found = walk(counts(pairs, agreed=95_000, diverged=5_000))
    assert [step.threshold for step in found.steps][:3] == [1.0, 0.99, 0.98]
    assert [step.proven for step in found.steps] == [True] * (len(found.steps) - 1) + [False]
    assert found.steps[-1].threshold == 0.87
    assert found.proposed == 0.88
    assert (found.told_agreeing, found.told_divergent) == (1_030, 200)


def test_the_missed_rate_is_put_together_from_both_strata_by_how_often_each_occurs() -> None:
    pairs = {(950, False): 2_000, (900, True): 1, (700, True): 60, (600, False): 20, (650, True): 10}
    found = walk(counts(pairs, agreed=9_000, diverged=1_000), missed=0.1)
    by_threshold = {step.threshold: step for step in found.steps}
    at_present, below = by_threshold[0.85], by_threshold[0.7]
    assert at_present.missed == pytest.approx(0.9 / 2_001)
    assert at_present.missed_upper == pytest.approx(0.9 * upper(1, 2_001)), "what diverged cannot be missed there"
    assert at_present.false_alarms == pytest.approx(0.1 * 20 / 90)
    assert below.missed == pytest.approx(0.9 / 2_001 + 0.1 * 60 / 90)
    assert below.missed_upper == pytest.approx(0.9 * upper(1, 2_001) + 0.1 * upper(60, 90))


def test_looking_at_divergent_answers_only_proves_nothing_about_those_that_agreed() -> None:
    found = walk(counts({(300, False): 5_000}, agreed=900, diverged=100))
    assert found.proposed is None
    assert found.steps[0].missed_upper == pytest.approx(0.9)


def test_looking_at_more_divergent_answers_than_at_others_does_not_shift_the_rate() -> None:
    even = {(950, False): 9_000, (700, True): 500, (600, False): 500}
    eager = {(950, False): 9_000, (700, True): 5_000, (600, False): 5_000}
    rates = [walk(counts(pairs, agreed=9_000, diverged=1_000), missed=0.2).steps[-1].missed for pairs in (even, eager)]
    assert rates[0] == pytest.approx(rates[1])


def test_every_candidate_has_to_keep_to_the_rate() -> None:
    clean = counts({(950, False): 5_000}, agreed=9_000, diverged=0)
    risky = counts({(950, False): 5_000, (930, True): 500}, agreed=9_000, diverged=0, version="B")
    found = walk(clean + risky, "A", "B", "C")
    assert found.proposed == 0.94
    assert found.steps[-1].version == "B"
    assert walk(clean + risky, "A").proposed == 0.5


def test_zero_misses_prove_one_percent_after_enough_pairs() -> None:
    def proposed(n: int) -> float | None:
        return walk(counts({(999, False): n}, agreed=1_000, diverged=0)).proposed

    first = next(n for n in range(400, 800) if proposed(n) is not None)
    assert upper(0, first) <= 0.01 < upper(0, first - 1)


def test_the_proposal_rarely_misses_more_however_often_one_looks() -> None:
    rng = np.random.default_rng(7)
    false, runs = 0, 200
    for _ in range(runs):
        # A real difference has a similarity of 0.90 or less; 2 % of what agreed are real ones, all at 0.9.
        pairs = {(950, False): 0, (900, True): 0}
        for _look in range(8):
            real = int(rng.binomial(250, 0.02))
            pairs = {(950, False): pairs[950, False] + 250 - real, (900, True): pairs[900, True] + real}
            proposed = walk(counts(pairs, agreed=1_000, diverged=0)).proposed
            if proposed is not None and proposed <= 0.9:
                false += 1
                break
    assert false / runs <= 0.05


def test_without_pairs_the_way_to_some_is_told() -> None:
    with pytest.raises(FailedPrecondition, match="shadowctl review list --agreeing"):
        walk(counts({}, agreed=100, diverged=0))


def test_a_threshold_that_decides_nothing_is_not_calibrated() -> None:
    label = Rollup({Cell("outcome", "A", "diverged"): 10, Cell("difference", "A", "diverged/990/real"): 3})
    with pytest.raises(FailedPrecondition, match="embeddings and texts only"):
        walk(label)


@pytest.mark.parametrize("missed", [0.0, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(missed: float) -> None:
    with pytest.raises(InvalidInput, match=r"missed: .* is out of range"):
        walk(counts({(999, False): 10}, agreed=10, diverged=0), missed=missed)
