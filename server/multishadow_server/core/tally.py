"""Builds rollups from observations: one tally per micro-batch, on the worker's hot path.

Adding a capture only appends to lists and counts its outcome pattern; the cells are worked out once per batch, from the
few distinct patterns and from whole columns at a time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from multishadow_server.core import latency
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.observation import BAD, COUNTED, Observation, Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup, pair_subject

MILLIONTHS = 1_000_000
LARGEST_JOINT = 5

_STATUS: dict[Outcome | None, str] = {
    None: "u",
    **dict.fromkeys(BAD, "b"),
    Outcome.OK: "o",
    Outcome.UNCOMPARABLE: "x",
    Outcome.DROPPED: "x",
    Outcome.DUPLICATE: "x",
}
_REASONED = {
    Outcome.UNCOMPARABLE: Family.UNCOMPARABLE_REASON,
    Outcome.DROPPED: Family.DROPPED_REASON,
    Outcome.ERROR: Family.ERROR_REASON,
}
_SEGMENT_FAMILIES = {
    Outcome.DIVERGED: Family.SEGMENT_DIVERGED,
    Outcome.ERROR: Family.SEGMENT_FAILED,
    Outcome.TIMEOUT: Family.SEGMENT_FAILED,
}
# An error may come back at once; counting its latency would make a broken version look quick.
_ANSWERED = frozenset({Outcome.OK, Outcome.DIVERGED, Outcome.UNCOMPARABLE})

_Pattern = tuple[Outcome | None, ...]


class Tally:
    """Counts one micro-batch, of any epochs and time buckets.

    Similarity sums are 64-bit while they are here: at most nine million captures fit one tally.
    """

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, int], _Bucket] = {}

    def add_capture(
        self,
        epoch: Epoch,
        *,
        received_at: float,
        live_latency: float,
        observations: Sequence[Observation],
        segments: Sequence[str] = (),
        noise: Observation | None = None,
        live_first_latency: float | None = None,
    ) -> None:
        """Count what the shadows made of one capture.

        Args:
            epoch: the one that it belongs to; observations of versions that are no candidates of it are left out.
            received_at: seconds since the Unix epoch; chooses the time bucket.
            live_latency: seconds.
            observations: at most one of each version; a candidate without one is `unsampled`.
            segments: the levels that the request belongs to, at most one of each feature.
            noise: what the live version made of it when it was asked again.
            live_first_latency: seconds until the first message of a streamed answer; None where none was streamed.
        """
        self._bucket(epoch, received_at).add_capture(live_latency, observations, segments)
        if live_first_latency is not None:
            self._bucket(epoch, received_at).add_first_latencies(live_first_latency, observations)
        if noise is not None:
            self._bucket(epoch, received_at).add_noise(noise, observations)

    def add_live_failure(self, epoch: Epoch, *, received_at: float) -> None:
        """Count a capture that the live version itself failed: it says nothing about any candidate."""
        self._bucket(epoch, received_at).live_failures += 1

    def add_stored(self, epoch: Epoch, *, received_at: float, observations: Sequence[Observation]) -> None:
        """Count a comparison that is kept for people to look at, for every candidate that was bad in it."""
        bad = (observation.version for observation in observations if observation.outcome in BAD)
        self._bucket(epoch, received_at).stored.update(bad)

    def add_drops(self, epoch: Epoch, *, received_at: float, versions: Sequence[str], reason: str, count: int) -> None:
        """Count captures that were dropped before anybody was called.

        Args:
            epoch: the one that they belong to.
            received_at: seconds since the Unix epoch; chooses the time bucket.
            versions: those that would have got a copy.
            reason: a short snake_case word.
            count: how many captures.
        """
        self._bucket(epoch, received_at).add_drops(versions, reason, count)

    def rollups(self) -> Mapping[tuple[int, int], Rollup]:
        """What was counted, by (epoch id, start of the time bucket in whole seconds since the Unix epoch)."""
        return {key: bucket.rollup() for key, bucket in self._buckets.items()}

    def _bucket(self, epoch: Epoch, received_at: float) -> _Bucket:
        key = (epoch.id, epoch.bucket_start(received_at))
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(epoch.candidates)
        return bucket


class _Bucket:
    """One epoch's share of the batch in one time bucket: a row per capture, a column per candidate."""

    def __init__(self, candidates: tuple[str, ...]) -> None:
        self.candidates = candidates
        self.places = {version: place for place, version in enumerate(candidates)}
        self.nothing: list[Outcome | None] = [None] * len(candidates)
        self.missing = [math.nan] * len(candidates)
        self.patterns: Counter[_Pattern] = Counter()
        self.reasons: Counter[tuple[str, Outcome, str]] = Counter()
        self.segments: Counter[tuple[str, Outcome, str]] = Counter()
        self.noise: Counter[Outcome] = Counter()
        self.beside_noise: Counter[tuple[str, str]] = Counter()
        self.similarities: list[list[float]] = []
        self.latencies: list[list[float]] = []
        self.live_latencies: list[float] = []
        self.first_latencies: dict[str, list[tuple[float, float]]] = {}
        self.deltas: dict[str, list[float]] = {}
        self.stored: Counter[str] = Counter()
        self.slow: Counter[tuple[str, Outcome]] = Counter()
        self.live_failures = 0

    def add_capture(self, live_latency: float, observations: Sequence[Observation], segments: Sequence[str]) -> None:
        pattern, similarities, latencies = self.nothing.copy(), self.missing.copy(), self.missing.copy()
        for observation in observations:
            version, outcome = observation.version, observation.outcome
            place = self.places.get(version)
            if place is None:
                continue
            pattern[place] = outcome
            if outcome in COUNTED:
                similarities[place] = observation.similarity or 0.0
                self.segments.update((version, outcome, level) for level in segments)
            if outcome is Outcome.TIMEOUT:
                latencies[place] = math.inf
            elif observation.latency is not None and outcome in _ANSWERED:
                latencies[place] = observation.latency
                if outcome in COUNTED and observation.latency > latency.SLOW * live_latency:
                    self.slow[version, outcome] += 1
            # A model may call itself NaN sure; such a sum would never be a number again.
            if observation.confidence_delta is not None and math.isfinite(observation.confidence_delta):
                self.deltas.setdefault(version, []).append(observation.confidence_delta)
            if outcome in _REASONED:
                self.reasons[version, outcome, observation.reason] += 1
        self.patterns[tuple(pattern)] += 1
        self.similarities.append(similarities)
        self.latencies.append(latencies)
        self.live_latencies.append(live_latency)

    def add_first_latencies(self, live: float, observations: Sequence[Observation]) -> None:
        for observation in observations:
            first = observation.first_latency
            if first is None and observation.outcome is Outcome.TIMEOUT:
                first = math.inf
            answered = observation.outcome in _ANSWERED or observation.outcome is Outcome.TIMEOUT
            if first is not None and answered and observation.version in self.places:
                self.first_latencies.setdefault(observation.version, []).append((first, live))

    def add_noise(self, noise: Observation, observations: Sequence[Observation]) -> None:
        self.noise[noise.outcome] += 1
        self.beside_noise.update(
            (observation.version, _STATUS[observation.outcome] + _STATUS[noise.outcome])
            for observation in observations
            if observation.version in self.places
        )

    def add_drops(self, versions: Sequence[str], reason: str, count: int) -> None:
        dropped = set(versions)
        pattern = tuple(Outcome.DROPPED if version in dropped else None for version in self.candidates)
        self.patterns[pattern] += count
        for version in dropped & self.places.keys():
            self.reasons[version, Outcome.DROPPED, reason] += count

    def rollup(self) -> Rollup:
        cells: Counter[Cell] = Counter()
        for pattern, count in self.patterns.items():
            _count_pattern(cells, self.candidates, pattern, count)
        for (version, outcome, reason), count in self.reasons.items():
            cells[Cell(_REASONED[outcome], version, reason)] += count
        for outcome, count in self.noise.items():
            cells[Cell(Family.OUTCOME, NOISE, outcome)] += count
        for (version, statuses), count in self.beside_noise.items():
            cells[Cell(Family.PAIR, pair_subject(version, NOISE), statuses)] += count
        for (version, outcome, level), count in self.segments.items():
            cells[Cell(Family.SEGMENT, version, level)] += count
            if outcome in _SEGMENT_FAMILIES:
                cells[Cell(_SEGMENT_FAMILIES[outcome], version, level)] += count
        cells[Cell(Family.LIVE, "", "answered")] += len(self.live_latencies)
        cells[Cell(Family.LIVE, "", "failed")] += self.live_failures
        cells.update({Cell(Family.SLOW, version, outcome): count for (version, outcome), count in self.slow.items()})
        for version in self.stored.keys() & self.places.keys():
            cells[Cell(Family.STORED, version, "divergent")] += self.stored[version]
        if self.live_latencies:
            _count_similarities(cells, self.candidates, np.array(self.similarities))
            _count_latencies(cells, self.candidates, np.array(self.latencies), np.array(self.live_latencies))
        _count_first_latencies(cells, self.first_latencies)
        for version, deltas in self.deltas.items():
            _count_deltas(cells, version, np.array(deltas))
        return Rollup({cell: count for cell, count in cells.items() if count})


