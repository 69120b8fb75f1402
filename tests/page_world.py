"""A store in which everything goes on that the web page shows, for whoever looks at its pages."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import (
    PostgresControl,
    PostgresLiveCounts,
    PostgresObservations,
    PostgresProcesses,
    PostgresRollouts,
)
from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.probes import PostgresProbes
from multishadow_server.core import latency
from multishadow_server.core.alarms import AlarmKey, AlarmKind, Finding, Turn
from multishadow_server.core.dead_letter_policy import DeadLetterPolicy
from multishadow_server.core.dead_letters import DeadLetter, LetterState, unreadable_letter
from multishadow_server.core.live_counts import LiveCounts, Share
from multishadow_server.core.model import LabelTerms
from multishadow_server.core.model_spec import ModelSpec, VersionSpec
from multishadow_server.core.observation import Outcome
from multishadow_server.core.probe import Probe
from multishadow_server.core.probe_state import ProbeChange, ProbeOutcome, ProbeState
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.routing import Claim
from multishadow_server.core.version_limits import CircuitTerms, VersionLimits
from multishadow_server.core.watch_readings import Reading
from multishadow_server.service import (
    experiments,
    flag_editing,
    flags,
    models,
    pausing,
    promotion,
    rollouts,
)
from multishadow_server.service.flag_editing import Edit
from multishadow_server.service.ports import Past, ProbeKey, ProcessStatus, Span
from multishadow_server.service.rollout_planning import Wish
from store_fixtures import capture, flush, opened

COLOUR = {"state": "ENABLED", "variants": {"red": "#c00", "blue": "#00c"}, "defaultVariant": "red"}


class Answers:
    """A VersionProbe to which every version answers."""

    async def connect(self, address: str, *, within: float) -> None:
        """It connects."""


async def fill(database_url: str) -> None:
    """Models that are compared, rolled out and rolled back, with alarms, probes, dead letters and processes."""
    async with opened(database_url) as engine:
        store = PostgresControl(engine)
        await _register(store)
        await _edit_flags(store)
        await _compare(store, engine)
        await _promote(store, engine)
        await _count(store, engine)
        await _alarm(engine)
        await _probe(engine)


def _versions(*names: str, **limits: VersionLimits) -> tuple[VersionSpec, ...]:
    return tuple(
        VersionSpec(
            name=name,
            address=f"models.internal:9{n:03}",
            timeout=None,
            max_in_flight=None,
            served_name=None,
            served_version=None,
            limits=limits.get(name),
        )
        for n, name in enumerate(names)
    )


async def _register(store: PostgresControl) -> None:
    limited = VersionLimits(requests_per_second=50, capacity=200, circuit=CircuitTerms())
    probe = Probe(name="known-fraud", request=b"asked", expected=b"answer")
    fraud = ModelSpec(
        name="fraud",
        versions=_versions("base", "A", "B", "C", B=limited),
        labels=LabelTerms(),
        segments=("country", "amount_band"),
        probes=(probe,),
        dead_letters=DeadLetterPolicy(),
    )
    await models.apply_model(store, fraud, actor="ann")
    await models.apply_model(store, ModelSpec(name="summary", versions=_versions("v1", "v2", "v3")), actor="ann")
    await models.apply_model(store, ModelSpec(name="greeting", versions=_versions("only")), actor="ann")


async def _edit_flags(store: PostgresControl) -> None:
    await flag_editing.put(store, {"checkout.colour": COLOUR}, Edit(actor="bob", reason="the new shop"))
    blue = COLOUR | {"defaultVariant": "blue", "targeting": {"if": [{"==": [{"var": "country"}, "NO"]}, "red", "blue"]}}
    await flag_editing.put(store, {"checkout.colour": blue}, Edit(actor="cy", reason="Norwegians stay with red"))
    await flag_editing.put(store, {"banner": COLOUR}, Edit(actor="bob"))
    await flag_editing.delete(store, ["banner"], Edit(actor="bob", reason="nobody reads it"))


async def _compare(store: PostgresControl, engine: AsyncEngine) -> None:
    terms = experiments.Terms(model="fraud", candidates=("A", "B"), percent=25.0)
    await experiments.start_experiment(store, terms, actor="ann")
    epoch = next(each for each in (await store.read()).epochs if each.until_revision is None)
    counted = {
        ("A", Outcome.OK): 11_970, ("A", Outcome.DIVERGED): 30, ("A", Outcome.DROPPED): 4,
        ("B", Outcome.OK): 11_500, ("B", Outcome.DIVERGED): 400, ("B", Outcome.ERROR): 61, ("B", Outcome.TIMEOUT): 12,
        ("B", Outcome.UNCOMPARABLE): 3, ("B", Outcome.DUPLICATE): 9,
    }  # fmt: skip
    cells = {Cell(Family.OUTCOME, version, outcome): n for (version, outcome), n in counted.items()}
    letters = [
        DeadLetter(
            model="fraud",
            version="B",
            epoch_id=epoch.id,
            state=LetterState.WAITING if n % 3 else LetterState.PARKED,
            outcome=Outcome.ERROR,
            reason="UNAVAILABLE",
            detail="connection refused" * (n % 2),
            wait=600.0,
            capture=capture(model="fraud", request_id=f"request-{n}", request=b'{"amount": 129.9}\x00\xff'),
        )
        for n in range(120)
    ]
    letters.append(unreadable_letter("no capture batch", b"\x08\x96nonsense"))
    await PostgresObservations(engine).commit(
        flush(
            epoch,
            previous=0,
            offset=1,
            rollups={(epoch.id, epoch.bucket_start(time.time())): Rollup(cells)},
            dead_letters=letters,
        )
    )


async def _promote(store: PostgresControl, engine: AsyncEngine) -> None:
    clock = time.time
    why: Any = {"actor": "ann", "reason": "half as slow", "force": True}
    for version in ("v2", "v3"):
        await promotion.promote(store, Answers(), model="summary", version=version, clock=clock, **why)
    await promotion.rollback(store, model="summary", actor="cy", reason="summaries in Danish were cut")
    await flags.set_flag(store, model="summary", version="v3", claim=Claim.SHADOW, percent=5, actor="cy")
    await pausing.pause(store, model="fraud", version="B", seconds=28_800, actor="cy", reason="its database moves")
    records = PostgresRollouts(engine)
    wish = Wish(model="fraud", version="A", force=True, reason="agreed with risk", dwell=86_400.0)
    await rollouts.start(store, records, Answers(), wish, actor="ann", clock=clock)
    await rollouts.step(store, records, model="fraud", actor="ann", reason="five percent by noon")


async def _count(store: PostgresControl, engine: AsyncEngine) -> None:
    revision = (await store.read()).revision

    def served(n: int, *, failed: int, milliseconds: float) -> LiveCounts:
        slow = n // 50
        bins = {
            str(latency.bin_of(milliseconds / 1e3)): n - failed - slow,
            str(latency.bin_of(milliseconds / 100)): slow,
        }
        return LiveCounts(requests=n, failed=failed, latencies=bins)

    counted = {
        Share("fraud", "base", revision): served(48_211, failed=12, milliseconds=11.8),
        Share("fraud", "A", revision): served(2_561, failed=1, milliseconds=9.1),
        Share("summary", "v2", revision): served(901, failed=0, milliseconds=412),
    }
    await PostgresLiveCounts(engine).save("router-1/a", counted)
    now = time.time()
    router: dict[str, Any] = {"captured": 25_120, "buffered": 12, "buffered_bytes": 88_000, "requests": 51_673}
    processes = (
        ("router", "router-1", revision, router),
        ("router", "router-2", revision - 1, router | {"sampling_permille": 250, "dropped.buffer_full": 1_204}),
        (
            "worker",
            "worker-1",
            revision,
            {"lag_ms": 74_000, "partitions": 8, "under_way": 64, "observations.ok": 23_470},
        ),
    )
    for role, instance, at, counters in processes:
        said = ProcessStatus(
            role=role, instance=instance, host="host-a", pid=7, started_at=now - 9_000, revision=at, counters=counters
        )
        await PostgresProcesses(engine).report(said)
    # They go on speaking, however long somebody looks, and callers go on calling.
    async with engine.begin() as connection:
        for table in ("process", "live_count"):
            await connection.execute(text(f"UPDATE {table} SET seen_at = seen_at + interval '1 day'"))


async def _alarm(engine: AsyncEngine) -> None:
    now = time.time()
    findings = (
        (AlarmKind.SHADOW_SILENT, "fraud", "B", "B answered none of 412 copies within 15 s"),
        (AlarmKind.LAG, "", "worker-1", "worker-1 is 74 s behind"),
    )
    raised = tuple(
        Finding(key=AlarmKey(kind, model, subject), detail=detail) for kind, model, subject, detail in findings
    )

    def decide(past: Past) -> Turn:
        over = tuple(alarm for alarm in past.standing if alarm.key.kind is AlarmKind.DROPS)
        return Turn(raised=() if past.standing and not over else raised, cleared=over)

    old = Finding(key=AlarmKey(AlarmKind.DROPS, "fraud", "A"), detail="3.1 % of the copies for A: buffer_full")
    span = Span(recent=15.0, window=60.0, apart=5.0)
    records = PostgresAlarms(engine)
    await records.turn(Reading(at=now - 7_200), span, lambda _: Turn(raised=(old,)))
    await records.turn(Reading(at=now - 600), span, decide)
    lag = next(alarm for alarm in await records.alarms() if alarm.key.kind is AlarmKind.LAG)
    await records.acknowledge([lag.id], model="", actor="cy", note="another worker is on its way")


async def _probe(engine: AsyncEngine) -> None:
    records, now = PostgresProbes(engine), time.time()
    fingerprint = Probe(name="known-fraud", request=b"asked", expected=b"answer").fingerprint
    for n, (version, outcome) in enumerate(
        {"base": ProbeOutcome.OK, "A": ProbeOutcome.WRONG, "B": ProbeOutcome.FAILING}.items()
    ):
        claim = await records.claim(ProbeKey("fraud", version, "known-fraud"), every=30)
        assert claim is not None
        state = ProbeState(
            model="fraud",
            version=version,
            probe="known-fraud",
            fingerprint=fingerprint,
            address=f"models.internal:9{n:03}",
            outcome=outcome,
            asked_at=now - 4,
            since=now - 5_000,
            reason="" if outcome is ProbeOutcome.OK else "UNAVAILABLE",
            detail="" if outcome is ProbeOutcome.OK else "connection refused",
            similarity=0.9912 if outcome is not ProbeOutcome.FAILING else None,
            latency=0.0123,
        )
        change = ProbeChange(at=now - 5_000, before="never asked", after=outcome, detail=state.detail)
        await records.record(claim, state, [change])
