"""Why copies are not sent on purpose. The reasons are the words that drops are counted under."""

from __future__ import annotations

RATE_LIMIT = "rate_limit"
BANDWIDTH = "bandwidth"
BUDGET = "budget"
PAUSED = "paused"
TOO_LARGE = "too_large"
CIRCUIT_OPEN = "circuit_open"
WRITES = "writes"

BY_CHANCE = frozenset({RATE_LIMIT, BANDWIDTH, BUDGET})
"""By a draw, or by the moment of arrival: neither an answer nor what a request says nor a person had a part in it. What
is left is a smaller sample of the same requests, and no hole in it. The others leave holes: large requests are others
than small ones, a circuit is opened by failures, and whoever pauses a version may have seen them."""
ON_PURPOSE = BY_CHANCE | {PAUSED, TOO_LARGE, CIRCUIT_OPEN, WRITES}
"""All of them: copies that are missing for one of these are no sign of a fault in assigning or storing."""
