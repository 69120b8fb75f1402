"""Models and their versions, as they are registered."""

from __future__ import annotations

from dataclasses import dataclass, field

from multishadow_server.core.dead_letter_policy import DeadLetterPolicy
from multishadow_server.core.gate_limits import GateLimits

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
    """

    threshold: float = DEFAULT_THRESHOLD
    ignored_fields: tuple[str, ...] = ()
    absolute_tolerance: float = 1e-9
    relative_tolerance: float = 1e-6


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
        address: `host:port` or `unix:/path`.
        timeout: longest time a shadow call may take, in seconds.
        max_in_flight: most shadow calls that one worker process has under way at once.
        ordinal: place in the order of registration; 0 is the base.
        created_at: when it was registered, seconds since the Unix epoch; None until it is stored.
    """

    model: str
    name: str
    address: str
    timeout: float = DEFAULT_SHADOW_TIMEOUT
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    ordinal: int = 0
    created_at: float | None = None

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
        dead_letters: what becomes of shadow calls that fail; None when they are not tried again.
        versions: in order of registration; the first is the base.
        created_at: when it was registered, seconds since the Unix epoch; None until it is stored.
    """

    name: str
    comparator: Comparator = field(default_factory=Comparator)
    default_timeout: float = DEFAULT_TIMEOUT
    labels: LabelTerms | None = None
    segments: tuple[str, ...] = ()
    gates: GateLimits = field(default_factory=GateLimits)
    dead_letters: DeadLetterPolicy | None = None
    versions: tuple[Version, ...] = ()
    created_at: float | None = None

    def version(self, name: str) -> Version | None:
        """The version of that name, or None."""
        return next((version for version in self.versions if version.name == name), None)


def flag_key(model: str, version: str) -> str:
    """Key of the flag that holds a version's claim: `<model>.<version>`."""
    return f"{model}.{version}"
