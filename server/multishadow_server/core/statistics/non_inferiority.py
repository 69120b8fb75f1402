"""Whether a candidate is right nearly as often as the live version, from labelled requests.

The score of a request is x = (candidate right) - (live right), in {1, 0, -1}; the claim is that its mean is above -Δ.
"""

from __future__ import annotations

from dataclasses import dataclass

from multishadow_server.core.statistics import betting


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledPair:
    """A candidate beside the live version on labelled requests.

    Args:
        only_candidate_right: requests on which only the candidate was right.
        only_live_right: on which only the live version was.
        alike: both or neither were.
    """

    only_candidate_right: int
    only_live_right: int
    alike: int

    @property
    def n(self) -> int:
        """Labelled requests."""
        return self.only_candidate_right + self.only_live_right + self.alike

    @property
    def difference(self) -> float:
        """Accuracy of the candidate minus that of the live version; 0 without any."""
        return (self.only_candidate_right - self.only_live_right) / max(self.n, 1)

    def log_not_worse(self, margin: float) -> float:
        """Ln of the evidence that the candidate is worse by less than `margin`; proven at ln(k/α)."""
        return float(
            betting.log_wealth(-margin, plus=self.only_candidate_right, minus=self.only_live_right, zero=self.alike)
        )

    def log_worse(self, margin: float) -> float:
        """Ln of the evidence that it is worse by more than `margin`."""
        return float(
            betting.log_wealth(margin, plus=self.only_live_right, minus=self.only_candidate_right, zero=self.alike)
        )
