"""Models and their versions, as they are registered."""

from __future__ import annotations

from dataclasses import dataclass, field

from multishadow_server.core.cost_terms import NO_TERMS, CostTerms
from multishadow_server.core.dead_letter_policy import DeadLetterPolicy
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.privacy import UNRESTRICTED, PrivacyTerms
from multishadow_server.core.probe import Probe
from multishadow_server.core.protocols import OutputTerms, Protocol, renaming
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.core.version_limits import NO_LIMITS, Pause, VersionLimits
from multishadow_server.core.writes import NO_WRITES, Writes

DEFAULT_THRESHOLD = 0.85
DEFAULT_TIMEOUT = 10.0
DEFAULT_SHADOW_TIMEOUT = 2.0
# More at once measure the queue before a version, and the worker itself, rather than the version.
DEFAULT_MAX_IN_FLIGHT = 16
DEFAULT_LABEL_DELAY = 86_400.0
DEFAULT_LABEL_KEEP = 7 * 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparator:
    """When two answers of a model agree.

    Args:
        threshold: smallest similarity that counts as agreement, in (0, 1]; embedding (cosine), text (ROUGE-L F1).
        ignored_fields: paths of structured answers that are not compared; `*` stands for any key or index of one level.
        absolute_tolerance: numbers agree when |a - b| <= max(absolute, relative * max(|a|, |b|)).
        relative_tolerance: see above; 0.01 is 1 %.
        protocol: what the answers are messages of.
        output: what is compared of an Open Inference Protocol answer.
    """

    threshold: float = DEFAULT_THRESHOLD
    ignored_fields: tuple[str, ...] = ()
    absolute_tolerance: float = 1e-9
    relative_tolerance: float = 1e-6
    protocol: Protocol = Protocol.MULTISHADOW
    output: OutputTerms = field(default_factory=OutputTerms)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTerms:
    """How long labels may take, for a model whose answers are kept to be labelled.

    Args:
        delay: seconds after which a request's label is expected to be there; younger cohorts say nothing yet, because
            labels that come quickly are not like those that come late.
        keep: seconds that answers are kept, and that a label waits for its request.
    """

    delay: float = DEFAULT_LABEL_DELAY
    keep: float = DEFAULT_LABEL_KEEP


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One deployed implementation of a model.

    Args:
        model: the model's name.
        name: the version's name, unique in its model.
        address: `host:port`, `tls://host:port` or `unix:/path`; see `version_address`.
        timeout: longest time a shadow call may take, in seconds.
        max_in_flight: most shadow calls that one worker process has under way at once.
        ordinal: place in the order of registration; 0 is the base.
        served_name, served_version: what its server calls the model, and this version of it; empty: as callers do.
        created_at: when it was registered, seconds since the Unix epoch; None until it is stored.
        limits: what it may be asked at most, as a shadow.
        pause: why nobody copies requests to it for now; None when nobody paused it, see `Pause.holds_at`.
    """

    model: str
    name: str
    address: str
    timeout: float = DEFAULT_SHADOW_TIMEOUT
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    ordinal: int = 0
    served_name: str = ""
    served_version: str = ""
    created_at: float | None = None
    limits: VersionLimits = NO_LIMITS
    pause: Pause | None = None

    @property
    def location(self) -> str:
        """Where it answers: its address and, where it has one, its own name there."""
        own = ", version ".join(filter(None, (self.served_name or self.model, self.served_version)))
        return f"{self.address} as {own}" if self.served_name or self.served_version else self.address

    def asked(self, request: bytes) -> bytes:
        """A request as this version's server takes it: by the names that it has there."""
        return request + renaming(self.served_name, self.served_version)

    @property
    def flag_key(self) -> str:
        """Key of the feature flag that holds this version's claim."""
        return flag_key(self.model, self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What callers name in `Predict`.

    Args:
        name: the model's name.
        comparator: when two answers agree.
        default_timeout: a live call's time limit in seconds, for callers that set no deadline.
        labels: how its answers are kept to be labelled; None when they are not.
        segments: attributes that reports are cut by, nested ones by their path; empty for all.
        gates: what a candidate has to keep to before it is promoted.
        privacy: what is kept of its requests and answers, and for how long.
        sessions: how its requests form sessions; None when they do not.
        probes: synthetic requests that every version is asked on a timer.
        dead_letters: what becomes of shadow calls that fail; None when they are not tried again.
        versions: in order of registration; the first is the base.
        created_at: when it was registered, seconds since the Unix epoch; None until it is stored.
        max_request_bytes: larger requests are not captured; None is without a limit of the model's own.
        writes: which of its requests write, and so are never copied.
        cost: what a GPU costs and does.
    """

    name: str
    comparator: Comparator = field(default_factory=Comparator)
    default_timeout: float = DEFAULT_TIMEOUT
    labels: LabelTerms | None = None
    segments: tuple[str, ...] = ()
    gates: GateLimits = field(default_factory=GateLimits)
    privacy: PrivacyTerms = UNRESTRICTED
    sessions: SessionTerms | None = None
    probes: tuple[Probe, ...] = ()
    dead_letters: DeadLetterPolicy | None = None
    versions: tuple[Version, ...] = ()
    created_at: float | None = None
    max_request_bytes: int | None = None
    writes: Writes = NO_WRITES
    cost: CostTerms = NO_TERMS

    @property
    def protocol(self) -> Protocol:
        """What all its versions speak."""
        return self.comparator.protocol

    def version(self, name: str) -> Version | None:
        """The version of that name, or None."""
        return next((version for version in self.versions if version.name == name), None)


def flag_key(model: str, version: str) -> str:
    """Key of the flag that holds a version's claim: `<model>.<version>`."""
    return f"{model}.{version}"
