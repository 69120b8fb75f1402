"""Why copies are not sent on purpose. The reasons are the words that drops are counted under."""

from __future__ import annotations

RATE_LIMIT = "rate_limit"
BANDWIDTH = "bandwidth"
BUDGET = "budget"
PAUSED = "paused"
TOO_LARGE = "too_large"
CIRCUIT_OPEN = "circuit_open"
WRITES = "writes"

BY_CHANCE = frozenset({RATE_LIMIT, BANDWIDTH, BUDGET, PAUSED})
"""By a draw, or by the time alone: neither an answer nor what a request says had a part in it. What is left is a
smaller sample of the same requests, and no hole in it. The others leave holes: large requests are others than small
ones, and a circuit is opened by failures."""
