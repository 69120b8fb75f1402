"""Requests are sent again by a real control, to real version servers and through a real router."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import nats
import pytest
from sqlalchemy import text
from test_shadowctl import SHADOWCTL, Result, environment, run

import routers
from multishadow.v1 import control_pb2, prediction_pb2, replay_pb2, replay_pb2_grpc
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.stored_requests import PostgresStoredRequests
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.redaction import Seal
from multishadow_server.service.ports import Flush, RequestFilter, StoredComparison
from running_control import asked, control_address
from store_fixtures import NOON, capture, opened, rows
from version_servers import PREDICT, Behaviour, Context, answering, failing, gated, labelled, serving
from waiting import PATIENCE, until


async def shadowctl(*arguments: str) -> Result:
    return await asyncio.to_thread(run, arguments)


@pytest.fixture
async def control(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    async with control_address(database_url) as address:
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        yield address


async def register(control: str, **versions: str) -> None:
    async with asked(control) as api:
        for version, address in versions.items():
            await api.apply(version, address=address)


def file_of(tmp_path: Path, records: Sequence[dict[str, Any]]) -> str:
    file = tmp_path / "sessions.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def yes(request_id: str, **more: Any) -> dict[str, Any]:
    return {"request_id": request_id, "input": {"text": "x"}, "response": {"classification": "yes"}, **more}


async def stored(database_url: str, *, count: int) -> None:
    """Stored comparisons of a running experiment, half of them divergent; a second apart."""
    async with opened(database_url) as engine:
        (epoch,) = (await PostgresControl(engine).read()).epochs
        kept = [
            StoredComparison(
                epoch_id=epoch.id,
                capture=capture(
                    request_id=f"r-{n}",
                    session_id="",
                    method=PREDICT,
                    request=prediction_pb2.PredictRequest(
                        model="spam", request_id=f"r-{n}", text="hello"
                    ).SerializeToString(),
                    response=labelled("yes").SerializeToString(),
                    received_at=NOON + n,
                ),
                observations=[Observation(version="A", outcome=Outcome.DIVERGED if n % 2 else Outcome.OK)],
                kept_because="diverged" if n % 2 else "sample",
            )
            for n in range(count)
        ]
        await PostgresObservations(engine).commit(
            Flush(log_id="log", partition=0, previous_offset=0, offset=1, comparisons=kept)
        )


async def test_stored_requests_are_sent_to_a_version_and_held_against_the_live_answers_of_then(
    control: str, database_url: str, tmp_path: Path
) -> None:
    async with serving(answering()) as base, serving(answering("no")) as a:
        await register(control, base=base.address, A=a.address)
        async with asked(control) as api:
            await api.start("A")
        await stored(database_url, count=6)
        results = tmp_path / "results.jsonl"
        same = await shadowctl("replay", "--to", "spam.base", "--stored", "-o", "json")
        assert same.code == 0, same.err
        assert same.document["outcomes"]["agree"] == same.document["total"] == 6
        assert same.document["recorded_latency_ms"]["p50"] == 12.5
        other = await shadowctl(
            *("replay", "--to", "A", "--stored", "--diverged", "--until", "2026-11-23T12:00:04Z"),
            *("--output-file", str(results), "--with-responses"),
        )
        assert other.code == 1
        assert "2 of 2 to spam.A at" in other.out
        assert (await shadowctl("replay", "--to", "A", "--stored", "--allow", "100%")).code == 0
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        assert {(line["request_id"], line["outcome"]) for line in lines} == {("r-1", "diverged"), ("r-3", "diverged")}
        assert lines[0]["response"] == {"classification": {"label": "no"}}
        assert base.calls == {f"r-{n}": 1 for n in range(6)}
        assert {each["x-multishadow-replay"] for each in base.metadata} == {"true"}
        assert {each["x-shadow-deployment"] for each in base.metadata} == {"true"}
        none = await shadowctl("replay", "--to", "A", "--stored", "--since", "2026-11-24T00:00:00Z")
        assert (none.code, "no stored request of spam is as asked for" in none.err) == (1, True)
    assert rows(database_url, "SELECT count(*) FROM rollup") == [(0,)], "a replay counts in no experiment"
    assert [row[0] for row in rows(database_url, "SELECT subject FROM audit_log WHERE action = 'replay'")] == [
        "spam.base",
        "spam.A",
        "spam.A",
    ]


def noting(order: dict[str, list[str]]) -> Behaviour:
    """Notes when a request comes and goes, by session, and lets others run in between."""

    async def predict(request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        order[request.session_id].append(f"+{request.request_id}")
        await asyncio.sleep(0)
        order[request.session_id].append(f"-{request.request_id}")
        return labelled("yes")

    return predict


async def test_requests_of_a_session_are_sent_one_after_the_other_and_sessions_beside_each_other(
    control: str, tmp_path: Path
) -> None:
    order: dict[str, list[str]] = defaultdict(list)
    async with serving(noting(order)) as server:
        await register(control, base=server.address)
        records = [yes(f"{turn}", session_id=f"s-{session}") for turn in range(5) for session in range(4)]
        told = await shadowctl("replay", "--to", "spam.base", file_of(tmp_path, records), "-o", "json")
        assert told.code == 0, told.err
        assert told.document["outcomes"]["agree"] == 20
    in_turn = [step for turn in range(5) for step in (f"+{turn}", f"-{turn}")]
    assert order == {f"s-{session}": in_turn for session in range(4)}


async def test_no_more_are_under_way_at_once_than_asked_for(control: str, tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serving(gated(gate)) as server:
        await register(control, base=server.address)
        file = file_of(tmp_path, [yes(f"{n}") for n in range(12)])
        replaying = asyncio.create_task(shadowctl("replay", "--to", "spam.base", file, "--concurrency", "3"))
        await until(lambda: server.under_way == 3)
        gate.set()
        assert (await replaying).code == 0
        assert server.most_at_once <= 3


async def test_arrivals_are_scaled_and_a_rate_is_kept(control: str, tmp_path: Path) -> None:
    arrived: list[float] = []

    async def predict(_request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        arrived.append(asyncio.get_running_loop().time())
        return labelled("yes")

    async with serving(predict) as server:
        await register(control, base=server.address)
        # A minute of requests, ten seconds apart; three hundred times as fast.
        records = [yes(f"{n}", at=NOON + 10 * n) for n in range(7)]
        file = file_of(tmp_path, records)
        for pace, apart in ((("--speed", "300"), 10 / 300), (("--rate", "30"), 1 / 30)):
            arrived.clear()
            assert (await shadowctl("replay", "--to", "spam.base", file, *pace)).code == 0
            # A machine that is busy sends later, never sooner: only the first may have been held up on its way.
            assert arrived[-1] - arrived[0] >= 5 * apart
        no_time = file_of(tmp_path, [yes("1")])
        refused = await shadowctl("replay", "--to", "spam.base", no_time, "--speed", "1")
        assert (refused.code, "`at` is missing" in refused.err) == (2, True)


async def test_bad_lines_keep_everything_back_unless_they_are_to_be_skipped(control: str, tmp_path: Path) -> None:
    async with serving(answering()) as server:
        await register(control, base=server.address)
        file = file_of(tmp_path, [yes("1"), {"input": {}}, yes("3")])
        refused = await shadowctl("replay", "--to", "spam.base", file)
        assert refused.code == 2
        assert f"{file}:2: a request must have exactly one of" in refused.err
        assert "nothing was sent" in refused.err
        assert not server.calls
        skipped = await shadowctl("replay", "--to", "spam.base", file, "--skip-bad")
        assert (skipped.code, set(server.calls)) == (0, {"1", "3"})


async def test_failures_are_told_by_their_status_and_requests_without_an_answer_are_only_sent(
    control: str, tmp_path: Path
) -> None:
    async with serving(failing()) as broken, serving(answering()) as fine:
        await register(control, base=fine.address, A=broken.address)
        file = file_of(tmp_path, [{"input": {"text": "x"}} for _ in range(3)])
        told = await shadowctl("replay", "--to", "A", file, "-o", "json")
        assert (told.code, told.document["reasons"]) == (1, {"error: INTERNAL": 3})
        sent = await shadowctl("replay", "--to", "base", file, "-o", "json")
        assert (sent.code, sent.document["outcomes"]["answered"]) == (0, 3)


async def test_ctrl_c_ends_it_with_a_partial_summary_and_nothing_goes_on(control: str, tmp_path: Path) -> None:
    gate = asyncio.Event()
    answered = itertools.count()

    async def predict(request: prediction_pb2.PredictRequest, context: Context) -> prediction_pb2.PredictResponse:
        if next(answered) >= 4:
            await gate.wait()
        return labelled("yes")

    async with serving(predict) as server:
        await register(control, base=server.address)
        results = tmp_path / "results.jsonl"
        process = await asyncio.create_subprocess_exec(
            *(SHADOWCTL, "replay", "--to", "spam.base", file_of(tmp_path, [yes(f"{n}") for n in range(50)])),
            *("--output-file", str(results), "--concurrency", "2"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await until(lambda: results.exists() and results.read_text().count("\n") == 4)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 3, err
        assert b"4 of 50 to spam.base" in out
        assert b"stopped before its end: 46 have no result" in out
        await until(lambda: server.under_way == 0)
        assert server.calls.total() <= 6


async def test_a_caller_that_says_nothing_understandable_is_refused(control: str) -> None:
    async with serving(answering()) as server:
        await register(control, base=server.address)
        async with grpc.aio.insecure_channel(control) as channel:
            stub: Any = replay_pb2_grpc.ReplayServiceStub(channel)
            terms = replay_pb2.ReplayTerms(model="spam", version="base")
            for messages, said in (
                ([], "the first message of a replay says how"),
                ([replay_pb2.ReplayRequest(terms=replay_pb2.ReplayTerms(model="spam"))], "router: say where it is"),
                (
                    [
                        replay_pb2.ReplayRequest(terms=terms),
                        replay_pb2.ReplayRequest(request=replay_pb2.ReplayedRequest(request=b"\xff")),
                    ],
                    "request 0: its bytes cannot be read",
                ),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    _ = [each async for each in stub.Replay(iter(messages))]
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert said in (refused.value.details() or "")
        assert not server.calls


async def test_through_a_router_whoever_is_live_answers_and_nothing_is_captured_or_counted(
    control: str, database_url: str, nats_url: str, log_name: str, tmp_path: Path
) -> None:
    async with serving(answering()) as base, serving(answering()) as a:
        await register(control, base=base.address, A=a.address)
        async with asked(control) as api:
            await api.start("A", percent=100)
        async with routers.router(database_url, nats_url, log_name) as caller:
            file = file_of(tmp_path, [yes(f"{n}") for n in range(20)])
            told = await shadowctl("replay", "--to", "spam", file, "--router", caller.address, "-o", "json")
            assert told.code == 0, told.err
            assert told.document["versions"] == {"base": 20}
            await caller.predict(routers.a_request(request_id="a caller's"))
        client = await nats.connect(nats_url)
        try:
            captures = await routers.Logged(client, log_name).captures(1)
        finally:
            await client.close()
        assert [each.request_id for each in captures] == ["a caller's"]
        assert base.calls.total() == 21
        assert not a.calls
    assert rows(database_url, "SELECT sum(requests) FROM live_count") == [(1,)]


async def test_stored_requests_that_retention_deletes_in_the_middle_are_passed_over(
    control: str, database_url: str
) -> None:
    await register(control, base="127.0.0.1:9", A="127.0.0.1:9")
    async with asked(control) as api:
        await api.start("A")
    await stored(database_url, count=4)
    async with opened(database_url) as engine:
        store = PostgresStoredRequests(engine)
        keys = await store.find(RequestFilter(model="spam", most=3, since=NOON))
        assert [each.request_id for each in await store.load(keys)] == ["r-1", "r-2", "r-3"], "the newest, oldest first"
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM comparison WHERE request_id = 'r-2'"))
        assert [each.request_id for each in await store.load(keys)] == ["r-1", "r-3"]
        assert await store.find(RequestFilter(model="spam", most=9, experiment_id=99)) == []


async def test_what_is_stored_as_a_hash_is_not_sent_again_and_nothing_is_held_against_one(
    control: str, database_url: str
) -> None:
    await register(control, base="127.0.0.1:9", A="127.0.0.1:9")
    async with asked(control) as api:
        await api.start("A")
    await stored(database_url, count=4)
    sealed = Seal(b"key").of(b"what could not be read")
    async with opened(database_url) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE comparison SET payloads = 'redacted' WHERE request_id <> 'r-0'"))
            await connection.execute(
                text("UPDATE comparison SET request = :hash WHERE request_id = 'r-1'"), {"hash": sealed}
            )
            await connection.execute(
                text("UPDATE comparison SET response = :hash WHERE request_id = 'r-2'"), {"hash": sealed}
            )
        store = PostgresStoredRequests(engine)
        found = await store.load(await store.find(RequestFilter(model="spam", most=9)))
    assert [each.request_id for each in found] == ["r-0", "r-2", "r-3"]
    assert [each.response == labelled("yes").SerializeToString() for each in found] == [True, False, True]
    assert found[1].response == b""


async def test_requests_that_write_are_not_sent_again(control: str, tmp_path: Path) -> None:
    async with serving(answering()) as server:
        await register(control, base=server.address)
        mark = {"attributes": {"x-multishadow-write": True}}
        told = await shadowctl("replay", "--to", "base", file_of(tmp_path, [yes("1"), yes("2", **mark)]), "-o", "json")
        assert (told.code, told.document["reasons"]) == (1, {"error: writes": 1})
        assert set(server.calls) == {"1"}
        async with asked(control) as api:
            await api.apply(writes=control_pb2.WriteTerms(methods=[PREDICT]))
        refused = await shadowctl("replay", "--to", "base", file_of(tmp_path, [yes("3")]))
        assert (refused.code, "requests of spam write" in refused.err) == (1, True)
        assert set(server.calls) == {"1"}


async def test_a_file_is_not_sent_to_a_model_that_speaks_another_protocol(control: str, tmp_path: Path) -> None:
    async with serving(answering()) as server:
        async with asked(control) as api:
            await api.apply("base", address=server.address, protocol="oip")
        refused = await shadowctl("replay", "--to", "spam.base", file_of(tmp_path, [yes("1")]))
        assert "spam has `protocol: oip`, and a file holds requests of PredictionService" in refused.err
        assert not server.calls
