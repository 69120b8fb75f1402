"""Redacting what is stored of captures: paths and patterns hidden, payloads hashed or left out.

Pure: whoever stores anything of a request or an answer passes it through `redact_payload` or `redact_capture` first.
The wire format stays at the edges: a PayloadRewriter knows it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Protocol

from multishadow_server.core import secret_patterns
from multishadow_server.core.capture import Capture
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.prediction import Json
from multishadow_server.core.privacy import Pattern, Payloads, PrivacyTerms

HIDDEN = "[redacted]"
SEALED = "hmac-sha256:"
SEALED_BYTES = len(SEALED) + 64
# Larger payloads are stored as hashes where they should be redacted: nobody reads them, and a worker has better to do.
LARGEST_REDACTED = 256 * 1024
# Fewer bytes are redacted where they are met; more of them would hold up an event loop.
LIGHT_BYTES = 16 * 1024
DEEPEST = 64
# Observations' details are cut at 300 characters; a secret that was cut in two is not seen by any pattern.
LONGEST_DETAIL = 300
CUT_MARGIN = 64
# Attributes beyond these count in no segment anyway.
MOST_ATTRIBUTES = 200
LONGEST_LEVEL = 300
_VALUES_SHOWN = " (live | shadow)"

_Steps = tuple[str, ...]


class Kind(Enum):
    """Which side of a call a payload is."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Seal:
    """Recognises equal values without telling them: HMAC-SHA-256 with a key of the deployment.

    A plain hash would tell: whoever has a list of likely values hashes all of them. (RFC 2104; NIST SP 800-107.)
    """

    key: bytes

    def of(self, data: bytes) -> bytes:
        """`hmac-sha256:` and 64 hexadecimal digits, as ASCII."""
        return self.text(data).encode()

    def text(self, data: bytes | str) -> str:
        """The same as text."""
        return SEALED + hmac.new(self.key, data.encode() if isinstance(data, str) else data, sha256).hexdigest()

    def fingerprint(self, data: bytes) -> bytes:
        """As many bytes as there are, keyed; none of none."""
        return hmac.digest(self.key, data, "sha256")[: len(data)] if data else b""


class Redactor:
    """The compiled rules of one model; see `redactor_of`.

    Args:
        terms: whose paths and patterns it hides.
    """

    def __init__(self, terms: PrivacyTerms) -> None:
        self._paths = [tuple(path.split(".")) for path in terms.paths]
        self._detectors = secret_patterns.detectors(terms.patterns, terms.custom)
        # A number may be one of a card's, or what a custom pattern says.
        self._of_numbers = [each for each in self._detectors if each.name not in {Pattern.PHONE, Pattern.KEY}]
        self._keys = Pattern.KEY in terms.patterns

    def hides(self, *path: str) -> bool:
        """Whether everything at this path is hidden."""
        return () in self._below(path)

    def text(self, text: str) -> str:
        """A text without what patterns find."""
        for detector in self._detectors:
            text = detector.hide(text)
        return text

    def detail(self, text: str) -> str:
        """The words of somebody else, cut at LONGEST_DETAIL, without what patterns find; HIDDEN where paths are hidden.

        What a path hides may be repeated anywhere in them, and looks like nothing.
        """
        if not text or self._paths:
            return HIDDEN if text else ""
        if len(text) < LONGEST_DETAIL:
            return self.text(text)
        marked = self.text(text)
        # What was replaced is shorter or longer; only the end that no pattern could judge goes.
        tail = text[-CUT_MARGIN:]
        return marked.removesuffix(tail) if marked.endswith(tail) else marked[:-CUT_MARGIN]

    def json(self, value: Json, *root: str) -> Json:
        """A value at a path, with what is hidden replaced: text by `[redacted]` or `[email]`, anything else by text."""
        return self._json(value, self._below(root), depth=0)

    def object(self, value: Mapping[str, Json], *root: str) -> dict[str, Json]:
        """An object at a path; `{"[redacted]": true}` when all of it is hidden."""
        redacted = self.json(dict(value), *root)
        return redacted if isinstance(redacted, dict) else {HIDDEN: True}

    def _below(self, path: Sequence[str]) -> list[_Steps]:
        paths = list(self._paths)
        for key in path:
            paths = _narrowed(paths, key)
        return paths

    def _json(self, value: Json, paths: list[_Steps], *, depth: int) -> Json:
        if () in paths or depth > DEEPEST:
            return None if value is None else HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            return self._number(value)
        if isinstance(value, Mapping):
            return self._object(value, paths, depth=depth)
        return [self._json(item, _narrowed(paths, str(n)), depth=depth + 1) for n, item in enumerate(value)]

    def _object(self, value: Mapping[str, Json], paths: list[_Steps], *, depth: int) -> dict[str, Json]:
        redacted: dict[str, Json] = {}
        for key, item in value.items():
            # Keys come from callers, too: a map by e-mail address is no rarity.
            name = self.text(key)
            while name in redacted:
                name += "'"
            if self._keys and item and isinstance(item, str) and secret_patterns.names_a_secret(key):
                redacted[name] = f"[{Pattern.KEY}]"
            else:
                redacted[name] = self._json(item, _narrowed(paths, key), depth=depth + 1)
        return redacted

    def _number(self, value: float) -> Json:
        text = str(int(value)) if float(value).is_integer() else repr(value)
        redacted = text
        for detector in self._of_numbers:
            redacted = detector.hide(redacted)
        return value if redacted == text else redacted


