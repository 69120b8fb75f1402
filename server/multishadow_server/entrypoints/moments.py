"""Points in time as messages hold them."""

from __future__ import annotations

import math

from google.protobuf.timestamp_pb2 import Timestamp


def moment(seconds: float | None) -> Timestamp | None:
    """A point in time from seconds since the Unix epoch."""
    if seconds is None:
        return None
    whole = math.floor(seconds)
    return Timestamp(seconds=whole, nanos=min(999_999_999, round((seconds - whole) * 1e9)))


def seconds_of(at: Timestamp) -> float:
    """Seconds since the Unix epoch."""
    return at.seconds + at.nanos / 1e9
