"""Which share of the requests each candidate should have got copies of, by what its flag said over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from multishadow_server.core import flags as flag_rules

# Shares are whole parts of 100,000 at the finest; beyond that, equal ratios differ by rounding only.
DECIMALS = 9


def of_largest(
    candidates: Mapping[str, str], written: Iterable[tuple[int, str, Mapping[str, Any]]]
) -> Mapping[str, float] | None:
    """Each candidate's share, as a part of the largest sample; None when nobody can tell, or it has changed.

    Samples nest, so a candidate with the share f gets f/f_max of what anybody gets. Shares that change together (ramps,
    windows that open) leave that as it is, and where nobody gets anything nothing is shared.

    Args:
        candidates: flag key by version.
        written: (revision, flag key, definition), by revision: what the flags said at first, then every change.
    """
    present: dict[str, float | None] = {}
    seen: list[Sequence[float]] = []
    for _, together in _by_revision(written):
        present.update((key, flag_rules.copied_share(definition)) for key, definition in together)
        shares = [present.get(key) for key in candidates.values()]
        if set(present) < set(candidates.values()):
            continue
        known = [share for share in shares if share is not None]
        if len(known) < len(shares):
            return None
        if largest := max(known, default=0.0):
            seen.append([round(share / largest, DECIMALS) for share in known])
    if not seen or any(each != seen[0] for each in seen):
        return None
    return dict(zip(candidates, seen[0], strict=True))


def _by_revision(
    written: Iterable[tuple[int, str, Mapping[str, Any]]],
) -> Iterable[tuple[int, list[tuple[str, Mapping[str, Any]]]]]:
    """What each revision wrote; who reads between two of them sees all of the one and nothing of the other."""
    together: dict[int, list[tuple[str, Mapping[str, Any]]]] = {}
    for revision, key, definition in written:
        together.setdefault(revision, []).append((key, definition))
    return sorted(together.items())
