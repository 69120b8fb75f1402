"""Streamed answers: what they are as a whole, and how a router keeps and a worker collects them."""

from __future__ import annotations

import asyncio

import pytest

from fakes import ScriptedStream
from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.answer_stream import collected
from multishadow_server.adapters.prediction_codec import ProtobufPredictionCodec
from multishadow_server.adapters.streamed_answer import StreamedPrediction
from multishadow_server.core.prediction import Classification, Text, Unreadable
from multishadow_server.core.withheld import TOO_LARGE
from multishadow_server.service.capture_buffer import BUFFER_FULL
from multishadow_server.service.live_stream import KeptAnswer, Room, Streaming
from multishadow_server.service.ports import Answer

UNREADABLE = b"\xff\xff"


def text(said: str) -> bytes:
    return prediction_pb2.PredictResponse(text=said).SerializeToString()


def label(name: str) -> bytes:
    return prediction_pb2.PredictResponse(classification=prediction_pb2.Classification(label=name)).SerializeToString()


def whole(*messages: bytes) -> object:
    answer = StreamedPrediction()
    for message in messages:
        answer.add(message)
    return ProtobufPredictionCodec().decode(answer.whole())


def kept(*, largest: int = 100, room: Room | None = None) -> KeptAnswer:
    room = room or Room(1_000)
    return KeptAnswer(Streaming(collect=StreamedPrediction, largest=largest, room=0), room)


def test_texts_are_joined_to_one() -> None:
    assert whole(text("Once "), text(""), text("upon "), b"", text("a tïme")) == Text(text="Once upon a tïme")


def test_of_other_kinds_the_last_message_is_the_answer() -> None:
    assert whole(label("a"), label("b")) == Classification(label="b")
    assert whole(text("so I say: "), label("b")) == Classification(label="b")
    assert whole(label("b"), text("done")) == Text(text="done")


def test_a_message_that_cannot_be_read_makes_the_whole_unreadable() -> None:
    assert isinstance(whole(text("fine"), UNREADABLE, text("fine")), Unreadable)
    assert isinstance(whole(), Unreadable)


def test_an_answer_that_grows_too_large_is_dropped_for_that_and_frees_its_room() -> None:
    room = Room(1_000)
    answer = kept(largest=10, room=room)
    answer.add(text("0123456789"))
    assert (answer.lost, room.used) == ("", 10)
    answer.add(text("!"))
    assert (answer.lost, room.used, answer.whole()) == (TOO_LARGE, 0, b"")
    answer.add(text("!"))
    assert room.used == 0


def test_answers_under_way_share_their_room() -> None:
    room = Room(15)
    first, second = kept(room=room), kept(room=room)
    first.add(text("0123456789"))
    second.add(text("012345"))
    assert (first.lost, second.lost, room.used) == ("", BUFFER_FULL, 10)
    assert first.whole() == text("0123456789")
    assert room.used == 0


def test_a_last_message_that_is_smaller_gives_room_back() -> None:
    room = Room(1_000)
    answer = kept(room=room)
    answer.add(label("a long label"))
    answer.add(label("b"))
    assert room.used == len(label("b"))


async def test_a_stream_is_collected_with_the_time_to_its_first_message() -> None:
    answer = await collected(ScriptedStream([text("a"), text("b")], Answer(status_code=0, latency=2.0)), largest=10)
    assert (answer.response, answer.latency) == (text("ab"), 2.0)
    assert answer.first_latency == ScriptedStream.FIRST_LATENCY


async def test_an_error_after_messages_leaves_no_answer() -> None:
    failed = Answer(status_code=13, status_message="broke")
    answer = await collected(ScriptedStream([text("a")], failed), largest=10)
    assert (answer.status_code, answer.status_message, answer.response) == (13, "broke", b"")


async def test_a_stream_that_has_no_end_in_sight_is_given_up_at_the_largest_size() -> None:
    stream = ScriptedStream([text("0123456789")] * 1_000, Answer(status_code=0))
    answer = await collected(stream, largest=25)
    assert (answer.status_code, answer.response) == (8, b"")
    assert answer.status_message == "the streamed answer is larger than 25 bytes"
    assert (stream.cancelled, stream.read) == (True, 3)


async def test_collecting_that_is_cancelled_gives_the_call_up() -> None:
    stream = ScriptedStream([text("a")], Answer(status_code=0), hangs=True)
    task = asyncio.create_task(collected(stream, largest=25))
    await stream.hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.cancelled
