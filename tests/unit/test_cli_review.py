"""What shadowctl shows of stored comparisons."""

from __future__ import annotations

import pytest
from rich.console import Console

from multishadow.v1 import control_pb2 as pb
from multishadow.v1 import prediction_pb2
from multishadow_client.cli import review_view

ID = "071119eb-63d1-42b5-adb7-2197aab39cd4"
WHAT = "live said 'plain', shadow said 'rule'"


def shown(width: int, *lines: pb.ComparisonLine) -> str:
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(review_view.lines(lines))
    return captured.get()


def line(request_id: str = ID) -> pb.ComparisonLine:
    return pb.ComparisonLine(
        id=1234, version="A", similarity=0.5, request_id=request_id, verdict=pb.REVIEW_VERDICT_CANDIDATE_BETTER,
        detail=WHAT,
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_id_of_a_request_can_be_copied_however_narrow_it_is(width: int) -> None:
    said = shown(width, line())
    assert ID in said
    assert "similarity" in said
    assert max(map(len, said.splitlines())) <= width
    assert WHAT.split() == [word for word in said.split() if word in WHAT.split()]


@pytest.mark.parametrize("width", [80, 160])
def test_an_id_that_is_longer_than_a_line_leaves_room_for_the_rest(width: int) -> None:
    said = shown(width, line("order-" * 40))
    assert "0.5000" in said
    assert max(map(len, said.splitlines())) <= width


def test_where_nothing_is_stored_that_is_said() -> None:
    assert shown(80) == "no stored comparison of this kind yet\n"


def beside(payloads: str, request: bytes, response: bytes) -> str:
    found = pb.GetComparisonResponse(
        id=1,
        model="spam",
        live_version="base",
        payloads=payloads,
        request=request,
        live_response=response,
        answers=[pb.CandidateAnswer(version="A", outcome="diverged", similarity=0.25, response=response)],
    )
    console = Console(width=200, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(review_view.side_by_side(found, ""))
    return captured.get() + str(review_view.plain(found))


def test_a_payload_that_is_not_stored_says_so_and_the_rest_is_shown() -> None:
    said = beside("none", b"", b"")
    assert said.count("payload not stored (privacy: none)") == 3
    assert "diverged · similarity 0.2500" in said
    assert "'request': None" in said


@pytest.mark.parametrize("payloads", ["hashed", "redacted"])
def test_a_payload_that_is_a_hash_is_shown_as_one(payloads: str) -> None:
    seal = b"hmac-sha256:" + b"0" * 64
    said = beside(payloads, seal, seal)
    assert said.count(f"payload not stored (privacy: {payloads})") == 3
    assert f"request  payload not stored (privacy: {payloads}); {seal.decode()}" in said
    assert "'live_response': {'hash': 'hmac-sha256:000" in said


def test_a_redacted_payload_is_shown_as_it_is_stored() -> None:
    said = beside("redacted", prediction_pb2.PredictRequest(text="to [email]").SerializeToString(), b"")
    assert "request  to [email]" in said
    assert "(diverged)" in said
