"""Long lists, a page at a time, by key: what is added meanwhile moves nothing, and the last page costs as the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request

from multishadow_server.entrypoints.web.fields import natural
from multishadow_server.errors import InvalidInput

Item = TypeVar("Item")
PAGE = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Paged(Generic[Item]):
    """A page of a list.

    Args:
        items: of this page, in the list's order.
        after: what the next page begins after; empty when this is the last.
        first: whether nothing comes before it.
    """

    items: Sequence[Item]
    after: str
    first: bool


def page(found: Sequence[Item], key: Callable[[Item], object], *, size: int = PAGE, first: bool) -> Paged[Item]:
    """The page of what was found when one more than `size` was asked for: that one says that there is a next page."""
    items = found[:size]
    return Paged(items=items, after=str(key(items[-1])) if len(found) > size else "", first=first)


def number_after(request: Request, name: str = "after") -> int | None:
    """The number that a page begins after; None for the first page. Raises InvalidInput: it is no number."""
    said = request.query_params.get(name, "")
    if not said:
        return None
    found = natural(said)
    if found is None:
        raise InvalidInput(f"{name}: {said[:40]!r} is no number; take the page's own links")
    return found
