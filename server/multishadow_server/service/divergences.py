"""Finding out why: stored comparisons as lists to walk through, and one with what differs in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from multishadow_server.core import answer_difference, comparison_lists, likeness, reviews, serving
from multishadow_server.core import experiment as rules
from multishadow_server.core.answer_difference import Difference, NoDifference
from multishadow_server.core.comparison_lists import ComparisonFilter, Place, Sort, Which
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.likeness import Alike
from multishadow_server.core.observation import BAD, Observation, Outcome
from multishadow_server.core.payload_glance import PayloadGlance, PayloadState, TensorGlance, state_of
from multishadow_server.core.reviews import Review
from multishadow_server.errors import InvalidInput, NotFound
from multishadow_server.service import comparison_report, names
from multishadow_server.service.ports import (
    ComparisonLists,
    ComparisonPage,
    ControlStore,
    ListedComparison,
    StoredMessages,
    WholeComparison,
)

PAGE_SIZE = 50
MOST_SIZE = 200
# Of so many on either side in the order of similarity, those that are most alike are named.
NEAR = 40
MOST_ALIKE = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class DivergencePage:
    """A part of an epoch's stored comparisons, with all epochs of its experiment."""

    epochs: Sequence[Epoch]
    epoch: Epoch
    page: ComparisonPage


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAnswer:
    """An answer as it was stored.

    Args:
        state: what is left of it.
        glance: what it says; None where there is nothing to read.
        tensors: all tensors of an Open Inference Protocol answer, of which one was compared.
    """

    state: PayloadState
    glance: PayloadGlance | None
    tensors: Sequence[TensorGlance] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateAnswer:
    """A candidate's answer beside live's.

    Args:
        seen: what became of it when it was compared.
        answer: as it was stored.
        difference: what differs from live's.
        review: what somebody said of it; None until somebody did.
        can_be_reviewed: whether there are two answers to be held side by side, and they can be read.
    """

    seen: Observation
    answer: StoredAnswer
    difference: Difference
    review: Review | None
    can_be_reviewed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownComparison:
    """A stored comparison as it is looked at: the request, live's answer, and each candidate's beside it."""

    whole: WholeComparison
    request_state: PayloadState
    request: PayloadGlance | None
    live: StoredAnswer
    candidates: Sequence[CandidateAnswer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """What comes before and after in a list, and what is like it; ids, None where there is nothing."""

    previous: int | None
    next: int | None
    alike: Sequence[Alike[ListedComparison]]


async def list_page(
    store: ControlStore,
    lists: ComparisonLists,
    which: ComparisonFilter,
    *,
    experiment_id: int,
    epoch: int = 0,
    sort: Sort = Sort.LEAST_SIMILAR,
    after: Place | None = None,
    most: int = PAGE_SIZE,
) -> DivergencePage:
    """A part of an experiment's stored comparisons.

    Args:
        store: where experiments are.
        lists: where stored comparisons are.
        which: those that are meant.
        experiment_id: the experiment.
        epoch: number of one of its epochs; 0 for the present one.
        sort: the order.
        after: only what comes after this place.
        most: at most so many.

    Raises:
        InvalidInput: a bound is out of range.
        NotFound: no such experiment, epoch or candidate.
        FailedPrecondition: there is nothing yet.
        StoreUnavailable: the database is away.
    """
    if not 1 <= most <= MOST_SIZE:
        raise InvalidInput(f"most: {most} is out of range; allowed are 1 to {MOST_SIZE}")
    comparison_lists.check(which)
    epochs, present = await _epochs(store, experiment_id)
    chosen = _epoch(epochs, epoch) if epoch else present
    if which.version and which.version not in chosen.candidates:
        raise NotFound(
            f"experiment {chosen.experiment_id} of {chosen.model} does not compare {which.version!r} in its epoch "
            f"{chosen.number}; its candidates are {names.listed(chosen.candidates)}"
        )
    page = await lists.page(chosen.id, which, sort=sort, after=after, most=most)
    return DivergencePage(epochs=epochs, epoch=chosen, page=page)


async def whole(lists: ComparisonLists, comparison_id: int) -> WholeComparison:
    """One stored comparison with everything that was stored of it.

    Raises:
        NotFound: there is none of this id, or it was kept long ago.
        StoreUnavailable: the database is away.
    """
    found = await lists.whole(comparison_id) if 0 < comparison_id < 1 << 63 else None
    if found is None:
        raise NotFound(
            f"there is no stored comparison {comparison_id}; an experiment's page of divergent requests lists them, "
            "and old ones are dropped by the day"
        )
    return found


async def neighbours(
    lists: ComparisonLists, found: WholeComparison, which: ComparisonFilter, *, sort: Sort
) -> Neighbours:
    """What comes before and after a comparison in a list that it may not even be part of, and what is like it.

    Raises:
        InvalidInput: a bound is out of range.
        StoreUnavailable: the database is away.
    """
    comparison_lists.check(which)
    epoch_id, at = found.kept.epoch.id, place(found, sort)
    # At once: somebody waits for the page.
    following, preceding, alike = await asyncio.gather(
        lists.page(epoch_id, which, sort=sort, after=at, most=1),
        lists.page(epoch_id, which, sort=sort, after=at, most=1, backwards=True),
        _alike(lists, found),
    )
    return Neighbours(
        previous=next((each.id for each in preceding.comparisons), None),
        next=next((each.id for each in following.comparisons), None),
        alike=alike,
    )


async def next_after(
    lists: ComparisonLists, found: WholeComparison, which: ComparisonFilter, *, sort: Sort
) -> int | None:
    """The id of what comes next in a list; None at its end. Raises InvalidInput and StoreUnavailable as above."""
    comparison_lists.check(which)
    page = await lists.page(found.kept.epoch.id, which, sort=sort, after=place(found, sort), most=1)
    return next((each.id for each in page.comparisons), None)


def place(found: WholeComparison, sort: Sort) -> Place:
    """Where a comparison is in an order."""
    kept = found.kept
    return comparison_lists.place_of(
        sort, comparison_id=kept.id, received_at=kept.received_at, observations=kept.observations
    )


def shown(messages: StoredMessages, found: WholeComparison) -> ShownComparison:
    """What differs in it. Takes tens of milliseconds of processor time for large answers: call it in a thread."""
    kept = found.kept
    terms = kept.epoch.comparator
    request_state = state_of(kept.payloads, kept.request)
    said = {review.version: review for review in kept.reviews}
    live = stored_answer(messages, found, kept.response)
    return ShownComparison(
        whole=found,
        request_state=request_state,
        request=messages.shown_request(terms.protocol, kept.request) if request_state.readable else None,
        live=live,
        candidates=[
            CandidateAnswer(
                seen=seen,
                answer=stored_answer(messages, found, seen.response, answered=_answered(seen)),
                difference=_difference(messages, found, seen),
                review=said.get(seen.version),
                can_be_reviewed=reviews.can_be_reviewed(seen) and kept.payloads.readable,
            )
            # What diverged first: it is what somebody came for.
            for seen in sorted(kept.observations, key=lambda seen: seen.outcome is not Outcome.DIVERGED)
        ],
    )


def stored_answer(
    messages: StoredMessages, found: WholeComparison, response: bytes, *, answered: bool = True
) -> StoredAnswer:
    """An answer as it was stored; `answered` says whether there was one."""
    state = state_of(found.kept.payloads, response) if answered else PayloadState.ABSENT
    if not state.readable:
        return StoredAnswer(state=state, glance=None)
    terms = found.kept.epoch.comparator
    return StoredAnswer(
        state=state,
        glance=messages.shown_answer(terms, response),
        tensors=messages.tensors(terms.protocol, response),
    )


def difference_of(messages: StoredMessages, found: WholeComparison, live: bytes, shadow: bytes) -> Difference:
    """What differs between the bytes of two answers, by the comparator of that comparison's epoch."""
    terms = found.kept.epoch.comparator
    return answer_difference.difference(terms, messages.answer(terms, live), messages.answer(terms, shadow))


def _difference(messages: StoredMessages, found: WholeComparison, seen: Observation) -> Difference:
    if not _answered(seen):
        return NoDifference(reason=f"{seen.version} gave no answer.")
    for whose, payload in (("Live's answer", found.kept.response), (f"{seen.version}'s answer", seen.response)):
        state = state_of(found.kept.payloads, payload)
        if state is PayloadState.HASHED:
            return NoDifference(reason=f"{whose} was stored as its hash: what differs cannot be shown.")
        if state is PayloadState.ABSENT:
            return NoDifference(reason=f"{whose} was not stored: what differs cannot be shown.")
    return difference_of(messages, found, found.kept.response, seen.response)


def _answered(seen: Observation) -> bool:
    return seen.outcome in {Outcome.OK, Outcome.DIVERGED, Outcome.UNCOMPARABLE}


async def _alike(lists: ComparisonLists, found: WholeComparison) -> Sequence[Alike[ListedComparison]]:
    """Divergences nearby in the order of similarity whose requests share most attributes with this one."""
    if not found.attributes:
        return ()
    bad = next((each for each in found.kept.observations if each.outcome in BAD), None)
    failed = bad is not None and bad.outcome is not Outcome.DIVERGED
    which = ComparisonFilter(version=bad.version if bad else "", which=Which.FAILED if failed else Which.DIVERGED)
    sort = Sort.NEWEST if failed else Sort.LEAST_SIMILAR
    at = place(found, sort)
    near: list[ListedComparison] = []
    for backwards in (False, True):
        page = await lists.page(found.kept.epoch.id, which, sort=sort, after=at, most=NEAR, backwards=backwards)
        near += page.comparisons
    return likeness.alike(found.attributes, ((each, each.attributes) for each in near), most=MOST_ALIKE)


async def _epochs(store: ControlStore, experiment_id: int) -> tuple[Sequence[Epoch], Epoch]:
    """An experiment's epochs, and the present one.

    Not by `comparison_report.subject_of`, which reads all experiments that there ever were: a page of a list is asked
    for often.
    """
    epochs = await store.epochs(experiment_id)
    if not epochs:
        # It says what is missing.
        found = await comparison_report.subject_of(store, model="", experiment_id=experiment_id)
        return found.epochs, found.epoch
    configuration = await store.read(experiments=False)
    model = configuration.models.get(epochs[0].model)
    live = serving.live_version(model, configuration.flags) if model else None
    present = rules.present_epoch(epochs, live.name if live else "")
    return epochs, present or epochs[-1]


def _epoch(epochs: Sequence[Epoch], number: int) -> Epoch:
    chosen = next((each for each in epochs if each.number == number), None)
    if chosen is None:
        known = names.listed(str(each.number) for each in epochs)
        raise NotFound(f"experiment {epochs[0].experiment_id} has no epoch {number}; it has {known}")
    return chosen
