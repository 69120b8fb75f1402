"""Do two answers agree? One module per kind of answer; `compare` picks it."""

from __future__ import annotations

from multishadow_server.core.comparison.verdict import Comparison, Verdict

__all__ = ["Comparison", "Verdict"]
