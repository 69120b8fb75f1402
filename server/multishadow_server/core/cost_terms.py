"""What shadowing a model costs: the prices and rates that only people know."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from multishadow_server.errors import InvalidInput

LARGEST_PRICE = 1e6
LARGEST_RATE = 1e12
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CostTerms:
    """A model's prices, and how much a GPU does.

    Args:
        gpu_hour: what a GPU costs for an hour; None where nobody said.
        currency: by ISO 4217.
        rps_per_gpu: requests per second that one GPU answers, of versions that `by_version` does not name; None where
            nobody said.
        by_version: the same by version.
    """

    gpu_hour: float | None = None
    currency: str = "USD"
    rps_per_gpu: float | None = None
    by_version: Mapping[str, float] = field(default_factory=dict)

    def rps_of(self, version: str) -> float | None:
        """Requests per second that one GPU answers with this version; None where nobody said."""
        return self.by_version.get(version, self.rps_per_gpu)


NO_TERMS = CostTerms()


def check(terms: CostTerms) -> None:
    """Raise InvalidInput unless they can be reckoned with: which is wrong, and what is allowed."""
    # Written so that NaN fails: every comparison with it is false.
    if terms.gpu_hour is not None and not 0 < terms.gpu_hour <= LARGEST_PRICE:
        raise InvalidInput(
            f"cost.gpu_hour: {terms.gpu_hour:g} is out of range; allowed is above 0, up to {LARGEST_PRICE:,.0f}"
        )
    if not _CURRENCY.fullmatch(terms.currency):
        raise InvalidInput(f"cost.currency: {terms.currency[:20]!r} is none; write it by ISO 4217, such as USD or EUR")
    rates = {"": terms.rps_per_gpu} if terms.rps_per_gpu is not None else {}
    for version, rate in {**rates, **terms.by_version}.items():
        if not 0 < rate <= LARGEST_RATE:
            where = f"cost.rps_per_gpu{f'.{version}' if version else ''}"
            raise InvalidInput(f"{where}: {rate:g} is out of range; allowed is above 0, up to {LARGEST_RATE:g}")


def in_words(terms: CostTerms) -> str:
    """For people who look at what changed."""
    if terms == NO_TERMS:
        return "unknown"
    price = "price unknown" if terms.gpu_hour is None else f"{terms.gpu_hour:g} {terms.currency} per GPU hour"
    rates = [] if terms.rps_per_gpu is None else [f"{_rate(terms.rps_per_gpu)} requests/s per GPU"]
    rates += [f"{version} {_rate(rate)} requests/s per GPU" for version, rate in sorted(terms.by_version.items())]
    return ", ".join([price, *rates])


def record(terms: CostTerms) -> dict[str, Any] | None:
    """Terms as they are stored; see `terms_of`."""
    return None if terms == NO_TERMS else asdict(terms)


def terms_of(stored: Mapping[str, Any] | None) -> CostTerms:
    """The terms that `record` stored."""
    return CostTerms(**stored) if stored else NO_TERMS


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate == math.floor(rate) else f"{rate:g}"
