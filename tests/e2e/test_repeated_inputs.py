"""Repeated inputs through the whole program: two routers, a worker and control as processes of their own."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from test_promotion_under_load import deployed

from multishadow.v1 import control_pb2, prediction_pb2, prediction_pb2_grpc
from multishadow_server.settings import Settings
from waiting import PATIENCE, until

REPEATS = 30
OTHERS = 12


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        data_dir=tmp_path / "data",
        router_listen="127.0.0.1:0",
        control_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
    )


def request(number: int, text: str) -> prediction_pb2.PredictRequest:
    asked = prediction_pb2.PredictRequest(model="spam", request_id=f"r-{number}", session_id=f"s-{number}", text=text)
    asked.attributes.update({"country": "NO" if number % 2 else "DE"})
    return asked


async def test_an_input_from_many_sessions_and_routers_counts_once_for_candidates_and_for_the_noise_floor(
    settings: Settings,
) -> None:
    async with deployed(settings) as (endpoints, control):
        started = await control.StartExperiment(
            control_pb2.StartExperimentRequest(model="spam", candidates=["A"], noise_floor_percent=100, actor="test")
        )

        async def routers_follow() -> bool:
            status = await control.GetStatus(control_pb2.GetStatusRequest())
            return all(each.revision >= started.revision for each in status.processes if each.role == "router")

        await until(routers_follow)
        texts = ["hello"] * REPEATS + [f"hello {number}" for number in range(OTHERS)]
        for number, text in enumerate(texts):
            # A connection each, so that both routers are asked.
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(endpoints.router, options=options) as channel:
                await prediction_pb2_grpc.PredictionServiceStub(channel).Predict(
                    request(number, text), timeout=PATIENCE
                )

        async def counted() -> bool:
            (report,) = (await control.Compare(control_pb2.CompareRequest(model="spam"))).candidates
            return report.n + report.duplicates == len(texts)

        await until(counted)
        found = await control.Compare(control_pb2.CompareRequest(model="spam"))
        (report,) = found.candidates
        assert (report.n, report.duplicates, report.completeness) == (OTHERS + 1, REPEATS - 1, 1)
        assert found.noise_floor.n == OTHERS + 1
        # A names itself and so differs always; the live version never differs from itself.
        assert (report.diverged, found.noise_floor.diverged, report.over_noise.estimate) == (OTHERS + 1, 0, 1)
        kinds = await control.ListSegments(control_pb2.ListSegmentsRequest(model="spam"))
        countries = {each.level: each.n for each in kinds.segments if each.feature == "attributes.country"}
        assert sum(countries.values()) == OTHERS + 1
        assert set(countries) == {"NO", "DE"}
