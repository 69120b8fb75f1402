"""Between the messages of privacy and the core's values."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1 import privacy_pb2 as pb
from multishadow_server.core import privacy_limits
from multishadow_server.core.model import Model
from multishadow_server.core.privacy import DEFAULT_PATTERNS, CustomPattern, Payloads, PrivacyTerms
from multishadow_server.errors import InvalidInput
from multishadow_server.service.ports import Rewritten, StoredTraffic
from multishadow_server.service.privacy import Wish

LONGEST_ID = 1_000
_YEAR_9999 = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())


def terms_of(message: pb.Privacy) -> PrivacyTerms:
    """The terms that were asked for. Raises InvalidInput: a form or a pattern that there is not."""
    ruled = bool(message.paths or message.patterns or message.custom)
    unsaid = Payloads.REDACTED if ruled else Payloads.FULL
    payloads = privacy_limits.payloads_named(message.payloads) if message.payloads else unsaid
    patterns = privacy_limits.patterns_named(message.patterns)
    return PrivacyTerms(
        payloads=payloads,
        paths=tuple(dict.fromkeys(message.paths)),
        patterns=patterns if ruled or payloads is not Payloads.REDACTED else DEFAULT_PATTERNS,
        custom=tuple(CustomPattern(name=each.name, regex=each.regex) for each in message.custom),
        keep=float(message.keep_seconds) if message.HasField("keep_seconds") else None,
        keep_bytes=message.keep_bytes if message.HasField("keep_bytes") else None,
    )


def terms_message(terms: PrivacyTerms) -> pb.Privacy:
    """A model's terms."""
    return pb.Privacy(
        payloads=terms.payloads,
        paths=terms.paths,
        patterns=terms.patterns,
        custom=[pb.CustomPattern(name=each.name, regex=each.regex) for each in terms.custom],
        keep_seconds=None if terms.keep is None else round(terms.keep),
        keep_bytes=terms.keep_bytes,
    )


def stored_message(stored: StoredTraffic) -> pb.StoredTraffic:
    """What one table holds in one form."""
    return pb.StoredTraffic(
        what=stored.what,
        payloads=stored.payloads,
        rows=stored.rows,
        bytes=stored.size,
        oldest_at=Timestamp(seconds=math.floor(stored.oldest_at)),
    )


def apply_response(model: Model, rewritten: Rewritten, *, waiting: int | None) -> pb.ApplyPrivacyResponse:
    """What holding stored traffic to a model's terms came to."""
    return pb.ApplyPrivacyResponse(
        model=model.name,
        terms=terms_message(model.privacy),
        examined=rewritten.examined,
        rewritten=rewritten.rewritten,
        deleted=rewritten.deleted,
        labels_rewritten=rewritten.labels_rewritten,
        levels_merged=rewritten.levels_merged,
        bytes_freed=rewritten.bytes_freed,
        log_messages_waiting=waiting,
    )


def wish_of(request: pb.PurgeStoredRequest) -> Wish:
    """What is to be erased. Raises InvalidInput: an id or a time that there cannot be."""
    for name in ("request_id", "session_id"):
        value = getattr(request, name)
        if len(value) > LONGEST_ID or "\x00" in value:
            raise InvalidInput(f"{name}: at most {LONGEST_ID:,} characters, and no NUL, are allowed")
    return Wish(
        before=_seconds(request.before) if request.HasField("before") else None,
        request_id=request.request_id,
        session_id=request.session_id,
    )


def _seconds(moment: Timestamp) -> float:
    if not 0 <= moment.seconds < _YEAR_9999:
        raise InvalidInput("before: this is no time between 1970 and 9999")
    return moment.seconds + moment.nanos / 1e9
