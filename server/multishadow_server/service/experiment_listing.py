"""Experiments as a list that is paged by key: what runs first, then the newest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from multishadow_server.core.experiment import Experiment
from multishadow_server.errors import InvalidInput

PAGE_SIZE = 50
_KEY = re.compile(r"(running|stopped)-(\d{1,18})")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentPage:
    """One page of the list.

    Args:
        experiments: those on it.
        following: key of its last one, to ask for the next page by; empty on the last page.
    """

    experiments: tuple[Experiment, ...]
    following: str


def page(experiments: Sequence[Experiment], *, after: str = "", size: int = PAGE_SIZE) -> ExperimentPage:
    """The page behind a key.

    Args:
        experiments: all of them, in any order.
        after: `running-12` or `stopped-12`: begin behind it, whether or not it is still there and so; empty: the first.
        size: most on a page.

    Raises:
        InvalidInput: the key is none.
    """
    ordered = sorted(experiments, key=_place)
    behind = [each for each in ordered if not after or _place(each) > _place_of_key(after)]
    shown = tuple(behind[:size])
    following = _key(shown[-1]) if len(behind) > size else ""
    return ExperimentPage(experiments=shown, following=following)


def _place(experiment: Experiment) -> tuple[bool, int]:
    return not experiment.running, -experiment.id


def _key(experiment: Experiment) -> str:
    return f"{'running' if experiment.running else 'stopped'}-{experiment.id}"


def _place_of_key(after: str) -> tuple[bool, int]:
    found = _KEY.fullmatch(after)
    if found is None:
        raise InvalidInput(f'after: "{after[:40]}" is no key of this list; take the one that the page before gave')
    return found.group(1) == "stopped", -int(found.group(2))