class PayloadRewriter(Protocol):
    """Knows the wire format of requests and answers."""

    def rewritten(self, kind: Kind, method: str, payload: bytes, redactor: Redactor, seal: Seal) -> bytes | None:
        """The payload with its texts redacted and its raw bytes sealed; None when it cannot be read."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How a model's traffic is stored, with what that takes.

    Args:
        terms: the model's.
        seal: the deployment's.
        rewriter: of the wire format.
    """

    terms: PrivacyTerms
    seal: Seal
    rewriter: PayloadRewriter

    @property
    def redactor(self) -> Redactor:
        """The terms' rules."""
        return redactor_of(self.terms)


@lru_cache(maxsize=256)
def redactor_of(terms: PrivacyTerms) -> Redactor:
    """The compiled rules; compiling takes milliseconds."""
    return Redactor(terms)


def redact_payload(policy: Policy, kind: Kind, method: str, payload: bytes) -> bytes:
    """What is stored of a request's or an answer's bytes; `method` is the full gRPC method that they belong to.

    Under `redacted`, what cannot be read, or is larger than 256 KiB, is stored as its hash; never as it is.
    """
    match policy.terms.payloads:
        case Payloads.FULL:
            return payload
        case Payloads.NONE:
            return b""
        case Payloads.HASHED:
            return _sealed(policy, payload)
    if is_sealed(payload) or not payload:
        return payload
    if len(payload) > LARGEST_REDACTED:
        return _sealed(policy, payload)
    rewritten = policy.rewriter.rewritten(kind, method, payload, policy.redactor, policy.seal)
    return _sealed(policy, payload) if rewritten is None else rewritten


def is_sealed(payload: bytes) -> bool:
    """Whether it is the hash of a payload, under any form but `full`."""
    return payload.startswith(SEALED.encode()) and len(payload) == SEALED_BYTES


def redact_capture(policy: Policy, capture: Capture) -> Capture:
    """What is stored of a capture: of its payloads, ids, attributes, metadata and status."""
    if policy.terms.payloads is Payloads.FULL:
        return capture
    readable = policy.terms.payloads.readable
    redactor = policy.redactor
    return replace(
        capture,
        request_id=stored_request_id(policy.terms, policy.seal, capture.request_id),
        session_id=stored_session_id(policy.terms, policy.seal, capture.session_id),
        attributes=redactor.object(capture.attributes, "attributes") if readable and capture.attributes else {},
        request=redact_payload(policy, Kind.REQUEST, capture.method, capture.request),
        metadata=_metadata(redactor, capture) if readable else (),
        response=redact_payload(policy, Kind.RESPONSE, capture.method, capture.response),
        status_message=redactor.detail(capture.status_message) if readable else "",
        fingerprint=b"",
    )


def redact_observation(policy: Policy, seen: Observation, *, method: str) -> Observation:
    """What is stored of an observation: of its answer, and of the words that may repeat it."""
    if policy.terms.payloads is Payloads.FULL:
        return seen
    return replace(
        seen,
        detail=_detail(policy.redactor, seen) if policy.terms.payloads.readable else "",
        response=redact_payload(policy, Kind.RESPONSE, method, seen.response),
    )


