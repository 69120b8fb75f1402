"""Counting an input at most once per candidate and time bucket.

Identical requests in bursts (a retrying caller, a probe, a crawler) are one observation many times over, and every test
takes observations to be independent: with bursts of ten, one pair's false positives rise from 2 % to 18 %.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from multishadow_server.core.experiment import Epoch

KEY_BYTES = 8
CHUNK_KEYS = 512
MOST_CHUNKS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Keys of inputs that were compared, as they are stored.

    Args:
        number: counts from 1 within a partition.
        keys: so many of `KEY_BYTES` each; at a commit those that are added to the stored ones.
    """

    number: int
    keys: bytes


def fingerprint(model: str, content: bytes | memoryview) -> bytes:
    """What two requests have in common iff they ask the same model about the same input; 8 bytes."""
    hashed = _keyed(model).copy()
    hashed.update(content)
    return hashed.digest()


@lru_cache(maxsize=256)
def _keyed(model: str) -> hashlib.blake2b:
    """The hash function with the model as its key: made once, as taking in a key is half of a short input's time."""
    return hashlib.blake2b(digest_size=KEY_BYTES, key=model.encode()[: hashlib.blake2b.MAX_KEY_SIZE])


def turn_fingerprint(model: str, session_id: str, turn: str) -> bytes:
    """What two requests of a session have in common iff they are the same turn: its number, or the request's id."""
    return fingerprint(model, f"session\0{session_id}\0{turn}".encode())


class SeenInputs:
    """The inputs that one partition's captures had lately, for its one owner; everything alike is in one partition.

    It holds the newest 65,000 (128 chunks of 512), per candidate. Beyond them the oldest are forgotten, so an input
    that comes again after so many others counts again. Chunks bound the rows of the store, and what a commit rewrites.

    Args:
        stored: chunks as they were committed, by number.
    """

    def __init__(self, stored: Sequence[Chunk] = ()) -> None:
        self._chunks: deque[tuple[int, list[bytes]]] = deque((chunk.number, _split(chunk.keys)) for chunk in stored)
        self._seen = {key for _, keys in self._chunks for key in keys}

    def claim(
        self, content: bytes, *, epoch: Epoch, received_at: float, versions: Sequence[str]
    ) -> tuple[frozenset[str], bytes]:
        """Take an input for its first capture.

        Args:
            content: the request's fingerprint; empty for one that is not known, which is never a duplicate.
            epoch: the one that it counts in.
            received_at: seconds since the Unix epoch; chooses the time bucket.
            versions: the candidates that it is sampled to.

        Returns:
            Those that had this input in this bucket already, and the keys to commit for the others.
        """
        if not content:
            return frozenset(), b""
        bucket = epoch.bucket_start(received_at)
        keys = {version: _key(content, epoch.id, bucket, version) for version in versions}
        repeated = frozenset(version for version, key in keys.items() if key in self._seen)
        fresh = [key for version, key in keys.items() if version not in repeated]
        self._seen.update(fresh)
        return repeated, b"".join(fresh)

    def remember(self, keys: bytes) -> tuple[Sequence[Chunk], int]:
        """Put claimed keys into chunks, in the order in which they are committed.

        Returns:
            What to add to the stored chunks, and the number up to which stored ones are forgotten (0: none are).
        """
        added: dict[int, list[bytes]] = {}
        for key in _split(keys):
            if not self._chunks or len(self._chunks[-1][1]) >= CHUNK_KEYS:
                self._chunks.append((self._chunks[-1][0] + 1 if self._chunks else 1, []))
            number, chunk = self._chunks[-1]
            chunk.append(key)
            added.setdefault(number, []).append(key)
        forgotten = 0
        while len(self._chunks) > MOST_CHUNKS:
            forgotten, oldest = self._chunks.popleft()
            self._seen.difference_update(oldest)
        return [Chunk(number=number, keys=b"".join(fresh)) for number, fresh in added.items()], forgotten


def _key(content: bytes, epoch_id: int, bucket: int, version: str) -> bytes:
    named = b"%b|%d|%d|%b" % (content, epoch_id, bucket, version.encode())
    return hashlib.blake2b(named, digest_size=KEY_BYTES).digest()


def _split(keys: bytes) -> list[bytes]:
    return [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]
