"""Registering models and versions: what names and addresses may look like, and what an application would change."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

from multishadow_server.core.experiment import LONGEST_DURATION, in_words
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.model import Comparator, LabelTerms, Model, Version
from multishadow_server.errors import InvalidInput

LONGEST_NAME = 63
LONGEST_ADDRESS = 260
LONGEST_TIMEOUT = 600.0
LARGEST_MAX_IN_FLIGHT = 10_000
MOST_VERSIONS = 100
MOST_ENTRIES = 100
# An epoch counts 24 features; request bytes, hour and confidence are among them.
MOST_ATTRIBUTES = 20
LONGEST_ENTRY = 256
SHORTEST_LABEL_KEEP = 60.0
LONGEST_LABEL_KEEP = 30 * 86_400.0

# Flag keys are `<model>.<version>`: with no dot in the model's name, the first dot of a key begins the version.
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_HOST_AND_PORT = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?):(?P<port>[0-9]{1,5})"
)
_UNIX_SOCKET = re.compile(r"unix:/[^\x00-\x20]+")
# https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: Header-Name


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
        versions: those that are named; the others are left as they are.
    """

    name: str
    comparator: Comparator | None = None
    default_timeout: float | None = None
    labels: LabelTerms | None = None
    gates: GateLimits | None = None
    segments: tuple[str, ...] | None = None
    versions: tuple[VersionSpec, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """What applying a spec changes.

    Args:
        model: as it is to be, with all its versions.
        changes: one line for each difference; empty when everything is so already.
        added: the new versions, in order of registration.
        replaced: names of versions whose answers are another implementation's from now on: another address, or
            another time limit, which moves the line between an answer and a timeout.
        settings_changed, versions_changed: whether the model's own settings, or any version, differ.
    """

    model: Model
    changes: tuple[str, ...]
    added: tuple[Version, ...]
    replaced: frozenset[str]
    settings_changed: bool
    versions_changed: bool


def register(present: Model | None, spec: ModelSpec, *, now: float) -> Registration:
    """Apply a spec to what there is; versions that it does not name stay as they are.

    Args:
        present: the model as it is; None when it is new.
        spec: what is wanted.
        now: when it is registered, seconds since the Unix epoch.

    Raises:
        InvalidInput: which field is wrong, and what is allowed.
    """
    check(spec)
    model = _with_settings(present or Model(name=spec.name, created_at=now), spec)
    known = {version.name: version for version in model.versions}
    for wanted in spec.versions:
        new = Version(model=spec.name, name=wanted.name, address=wanted.address, ordinal=len(known), created_at=now)
        known[wanted.name] = _with_spec(known.get(wanted.name, new), wanted)
    model = replace(model, versions=tuple(known.values()))
    if len(model.versions) > MOST_VERSIONS:
        raise InvalidInput(
            f"{spec.name} would have {len(model.versions)} versions; at most {MOST_VERSIONS} are allowed"
        )
    before = {version.name: version for version in present.versions} if present else {}
    settings = tuple(_settings_changes(present, model))
    return Registration(
        model=model,
        changes=(*settings, *_version_changes(before, model.versions)),
        added=tuple(version for version in model.versions if version.name not in before),
        replaced=frozenset(
            version.name
            for version in model.versions
            if version.name in before and _answers(before[version.name]) != _answers(version)
        ),
        settings_changed=bool(settings),
        versions_changed=any(before.get(version.name) != version for version in model.versions),
    )


def _with_settings(model: Model, spec: ModelSpec) -> Model:
    return replace(
        model,
        comparator=model.comparator if spec.comparator is None else spec.comparator,
        default_timeout=model.default_timeout if spec.default_timeout is None else spec.default_timeout,
        labels=model.labels if spec.labels is None else (spec.labels if spec.labels.keep else None),
        gates=model.gates if spec.gates is None else spec.gates,
        segments=model.segments if spec.segments is None else spec.segments,
    )


def _with_spec(version: Version, spec: VersionSpec) -> Version:
    return replace(
        version,
        address=spec.address,
        timeout=version.timeout if spec.timeout is None else spec.timeout,
        max_in_flight=version.max_in_flight if spec.max_in_flight is None else spec.max_in_flight,
    )


def _answers(version: Version) -> tuple[str, float]:
    return version.address, version.timeout


# --- what changed, in words ---------------------------------------------------------------------------------------


def _settings_changes(before: Model | None, after: Model) -> Iterator[str]:
    if before is None:
        yield f"model {after.name} created"
        return
    old, new = before.comparator, after.comparator
    yield from _difference("threshold", f"{old.threshold:g}", f"{new.threshold:g}")
    yield from _difference("ignored fields", _listed(old.ignored_fields), _listed(new.ignored_fields))
    yield from _difference("absolute tolerance", f"{old.absolute_tolerance!r}", f"{new.absolute_tolerance!r}")
    yield from _difference("relative tolerance", f"{old.relative_tolerance!r}", f"{new.relative_tolerance!r}")
    yield from _difference("labels", _terms(before.labels), _terms(after.labels))
    yield from _difference("segments", _cut_by(before.segments), _cut_by(after.segments))
    for limit in fields(GateLimits):
        yield from _difference(
            f"gate limit {limit.name}",
            f"{getattr(before.gates, limit.name):g}",
            f"{getattr(after.gates, limit.name):g}",
        )
    yield from _difference("default timeout", _in_ms(before.default_timeout), _in_ms(after.default_timeout))


def _version_changes(before: dict[str, Version], after: Iterable[Version]) -> Iterator[str]:
    for new in after:
        old = before.get(new.name)
        if old is None:
            claim = "live: it is the base" if new.ordinal == 0 else "off"
            yield f"version {new.name} registered at {new.address} ({claim})"
            continue
        yield from _difference(f"address of {new.name}", old.address, new.address)
        yield from _difference(f"timeout of {new.name}", _in_ms(old.timeout), _in_ms(new.timeout))
        yield from _difference(f"max in flight of {new.name}", f"{old.max_in_flight}", f"{new.max_in_flight}")


def _difference(what: str, old: str, new: str) -> Iterator[str]:
    if old != new:
        yield f"{what}: {old} → {new}"


def _terms(terms: LabelTerms | None) -> str:
    return "none" if terms is None else f"after {in_words(terms.delay)}, kept for {in_words(terms.keep)}"


def _cut_by(attributes: tuple[str, ...]) -> str:
    return _listed(attributes) if attributes else "all attributes"


def _in_ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _listed(entries: Iterable[str]) -> str:
    return ", ".join(sorted(entries)) or "none"


# --- what is allowed ----------------------------------------------------------------------------------------------


def check(spec: ModelSpec) -> None:
    """Refuse a spec that cannot be registered, whatever there is already.

    Raises:
        InvalidInput: which field is wrong, and what is allowed.
    """
    check_model_name(spec.name)
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
    seen: set[str] = set()
    for index, version in enumerate(spec.versions):
        where = f"versions[{index}]"
        _check_version(where, version)
        if version.name in seen:
            raise InvalidInput(f"{where}.name: {version.name!r} is named twice")
        seen.add(version.name)


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


def _check_address(where: str, address: str) -> None:
    match = _HOST_AND_PORT.fullmatch(address)
    named = match is not None and 1 <= int(match["port"]) <= 65_535
    if len(address) > LONGEST_ADDRESS or not (named or _UNIX_SOCKET.fullmatch(address)):
        raise InvalidInput(
            f"{where}: {_shown(address)} is no address; use `host:port` with a port from 1 to 65535 (IPv6 as "
            "`[::1]:50051`), or `unix:/path/to/socket`"
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
