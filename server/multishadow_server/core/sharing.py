"""Dividing whole things fairly: partitions among workers, quotas among partitions."""

from __future__ import annotations


def fair_share(total: int, *, place: int, places: int) -> int:
    """How many of `total` things the one at `place` (from 0) gets: the shares add up, and differ by one at most."""
    return total // places + (place < total % places)
