"""Reports as control makes them, and a control service that answers with what a test puts into it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1 import (
    access_pb2,
    access_pb2_grpc,
    alarms_pb2,
    alarms_pb2_grpc,
    control_pb2,
    control_pb2_grpc,
    deadletters_pb2,
    deadletters_pb2_grpc,
    export_pb2,
    export_pb2_grpc,
    flags_pb2,
    flags_pb2_grpc,
    rollouts_pb2,
    rollouts_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    shadowing_pb2,
    shadowing_pb2_grpc,
    webhooks_pb2,
    webhooks_pb2_grpc,
)

NOON = 1_795_435_200  # 2026-11-23 12:00 UTC
DAY = 86_400


def at(seconds: int) -> Timestamp:
    """A point in time."""
    return Timestamp(seconds=seconds)


def candidate(
    version: str, *, n: int, rate: float, band: str, rank: tuple[int, int], **more: Any
) -> control_pb2.CandidateReport:
    """A candidate's report with an interval of about the right width around its rate."""
    half = 2.6 * math.sqrt(max(rate * (1 - rate), 1e-4) / n)
    bad = round(rate * n)
    fields: dict[str, Any] = {
        "errors": bad // 40,
        "timeouts": bad // 60,
        "completeness": 0.998,
        "band_confirmed": False,
        "band_proven": band,
        "similarity": 1 - rate,
        "latency_p50_ms": 11.84,
        "latency_p99_ms": 40.2,
        "live_latency_p50_ms": 12.1,
        "live_latency_p99_ms": 38.82,
    } | more
    diverged = bad - fields["errors"] - fields["timeouts"]
    return control_pb2.CandidateReport(
        version=version,
        n=n,
        agreed=n - bad,
        diverged=diverged,
        divergence=control_pb2.Interval(estimate=rate, lower=max(0.0, rate - half), upper=min(1.0, rate + half)),
        band=band,
        rank_best=rank[0],
        rank_worst=rank[1],
        ranked=True,
        **fields,
    )


def models(**versions: list[str]) -> control_pb2.ListModelsResponse:
    """Models with these versions, each served by its first."""
    return control_pb2.ListModelsResponse(
        models=[control_pb2.Model(name=name, live_version=names[0], versions=names) for name, names in versions.items()]
    )


def experiment(model: str = "spam", candidates: tuple[str, ...] = ("A", "B", "C")) -> control_pb2.Experiment:
    """A running experiment, three days old."""
    return control_pb2.Experiment(
        id=7,
        model=model,
        candidates=candidates,
        percent=25,
        started_at=at(NOON - 3 * DAY),
        ends_at=at(NOON + 11 * DAY),
        started_by="ann@laptop",
        state="running",
    )


def _report(**fields: Any) -> control_pb2.CompareResponse:
    return control_pb2.CompareResponse(
        experiment=fields.pop("experiment", experiment()),
        live_version="base",
        alpha=0.05,
        family_size=3,
        evidence_threshold=120,
        test_name="paired betting e-process (a = 10), valid at every look",
        epoch=2,
        epoch_reason="the comparator's threshold changed from 0.8 to 0.85",
        epoch_opened_at=at(NOON - 2 * DAY),
        read_at=at(NOON),
        **fields,
    )


def decided() -> control_pb2.CompareResponse:
    """A is proven best, C proven worst."""
    a = candidate("A", n=12_345, rate=0.0031, band="< 1 % safe", rank=(1, 1), band_confirmed=True, in_best_set=True)
    b = candidate(
        "B",
        n=12_339,
        rate=0.0302,
        band="1–5 % investigate",
        rank=(2, 2),
        band_confirmed=True,
        errors_by_reason={"UNAVAILABLE": 8, "INTERNAL": 1},
    )
    c = candidate(
        "C",
        n=12_198,
        rate=0.1042,
        band="> 10 % do not roll out",
        rank=(3, 3),
        dropped=141,
        dropped_by_reason={"buffer_full": 140, "in_flight_limit": 1},
        completeness=0.9886,
        uncomparable=6,
        uncomparable_by_reason={"empty_text": 6},
        latency_p99_ms=math.inf,
    )
    return _report(
        candidates=[c, a, b],
        pairs=[
            _pair("A", "B", n=12_330, only=(20, 354), verdict="better", evidence=161.2),
            _pair("A", "C", n=12_190, only=(12, 1_245), verdict="better", evidence=799.4),
            _pair("B", "C", n=12_188, only=(201, 1_104), verdict="better", evidence=331.7),
        ],
        state="decided",
        winner="A",
        live_failures=12,
        advice="A is the best of 3 candidates and agrees with base on 99.7 % of requests: promote it with"
        " `shadowctl promote A`.",
    )


def undecided() -> control_pb2.CompareResponse:
    """Two young candidates that nothing separates yet."""
    a = candidate(
        "A", n=412, rate=0.0218, band="5–10 % edge cases", rank=(1, 2), in_best_set=True, comparisons_needed=3_912
    )
    b = candidate("B", n=409, rate=0.0293, band="5–10 % edge cases", rank=(1, 2), in_best_set=True)
    c = control_pb2.CandidateReport(version="C", band="unknown")
    return _report(
        candidates=[a, b, c],
        pairs=[
            _pair("A", "B", n=409, only=(5, 8), verdict="undecided", evidence=0.3, requests_needed=24_817),
            control_pb2.PairReport(first="A", second="C", verdict="undecided", p_raw=1, p_adjusted=1),
            control_pb2.PairReport(first="B", second="C", verdict="undecided", p_raw=1, p_adjusted=1),
        ],
        state="undecided",
        advice="Wait: A and B cannot be told apart after 409 requests, and C has not been compared yet.",
    )


