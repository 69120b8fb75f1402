"""An experiment on a model that speaks the Open Inference Protocol, asked by a stock client of that protocol."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AsyncExitStack

import numpy as np

import routers
import triton_client
from inference_servers import InferenceServer, a_version, logits, register_oip, serving
from multishadow.oip.v2 import inference_pb2 as oip
from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.adapters.postgres import PostgresControl, open_engine
from multishadow_server.adapters.postgres.labels import PostgresLabels
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.core.model import LabelTerms
from multishadow_server.core.protocols import OutputTerms, ReadAs
from multishadow_server.entrypoints.review_messages import comparison_response
from multishadow_server.service import labelling
from multishadow_server.settings import Settings
from shadowed_traffic import Counts, working

REQUESTS = 20
OUTPUT = OutputTerms(tensor="logits", read_as=ReadAs.CLASSIFICATION, labels=("ham", "spam", "eggs"))


def asked_about(request: oip.ModelInferRequest) -> int:
    """The number of the request, which is its first value."""
    (raw,) = request.raw_input_contents
    return int(np.frombuffer(raw, dtype="<f4")[0])


def by_parity(request: oip.ModelInferRequest) -> oip.ModelInferResponse:
    return logits(0, 2, 1) if asked_about(request) % 2 else logits(2, 0, 1)


def mostly_alike(request: oip.ModelInferRequest) -> oip.ModelInferResponse:
    """Other scores and the same class, but for every fifth request."""
    return by_parity(request) if asked_about(request) % 5 else logits(0, 0, 9)


async def test_a_stock_clients_requests_are_answered_shadowed_compared_and_labelled(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, worker_linger=0.05, report_interval=0.05
    )
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(serving(by_parity, name="spam-v1"))
        candidate = await stack.enter_async_context(serving(mostly_alike, name="spam-v2"))
        versions = (a_version("base", live), a_version("A", candidate, 1))
        epoch = await register_oip(database_url, *versions, output=OUTPUT, labels=LabelTerms(delay=0.0))
        assert epoch is not None
        counts = Counts(database_url, epoch)
        stack.push_async_callback(counts.aclose)
        async with routers.router(database_url, nats_url, log_name) as caller, working(settings):
            said = await triton_client.call(caller.address, REQUESTS)
            await counts.reach(REQUESTS)
        assert said["answers"] == [
            [f"r-{number}", [[0, 2, 1]] if number % 2 else [[2, 0, 1]]] for number in range(REQUESTS)
        ]
        assert said["told"] == {
            "live": True, "ready": True, "model ready": True, "server": "multishadow", "model": "spam-v1",
            "refused": ["StatusCode.NOT_FOUND", 'there is no model "ham"; models: spam'],
        }  # fmt: skip
        assert await counts.outcomes() == Counter({("A", "ok"): 16, ("A", "diverged"): 4})
        shadowed(candidate)
        await labelled(database_url)
        assert await counts.family("label") == Counter({("base", "o"): REQUESTS, ("A", "o"): 16, ("A", "b"): 4})
        await looked_at(database_url, epoch.id)


def shadowed(server: InferenceServer) -> None:
    assert {request.model_name for request in server.requests} == {"spam-v2"}
    assert sorted(request.id for request in server.requests) == sorted(f"r-{number}" for number in range(REQUESTS))
    assert all(metadata["x-shadow-deployment"] == "true" for metadata in server.metadata)


async def labelled(database_url: str) -> None:
    """Labels are held against the classes that were compared."""
    engine = open_engine(database_url)
    try:
        labels = PostgresLabels(engine, AnswerCodec())
        right = [
            labelling.Label(request_id=f"r-{number}", value="spam" if number % 2 else "ham")
            for number in range(REQUESTS)
        ]
        await labelling.record(
            PostgresControl(engine), labels, model="spam", recorded=right, actor="test", clock=time.time
        )
    finally:
        await engine.dispose()


async def looked_at(database_url: str, epoch_id: int) -> None:
    """A stored comparison says what its bytes are, and what differed in the names of classes."""
    engine = open_engine(database_url)
    try:
        reviews = PostgresReviews(engine)
        lines = await reviews.comparisons(epoch_id, version="A", agreeing=False, most=10)
        assert {line.detail for line in lines} == {
            "live said 'ham', shadow said 'eggs'",
            "live said 'spam', shadow said 'eggs'",
        }
        found = await reviews.comparison(lines[0].id)
        assert found is not None
        told = comparison_response(found)
        assert told.protocol == "oip"
        assert oip.ModelInferResponse.FromString(told.live_response).model_name == "spam-v1"
    finally:
        await engine.dispose()
