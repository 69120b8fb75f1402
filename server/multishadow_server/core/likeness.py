"""Stored requests that are like another one: by the attributes that they share."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from multishadow_server.core.prediction import Json
from multishadow_server.core.segments import attribute_levels

T = TypeVar("T")
MOST_SHARED = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Alike(Generic[T]):
    """Something with a request like the one asked about, and the levels that both belong to."""

    what: T
    shared: Sequence[str]


def alike(
    attributes: Mapping[str, Json], others: Iterable[tuple[T, Mapping[str, Json]]], *, most: int
) -> Sequence[Alike[T]]:
    """Those that share most levels of attributes, at most `most`; of equal ones the first. What shares none is not."""
    own = attribute_levels(attributes)
    found = []
    for place, (what, theirs) in enumerate(others):
        levels = set(attribute_levels(theirs))
        shared = [level for level in own if level in levels]
        if shared:
            found.append((-len(shared), place, Alike(what=what, shared=shared[:MOST_SHARED])))
    return [each for _, _, each in heapq.nsmallest(most, found, key=lambda item: item[:2])]
