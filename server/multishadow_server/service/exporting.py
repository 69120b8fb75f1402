"""Finding stored answers, and handing them out; the model's present rules of redaction hold on the way out, too."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from multishadow_server.core import redaction
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Model
from multishadow_server.core.prediction import Json
from multishadow_server.core.privacy import Payloads, PrivacyTerms
from multishadow_server.core.redaction import Kind, PayloadRewriter, Policy
from multishadow_server.errors import InvalidInput, NotFound
from multishadow_server.service import names
from multishadow_server.service.ports import (
    AnswerFilter,
    AnswerOrder,
    AnswerPlace,
    AnswerStore,
    ControlStore,
    SealSource,
    StoredAnswer,
)

MOST_LISTED = 500
DEFAULT_LISTED = 20
MOST_ATTRIBUTES = 10
# A page of a list is looked for so often, where what present terms hide leaves places empty.
MOST_LOOKS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Whose answers are meant: the model, by which epochs its answers are found, and the epochs themselves."""

    model: Model
    epochs: Mapping[int, Epoch]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """An answer as it leaves, with its epoch, and the cursor after which an export goes on."""

    answer: StoredAnswer
    epoch: Epoch
    cursor: str


class Exports:
    """What is asked of stored answers.

    Args:
        store: where models and experiments are.
        answers: where stored answers are.
        seals: where the key of hashes is.
        rewriter: of the wire format.
    """

    def __init__(
        self, *, store: ControlStore, answers: AnswerStore, seals: SealSource, rewriter: PayloadRewriter
    ) -> None:
        self._store = store
        self._answers = answers
        self._seals = seals
        self._rewriter = rewriter

    async def subject(self, *, model: str, experiment_id: int) -> Subject:
        """Whose answers are meant.

        Args:
            model: empty: the experiment's, or the only one there is.
            experiment_id: 0: all of the model's.

        Raises:
            InvalidInput: the model must be named.
            NotFound: no such model, or no such experiment of it.
            FailedPrecondition: there is no model.
            StoreUnavailable: the database is away.
        """
        configuration = await self._store.read()
        known = await self._store.experiments(model or None)
        if experiment_id:
            known = [each for each in known if each.id == experiment_id]
            if not known:
                raise NotFound(f"there is no experiment {experiment_id} of it; see `shadowctl get experiments`")
            model = known[0].model
        owner = names.only_model(configuration, model)
        epochs = [epoch for each in known if each.model == owner.name for epoch in await self._store.epochs(each.id)]
        return Subject(model=owner, epochs={epoch.id: epoch for epoch in epochs})

    async def listed(
        self, subject: Subject, which: AnswerFilter, order: AnswerOrder, *, cursor: str, size: int
    ) -> tuple[Sequence[Exported], str]:
        """A page of answers without their payloads, and the cursor of the next one (empty: there is none).

        Raises:
            InvalidInput: the size is out of range, or the cursor is none of such a list.
            StoreUnavailable: the database is away.
        """
        if not 0 <= size <= MOST_LISTED:
            raise InvalidInput(f"page_size: {size} is out of range; allowed are 1 to {MOST_LISTED}")
        most = size or DEFAULT_LISTED
        after = place_of(cursor, order) if cursor else None
        shown, more = list[StoredAnswer](), True
        for _ in range(MOST_LOOKS):
            missing = most - len(shown)
            found = await self._answers.listed(which, order, after=after, most=missing + 1)
            more = len(found) > missing
            after = found[:missing][-1].place if found else after
            leaving = await self._leaving(subject.model.privacy, found[:missing])
            shown += [each for each in leaving if fits(which, each)]
            if not more or len(shown) == most:
                break
        page = [Exported(answer=each, epoch=subject.epochs[each.epoch_id], cursor="") for each in shown]
        return page, cursor_of(after, order) if more and after is not None else ""

    async def of_comparison(self, comparison_id: int) -> Sequence[Exported]:
        """The answers of one stored comparison.

        Raises:
            NotFound: there is none of this id, or it was kept long ago.
            StoreUnavailable: the database is away.
        """
        found = await self._answers.of_comparison(comparison_id)
        if not found:
            raise NotFound(
                f"there is no stored comparison {comparison_id}; `shadowctl divergences list` names them, and old ones "
                "are dropped by the day"
            )
        (epoch,) = await self._answers.epochs([found[0].epoch_id])
        terms = _terms(await self._store.read(experiments=False), epoch.model)
        page = await self._leaving(terms, found)
        return [Exported(answer=each, epoch=epoch, cursor="") for each in page]

    async def export(self, subject: Subject, which: AnswerFilter, *, cursor: str) -> AsyncIterator[Exported]:
        """All of them, oldest first, after the cursor; no more than a page of them is held at once.

        Rules that change meanwhile hold from the next page on.

        Raises:
            InvalidInput: the cursor is none of an export.
            StoreUnavailable: the database is away.
        """
        after = place_of(cursor, None) if cursor else None
        while True:
            page = await self._answers.page(which, after=after)
            terms = _terms(await self._store.read(experiments=False), subject.model.name)
            for answer in await self._leaving(terms, page.answers):
                if not fits(which, answer):
                    continue
                place = cursor_of(answer.place, None)
                yield Exported(answer=answer, epoch=subject.epochs[answer.epoch_id], cursor=place)
            if page.next_place is None:
                return
            after = page.next_place

    async def _leaving(self, terms: PrivacyTerms, answers: Sequence[StoredAnswer]) -> Sequence[StoredAnswer]:
        """As they may leave by these terms."""
        if terms.payloads is Payloads.FULL:
            return answers
        policy = Policy(terms=terms, seal=await self._seals.seal(), rewriter=self._rewriter)
        # Megabytes of text and many patterns: not in the event loop that rolls back.
        return await asyncio.to_thread(lambda: [redacted(policy, answer) for answer in answers])


