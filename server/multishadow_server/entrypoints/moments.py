"""Points in time as messages hold them."""

from __future__ import annotations

import math

from google.protobuf.timestamp_pb2 import Timestamp

from multishadow_server.errors import InvalidInput

_YEAR_10000 = 253_402_300_800


def moment(seconds: float | None) -> Timestamp | None:
    """A point in time from seconds since the Unix epoch."""
    if seconds is None:
        return None
    whole = math.floor(seconds)
    return Timestamp(seconds=whole, nanos=min(999_999_999, round((seconds - whole) * 1e9)))


def seconds_of(field: str, at: Timestamp) -> float:
    """Seconds since the Unix epoch of a field of a request. Raises InvalidInput: nothing here is of that time."""
    if not 0 <= at.seconds < _YEAR_10000 or not 0 <= at.nanos < 1_000_000_000:
        raise InvalidInput(f"{field}: this is no time between 1970 and 9999")
    return at.seconds + at.nanos / 1e9
