"""The list of experiments, paged by key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from multishadow_server.core.experiment import Experiment
from multishadow_server.errors import InvalidInput
from multishadow_server.service import experiment_listing

FIRST = Experiment(
    id=1,
    model="spam",
    candidates=("A",),
    percent=100,
    bucket_seconds=3600,
    started_at=0,
    ends_at=10,
    started_by="ada",
    stopped_at=5,
)
ALL = [replace(FIRST, id=number, stopped_at=None if number in {2, 5} else 5.0) for number in range(1, 8)]
IN_ORDER = [5, 2, 7, 6, 4, 3, 1]


def walked(size: int) -> list[int]:
    found, after = list[int](), ""
    while True:
        page = experiment_listing.page(ALL, after=after, size=size)
        found += [each.id for each in page.experiments]
        after = page.following
        if not after:
            return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_what_runs_comes_first_and_then_the_newest_on_pages_of_any_size(size: int) -> None:
    assert walked(size) == IN_ORDER


def test_one_that_stops_between_two_pages_loses_nobody_else() -> None:
    first = experiment_listing.page(ALL, size=1)
    assert first.following == "running-5"
    stopped = [replace(each, stopped_at=9.0) if each.id == 5 else each for each in ALL]
    rest = experiment_listing.page(stopped, after=first.following, size=50)
    assert [each.id for each in rest.experiments] == [2, 7, 6, 5, 4, 3, 1]


@pytest.mark.parametrize("after", ["5", "running-", "stopped-x", "stopped-1;--", "running-" + "9" * 30])
def test_what_is_no_key_is_refused(after: str) -> None:
    with pytest.raises(InvalidInput, match="is no key of this list"):
        experiment_listing.page(ALL, after=after)
