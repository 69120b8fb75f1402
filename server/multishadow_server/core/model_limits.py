"""What may be registered: names, addresses, and the bounds of every setting."""

from __future__ import annotations

import math
import re

from multishadow_server.core import (
    cost_terms,
    dead_letter_policy,
    privacy_limits,
    session_terms,
    version_address,
    version_limits,
    writes,
)
from multishadow_server.core import probe as probes
from multishadow_server.core.experiment import LONGEST_DURATION, in_words
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.model import Comparator, LabelTerms
from multishadow_server.core.model_spec import ModelSpec, VersionSpec
from multishadow_server.errors import InvalidInput

LONGEST_NAME = 63
LONGEST_ADDRESS = 260
LONGEST_TIMEOUT = 600.0
LARGEST_MAX_IN_FLIGHT = 10_000
MOST_ENTRIES = 100
# An epoch counts 24 features; request bytes, hour and confidence are among them.
MOST_ATTRIBUTES = 20
LONGEST_ENTRY = 256
SHORTEST_LABEL_KEEP = 60.0
LONGEST_LABEL_KEEP = 30 * 86_400.0

# Flag keys are `<model>.<version>`: with no dot in the model's name, the first dot of a key begins the version.
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check(spec: ModelSpec) -> None:
    """Refuse a spec that cannot be registered, whatever there is already.

    Raises:
        InvalidInput: which field is wrong, and what is allowed.
    """
    check_model_name(spec.name)
    _check_judging(spec)
    _check_handling(spec)
    seen: set[str] = set()
    for index, version in enumerate(spec.versions):
        where = f"versions[{index}]"
        _check_version(where, version)
        if version.name in seen:
            raise InvalidInput(f"{where}.name: {version.name!r} is named twice")
        seen.add(version.name)


def _check_judging(spec: ModelSpec) -> None:
    """How its answers are judged."""
    if spec.comparator is not None:
        _check_comparator(spec.comparator)
    if spec.default_timeout is not None:
        _check_timeout("default_timeout_ms", spec.default_timeout)
    if spec.labels is not None and spec.labels.keep:
        _check_labels(spec.labels)
    if spec.gates is not None:
        _check_gates(spec.gates)
    if spec.segments is not None:
        _check_segments(spec.segments)


def _check_handling(spec: ModelSpec) -> None:
    """What is done with its traffic."""
    if spec.privacy is not None:
        privacy_limits.check(spec.privacy)
    if spec.max_request_bytes:
        version_limits.check_cap("max_request_bytes", spec.max_request_bytes)
    if spec.writes is not None:
        writes.check(spec.writes)
    if spec.sessions is not None and spec.sessions.idle:
        session_terms.check(spec.sessions)
    if spec.probes is not None:
        probes.check(spec.probes)
    if spec.cost is not None:
        cost_terms.check(spec.cost)
    if spec.dead_letters is not None and spec.dead_letters.retries:
        dead_letter_policy.check(spec.dead_letters)


def check_model_name(name: str) -> None:
    """Raise InvalidInput unless it is letters, digits, `-`, `_`, beginning with a letter or digit; no dot."""
    if len(name) > LONGEST_NAME or not _MODEL_NAME.fullmatch(name):
        raise InvalidInput(
            f"model: {_shown(name)} is no name for a model; allowed are 1 to {LONGEST_NAME} letters, digits, `-` and "
            "`_`, beginning with a letter or digit. (No dot: flag keys are `<model>.<version>`)"
        )


def _check_version(where: str, version: VersionSpec) -> None:
    if len(version.name) > LONGEST_NAME or not _VERSION_NAME.fullmatch(version.name):
        raise InvalidInput(
            f"{where}.name: {_shown(version.name)} is no name for a version; allowed are 1 to {LONGEST_NAME} letters, "
            "digits, `-`, `_` and `.`, beginning with a letter or digit"
        )
    where = f"{where} ({version.name})"
    _check_address(f"{where}.address", version.address)
    if version.timeout is not None:
        _check_timeout(f"{where}.timeout_ms", version.timeout)
    if version.max_in_flight is not None and not 1 <= version.max_in_flight <= LARGEST_MAX_IN_FLIGHT:
        raise InvalidInput(
            f"{where}.max_in_flight: {version.max_in_flight} is out of range; allowed are 1 to {LARGEST_MAX_IN_FLIGHT}"
        )
    if version.limits is not None:
        version_limits.check(f"{where}.limits", version.limits)


