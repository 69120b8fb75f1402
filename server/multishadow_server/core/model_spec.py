"""A model and its versions as somebody wants them."""

from __future__ import annotations

from dataclasses import dataclass

from multishadow_server.core.cost_terms import CostTerms
from multishadow_server.core.dead_letter_policy import DeadLetterPolicy
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.model import Comparator, LabelTerms
from multishadow_server.core.privacy import PrivacyTerms
from multishadow_server.core.probe import Probe
from multishadow_server.core.protocols import Protocol
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.core.version_limits import VersionLimits
from multishadow_server.core.writes import Writes


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionSpec:
    """A version as somebody wants it.

    Args:
        name, address: see `core.model.Version`.
        timeout: seconds; None leaves it as it is, or takes the default for a new version.
        max_in_flight: likewise.
        served_name, served_version: likewise; empty for the names that callers use.
        limits: all of them; None leaves them as they are.
    """

    name: str
    address: str
    timeout: float | None = None
    max_in_flight: int | None = None
    served_name: str | None = None
    served_version: str | None = None
    limits: VersionLimits | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A model as somebody wants it; what is None is left as it is.

    Args:
        name, comparator: see `core.model.Model`.
        default_timeout: seconds.
        labels: terms with a `keep` of 0 end the keeping of answers.
        gates: all limits.
        segments: see `core.model.Model`.
        privacy: all terms.
        protocol: what all its versions speak; the comparator's is left aside.
        sessions: terms with an `idle` of 0 end the shadowing by sessions.
        probes: all of them.
        dead_letters: a policy with no retries ends the trying again.
        versions: those that are named; the others are left as they are.
        max_request_bytes: 0 is without a limit.
        writes: see `core.model.Model`.
        cost: all terms.
    """

    name: str
    comparator: Comparator | None = None
    default_timeout: float | None = None
    labels: LabelTerms | None = None
    gates: GateLimits | None = None
    segments: tuple[str, ...] | None = None
    privacy: PrivacyTerms | None = None
    protocol: Protocol | None = None
    sessions: SessionTerms | None = None
    probes: tuple[Probe, ...] | None = None
    dead_letters: DeadLetterPolicy | None = None
    versions: tuple[VersionSpec, ...] = ()
    max_request_bytes: int | None = None
    writes: Writes | None = None
    cost: CostTerms | None = None
