"""Divergent requests of an experiment: a list to filter, to sort, and to walk through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core import comparison_lists, segments
from multishadow_server.core.comparison_lists import Sort, Which
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.divergence_terms import default_sort, terms_of
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import InvalidInput
from multishadow_server.service import divergences

# The words of the choices, and what is said of each.
CHOICES: Mapping[Which, str] = {
    Which.DIVERGED: "Diverged",
    Which.FAILED: "Failed",
    Which.UNCOMPARABLE: "Uncomparable",
    Which.AGREED: "Agreed (a sample)",
    Which.ALL: "All that is stored",
}


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/experiments/{id}/divergences`."""

    async def listed(request: Request) -> Response:
        terms = terms_of(request.query_params)
        after = request.query_params.get("after", "")
        found = await divergences.list_page(
            desk.store,
            desk.comparisons,
            terms.which,
            experiment_id=experiment_of(request),
            epoch=terms.epoch,
            sort=terms.sort,
            after=comparison_lists.place_from(after) if after else None,
        )
        return pages.render(
            request,
            "divergences.html",
            section="experiments",
            epoch=found.epoch,
            epochs=found.epochs,
            page=found.page,
            terms=terms,
            sort=terms.sort,
            sorts=tuple(Sort),
            default_sort=default_sort(terms.which.which),
            choices=CHOICES,
            levels_of=segments.attribute_levels,
            after=after,
        )

    return [Route(f"{UI}/experiments/{{experiment_id}}/divergences", listed)]


def experiment_of(request: Request) -> int:
    """The experiment that a path names. Raises InvalidInput when it names none."""
    text = str(request.path_params["experiment_id"])
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) < 1 << 63:
        raise InvalidInput(f"{text[:40]!r} is no experiment; its number is")
    return int(text)
