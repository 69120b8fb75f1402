"""Counting an input once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.prediction_codec import fingerprint
from multishadow_server.core.capture import partition_of
from multishadow_server.core.duplicates import CHUNK_KEYS, KEY_BYTES, MOST_CHUNKS, Chunk, SeenInputs
from shadowed_traffic import a_capture
from sightings import NOON, an_epoch

EPOCH = an_epoch(("A", "B"), bucket_seconds=3600)
ANOTHER_HOUR = NOON + 3600


def claim(
    seen: SeenInputs, content: bytes, *, at: float = NOON, versions: tuple[str, ...] = ("A", "B"), number: int = 1
) -> tuple[frozenset[str], int]:
    """Who had it already, and how many keys it made."""
    epoch = an_epoch(("A", "B"), number=number)
    repeated, keys = seen.claim(content, epoch=epoch, received_at=at, versions=versions)
    return repeated, len(keys) // KEY_BYTES


def test_an_input_counts_once_per_candidate_bucket_and_epoch() -> None:
    seen = SeenInputs()
    assert claim(seen, b"spam?", versions=("A",)) == (frozenset(), 1)
    assert claim(seen, b"spam?") == (frozenset({"A"}), 1)
    assert claim(seen, b"spam?") == (frozenset({"A", "B"}), 0)
    assert claim(seen, b"other") == (frozenset(), 2)
    assert claim(seen, b"spam?", at=ANOTHER_HOUR) == (frozenset(), 2)
    assert claim(seen, b"spam?", number=2) == (frozenset(), 2)


def test_what_has_no_fingerprint_is_never_a_duplicate() -> None:
    seen = SeenInputs()
    assert claim(seen, b"") == claim(seen, b"") == (frozenset(), 0)


def stored_after(seen: SeenInputs, stored: dict[int, bytes], keys: bytes) -> None:
    """What a store makes of a commit."""
    added, forgotten = seen.remember(keys)
    for chunk in added:
        stored[chunk.number] = stored.get(chunk.number, b"") + chunk.keys
    for number in [number for number in stored if number <= forgotten]:
        del stored[number]


def test_the_next_owner_goes_on_from_what_was_committed() -> None:
    generator = random.Random(7)
    seen, stored = SeenInputs(), dict[int, bytes]()
    known: set[bytes] = set()
    for _ in range(40):
        keys = b""
        for _ in range(generator.randrange(100)):
            content = b"%d" % generator.randrange(3_000)
            repeated, fresh = seen.claim(content, epoch=EPOCH, received_at=NOON, versions=("A",))
            assert (repeated == {"A"}) == (content in known)
            known.add(content)
            keys += fresh
        stored_after(seen, stored, keys)
        seen = SeenInputs([Chunk(number=number, keys=stored[number]) for number in sorted(stored)])
    assert len(known) > 3 * CHUNK_KEYS / 2
    assert len(stored) == -(-len(known) // CHUNK_KEYS)


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    seen, stored = SeenInputs(), dict[int, bytes]()
    most = MOST_CHUNKS * CHUNK_KEYS
    for number in range(most + CHUNK_KEYS):
        _, keys = seen.claim(b"%d" % number, epoch=EPOCH, received_at=NOON, versions=("A",))
        stored_after(seen, stored, keys)
    assert len(stored) == MOST_CHUNKS
    assert claim(seen, b"%d" % (most // 2), versions=("A",)) == (frozenset({"A"}), 0)
    assert claim(seen, b"0", versions=("A",)) == (frozenset(), 1)


def test_a_fingerprint_is_of_the_input_and_not_of_who_asks() -> None:
    def taken(model: str = "spam", **fields: object) -> bytes:
        request = prediction_pb2.PredictRequest(model=model, **fields)  # type: ignore[arg-type]  # fields by name
        return fingerprint(model, request.SerializeToString())

    plain = taken(text="hello", request_id="1", session_id="s")
    attributed = prediction_pb2.PredictRequest(model="spam", text="hello", request_id="2")
    attributed.attributes.update({"country": "NO"})
    assert fingerprint("spam", attributed.SerializeToString()) == plain
    assert taken(text="Hello") != plain
    assert taken(raw=b"hello") != plain
    assert taken(model="ham", text="hello") != plain


def test_the_order_of_a_structured_inputs_fields_does_not_matter() -> None:
    names = [f"field-{number}" for number in range(20)]

    def taken(order: list[str]) -> bytes:
        request = prediction_pb2.PredictRequest(model="spam")
        request.structured.update({name: name.upper() for name in order})
        return fingerprint("spam", request.SerializeToString())

    assert taken(names) == taken(names[::-1])


@pytest.mark.parametrize(
    "asked",
    [
        {"text": "hello"},
        {"text": ""},
        {"raw": bytes(range(256)) * 20},
        {"tensor": prediction_pb2.Tensor(shape=[2, 1], values=[0.5, -1.0])},
        {"structured": {"a": 1.0, "b": {"c": [True, None]}}},
        {},
    ],
    ids=lambda asked: next(iter(asked), "nothing"),
)
def test_the_order_of_a_requests_own_fields_does_not_matter(asked: dict[str, Any]) -> None:
    about_it = prediction_pb2.PredictRequest(model="spam", request_id="r-1", session_id="s")
    about_it.attributes.update({"country": "NO"})
    envelope, content = about_it.SerializeToString(), prediction_pb2.PredictRequest(**asked).SerializeToString()
    assert fingerprint("spam", envelope + content) == fingerprint("spam", content + envelope)
    assert fingerprint("spam", envelope + content) == fingerprint("spam", content)
    assert fingerprint("spam", envelope + content) != fingerprint("spam", envelope + b"\x5a\x01!")


def test_a_request_whose_input_cannot_be_read_has_no_fingerprint() -> None:
    assert fingerprint("spam", b"\x62\x05\x0a\x09") == b""


def test_requests_of_one_input_meet_in_one_partition() -> None:
    captures = [a_capture(f"r-{number}", session_id=f"s-{number}") for number in range(50)]
    alike = {partition_of(fingerprint(capture.model, capture.request), 8) for capture in captures}
    assert len(alike) == 1
    assert len({partition_of(capture.partition_key, 8) for capture in captures}) == 8
