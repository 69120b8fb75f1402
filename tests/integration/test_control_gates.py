"""Gates through the control API: what is put on record, what it lets pass, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2 as pb
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.rollup import Rollup
from multishadow_server.service.ports import Flush
from running_control import Control, asked, control_address, refused
from sightings import rollup_of
from store_fixtures import opened, rows
from version_servers import answering, serving

PEOPLE = ("agreement_only", "top_reviewed", "cost", "rollback_plan")
# A agrees on all but 0.1 %, B on 96 %.
SETTLED = {"oo": 19_180, "bb": 10, "bo": 10, "ob": 800}
AT_ONCE = pb.GateLimits(minimum_duration_seconds=0, divergent_samples=0)


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as client:
        yield client


async def compare_ab(control: Control, database_url: str, *, address: str = "127.0.0.1:9") -> None:
    """A model whose two candidates were compared on enough requests."""
    await control.apply("base", "A", "B", address=address, gates=AT_ONCE)
    await control.start("A", "B")
    async with opened(database_url) as engine:
        (epoch,) = (await PostgresControl(engine).read()).epochs
        await PostgresObservations(engine).commit(_flush(epoch, rollup_of(("A", "B"), SETTLED)))


def _flush(epoch: Epoch, rollup: Rollup) -> Flush:
    start = int(epoch.opened_at // 3_600) * 3_600
    return Flush(log_id="log", partition=0, previous_offset=0, offset=1, rollups={(epoch.id, start): rollup})


async def review(control: Control, version: str = "A") -> pb.GateReview:
    found: pb.ListGatesResponse = await control.stub.ListGates(pb.ListGatesRequest(candidates=[version]))
    (only,) = found.reviews
    return only


async def vouch(control: Control, *what: str) -> None:
    for each in what:
        await control.stub.Attest(pb.AttestRequest(version="A", what=each, note="looked at", actor="ada"))


async def test_a_promotion_is_refused_until_its_gates_pass(control: Control, database_url: str) -> None:
    async with serving(answering()) as server:
        await compare_ab(control, database_url, address=server.address)
        async with refused(
            StatusCode.FAILED_PRECONDITION, "HOLD", "cost unknown: not recorded", "nothing changed", "shadowctl gates A"
        ):
            await control.promote("A", force=False)
        assert await control.live() == "base"
        await vouch(control, *PEOPLE)
        assert (await review(control)).verdict == "PROMOTE"
        assert (await control.promote("A", force=False)).changed
    assert await control.live() == "A"


async def test_the_worse_candidate_is_rejected_whoever_vouches_for_it(control: Control, database_url: str) -> None:
    await compare_ab(control, database_url)
    found = await review(control, "B")
    assert found.verdict == "REJECT"
    failing = {gate.name: gate.remedy for gate in found.gates if gate.state == "fail"}
    assert failing["best_set"] == "promote A instead"


async def test_a_waiver_is_kept_for_ever_with_who_and_why(control: Control, database_url: str) -> None:
    await compare_ab(control, database_url)
    await vouch(control, *PEOPLE[1:])
    waived = await control.stub.WaiveGate(
        pb.WaiveGateRequest(version="A", gate="quality", reason="the same weights", actor="grace")
    )
    assert waived.review.verdict == "PROMOTE"
    (quality,) = (gate for gate in waived.review.gates if gate.name == "quality")
    assert (quality.state, quality.holds_up) == ("unknown", False)
    assert (quality.waiver.by, quality.waiver.text) == ("grace", "the same weights")
    line = rows(database_url, "SELECT actor, subject, detail ->> 'text' FROM audit_log WHERE action = 'waive_gate'")
    assert line == [("grace", "spam.A", "the same weights")]
    for change in ("DELETE FROM gate_record", "UPDATE gate_record SET text = ''", "TRUNCATE gate_record"):
        with psycopg.connect(database_url) as connection, pytest.raises(psycopg.Error, match="kept for ever"):
            connection.execute(change)


async def test_what_is_on_record_counts_for_the_epoch_that_it_was_said_of(control: Control, database_url: str) -> None:
    await compare_ab(control, database_url)
    await vouch(control, *PEOPLE)
    await control.apply("A", address="127.0.0.1:10")
    found = await review(control)
    assert found.verdict == "NO_DATA"
    assert not any(gate.attestation.by for gate in found.gates)


async def test_passing_over_gates_needs_a_reason_and_the_audit_names_them(control: Control, database_url: str) -> None:
    await compare_ab(control, database_url)
    async with refused(StatusCode.INVALID_ARGUMENT, "reason", "cost"):
        await control.promote("A", force=True, reason=" ")
    assert (await control.promote("A", force=True, reason="everything is on fire")).changed
    (passed,) = rows(database_url, "SELECT detail -> 'gates_passed_over' FROM audit_log WHERE action = 'promote'")[0]
    assert passed == ["quality", "cost", "rollback_plan"]


async def test_a_version_that_was_never_compared_is_not_promoted_unless_forced(control: Control) -> None:
    async with serving(answering()) as server:
        await control.apply("base", "A", address=server.address)
        async with refused(StatusCode.FAILED_PRECONDITION, "A was not promoted", "not been compared", "no experiment"):
            await control.promote("A", force=False)
        assert (await control.promote("A")).changed
        assert not (await control.promote("A", force=False)).changed


async def test_an_experiment_that_has_ended_vouches_for_nothing_that_was_not_so_then(
    control: Control, database_url: str
) -> None:
    async with serving(answering()) as server:
        await compare_ab(control, database_url, address=server.address)
        await vouch(control, *PEOPLE)
        await control.stop()
        await control.apply(comparator=pb.Comparator(threshold=0.5))
        async with refused(StatusCode.FAILED_PRECONDITION, "A was not promoted", "comparator was changed"):
            await control.promote("A", force=False)
        await control.apply(comparator=pb.Comparator(threshold=0.85))
        await control.promote("B", force=True, reason="it is urgent")
        async with refused(StatusCode.FAILED_PRECONDITION, "compared with base, and B is live now", "shadowctl start"):
            await control.promote("A", force=False)
        await control.rollback()
        assert (await control.promote("A", force=False)).changed


async def test_limits_are_the_models(control: Control) -> None:
    applied = await control.apply("base", "A", gates=pb.GateLimits(divergence=0.05))
    assert applied.model.gates.divergence == 0.05
    assert applied.model.gates.minimum_duration_seconds == 7 * 86_400
    changed = await control.apply("base", "A", gates=pb.GateLimits(divergence=0.02))
    assert list(changed.changes) == ["gate limit divergence: 0.05 → 0.02"]
    assert (await control.apply("base", "A")).model.gates.divergence == 0.02
    for wrong in (pb.GateLimits(failures=1.5), pb.GateLimits(latency_ratio=0), pb.GateLimits(divergent_samples=-1)):
        async with refused(StatusCode.INVALID_ARGUMENT, "gates."):
            await control.apply("base", gates=wrong)


async def test_what_nobody_can_attest_or_waive_is_refused(control: Control, database_url: str) -> None:
    await compare_ab(control, database_url)
    for request, said in (
        (pb.AttestRequest(version="A", what="luck", note="x"), "agreement_only, top_reviewed, cost, rollback_plan"),
        (pb.AttestRequest(version="A", what="cost", note=" "), "note"),
    ):
        async with refused(StatusCode.INVALID_ARGUMENT, said):
            await control.stub.Attest(request)
    for waiver, said in (
        (pb.WaiveGateRequest(version="A", gate="luck", reason="x"), "minimum_duration"),
        (pb.WaiveGateRequest(version="A", gate="cost", reason=""), "reason"),
    ):
        async with refused(StatusCode.INVALID_ARGUMENT, said):
            await control.stub.WaiveGate(waiver)
    async with refused(StatusCode.NOT_FOUND, "does not compare 'Z'"):
        await control.stub.WaiveGate(pb.WaiveGateRequest(version="Z", gate="cost", reason="x"))


async def test_a_comparison_carries_its_verdicts_and_the_classical_tests(control: Control, database_url: str) -> None:
    await compare_ab(control, database_url)
    found = await control.compare()
    assert [(each.version, each.verdict) for each in found.reviews] == [("A", "HOLD"), ("B", "REJECT")]
    assert found.panel.label == "valid for one look only"
    (pair,) = found.panel.pairs
    assert 0 < pair.mcnemar_exact < 1e-100
    assert [each.version for each in (await control.compare(candidates=["B"])).reviews] == ["B"]


async def test_a_plan_says_how_long_a_proof_takes(control: Control) -> None:
    found = await control.stub.PlanComparison(pb.PlanComparisonRequest(better=0.03, worse=0.04, rate=50))
    even, good, sure = found.plans
    assert even.chance == 0.5
    assert even.requests < good.requests < sure.requests
    assert even.seconds == pytest.approx(even.requests / 50)
    async with refused(StatusCode.INVALID_ARGUMENT, "rate"):
        await control.stub.PlanComparison(pb.PlanComparisonRequest(better=0.03, worse=0.04))
