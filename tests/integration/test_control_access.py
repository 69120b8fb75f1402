"""Control with a door: who gets in, what is on record, and what ends when a token does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

from descriptions import described
from multishadow.v1 import access_pb2, access_pb2_grpc, flags_pb2
from multishadow.v1 import control_pb2 as pb
from multishadow_client import AsyncFlags, ControlClient, Flags, NotAllowed, Tls
from multishadow_client._bearer import AsyncBearer
from multishadow_server.app import tokens as on_database
from multishadow_server.settings import Settings
from running_control import Control, asked, control_address, control_addresses, refused
from store_fixtures import rows
from waiting import PATIENCE, until

NOBODY_LISTENS = "nats://127.0.0.1:1"


class Bearer(grpc.aio.StreamUnaryClientInterceptor):
    """Shows a token where the client package has no call: with a stream of requests."""

    def __init__(self, text: str) -> None:
        self._header = f"Bearer {text}"

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        details = client_call_details
        metadata = grpc.aio.Metadata(*(details.metadata or ()), ("authorization", self._header))
        shown = grpc.aio.ClientCallDetails(details.method, details.timeout, metadata, details.credentials, None)
        return await continuation(shown, request_iterator)


@asynccontextmanager
async def asked_by(address: str, text: str) -> AsyncIterator[Control]:
    """A client that shows a token."""
    interceptors = (AsyncBearer(text), Bearer(text))
    async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
        control = Control(channel)
        control.access = access_pb2_grpc.AccessServiceStub(channel)  # type: ignore[attr-defined]  # for these tests
        yield control


async def issued(database_url: str, name: str, role: str, *, life: float | None = None) -> str:
    return (await on_database.create(Settings(database_url=database_url), name=name, role=role, life=life)).text


def guarded(database_url: str, **settings: Any) -> Any:
    given = {"auth": "tokens", "nats_url": NOBODY_LISTENS, "flag_check_interval": 0.1, **settings}
    return control_addresses(database_url, **given)


async def ask_http(address: str, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """A request over HTTP in the clear: status, headers, body."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {path} HTTP/1.1", "Host: control", "Connection: close", "Content-Length: 0", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), {k.lower(): v.strip() for k, _, v in (each.partition(":") for each in fields)}, body


def audit_log(database_url: str, fields: str = "actor, action, subject") -> Sequence[tuple[Any, ...]]:
    return rows(database_url, f"SELECT {fields} FROM audit_log ORDER BY id")


# --- the door -----------------------------------------------------------------------------------------------------


async def test_each_call_needs_the_role_that_the_table_says(database_url: str) -> None:
    viewer = await issued(database_url, "dashboards", "viewer")
    operator = await issued(database_url, "ci-bot", "operator")
    admin = await issued(database_url, "ann", "admin")
    async with guarded(database_url) as (address, _):
        async with asked(address) as stranger, refused(StatusCode.UNAUTHENTICATED, "MULTISHADOW_TOKEN"):
            await stranger.live()
        async with asked_by(address, admin) as control:
            await control.apply("base", "A")
        async with asked_by(address, viewer) as control:
            assert await control.live() == "base"
            async with refused(StatusCode.PERMISSION_DENIED, "dashboards is a token for the role viewer", "operator"):
                await control.promote("A")
            async with refused(StatusCode.PERMISSION_DENIED, "RecordLabel needs operator"):
                await control.stub.RecordLabel(pb.RecordLabelRequest(model="spam"))
            async with refused(StatusCode.PERMISSION_DENIED, "ImportLabels needs operator"):
                await control.stub.ImportLabels(iter([pb.ImportLabelsRequest(model="spam")]))
        async with asked_by(address, operator) as control:
            assert (await control.promote("A")).changed
            async with refused(StatusCode.PERMISSION_DENIED, "CreateToken needs admin"):
                await control.access.CreateToken(access_pb2.CreateTokenRequest(name="mine", role="admin"))  # type: ignore[attr-defined]
            async with refused(StatusCode.PERMISSION_DENIED, "ApplyModel needs admin"):
                await control.apply("base", address="198.51.100.7:443")
        async with asked_by(address, f"ms_{'a' * 8}_{'0' * 64}") as control, refused(StatusCode.UNAUTHENTICATED):
            await control.live()


