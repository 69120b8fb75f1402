"""Control's rounds: which version is asked what."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from test_shadowing import AGREES, a_configuration

from fakes import EqualBytes, KnownConfiguration, ScriptedGateway
from multishadow.v1 import prediction_pb2
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.probe import Probe
from multishadow_server.core.probe_state import ProbeChange, ProbeState
from multishadow_server.service.ports import ControlStore, ProbeClaim, ProbeKey, ProbeStore
from multishadow_server.service.probing import ProbeRounds
from waiting import until


class Models(KnownConfiguration):
    """What rounds need of a ControlStore."""

    async def read(self, *, experiments: bool = True) -> Configuration:
        return await super().read()


class Standings:
    """What rounds need of a ProbeStore."""

    def __init__(self) -> None:
        self.kept: dict[ProbeKey, ProbeState] = {}

    async def idle(self) -> Mapping[ProbeKey, float]:
        return dict.fromkeys(self.kept, 0.0)

    async def claim(self, key: ProbeKey, *, every: float) -> ProbeClaim | None:
        del every
        return ProbeClaim(key=key, at=1000.0, state=None)

    async def record(self, claim: ProbeClaim, state: ProbeState, changes: Sequence[ProbeChange]) -> None:
        del changes
        self.kept[claim.key] = state


async def test_a_version_is_asked_by_the_name_that_its_server_knows() -> None:
    hello = Probe(name="hello", request=prediction_pb2.PredictRequest(model="spam", text="hello").SerializeToString())
    known = a_configuration(names=("A",))
    (version,) = known.models["spam"].versions
    model = replace(known.models["spam"], versions=(replace(version, served_name="spam-v2"),), probes=(hello,))
    gateway, standings = ScriptedGateway(lambda _: AGREES), Standings()
    store = Models(replace(known, models={"spam": model}))
    rounds = ProbeRounds(
        cast("ControlStore", store), cast("ProbeStore", standings), gateway, EqualBytes(), interval=60.0
    )
    stop = asyncio.Event()
    task = asyncio.create_task(rounds.run(stop))
    await until(lambda: standings.kept)
    stop.set()
    await task
    (asked,) = gateway.requests
    request = prediction_pb2.PredictRequest.FromString(asked)
    assert (request.model, request.text) == ("spam-v2", "hello")
