"""How a model is set up, each setting with its value in words: for people who look at it."""

from __future__ import annotations

from collections.abc import Iterator

from multishadow_server.core import dead_letter_policy, privacy_limits, session_terms, version_limits, writes
from multishadow_server.core import probe as probes
from multishadow_server.core.experiment import in_words
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.model import LabelTerms, Model, Version
from multishadow_server.core.protocols import OutputTerms


def of_model(model: Model) -> Iterator[tuple[str, str]]:
    """Each setting of the model's own, in the order of its file."""
    comparator = model.comparator
    yield "protocol", str(model.protocol)
    yield "answers agree at", f"similarity ≥ {comparator.threshold:g}"
    yield "ignored fields", ", ".join(comparator.ignored_fields) or "none"
    yield (
        "numbers agree within",
        f"{comparator.absolute_tolerance:g} absolute, {comparator.relative_tolerance:g} relative",
    )
    if comparator.output != OutputTerms():
        yield "compared output", str(comparator.output)
    yield "default timeout", _milliseconds(model.default_timeout)
    yield "labels", _labels(model.labels)
    yield "segments", ", ".join(model.segments) or "all attributes"
    yield "privacy", privacy_limits.in_short(model.privacy)
    yield "sessions", session_terms.in_words(model.sessions)
    yield "probes", probes.in_words(model.probes)
    yield "dead letters", dead_letter_policy.in_a_line(model.dead_letters)
    yield "largest captured request", version_limits.cap_in_words(model.max_request_bytes)
    yield "requests that write", writes.in_words(model.writes)


def of_gates(limits: GateLimits) -> Iterator[tuple[str, str]]:
    """What the model asks of a candidate before it is promoted."""
    yield "minimum duration", in_words(limits.minimum_duration)
    yield "divergence below", _percent(limits.divergence)
    yield "accuracy at most below live's", _percent(limits.inferiority)
    yield "p99 latency at most", f"{limits.latency_ratio:g} × live's"
    yield "failures below", _percent(limits.failures)
    yield "completeness at least", _percent(limits.completeness)
    yield "divergent samples at least", f"{limits.divergent_samples:,}"


def of_version(version: Version) -> Iterator[tuple[str, str]]:
    """Where a version is, and what it may be asked at most; limits that it does not have are left out."""
    yield "answers at", version.location
    yield "shadow timeout", _milliseconds(version.timeout)
    yield "in flight at most", f"{version.max_in_flight:,} for each worker"
    unlimited = dict(version_limits.settings(version_limits.NO_LIMITS))
    for name, value in version_limits.settings(version.limits):
        if value != unlimited[name]:
            yield name, value
    if version.limits.capacity is not None and version.limits.utilisation == version_limits.DEFAULT_UTILISATION:
        yield "utilisation", _percent(version.limits.utilisation)


def _labels(terms: LabelTerms | None) -> str:
    return "none" if terms is None else f"after {in_words(terms.delay)}, kept for {in_words(terms.keep)}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