async def test_who_did_something_is_whose_token_it_was_whoever_they_say_they_are(database_url: str) -> None:
    operator = await issued(database_url, "ci-bot", "operator")
    admin = await issued(database_url, "ann", "admin")
    async with guarded(database_url) as (address, _):
        async with asked_by(address, admin) as control:
            await control.apply("base", "A")
        async with asked_by(address, operator) as control:
            await control.promote("A")
            await control.stub.Rollback(pb.RollbackRequest(model="spam"))
    actors = {action: actor for actor, action, _ in audit_log(database_url)}
    assert actors["apply_model"] == "ann (as ada)"
    assert actors["promote"] == "ci-bot (as ada)"
    assert actors["rollback"] == "ci-bot"
    assert actors["create_token"].endswith("(on the database)")
    changed = {by for (by,) in rows(database_url, "SELECT DISTINCT changed_by FROM flag_revision")}
    assert changed == {"ann (as ada)", "ci-bot (as ada)", "ci-bot"}


async def test_probes_health_and_reflection_need_no_token_and_reflection_can_be_switched_off(
    database_url: str,
) -> None:
    async with guarded(database_url) as (address, http), grpc.aio.insecure_channel(address) as channel:
        assert (await ask_http(http, "/healthz"))[0] == 200
        await until(lambda: _is_ready(http))
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert "multishadow.v1.AccessService" in await asyncio.to_thread(described, address)
    async with guarded(database_url, reflection="off") as (address, _), grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.to_thread(described, address)
        assert caught.value.code() is StatusCode.UNIMPLEMENTED
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING


async def _is_ready(http: str) -> bool:
    return (await ask_http(http, "/readyz"))[0] == 200


async def test_flags_over_http_need_a_token_and_say_so_as_http_does(database_url: str) -> None:
    viewer = await issued(database_url, "app", "viewer")
    evaluate = "/ofrep/v1/evaluate/flags"
    async with guarded(database_url) as (_, http):
        await until(lambda: _is_ready(http))
        status, headers, body = await ask_http(http, evaluate, method="POST")
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="multishadow"')
        assert "needs a token" in json.loads(body)["errorDetails"]
        bad = "Authorization: Bearer \xff\xfe"
        assert (await ask_http(http, evaluate, bad, method="POST"))[0] == 401
        assert (await ask_http(http, evaluate, f"Authorization: Bearer {viewer}", method="POST"))[0] == 200
        assert (await ask_http(http, "/anything-else", f"Authorization: Bearer {viewer}"))[0] == 403
        answers = [await ask_http(http, evaluate, method="POST") for _ in range(35)]
        assert [status for status, _, _ in answers][-1] == 429
        assert answers[-1][1]["retry-after"] == "60"
        assert (await ask_http(http, evaluate, f"Authorization: Bearer {viewer}", method="POST"))[0] == 200


async def test_flags_can_be_left_open_to_clients_that_show_nothing(database_url: str) -> None:
    async with guarded(database_url, flags_auth="open") as (address, http):
        await until(lambda: _is_ready(http))
        assert (await ask_http(http, "/ofrep/v1/evaluate/flags", method="POST"))[0] == 200
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = sync_pb2_grpc.FlagSyncServiceStub(channel)
            assert (await stub.FetchAllFlags(sync_pb2.FetchAllFlagsRequest())).flag_configuration
        async with asked(address) as stranger, refused(StatusCode.UNAUTHENTICATED):
            await stranger.live()


async def test_a_stream_of_flags_ends_with_the_token_that_opened_it(database_url: str) -> None:
    viewer = await issued(database_url, "app", "viewer")
    async with guarded(database_url) as (address, http), grpc.aio.insecure_channel(address) as channel:
        await until(lambda: _is_ready(http))
        stub: Any = sync_pb2_grpc.FlagSyncServiceStub(channel)
        refused_at_once = stub.SyncFlags(sync_pb2.SyncFlagsRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(refused_at_once))
        assert caught.value.code() is StatusCode.UNAUTHENTICATED
        stream = aiter(stub.SyncFlags(sync_pb2.SyncFlagsRequest(), metadata=(("authorization", f"Bearer {viewer}"),)))
        assert (await anext(stream)).flag_configuration
        await on_database.revoke(Settings(database_url=database_url), "app", reason="test")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(anext(stream), PATIENCE)
        assert caught.value.code() is StatusCode.UNAUTHENTICATED
        assert "was revoked" in str(caught.value.details())


