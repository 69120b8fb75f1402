"""Looking at stored comparisons, and recording what people say of them."""

from __future__ import annotations

from collections.abc import Sequence

from multishadow_server.core import reviews as rules
from multishadow_server.core.reviews import ReviewVerdict
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import comparison_report, names
from multishadow_server.service.ports import ComparisonLine, ControlStore, KeptComparison, ReviewStore

MOST_LINES = 1_000
DEFAULT_LINES = 10


async def list_comparisons(
    store: ControlStore,
    reviews: ReviewStore,
    *,
    model: str,
    version: str,
    experiment_id: int,
    agreeing: bool,
    most: int,
) -> Sequence[ComparisonLine]:
    """Stored comparisons of an experiment's present epoch, a line for each candidate's answer.

    Args:
        store: where experiments are.
        reviews: where stored comparisons are.
        model: empty: the only model there is, or the experiment's.
        experiment_id: 0: the running experiment, or else the latest.
        version: whose answers; empty for all candidates'.
        agreeing: the uniform sample of those that agreed, instead of those that diverged, least similar first.
        most: at most so many; 0 for ten.

    Raises:
        InvalidInput: `most` is out of range, or the model must be named.
        NotFound: no such model, experiment or candidate.
        FailedPrecondition: there is nothing yet.
        StoreUnavailable: the database is away.
    """
    if not 0 <= most <= MOST_LINES:
        raise InvalidInput(f"most: {most} is out of range; allowed are 1 to {MOST_LINES:,}, and 0 for {DEFAULT_LINES}")
    found = await comparison_report.subject_of(store, model=model, experiment_id=experiment_id)
    if version and version not in found.epoch.candidates:
        raise NotFound(
            f"experiment {found.experiment.id} of {found.experiment.model} does not compare {version!r}; its "
            f"candidates are {names.listed(found.epoch.candidates)}"
        )
    return await reviews.comparisons(found.epoch.id, version=version, agreeing=agreeing, most=most or DEFAULT_LINES)


async def get_comparison(reviews: ReviewStore, comparison_id: int) -> KeptComparison:
    """One stored comparison.

    Raises:
        NotFound: there is none of this id, or it was kept long ago.
        StoreUnavailable: the database is away.
    """
    found = await reviews.comparison(comparison_id)
    if found is None:
        raise NotFound(
            f"there is no stored comparison {comparison_id}; `shadowctl review list` names them, and old ones are "
            "dropped by the day"
        )
    return found


async def record_review(
    reviews: ReviewStore, *, comparison_id: int, version: str, verdict: ReviewVerdict, actor: str
) -> tuple[KeptComparison, str]:
    """Record what somebody says of one candidate's answer; returns the comparison, and the candidate's name.

    Args:
        reviews: where they are.
        comparison_id: the stored comparison.
        version: the candidate; may be empty when the comparison has one only.
        verdict: which answer is better.
        actor: who says so. The last verdict on an answer counts.

    Raises:
        InvalidInput: the candidate must be named.
        NotFound: no such comparison, or it holds nothing of this candidate.
        FailedPrecondition: the candidate gave no answer that could be looked at, or it was not stored.
        StoreUnavailable: the database is away.
    """
    found = await get_comparison(reviews, comparison_id)
    seen = {each.version: each for each in found.observations}
    if not version and len(seen) > 1:
        raise InvalidInput(
            f"version: comparison {comparison_id} holds answers of several; name one: {names.listed(seen)}"
        )
    chosen = version or next(iter(seen))
    if chosen not in seen:
        raise NotFound(f"comparison {comparison_id} holds nothing of {chosen!r}; it holds {names.listed(seen)}")
    if not rules.can_be_reviewed(seen[chosen]):
        raise FailedPrecondition(
            f"{chosen} gave no answer there that could be held beside the live one ({seen[chosen].outcome})"
        )
    if not found.payloads.readable:
        raise FailedPrecondition(
            f"the answers of comparison {comparison_id} were not stored (privacy: {found.payloads}), so nobody can "
            "have looked at them here; for what was seen elsewhere there is `shadowctl attest VERSION top_reviewed`"
        )
    await reviews.record(found, version=chosen, verdict=verdict, actor=actor)
    return found, chosen


async def take_back_review(reviews: ReviewStore, *, comparison_id: int, version: str, actor: str) -> KeptComparison:
    """Forget the verdict on one candidate's answer; returns the comparison.

    Raises:
        NotFound: no such comparison, or nobody said anything of this candidate's answer in it.
        StoreUnavailable: the database is away.
    """
    found = await get_comparison(reviews, comparison_id)
    known = any(each.version == version for each in found.observations)
    if not known or not await reviews.take_back(found, version=version, actor=actor):
        raise NotFound(f"there is no verdict on {version!r} in comparison {comparison_id}")
    return found