def no_data() -> control_pb2.CompareResponse:
    """An experiment that nobody has sent a request to."""
    names = ("A", "B", "C")
    return _report(
        candidates=[control_pb2.CandidateReport(version=name, band="unknown") for name in names],
        pairs=[
            control_pb2.PairReport(first=first, second=second, verdict="undecided", p_raw=1, p_adjusted=1)
            for first, second in (("A", "B"), ("A", "C"), ("B", "C"))
        ],
        state="no_data",
        advice="Nothing has been compared yet: send traffic to the router.",
    )


def many_long_names() -> control_pb2.CompareResponse:
    """Five candidates with names as pipelines make them."""
    names = [f"release-2026-11-{day:02}-canary" for day in range(10, 15)]
    reports = [
        candidate(name, n=1_234_567 - 7 * place, rate=0.004 * (place + 1), band="1–5 % investigate", rank=(1, 5))
        for place, name in enumerate(names)
    ]
    pairs = [
        _pair(first, second, n=1_234_000, only=(4_321, 5_432), verdict="better", evidence=62.5)
        for place, first in enumerate(names)
        for second in names[place + 1 :]
    ]
    return _report(
        experiment=experiment("fraud-scoring", tuple(names)),
        candidates=reports,
        pairs=pairs,
        state="undecided",
        advice="Wait.",
    )


def _pair(
    first: str, second: str, *, n: int, only: tuple[int, int], verdict: str, evidence: float, **more: Any
) -> control_pb2.PairReport:
    estimate = (only[0] - only[1]) / n
    half = 3 * math.sqrt(sum(only)) / n
    return control_pb2.PairReport(
        first=first,
        second=second,
        n=n,
        only_first_bad=only[0],
        only_second_bad=only[1],
        difference=control_pb2.Interval(estimate=estimate, lower=estimate - half, upper=estimate + half),
        log_evidence_first_worse=-evidence / 2,
        log_evidence_second_worse=evidence,
        p_raw=min(1.0, 2 * math.exp(-evidence)),
        p_adjusted=min(1.0, 6 * math.exp(-evidence)),
        verdict=verdict,
        **more,
    )


@dataclass(kw_only=True)
class CannedControl:
    """A control service: what each call answers (a message, an error, or a function of the request), and who asked.

    Args:
        answers: by method name; `(status code, message)` is an error.
        requests: every request that came, in order.
    """

    answers: dict[str, Message | tuple[grpc.StatusCode, str] | Callable[[Any], Message]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    address: str = ""

    def asked(self, kind: type[Message]) -> list[Any]:
        """The requests of one kind."""
        return [request for request in self.requests if isinstance(request, kind)]

    def answer(self, method: str, request: Message, context: grpc.ServicerContext) -> Message:
        """Answer one call."""
        self.requests.append(request)
        answer = self.answers.get(method, (grpc.StatusCode.INTERNAL, f"the test gave no answer to {method}"))
        if isinstance(answer, tuple):
            context.abort(*answer)
        return answer(request) if callable(answer) else answer


def arrived(version: str, *, requests: int = 12, **fields: Any) -> rollouts_pb2.GetAcknowledgementResponse:
    """Both routers follow, and the version answers."""
    routers = [rollouts_pb2.RouterStanding(instance=f"router-{n}", host="host-a", pid=n, revision=9) for n in (1, 2)]
    served = [rollouts_pb2.ServedRequests(version=version, requests=requests)]
    values: dict[str, Any] = {"acknowledged": routers, "served": served, "model": "spam", "revision": 9} | fields
    return rollouts_pb2.GetAcknowledgementResponse(**values)


def _servicer(canned: CannedControl, base: type[Any], service: Any) -> Any:
    def handler(method: str) -> Callable[..., Message]:
        return lambda _self, request, context: canned.answer(method, request, context)

    methods: Mapping[str, Any] = {method.name: handler(method.name) for method in service.methods}
    return type("Servicer", (base,), dict(methods))()


@contextmanager
def serving(canned: CannedControl) -> Iterator[CannedControl]:
    """Serve it on a free port of this machine."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    for module, grpc_module, name in (
        (control_pb2, control_pb2_grpc, "ControlService"),
        (flags_pb2, flags_pb2_grpc, "FlagService"),
        (rollouts_pb2, rollouts_pb2_grpc, "RolloutService"),
        (shadowing_pb2, shadowing_pb2_grpc, "ShadowingService"),
        (sessions_pb2, sessions_pb2_grpc, "SessionService"),
        (alarms_pb2, alarms_pb2_grpc, "AlarmService"),
        (deadletters_pb2, deadletters_pb2_grpc, "DeadLetterService"),
        (access_pb2, access_pb2_grpc, "AccessService"),
        (export_pb2, export_pb2_grpc, "ExportService"),
        (webhooks_pb2, webhooks_pb2_grpc, "WebhookService"),
    ):
        servicer = _servicer(canned, getattr(grpc_module, f"{name}Servicer"), module.DESCRIPTOR.services_by_name[name])
        getattr(grpc_module, f"add_{name}Servicer_to_server")(servicer, server)
    canned.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield canned
    finally:
        server.stop(grace=None).wait(10)