async def test_a_token_lives_from_its_making_to_its_end(database_url: str) -> None:
    admin = await issued(database_url, "ann", "admin")
    async with guarded(database_url) as (address, _), asked_by(address, admin) as control:
        access: Any = control.access  # type: ignore[attr-defined]
        made = await access.CreateToken(access_pb2.CreateTokenRequest(name="ci-bot", role="operator"))
        async with asked_by(address, made.text) as bot:
            bot_access: Any = bot.access  # type: ignore[attr-defined]
            assert await bot_access.GetCaller(access_pb2.GetCallerRequest()) == access_pb2.GetCallerResponse(
                name="ci-bot", role="operator", token_id=made.token.id
            )
        rotated = await access.RotateToken(access_pb2.RotateTokenRequest(token="ci-bot", grace_seconds=3600))
        for text in (made.text, rotated.text):
            async with asked_by(address, text) as bot:
                await bot.stub.GetStatus(pb.GetStatusRequest())
        await access.RotateToken(access_pb2.RotateTokenRequest(token="ci-bot", grace_seconds=0))

        async def ended(text: str) -> bool:
            async with asked_by(address, text) as bot:
                try:
                    await bot.stub.GetStatus(pb.GetStatusRequest())
                except grpc.aio.AioRpcError as error:
                    return error.code() is StatusCode.UNAUTHENTICATED
            return False

        await until(lambda: ended(rotated.text))
        await access.RevokeToken(access_pb2.RevokeTokenRequest(token="ci-bot", reason="done"))
        listed = (await access.ListTokens(access_pb2.ListTokensRequest(all=True))).tokens
        assert [(each.name, each.state) for each in listed] == [("ann", "valid"), ("ci-bot", "revoked")]
        assert [each.name for each in (await access.ListTokens(access_pb2.ListTokensRequest())).tokens] == ["ann"]
    actions = [line[1] for line in audit_log(database_url)]
    assert actions == ["create_token", "create_token", "rotate_token", "rotate_token", "revoke_token"]
    (kept,) = rows(database_url, "SELECT string_agg(api_token::text || audit.line, '') FROM api_token, "
                   "(SELECT string_agg(detail::text, '') AS line FROM audit_log) AS audit")  # fmt: skip
    for text in (admin, made.text, rotated.text):
        assert text.rpartition("_")[2] not in kept[0]


async def test_what_is_refused_and_what_is_left_open_shows_in_the_status(database_url: str) -> None:
    viewer = await issued(database_url, "dashboards", "viewer")
    async with guarded(database_url, control_listen="0.0.0.0:0") as (address, _):
        port = address.rpartition(":")[2]
        async with asked(f"127.0.0.1:{port}") as stranger, refused(StatusCode.UNAUTHENTICATED):
            await stranger.live()
        async with asked_by(f"127.0.0.1:{port}", viewer) as control:
            status = await control.stub.GetStatus(pb.GetStatusRequest())
            assert ["without TLS" in warning for warning in status.warnings] == [True]

            async def counted() -> bool:
                found = await control.stub.GetStatus(pb.GetStatusRequest())
                return any(each.counters.get("auth.unauthenticated") == 1 for each in found.processes)

            await until(counted)
    async with control_address(database_url, http_listen="0.0.0.0:0") as address, asked(address) as control:
        status = await control.stub.GetStatus(pb.GetStatusRequest())
        assert ["asks nobody for a token" in warning for warning in status.warnings] == [True]


def test_the_python_clients_show_their_token(database_url: str) -> None:
    async def run() -> None:
        admin = await issued(database_url, "ann", "admin")
        async with guarded(database_url) as (address, _):
            async with asked_by(address, admin) as control:
                await control.apply("base", "A")

            def in_threads() -> None:
                with Flags(address, token=admin) as flags:
                    assert flags.set("spam", "A", "shadow", percent=5).changed_by.startswith("ann")
                with ControlClient(address, token=admin) as control:
                    assert control.caller().name == "ann"
                    labels = iter([pb.ImportLabelsRequest(model="spam", request_id="r")])
                    with pytest.raises(Exception, match=r"no label|labels") as caught:
                        control.import_labels(labels)
                    assert not isinstance(caught.value, NotAllowed)
                with ControlClient(address) as control, pytest.raises(NotAllowed, match="needs a token"):
                    control.caller()

            await asyncio.to_thread(in_threads)
            async with AsyncFlags(address, token=admin) as flags:
                assert (await flags.get("spam", "A")).claim == "shadow 5 %"
            assert "secret" not in repr(Tls())

    asyncio.run(run())


