"""Registering models and versions: what an application would change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

from multishadow_server.core import (
    cost_terms,
    dead_letter_policy,
    model_limits,
    privacy_limits,
    protocols,
    session_terms,
    version_limits,
    writes,
)
from multishadow_server.core import probe as probes
from multishadow_server.core.experiment import in_words
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.model import LabelTerms, Model, Version
from multishadow_server.core.model_spec import ModelSpec, VersionSpec
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.protocols import PREDICT, Protocol
from multishadow_server.errors import InvalidInput

MOST_VERSIONS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """What applying a spec changes.

    Args:
        model: as it is to be, with all its versions.
        changes: one line for each difference; empty when everything is so already.
        added: the new versions, in order of registration.
        replaced: names of versions whose answers are another implementation's from now on: another address, or
            another time limit, which moves the line between an answer and a timeout, or another name at its server.
            All, where sessions begin, end or are others than before.
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
    model_limits.check(spec)
    model = _with_settings(present or Model(name=spec.name, created_at=now), spec)
    privacy_limits.check_with_labels(model.privacy, labels_keep=model.labels.keep if model.labels else None)
    known = {version.name: version for version in model.versions}
    for wanted in spec.versions:
        new = Version(model=spec.name, name=wanted.name, address=wanted.address, ordinal=len(known), created_at=now)
        known[wanted.name] = _with_spec(known.get(wanted.name, new), wanted)
    model = replace(model, versions=tuple(known.values()))
    _check_protocol(model)
    _check_together(model)
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
            if version.name in before
            and (_answers(before[version.name]) != _answers(version) or _counts_anew(present, model))
        ),
        settings_changed=bool(settings),
        versions_changed=any(before.get(version.name) != version for version in model.versions),
    )


def _check_protocol(model: Model) -> None:
    protocols.check_output(model.comparator.output, model.protocol)
    for version in model.versions:
        where = f"versions ({version.name})"
        name, number = version.served_name, version.served_version
        protocols.check_served(where, name=name, version=number, protocol=model.protocol)


def _check_together(model: Model) -> None:
    """Refuse settings that exclude each other."""
    if model.probes and (model.protocol is not Protocol.MULTISHADOW or model.writes.covers(PREDICT)):
        what = "`protocol: oip`" if model.protocol is not Protocol.MULTISHADOW else "requests that write"
        raise InvalidInput(f"probes: {model.name} has {what}, and a probe is a call of Predict; leave one of them out")
    if model.dead_letters and model.privacy.payloads is not Payloads.FULL:
        raise InvalidInput(
            f"dead_letters: what is tried again is stored as it came, and {model.name} has "
            f"`privacy: {{payloads: {model.privacy.payloads}}}`; leave one of them out"
        )


def _with_settings(model: Model, spec: ModelSpec) -> Model:
    comparator = model.comparator if spec.comparator is None else spec.comparator
    protocol = model.protocol if spec.protocol is None else spec.protocol
    return replace(
        model,
        comparator=replace(comparator, protocol=protocol),
        default_timeout=model.default_timeout if spec.default_timeout is None else spec.default_timeout,
        labels=model.labels if spec.labels is None else (spec.labels if spec.labels.keep else None),
        gates=model.gates if spec.gates is None else spec.gates,
        segments=model.segments if spec.segments is None else spec.segments,
        privacy=model.privacy if spec.privacy is None else spec.privacy,
        max_request_bytes=model.max_request_bytes if spec.max_request_bytes is None else spec.max_request_bytes or None,
        writes=model.writes if spec.writes is None else spec.writes,
        sessions=model.sessions if spec.sessions is None else (spec.sessions if spec.sessions.idle else None),
        probes=model.probes if spec.probes is None else spec.probes,
        dead_letters=model.dead_letters if spec.dead_letters is None else dead_letter_policy.kept_to(spec.dead_letters),
        cost=model.cost if spec.cost is None else spec.cost,
    )


def _with_spec(version: Version, spec: VersionSpec) -> Version:
    return replace(
        version,
        address=spec.address,
        timeout=version.timeout if spec.timeout is None else spec.timeout,
        max_in_flight=version.max_in_flight if spec.max_in_flight is None else spec.max_in_flight,
        served_name=version.served_name if spec.served_name is None else spec.served_name,
        served_version=version.served_version if spec.served_version is None else spec.served_version,
        limits=version.limits if spec.limits is None else spec.limits,
    )


def _counts_anew(before: Model | None, after: Model) -> bool:
    """Whether what counts once, or what a session is, changes for all versions."""
    return before is not None and not session_terms.same_sessions(before.sessions, after.sessions)


def _answers(version: Version) -> tuple[str, float, str, str]:
    return version.address, version.timeout, version.served_name, version.served_version


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
    yield from _difference("protocol", old.protocol, new.protocol)
    yield from _difference("output", str(old.output), str(new.output))
    yield from _difference("labels", _terms(before.labels), _terms(after.labels))
    yield from _difference("privacy", privacy_limits.in_short(before.privacy), privacy_limits.in_short(after.privacy))
    yield from _difference("segments", _cut_by(before.segments), _cut_by(after.segments))
    yield from _difference("sessions", session_terms.in_words(before.sessions), session_terms.in_words(after.sessions))
    yield from _difference("probes", probes.in_words(before.probes), probes.in_words(after.probes))
    yield from _difference(
        "dead letters",
        dead_letter_policy.in_a_line(before.dead_letters),
        dead_letter_policy.in_a_line(after.dead_letters),
    )
    for limit in fields(GateLimits):
        yield from _difference(
            f"gate limit {limit.name}",
            f"{getattr(before.gates, limit.name):g}",
            f"{getattr(after.gates, limit.name):g}",
        )
    yield from _difference("default timeout", _in_ms(before.default_timeout), _in_ms(after.default_timeout))
    caps = (version_limits.cap_in_words(model.max_request_bytes) for model in (before, after))
    yield from _difference("max request bytes", *caps)
    yield from _difference("cost", cost_terms.in_words(before.cost), cost_terms.in_words(after.cost))
    yield from _difference("requests that write", writes.in_words(before.writes), writes.in_words(after.writes))


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
        yield from _difference(f"name of {new.name} at its server", *(_served(each) for each in (old, new)))
        limits = zip(version_limits.settings(old.limits), version_limits.settings(new.limits), strict=True)
        for (name, was), (_, becomes) in limits:
            yield from _difference(f"{name} of {new.name}", was, becomes)


def _difference(what: str, old: str, new: str) -> Iterator[str]:
    if old != new:
        yield f"{what}: {old} → {new}"


def _served(version: Version) -> str:
    name = version.served_name or version.model
    return f"{name}, version {version.served_version}" if version.served_version else name


def _terms(terms: LabelTerms | None) -> str:
    return "none" if terms is None else f"after {in_words(terms.delay)}, kept for {in_words(terms.keep)}"


def _cut_by(attributes: tuple[str, ...]) -> str:
    return _listed(attributes) if attributes else "all attributes"


def _in_ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _listed(entries: Iterable[str]) -> str:
    return ", ".join(sorted(entries)) or "none"
