"""Labels: what a request's right answer was, told later by its id, and which versions had it.

A label is a value; it is read in the kind of the answer that it is held against. A version is right if and only if its
answer agrees with the label by the epoch's comparator.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from multishadow_server.core import comparison
from multishadow_server.core.capture import Capture
from multishadow_server.core.comparison import Verdict
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator
from multishadow_server.core.observation import COUNTED, Observation, Outcome
from multishadow_server.core.prediction import Classification, Json, Prediction, Scalar, Structured, Text, Unreadable
from multishadow_server.core.rollup import Cell, Family, Rollup, pair_subject
from multishadow_server.errors import InvalidInput

LARGEST_ANSWERS = 256 * 1024
LARGEST_LABEL = 64 * 1024
LONGEST_REQUEST_ID = 1_000

COUNTED_FAMILIES = (Family.LABEL, Family.LABEL_PAIR)


class Mark(StrEnum):
    """What a label says of one version's answer; the letters are the statuses of rollups."""

    RIGHT = "o"
    WRONG = "b"
    UNJUDGED = "x"


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """One version's answer to one labelled request.

    Args:
        version: its name.
        mark: whether it was right.
        agreed: whether it agreed with the live answer; None for the live version itself, and without a comparison.
        permille: similarity with the live answer, rounded down; None likewise.
    """

    version: str
    mark: Mark
    agreed: bool | None = None
    permille: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A request whose answers were kept.

    Args:
        epoch: the one that it belongs to.
        request_id, received_at: the capture's.
        live: the live answer.
        observations: what its shadows made of it.
        answers: their answers, in the order of the observations; None where one failed.
    """

    epoch: Epoch
    request_id: str
    received_at: float
    live: Prediction
    observations: Sequence[Observation]
    answers: Sequence[Prediction | None]

    @property
    def bucket_start(self) -> int:
        """Start of its time bucket, in whole seconds since the Unix epoch."""
        return self.epoch.bucket_start(self.received_at)


def small_enough(capture: Capture, observations: Sequence[Observation]) -> bool:
    """Whether the answers to one request are small enough to be kept."""
    return len(capture.response) + sum(len(each.response) for each in observations) <= LARGEST_ANSWERS


def was_asked(seen: Observation) -> bool:
    """Whether a shadow was called, and had its chance to be right."""
    return seen.outcome in COUNTED or seen.outcome is Outcome.UNCOMPARABLE


def answered(seen: Observation) -> bool:
    """Whether a shadow gave an answer at all."""
    return seen.outcome in {Outcome.OK, Outcome.DIVERGED, Outcome.UNCOMPARABLE}


def check(request_id: str, value: Json) -> None:
    """Raise InvalidInput unless it can be a label: what is wrong, and what is allowed."""
    if not 1 <= len(request_id) <= LONGEST_REQUEST_ID or "\x00" in request_id:
        raise InvalidInput(f"request_id: 1 to {LONGEST_REQUEST_ID:,} characters, and no NUL, are allowed")
    if value is None:
        raise InvalidInput(f"value: the label of request {request_id!r} is missing")
    try:
        size = len(json.dumps(value, allow_nan=False))
    except ValueError:
        raise InvalidInput(f"value: the label of request {request_id!r} holds a number that is none") from None
    if size > LARGEST_LABEL:
        raise InvalidInput(
            f"value: the label of request {request_id!r} has {size:,} bytes; at most {LARGEST_LABEL:,} are allowed"
        )


def read_as(value: Json, answer: Prediction) -> Prediction | None:
    """Read a label in the kind of an answer; None when it cannot be, or when that kind takes no labels.

    Files know only text, so text that is a number or an object counts as one where the answer is.
    """
    match answer:
        case Classification():
            label = _text(value)
            return None if label is None else Classification(label=label)
        case Text():
            text = _text(value)
            return None if text is None else Text(text=text)
        case Scalar():
            number = _number(value)
            return None if number is None else Scalar(value=number)
        case Structured():
            fields = _object(value)
            return None if fields is None else Structured(value=fields)
    return None


def mark(comparator: Comparator, value: Json, answer: Prediction) -> Mark:
    """Whether an answer agrees with a label."""
    if isinstance(answer, Unreadable):
        return Mark.WRONG
    truth = read_as(value, answer)
    if truth is None:
        return Mark.UNJUDGED
    verdict = comparison.compare(comparator, truth, answer).verdict
    if verdict is Verdict.UNCOMPARABLE:
        # An answer that says nothing is wrong; a label that says nothing judges nobody.
        sound = comparison.compare(comparator, truth, truth).verdict is Verdict.AGREE
        return Mark.WRONG if sound else Mark.UNJUDGED
    return Mark.RIGHT if verdict is Verdict.AGREE else Mark.WRONG


def marks(value: Json, request: Answered) -> tuple[Marked, ...]:
    """What a label says of everybody who answered: the live version, then the candidates in the epoch's order.

    A candidate that failed was wrong (intention to treat); one that was not asked is left out.
    """
    comparator = request.epoch.comparator
    observed = zip(request.observations, request.answers, strict=True)
    seen = {each.version: _marked(comparator, value, each, own) for each, own in observed if was_asked(each)}
    live = Marked(version=request.epoch.live, mark=mark(comparator, value, request.live))
    return (live, *(seen[name] for name in request.epoch.candidates if name in seen))


def contribution(marked: Sequence[Marked]) -> Rollup:
    """What one labelled request adds to its bucket's counts."""
    cells = Counter({Cell(Family.LABEL, each.version, each.mark): 1 for each in marked})
    for first, second in combinations(marked, 2):
        cells[Cell(Family.LABEL_PAIR, pair_subject(first.version, second.version), first.mark + second.mark)] = 1
    live, *candidates = marked
    for each in candidates:
        judged = {live.mark, each.mark}
        # Two wrong answers may be the same or not: they say nothing about a difference.
        told = Mark.UNJUDGED not in judged and judged != {Mark.WRONG}
        if told and each.agreed is not None and each.permille is not None:
            cells[difference_cell(each.version, agreed=each.agreed, permille=each.permille, real=len(judged) > 1)] = 1
    return Rollup(cells)


