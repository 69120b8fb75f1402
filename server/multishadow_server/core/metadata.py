"""Metadata of calls: which of it may be written down, and how text travels in it.

Credentials are never written down. The rule goes by names, and errs on the safe side: whatever looks like a credential
is left out of captures, so a harmless `x-partition-key` is left out too.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

from multishadow_server.core.capture import Metadata

REPLAY_KEY = "x-multishadow-replay"
"""Marks requests that were answered once before: a router neither captures nor counts them."""

# Words of a key, between "-", "_" and ".", that make it a credential.
_WORDS = frozenset({
    "auth", "authn", "authorization", "authentication", "bearer", "cookie", "cookies", "credential",
    "credentials", "jwt", "key", "keys", "pass", "passwd", "password", "passphrase", "pwd",
    "secret", "secrets", "session", "sessionid", "sid", "sig", "signature", "assertion", "token",
    "tokens",
})  # fmt: skip
# The same run together with other words: "apikey", "accesstoken", "x-goog-authenticated".
_PARTS = ("apikey", "authenticat", "authoriz", "credential", "password", "secret", "token")
_SEPARATORS = re.compile(r"[-_.]")
# Authorization schemes under a key of another name (RFC 9110, 11.1), and encoded JSON web tokens.
_VALUES = ("Bearer ", "bearer ", "Basic ", "basic ", "Digest ", "eyJ")


def without_credentials(metadata: Metadata) -> Metadata:
    """The metadata that may be written to the log."""
    return tuple([entry for entry in metadata if not (is_credential(entry[0]) or _looks_secret(entry[1]))])


@lru_cache(maxsize=1024)
def is_credential(key: str) -> bool:
    """Whether a metadata key names a credential."""
    key = key.lower()
    return any(word in _WORDS for word in _SEPARATORS.split(key)) or any(part in key for part in _PARTS)


def _looks_secret(value: str | bytes) -> bool:
    return isinstance(value, str) and value.startswith(_VALUES)


def header_text(text: str) -> str:
    """As metadata may hold it: printable ASCII as it is, anything else percent-encoded."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=" ")