def _count_pattern(cells: Counter[Cell], candidates: tuple[str, ...], pattern: _Pattern, count: int) -> None:
    statuses = [_STATUS[outcome] for outcome in pattern]
    for version, outcome in zip(candidates, pattern, strict=True):
        if outcome is not None:
            cells[Cell(Family.OUTCOME, version, outcome)] += count
    for (first, one), (second, other) in combinations(zip(candidates, statuses, strict=True), 2):
        cells[Cell(Family.PAIR, pair_subject(first, second), one + other)] += count
    if len(candidates) <= LARGEST_JOINT:
        cells[Cell(Family.JOINT, "|".join(candidates), "".join(statuses))] += count
    if set(statuses) <= {"o", "b"}:
        cells[Cell(Family.COMPLETE_HISTOGRAM, "", str(statuses.count("b")))] += count
        for version, status in zip(candidates, statuses, strict=True):
            cells[Cell(Family.COMPLETE_BAD, version, "")] += count * (status == "b")


def _count_similarities(cells: Counter[Cell], candidates: tuple[str, ...], similarities: NDArray[np.float64]) -> None:
    """Histograms and moments of `similarities`, shape (captures, candidates), NaN where it does not count."""
    counted = ~np.isnan(similarities)
    # Cosines overshoot 1 by rounding; the clip keeps Σs² and the last bin exact.
    s = np.rint(np.where(counted, np.clip(similarities, 0, 1), 0) * MILLIONTHS).astype(np.int64)
    both = counted.astype(np.int64)
    squares, cross = s * s, s.T @ s
    sums_on_both, squares_on_both = s.T @ both, squares.T @ both
    for place, version in enumerate(candidates):
        cells[Cell(Family.SIMILARITY_SUM, version, "sum")] += int(s[:, place].sum())
        cells[Cell(Family.SIMILARITY_SUM, version, "squares")] += int(squares[:, place].sum())
        histogram = np.bincount(s[counted[:, place], place] // (MILLIONTHS // 100))
        for percent in np.flatnonzero(histogram).tolist():
            cells[Cell(Family.SIMILARITY, version, str(percent))] += int(histogram[percent])
    for (i, first), (j, second) in combinations(enumerate(candidates), 2):
        subject = pair_subject(first, second)
        cells[Cell(Family.SIMILARITY_PAIR_SUM, subject, "first")] += int(sums_on_both[i, j])
        cells[Cell(Family.SIMILARITY_PAIR_SUM, subject, "second")] += int(sums_on_both[j, i])
        cells[Cell(Family.SIMILARITY_PAIR_SUM, subject, "first_squares")] += int(squares_on_both[i, j])
        cells[Cell(Family.SIMILARITY_PAIR_SUM, subject, "second_squares")] += int(squares_on_both[j, i])
        cells[Cell(Family.SIMILARITY_PAIR_SUM, subject, "products")] += int(cross[i, j])


def _count_latencies(
    cells: Counter[Cell],
    candidates: tuple[str, ...],
    latencies: NDArray[np.float64],
    live_latencies: NDArray[np.float64],
) -> None:
    """Histograms of `latencies`, shape (captures, candidates), NaN where nobody answered, inf for timeouts."""
    for place, version in enumerate(candidates):
        measured = ~np.isnan(latencies[:, place])
        seconds, live_seconds = latencies[measured, place], live_latencies[measured]
        histograms = {
            Family.LATENCY: latency.histogram(seconds),
            Family.LIVE_LATENCY: latency.histogram(live_seconds),
            Family.LATENCY_RATIO: latency.ratio_histogram(seconds, live_seconds),
        }
        for family, histogram in histograms.items():
            for level, count in histogram.items():
                cells[Cell(family, version, level)] += count


def _count_first_latencies(cells: Counter[Cell], measured: Mapping[str, list[tuple[float, float]]]) -> None:
    """Histograms of times to the first message: (the candidate's, inf for a timeout, live's) by version."""
    for version, pairs in measured.items():
        own, live = np.array(pairs).T
        for family, seconds in ((Family.FIRST_LATENCY, own), (Family.LIVE_FIRST_LATENCY, live)):
            for level, count in latency.histogram(seconds).items():
                cells[Cell(family, version, level)] += count


def _count_deltas(cells: Counter[Cell], version: str, deltas: NDArray[np.float64]) -> None:
    d = np.rint(deltas * MILLIONTHS).astype(np.int64)
    cells[Cell(Family.CONFIDENCE_DELTA, version, "n")] += len(d)
    cells[Cell(Family.CONFIDENCE_DELTA, version, "sum")] += int(d.sum())
    cells[Cell(Family.CONFIDENCE_DELTA, version, "squares")] += int((d * d).sum())