def redact_label(terms: PrivacyTerms, value: Json) -> Json:
    """What is stored of a label: it is an answer, so it is hidden where `output` is."""
    return redactor_of(terms).json(value, "output") if terms.payloads is Payloads.REDACTED else value


def stored_request_id(terms: PrivacyTerms, seal: Seal, request_id: str) -> str:
    """A request's id as it is stored: its hash where a rule hides it, since labels and erasures go by it."""
    return _stored_id(terms, seal, "request_id", request_id)


def stored_session_id(terms: PrivacyTerms, seal: Seal, session_id: str) -> str:
    """A session's id as it is stored: it tells whose requests they are, so it is hashed where payloads are not read."""
    return _stored_id(terms, seal, "session_id", session_id, always=not terms.payloads.readable)


def segment_attributes(
    terms: PrivacyTerms, attributes: Mapping[str, Json], *, named: Sequence[str]
) -> Mapping[str, Json]:
    """What of a request's attributes may be counted by, since a level of a segment is an attribute's value.

    Args:
        terms: the model's.
        attributes: the request's.
        named: those that its segments name, by path. Where payloads are not readable, only these count: somebody chose
            them; "all there are" would store whatever callers send.
    """
    if terms.payloads is Payloads.FULL:
        return attributes
    if not terms.payloads.readable and not named:
        return {}
    few = {name: _shortened(value) for name, value in islice(attributes.items(), MOST_ATTRIBUTES)}
    return redactor_of(terms).object(few, "attributes")


def segment_level(terms: PrivacyTerms, level: str, *, named: Sequence[str], prefix: str) -> str | None:
    """A counted level `attributes.NAME=VALUE` as it would be counted now; None when it would not be.

    Levels of other features stay as they are.
    """
    feature, equals, value = level.partition("=")
    if terms.payloads is Payloads.FULL or not feature.startswith(prefix) or not equals:
        return level
    name = feature.removeprefix(prefix)
    if not terms.payloads.readable and name not in named:
        return None
    redactor = redactor_of(terms)
    nested: Json = value
    for key in reversed(name.split(".")):
        nested = {key: nested}
    assert isinstance(nested, dict)
    redacted: Json = redactor.object(nested, "attributes")
    while isinstance(redacted, dict):
        ((_, redacted),) = redacted.items()
    return f"{prefix}{redactor.text(name)}={redacted}"


def _detail(redactor: Redactor, seen: Observation) -> str:
    if seen.outcome in {Outcome.ERROR, Outcome.TIMEOUT}:
        return redactor.detail(seen.detail)
    if seen.reason == "comparison_failed":
        return seen.detail.partition(":")[0]
    if redactor.hides("output") or redactor.hides("output", "label"):
        return ""
    # What differs is shown cut short, and no pattern knows half an address. The redacted answers show the rest.
    return redactor.text(seen.detail.partition(_VALUES_SHOWN)[0])


def _metadata(redactor: Redactor, capture: Capture) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, redactor.text(value)) for key, value in capture.metadata if isinstance(value, str))


def _sealed(policy: Policy, payload: bytes) -> bytes:
    return payload if not payload or is_sealed(payload) else policy.seal.of(payload)


def _stored_id(terms: PrivacyTerms, seal: Seal, name: str, value: str, *, always: bool = False) -> str:
    if terms.payloads is Payloads.FULL or not value or value.startswith(SEALED):
        return value
    redactor = redactor_of(terms)
    hidden = always or redactor.hides(name) or redactor.text(value) != value
    return seal.text(value) if hidden else value


def _shortened(value: Json) -> Json:
    """Levels are cut at 60 characters; what is behind them need not be looked at."""
    if isinstance(value, str):
        return value[:LONGEST_LEVEL]
    if isinstance(value, Mapping):
        return {name: _shortened(item) for name, item in islice(value.items(), MOST_ATTRIBUTES)}
    # Lists do not count.
    return None if isinstance(value, list | tuple) else value


def _narrowed(paths: list[_Steps], key: str) -> list[_Steps]:
    """What remains of the paths below this key; `()` where one is complete. A key with dots is several steps."""
    if not paths:
        return paths
    parts = key.split(".")
    for part in parts:
        if () in paths:
            break
        paths = [path[1:] for path in paths if path[0] in ("*", part)]
    return paths