def difference_cell(version: str, *, agreed: bool, permille: int, real: bool) -> Cell:
    """Where a pair of answers counts that somebody told apart, or told to be the same."""
    verdict = Outcome.OK if agreed else Outcome.DIVERGED
    return Cell(Family.DIFFERENCE, version, f"{verdict}/{permille}/{'real' if real else 'same'}")


def permille_of(similarity: float) -> int:
    """Similarity in thousandths, rounded down: at least t exactly when the similarity is at least t ‰."""
    return min(1000, math.floor(max(0.0, similarity) * 1000 + 1e-9))


def negative(rollup: Rollup) -> Rollup:
    """The counts to add when a contribution is taken back."""
    return Rollup({cell: -count for cell, count in rollup.cells.items()})


def _marked(comparator: Comparator, value: Json, seen: Observation, answer: Prediction | None) -> Marked:
    if answer is None:
        return Marked(version=seen.version, mark=Mark.WRONG)
    own = mark(comparator, value, answer)
    if seen.similarity is None:
        return Marked(version=seen.version, mark=own)
    agreed, permille = seen.outcome is Outcome.OK, permille_of(seen.similarity)
    return Marked(version=seen.version, mark=own, agreed=agreed, permille=permille)


def _text(value: Json) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            # A label 7 means the class "7", which JSON and protobuf make 7.0.
            return str(int(value)) if float(value).is_integer() else repr(float(value))
    return None


def _number(value: Json) -> float | None:
    if isinstance(value, bool):
        return None
    if not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _object(value: Json) -> Mapping[str, Json] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None