def _check_address(where: str, address: str) -> None:
    if len(address) > LONGEST_ADDRESS or version_address.parse(address) is None:
        raise InvalidInput(
            f"{where}: {_shown(address)} is no address; use `host:port` with a port from 1 to 65535 (IPv6 as "
            "`[::1]:50051`), `tls://host:port`, or `unix:/path/to/socket`"
        )


def _check_comparator(comparator: Comparator) -> None:
    # Written so that NaN fails: every comparison with it is false.
    if not 0 < comparator.threshold <= 1:
        raise InvalidInput(f"comparator.threshold: {comparator.threshold:g} is out of range; allowed is (0, 1]")
    for name in ("absolute_tolerance", "relative_tolerance"):
        tolerance = getattr(comparator, name)
        if not 0 <= tolerance < math.inf:
            raise InvalidInput(f"comparator.{name}: {tolerance:g} is out of range; allowed are finite numbers from 0")
    _check_entries("comparator.ignored_fields", comparator.ignored_fields)


def _check_segments(attributes: tuple[str, ...]) -> None:
    if len(attributes) > MOST_ATTRIBUTES:
        raise InvalidInput(f"segments: {len(attributes)} attributes are too many; allowed are {MOST_ATTRIBUTES}")
    for name in attributes:
        if not name or len(name) > LONGEST_NAME:
            raise InvalidInput(
                f"segments: {_shown(name)} is no attribute's name; allowed are 1 to {LONGEST_NAME} characters"
            )


def _check_labels(terms: LabelTerms) -> None:
    if not SHORTEST_LABEL_KEEP <= terms.keep <= LONGEST_LABEL_KEEP:
        raise InvalidInput(
            f"labels.keep: {in_words(terms.keep)} is out of range; allowed are 1 min to 30 d, and 0 for keeping none"
        )
    if not 0 <= terms.delay <= terms.keep:
        raise InvalidInput(
            f"labels.delay: {in_words(terms.delay)} is out of range; it must not be longer than the answers are kept "
            f"({in_words(terms.keep)})"
        )


def _check_gates(limits: GateLimits) -> None:
    # Written so that NaN fails, as above.
    if not 0 <= limits.minimum_duration <= LONGEST_DURATION:
        raise InvalidInput(
            f"gates.minimum_duration_seconds: {limits.minimum_duration:g} is out of range; allowed are 0 to "
            f"{LONGEST_DURATION:.0f}"
        )
    for name in ("divergence", "inferiority", "failures", "completeness"):
        share = getattr(limits, name)
        if not 0 <= share <= 1:
            raise InvalidInput(f"gates.{name}: {share:g} is out of range; allowed are shares from 0 to 1")
    if not 0 < limits.latency_ratio < math.inf:
        raise InvalidInput(f"gates.latency_ratio: {limits.latency_ratio:g} is out of range; allowed is above 0")
    if limits.divergent_samples < 0:
        raise InvalidInput(f"gates.divergent_samples: {limits.divergent_samples} is out of range; allowed is 0 or more")


def _check_entries(where: str, entries: tuple[str, ...]) -> None:
    if len(entries) > MOST_ENTRIES:
        raise InvalidInput(f"{where}: {len(entries)} entries; at most {MOST_ENTRIES} are allowed")
    for entry in entries:
        if not entry or len(entry) > LONGEST_ENTRY:
            raise InvalidInput(f"{where}: {_shown(entry)} must have 1 to {LONGEST_ENTRY} characters")


def _check_timeout(where: str, timeout: float) -> None:
    if not 0.001 <= timeout <= LONGEST_TIMEOUT:
        raise InvalidInput(
            f"{where}: {timeout * 1000:.0f} is out of range; allowed are 1 to {LONGEST_TIMEOUT * 1000:.0f}"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
