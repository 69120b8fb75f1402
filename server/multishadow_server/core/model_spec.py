"""A model and its versions as somebody wants them."""

from __future__ import annotations

from dataclasses import dataclass

from multishadow_server.core.dead_letter_policy import DeadLetterPolicy
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.model import Comparator, LabelTerms


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionSpec:
    """A version as somebody wants it.

    Args:
        name, address: see `core.model.Version`.
        timeout: seconds; None leaves it as it is, or takes the default for a new version.
        max_in_flight: likewise.
    """

    name: str
    address: str
    timeout: float | None = None
    max_in_flight: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A model as somebody wants it; what is None is left as it is.

    Args:
        name, comparator: see `core.model.Model`.
        default_timeout: seconds.
        labels: terms with a `keep` of 0 end the keeping of answers.
        gates: all limits.
        segments: see `core.model.Model`.
        dead_letters: a policy with no retries ends the trying again.
        versions: those that are named; the others are left as they are.
    """

    name: str
    comparator: Comparator | None = None
    default_timeout: float | None = None
    labels: LabelTerms | None = None
    gates: GateLimits | None = None
    segments: tuple[str, ...] | None = None
    dead_letters: DeadLetterPolicy | None = None
    versions: tuple[VersionSpec, ...] = ()
