"""One stored request: live's answer beside each candidate's, what people say of them, and both asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core import answer_difference, segments
from multishadow_server.core.answer_difference import Difference
from multishadow_server.core.reviews import ReviewVerdict
from multishadow_server.entrypoints.web import flash, judged
from multishadow_server.entrypoints.web.actions import act, actor, check_origin, form_of
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.divergence_terms import Terms, terms_of
from multishadow_server.entrypoints.web.judged import Judged
from multishadow_server.entrypoints.web.pages import Pages, ui
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import InvalidInput, MultishadowError, NotFound
from multishadow_server.service import divergences, names, rerunning, reviewing
from multishadow_server.service.divergences import CandidateAnswer, ShownComparison, StoredAnswer
from multishadow_server.service.ports import WholeComparison
from multishadow_server.service.rerunning import Rerun, RerunAnswer

# By the key that says it.
VERDICTS: Mapping[str, ReviewVerdict] = {
    "1": ReviewVerdict.CANDIDATE_BETTER,
    "2": ReviewVerdict.LIVE_BETTER,
    "3": ReviewVerdict.BOTH_FINE,
    "4": ReviewVerdict.BOTH_WRONG,
}
MOST_TURNS = 50
_WORDS: Mapping[ReviewVerdict, str] = {verdict: verdict.capitalize() for verdict in ReviewVerdict}


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedAgain:
    """A version's answer of now: beside live's of now, and as it is."""

    answer: RerunAnswer
    shown: StoredAnswer
    difference: Difference | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownRerun:
    """What a rerun came to, to look at; the first answer is live's."""

    at: float
    answers: Sequence[AskedAgain]


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/comparisons/{id}`, with `/review` and `/rerun`."""
    page = _ComparisonPage(pages, desk)
    path = f"{UI}/comparisons/{{comparison_id}}"
    return [
        Route(path, page.show),
        Route(f"{path}/review", page.review, methods=["POST"]),
        Route(f"{path}/rerun", page.rerun, methods=["POST"]),
    ]


class _ComparisonPage:
    def __init__(self, pages: Pages, desk: Desk) -> None:
        self._pages = pages
        self._desk = desk

    async def show(self, request: Request) -> Response:
        found = await divergences.whole(self._desk.comparisons, _comparison_of(request))
        return await self._render(request, found, None)

    async def review(self, request: Request) -> Response:
        """Record what somebody says, or take it back; then on to the next one."""
        comparison_id, terms = _comparison_of(request), terms_of(request.query_params)
        back = _path(comparison_id, terms)
        then: list[tuple[str, Judged]] = []

        async def change(fields: Mapping[str, str]) -> str:
            version, verdict = fields.get("version", ""), _verdict(fields.get("verdict", ""))
            before = _verdict(fields.get("before", ""))
            said = await self._say(comparison_id, version, verdict)
            if "undo" not in fields and verdict is not None:
                # It is recorded, whether or not there is a next one to go on to.
                with suppress(MultishadowError):
                    following, path = await self._next(comparison_id, terms)
                    then.append((path, Judged(comparison_id, version, verdict, before, not following)))
            return said

        response = await act(request, change, back=back)
        for path, just in then:
            response.headers["location"] = path
            # The next page says it itself, beside the button that undoes it.
            response.delete_cookie(flash.COOKIE, path=UI)
            judged.leave(response, just, at=path)
        return response

    async def rerun(self, request: Request) -> Response:
        """Ask both versions again, and show their answers beside the stored ones: nothing of them is kept."""
        check_origin(request)
        await form_of(request)
        found = await divergences.whole(self._desk.comparisons, _comparison_of(request))
        try:
            again = await rerunning.rerun(
                self._desk.store,
                self._desk.gateway,
                self._desk.comparer,
                found,
                actor=actor(),
                clock=self._desk.clock,
            )
        except MultishadowError as error:
            response = RedirectResponse(_path(found.kept.id, terms_of(request.query_params)), status_code=303)
            flash.leave(response, "failed", str(error))
            return response
        return await self._render(request, found, await asyncio.to_thread(self._shown_rerun, found, again))

    async def _render(self, request: Request, found: WholeComparison, again: ShownRerun | None) -> Response:
        terms = terms_of(request.query_params)
        desk, epoch = self._desk, found.kept.epoch
        shown = await asyncio.to_thread(divergences.shown, desk.messages, found)
        near = await divergences.neighbours(desk.comparisons, found, terms.which, sort=terms.sort)
        configuration = await desk.store.read(experiments=False)
        model = configuration.models.get(epoch.model)
        turns = await desk.comparisons.session(epoch.id, found.session_id, most=MOST_TURNS) if found.session_id else ()
        return self._pages.render(
            request,
            "comparison.html",
            section="experiments",
            shown=shown,
            whole=found,
            kept=found.kept,
            epoch=epoch,
            terms=terms,
            near=near,
            levels=segments.attribute_levels(found.attributes),
            turns=turns,
            current=_current(shown, terms),
            verdicts=VERDICTS,
            judged=judged.told(request),
            again=again,
            obstacle=rerunning.obstacle(found, model) if model else f"There is no model {epoch.model} any more.",
            kind_of=answer_difference.kind_of,
            words=_WORDS,
            stored_of=lambda version: _stored_of(shown, version),
            path=lambda comparison_id: _path(comparison_id, terms),
            review_path=lambda comparison_id: _path(comparison_id, terms, "review"),
            rerun_path=_path(found.kept.id, terms, "rerun"),
        )

    async def _say(self, comparison_id: int, version: str, verdict: ReviewVerdict | None) -> str:
        if verdict is None:
            await reviewing.take_back_review(
                self._desk.reviews, comparison_id=comparison_id, version=version, actor=actor()
            )
            return f"The verdict on {version} in comparison {comparison_id} is taken back."
        _, chosen = await reviewing.record_review(
            self._desk.reviews, comparison_id=comparison_id, version=version, verdict=verdict, actor=actor()
        )
        return f"Comparison {comparison_id}, {chosen}: {verdict}."

    async def _next(self, comparison_id: int, terms: Terms) -> tuple[bool, str]:
        """Where to go on after a verdict: to another candidate's answer, to the next request, or nowhere (False)."""
        found = await divergences.whole(self._desk.comparisons, comparison_id)
        shown = await asyncio.to_thread(divergences.shown, self._desk.messages, found)
        if _waiting(shown, terms) is not None:
            return True, _path(comparison_id, terms)
        following = await divergences.next_after(self._desk.comparisons, found, terms.which, sort=terms.sort)
        return following is not None, _path(comparison_id if following is None else following, terms)

    def _shown_rerun(self, found: WholeComparison, again: Rerun) -> ShownRerun:
        messages = self._desk.messages
        # A rerun's answers are whole: only requests that were stored whole are sent again.
        live, answers = again.live, [again.live, *again.answers]
        return ShownRerun(
            at=again.at,
            answers=[
                AskedAgain(
                    answer=each,
                    shown=divergences.stored_answer(messages, found, each.response, answered=not each.failure),
                    difference=divergences.difference_of(messages, found, live.response, each.response)
                    if each is not live and not live.failure and not each.failure
                    else None,
                )
                for each in answers
            ],
        )


def _comparison_of(request: Request) -> int:
    text = str(request.path_params["comparison_id"])
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise NotFound(f"there is no stored comparison {text[:40]!r}; its number names one")
    return int(text)


def _verdict(word: str) -> ReviewVerdict | None:
    if not word:
        return None
    try:
        return ReviewVerdict(word)
    except ValueError:
        raise InvalidInput(f"verdict: {word[:40]!r} is none of {names.listed(ReviewVerdict)}") from None


def _path(comparison_id: int, terms: Terms, *parts: str, **more: object) -> str:
    return ui("comparisons", str(comparison_id), *parts, **{**terms.given, **more})


def _stored_of(shown: ShownComparison, version: str) -> StoredAnswer:
    own = (each.answer for each in shown.candidates if each.seen.version == version)
    return next(own, shown.live)


def _waiting(shown: ShownComparison, terms: Terms) -> CandidateAnswer | None:
    """The first answer that nobody has judged yet, of those that the list is about."""
    return next((each for each in _meant(shown, terms) if each.review is None), None)


def _current(shown: ShownComparison, terms: Terms) -> str:
    """Whose answer keys judge: the first that the list is about and that waits for a verdict, or the first of all."""
    others = (each for each in (*_meant(shown, terms), *shown.candidates) if each.can_be_reviewed)
    chosen = _waiting(shown, terms) or next(others, None)
    return chosen.seen.version if chosen else ""


def _meant(shown: ShownComparison, terms: Terms) -> Sequence[CandidateAnswer]:
    """Answers that can be judged, of those that the list's filter is about."""
    outcomes = terms.which.which.outcomes
    return [
        each
        for each in shown.candidates
        if each.can_be_reviewed
        and terms.which.version in {"", each.seen.version}
        and (not outcomes or each.seen.outcome in outcomes)
    ]
