"""The demo's version servers: real processes with trained models, asked over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from multishadow.v1 import prediction_pb2 as prediction
from multishadow.v1 import prediction_pb2_grpc as prediction_grpc
from multishadow_server.adapters import health
from multishadow_server.core import comparison
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Text
from multishadow_server.demo import catalogue, digits, summary
from multishadow_server.demo.traffic import Callers, Tally
from multishadow_server.errors import NotFound, Unavailable
from running import Running, running
from waiting import PATIENCE


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One that the tests share: training it costs more than asking it."""
    with running("version-server", "digits", "A") as command:
        command.line_with("ready on")
        yield command


@pytest.fixture
def digits_address(server: Running) -> str:
    return server.lines[-1].rpartition(" ready on ")[2].strip()


async def test_a_version_server_reads_held_out_digits_and_says_how_well(digits_address: str, server: Running) -> None:
    await health.check(digits_address, timeout=PATIENCE)
    assert server.output.startswith("the same with its weights rounded to 8 bits; 9")
    _, _, _, truth = digits.images()
    async with grpc.aio.insecure_channel(digits_address) as channel:
        stub = prediction_grpc.PredictionServiceStub(channel)
        answers = [await stub.Predict(sample) for sample in digits.samples()[:100]]
    right = sum(answer.classification.label == str(label) for answer, label in zip(answers, truth, strict=False))
    assert right >= 90
    assert all(0.0 < answer.classification.confidence <= 1.0 for answer in answers)


@pytest.mark.parametrize("values", [[], [1.0] * 63, [float("nan")] * 64], ids=["none", "too few", "not a number"])
async def test_a_version_server_refuses_input_that_is_no_image(digits_address: str, values: list[float]) -> None:
    async with grpc.aio.insecure_channel(digits_address) as channel:
        stub = prediction_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="64 finite pixels") as refused:
            await stub.Predict(prediction.PredictRequest(tensor=prediction.Tensor(values=values)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_callers_count_what_they_get(digits_address: str) -> None:
    tally = Tally()
    bad = prediction.PredictRequest(text="no image")
    async with Callers(digits_address) as callers:
        await callers.replay([*digits.samples()[:20], bad], tally, rate=1000.0)
    assert tally.answers.total() == 20
    assert [error.partition(":")[0] for error in tally.errors] == ["INVALID_ARGUMENT"]
    assert tally.describe() == "? 20, errors 1"


async def test_callers_stop_when_they_are_told_to(digits_address: str) -> None:
    tally = Tally()
    async with Callers(digits_address) as callers:
        await callers.replay(digits.samples(), tally, rate=500.0, until=lambda: tally.sent >= 5)
    assert 5 <= tally.sent < 500


async def test_the_health_check_says_who_does_not_serve() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not serve"):
        await health.check("127.0.0.1:1", timeout=2.0)


def test_no_version_was_trained_on_a_sample() -> None:
    pixels, _, held_out, _ = digits.images()
    training = {image.tobytes() for image in pixels}
    assert not any(image.tobytes() in training for image in held_out)
    assert not set(summary.training_texts()) & set(summary.held_out_texts())


def test_samples_are_all_different() -> None:
    for model in catalogue.models():
        samples = model.samples()
        assert len({(sample.text, *sample.tensor.values) for sample in samples}) == len(samples) >= 300


def test_digit_versions_differ_as_clearly_as_the_demo_says() -> None:
    """Divergence from live: A in the band below 1 %, B in 5–10 %, C above 10 %."""
    samples = digits.samples()
    answers = {
        version: [trained.answer(sample).classification.label for sample in samples]
        for version in digits.MODEL.versions
        for trained in [digits.train(version)]
    }
    rates = {
        version: sum(a != b for a, b in zip(labels, answers["base"], strict=True)) / len(samples)
        for version, labels in answers.items()
    }
    assert rates["base"] == 0.0
    assert rates["A"] < 0.01
    assert 0.05 < rates["B"] < 0.10 < rates["C"]


def test_summary_versions_differ_as_clearly_as_the_demo_says() -> None:
    samples = summary.samples()[::3]
    answers = {
        version: [trained.answer(sample).text for sample in samples]
        for version in summary.MODEL.versions
        for trained in [summary.train(version)]
    }
    agreeing = {
        version: sum(agrees(a, b) for a, b in zip(answers["base"], texts, strict=True))
        for version, texts in answers.items()
    }
    assert agreeing["base"] == len(samples) > agreeing["A"] > agreeing["B"] > agreeing["C"]


def agrees(live: str, shadow: str) -> bool:
    found = comparison.compare(Comparator(), Text(text=live), Text(text=shadow))
    return found.verdict is comparison.Verdict.AGREE


def test_a_summary_is_made_of_the_texts_own_sentences() -> None:
    trained = summary.train("base")
    text = summary.held_out_texts()[0]
    answer = trained.answer(prediction.PredictRequest(text=text)).text
    assert sum(sentence in answer for sentence in summary.sentences(text)) == summary.SENTENCES


def test_a_text_without_a_sentence_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        summary.train("C").answer(prediction.PredictRequest(text="Too short."))


def test_an_unknown_model_or_version_is_refused_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="it has digits, summary"):
        catalogue.model_named("spam")
    with pytest.raises(NotFound, match="it has base, A, B, C"):
        catalogue.refuse_unknown_version(digits.MODEL, "Z")