# --- the audit log ------------------------------------------------------------------------------------------------


async def test_the_audit_log_is_read_by_page_and_by_what_is_looked_for(database_url: str) -> None:
    async with control_address(database_url, nats_url=NOBODY_LISTENS) as address:  # noqa: SIM117
        async with asked(address) as control, grpc.aio.insecure_channel(address) as channel:
            access: Any = access_pb2_grpc.AccessServiceStub(channel)
            await control.apply("base", "A", "B")
            for percent in (1, 2, 3, 4):
                await control.set_flag("A", pb.CLAIM_SHADOW, percent=percent)
            await control.set_flag("B", pb.CLAIM_SHADOW)
            await control.promote("A")

            async def listed(**asked: Any) -> list[Any]:
                return list((await access.ListAudit(access_pb2.ListAuditRequest(**asked))).lines)

            everything = await listed()
            assert [line.action for line in everything] == ["promote", *["set_flag"] * 5, "apply_model"]
            assert [line.id for line in everything] == sorted((line.id for line in everything), reverse=True)
            first = await listed(most=3)
            second = await listed(most=3, before=first[-1].id)
            assert first + second == everything[:6]
            assert await listed(after=everything[2].id) == everything[:2][::-1]
            assert [line.subject for line in await listed(subject="spam.B")] == ["spam.B"]
            assert len(await listed(subject="spam")) == 7
            assert await listed(subject="spa") == await listed(subject="spam.") == []
            assert [line.action for line in await listed(action="promote", actor="ada")] == ["promote"]
            assert await listed(actor="a%") == []
            assert await listed(since=everything[0].at, until=everything[0].at) == []
            assert await listed(since=everything[1].at) == everything[:2]
            for bad in ({"most": -1}, {"most": 1001}, {"before": 3, "after": 1}):
                async with refused(StatusCode.INVALID_ARGUMENT):
                    await listed(**bad)
            with pytest.raises(Exception, match="refused"):
                rows(database_url, "DELETE FROM audit_log RETURNING 1")


async def test_every_kind_of_change_leaves_a_line(database_url: str) -> None:
    """What needs recorded answers (reviews, overruled labels) is held to it where those are made."""
    async with control_address(database_url, nats_url=NOBODY_LISTENS) as address, asked(address) as control:
        document = '{"flags": {"free": {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a"}}}'
        definition = json.dumps(json.loads(document)["flags"]["free"])
        await control.apply("base", "A", "B")
        await control.set_flag("A", pb.CLAIM_SHADOW)
        await control.start("A", percent=10)
        await control.stub.Attest(pb.AttestRequest(model="spam", version="A", what="rollback_plan", note="yes"))
        await control.stub.WaiveGate(
            pb.WaiveGateRequest(model="spam", version="A", gate="minimum_duration", reason="short")
        )
        await control.promote("B")
        await control.rollback()
        await control.stop()
        flags = control.flag_stub
        write = flags_pb2.FlagWrite(key="free", definition=definition)
        put = await flags.PutFlags(flags_pb2.PutFlagsRequest(flags=[write], actor="ada"))
        await flags.DeleteFlags(flags_pb2.DeleteFlagsRequest(keys=["free"], actor="ada"))
        await flags.RevertFlags(
            flags_pb2.RevertFlagsRequest(to_revision=put.changes.revision, keys=["free"], actor="ada")
        )
        await flags.ImportFlags(
            flags_pb2.ImportFlagsRequest(document=document.replace('"a": 1', '"a": 3'), actor="ada")
        )
    assert [action for _, action, _ in audit_log(database_url)] == [
        "apply_model",
        "set_flag",
        "start_experiment",
        "attest",
        "waive_gate",
        "promote",
        "rollback",
        "stop_experiment",
        "put_flags",
        "delete_flags",
        "revert_flags",
        "import_flags",
    ]