def redacted(policy: Policy, answer: StoredAnswer) -> StoredAnswer:
    """An answer held to a model's terms: what they hide now is hidden, whatever it was stored by."""
    terms, method = policy.terms, answer.method
    if terms.payloads is Payloads.FULL:
        return answer
    readable = terms.payloads.readable
    attributes = policy.redactor.object(answer.attributes, "attributes") if readable and answer.attributes else {}
    return replace(
        answer,
        request_id=redaction.stored_request_id(terms, policy.seal, answer.request_id),
        session_id=redaction.stored_session_id(terms, policy.seal, answer.session_id),
        attributes=attributes,
        request=redaction.redact_payload(policy, Kind.REQUEST, method, answer.request),
        live_response=redaction.redact_payload(policy, Kind.RESPONSE, method, answer.live_response),
        seen=redaction.redact_observation(policy, answer.seen, method=method),
        payloads=max(answer.payloads, terms.payloads, key=lambda form: form.strictness),
        label=redaction.redact_label(terms, answer.label) if readable else None,
        labelled=answer.labelled and readable,
    )


def fits(which: AnswerFilter, answer: StoredAnswer) -> bool:
    """Whether an answer as it leaves has the attributes that a filter asks for: nobody finds by what is hidden."""
    return all(_has(answer.attributes, path, value) for path, value in which.attributes)


def _has(attributes: Mapping[str, Json], path: str, value: str) -> bool:
    found = attributes.get(path)
    if found is None:
        within: Json = dict(attributes)
        for name in path.split("."):
            within = within.get(name) if isinstance(within, dict) else None
        found = within
    # Written as it would be in JSON, or a text as it is: as the store compares them.
    return found == value if isinstance(found, str) else found is not None and _same_number(found, value)


def _same_number(found: Json, value: str) -> bool:
    try:
        other = json.loads(value)
    except ValueError:
        return False
    return isinstance(found, bool) is isinstance(other, bool) and found == other


def cursor_of(place: AnswerPlace, order: AnswerOrder | None) -> str:
    """A place as text that callers keep and do not read; `order` is None in an export."""
    said = [order or "export", place.day.isoformat(), place.id, place.place, place.value]
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


def place_of(cursor: str, order: AnswerOrder | None) -> AnswerPlace:
    """The place that a cursor means. Raises InvalidInput: it is none, or of another list."""
    try:
        said = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        kind, day, number, place, value = said
        found = AnswerPlace(date.fromisoformat(day), int(number), int(place), float(value))
    except (ValueError, TypeError, OverflowError, binascii.Error):
        raise InvalidInput("cursor: this is none; take one from an answer, as it is") from None
    if kind != (order or "export"):
        raise InvalidInput(f"cursor: this is one of a list by {kind}; go on with the same order, or begin without")
    return found


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Raise InvalidInput where too many are named, or one has no name."""
    if len(attributes) > MOST_ATTRIBUTES or "" in attributes:
        raise InvalidInput(f"filter.attributes: name 1 to {MOST_ATTRIBUTES}, each by its path, like `user.plan`")


def _terms(configuration: Configuration, model: str) -> PrivacyTerms:
    found = configuration.models.get(model)
    # Nobody says what may leave of a model that is gone.
    return found.privacy if found else PrivacyTerms(payloads=Payloads.NONE)
