"""Raw bytes by equality."""

from __future__ import annotations

from multishadow_server.core.comparison.verdict import Comparison, judged, uncomparable
from multishadow_server.core.prediction import Raw


def compare(live: Raw, shadow: Raw) -> Comparison:
    """They agree iff every byte is equal; `empty_raw` is uncomparable."""
    sizes = f"live has {len(live.data):,} bytes, shadow has {len(shadow.data):,}"
    if not live.data or not shadow.data:
        return uncomparable("empty_raw", sizes)
    agree = live.data == shadow.data
    return judged(agree=agree, similarity=float(agree), detail="" if agree else sizes)
