"""Privacy terms as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from multishadow_server.core.privacy import UNRESTRICTED, CustomPattern, Pattern, Payloads, PrivacyTerms


def terms_record(terms: PrivacyTerms) -> dict[str, Any] | None:
    """A model's terms as they are stored; None for those that a model has unasked. See `terms_of`."""
    return None if terms == UNRESTRICTED else asdict(terms)


def terms_of(record: Mapping[str, Any] | None) -> PrivacyTerms:
    """The terms that `terms_record` stored."""
    if record is None:
        return UNRESTRICTED
    return PrivacyTerms(
        payloads=Payloads(record["payloads"]),
        paths=tuple(record["paths"]),
        patterns=tuple(map(Pattern, record["patterns"])),
        custom=tuple(CustomPattern(**each) for each in record["custom"]),
        keep=record["keep"],
        keep_bytes=record["keep_bytes"],
    )
