"""TLS on every port: who gets in, what is said to who does not, and renewal without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import nats.errors
import psycopg
import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ProviderFatalError

from authorities import Authority, Pair
from descriptions import services
from multishadow.v1 import prediction_pb2
from multishadow_client import Client, ControlClient, Tls, Unreachable
from multishadow_client._address import Address
from multishadow_client._diagnosis import diagnose
from multishadow_client.cli import connection
from multishadow_client.openfeature import MultishadowProvider
from multishadow_server.adapters import health, jetstream_log, nats_connection
from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres
from multishadow_server.adapters.jetstream_backlog import JetStreamBacklog
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.tls import CallingTls, ClientTls, Files
from multishadow_server.adapters.version_channels import VersionChannels
from multishadow_server.adapters.version_probe import GrpcVersionProbe
from multishadow_server.app import router as router_role
from multishadow_server.app import tokens
from multishadow_server.core.routing import Claim
from multishadow_server.errors import InvalidInput, LogUnavailable, StoreUnavailable, Unavailable, VersionUnavailable
from multishadow_server.settings import Settings
from routers import PREDICT, register
from running_control import control_addresses
from waiting import PATIENCE

NOBODY_LISTENS = "nats://127.0.0.1:1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def serving(pair: Pair, **more: Any) -> dict[str, Any]:
    return {"tls_cert": pair.cert, "tls_key": pair.key, "nats_url": NOBODY_LISTENS, **more}


def serial(address: str, authority: Authority) -> str:
    """Which certificate is shown there now, verified."""
    context = ssl.create_default_context(cafile=authority.file)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return hashlib.sha256(shown).hexdigest()


async def over_https(address: str, tls: Tls, path: str = "/healthz") -> bytes:
    context = tls.context()
    context.set_alpn_protocols(["http/1.1"])
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return answer


async def nothing_over_https(address: str, tls: Tls) -> bool:
    """Whether no answer comes: with TLS 1.3 who is refused learns of it after the handshake, or finds it closed."""
    try:
        return await over_https(address, tls) == b""
    except (ssl.SSLError, ConnectionResetError):
        return True


def status_of(address: str, tls: Tls | None) -> str:
    """What a call to control comes to: "fine", or what a person is told."""
    with ControlClient(address, tls=tls, timeout=PATIENCE) as control:
        try:
            control.status()
        except Unreachable as error:
            return connection.advice(error)
    return "fine"


@contextlib.contextmanager
def half_made(address: str, count: int, said: bytes = b"\x16\x03\x01\x02\x00\x01") -> Iterator[list[socket.socket]]:
    """Connections that begin a handshake and never go on."""
    host, _, port = address.rpartition(":")
    connections = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(count)]
    try:
        for connection in connections:
            connection.sendall(said)
        yield connections
    finally:
        for connection in connections:
            connection.close()


# --- control ------------------------------------------------------------------------------------------------------


async def test_control_speaks_tls_on_both_ports_and_renews_without_a_restart(
    database_url: str, authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue("control")
    stranger = Authority(tmp_path, "other")
    ours, theirs = Tls(ca=authority.file), Tls(ca=stranger.file)
    async with control_addresses(database_url, **serving(pair)) as (address, http):
        told: list[tuple[Tls | None, str]] = [
            (ours, "fine"),
            (None, f"{address} speaks TLS: use it, too (shadowctl: --tls"),
            (theirs, f"of none of the authorities that are trusted here, those in {stranger.file}"),
            (Tls(ca=authority.file, server_name="spam.internal"), "is for localhost, 127.0.0.1, not for spam.internal"),
        ]
        for tls, words in told:
            assert words in await asyncio.to_thread(status_of, address, tls)
        assert (await over_https(http, ours)).startswith(b"HTTP/1.1 200")
        with pytest.raises(ssl.SSLCertVerificationError):
            await over_https(http, theirs)
        # Plain HTTP gets no answer out of it, and a plain call ends.
        assert await plain_http(http) == b""

        # Half-made connections stand beside everybody else, not before them.
        with half_made(address, 40), half_made(http, 40), half_made(address, 5, b"GET / HTTP/1.1\r\n\r\n"):
            # After so long gRPC gives up half-made ones.
            async with asyncio.timeout(10):
                assert await asyncio.to_thread(status_of, address, ours) == "fine"
                assert (await over_https(http, ours)).startswith(b"HTTP/1.1 200")

        with ControlClient(address, tls=ours) as long_lived:
            await asyncio.to_thread(long_lived.status)
            before = [await asyncio.to_thread(serial, each, authority) for each in (address, http)]
            # Half a renewal changes nothing.
            good = pair.key.read_bytes()
            pair.key.write_bytes(authority.issue("another").key.read_bytes())
            assert [await asyncio.to_thread(serial, each, authority) for each in (address, http)] == before
            pair.key.write_bytes(good)
            authority.issue("control")
            after = [await asyncio.to_thread(serial, each, authority) for each in (address, http)]
            assert len({*before, *after}) == 2
            assert after[0] == after[1]
            await asyncio.to_thread(long_lived.status)


async def plain_http(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_with_mutual_tls_only_who_shows_a_certificate_of_the_authority_gets_in(
    database_url: str, authority: Authority, tmp_path: Path
) -> None:
    pair, mine = authority.issue("control"), authority.issue("me", "ann@example.org")
    old = authority.issue("old", "ann@example.org", expired=True)
    wrong = Authority(tmp_path, "other").issue("wrong", "ann@example.org")
    good = Tls(ca=authority.file, cert=mine.cert, key=mine.key)
    settings = serving(pair, tls_client_ca=authority.file)
    async with control_addresses(database_url, **settings) as (address, http):
        assert await asyncio.to_thread(status_of, address, good) == "fine"
        assert (await over_https(http, good)).startswith(b"HTTP/1.1 200")
        none = await asyncio.to_thread(status_of, address, Tls(ca=authority.file))
        assert "asks who connects for a certificate: show one (shadowctl: --cert and --key)" in none
        assert "speaks TLS" in await asyncio.to_thread(status_of, address, None)
        for shown in (wrong, old):
            tls = Tls(ca=authority.file, cert=shown.cert, key=shown.key)
            assert "does not accept the certificate" in await asyncio.to_thread(status_of, address, tls)
            assert await nothing_over_https(http, tls)
        assert await nothing_over_https(http, Tls(ca=authority.file))
        await health.check(address, timeout=PATIENCE, tls=good)
        with pytest.raises(Unavailable, match="asks who connects for a certificate"):
            await health.check(address, timeout=PATIENCE, tls=Tls(ca=authority.file))
        with pytest.raises(InvalidInput, match=r"cannot be read|holds no"):
            await health.check(address, timeout=PATIENCE, tls=Tls(ca=tmp_path / "nowhere"))


async def test_roles_do_not_start_with_bad_files(database_url: str, authority: Authority) -> None:
    pair = authority.issue("old", expired=True)
    with pytest.raises(InvalidInput, match=r"MULTISHADOW_TLS_CERT: .*old.cert.pem has expired"):
        async with control_addresses(database_url, **serving(pair)):
            pass
    settings = Settings(database_url=database_url, router_listen="127.0.0.1:0", **serving(pair))
    with pytest.raises(InvalidInput, match="has expired"):
        await router_role.run(settings, asyncio.Event(), ready=lambda _: None)
    other = Settings(database_url=database_url, versions_ca=pair.key, nats_url=NOBODY_LISTENS)
    with pytest.raises(InvalidInput, match="MULTISHADOW_VERSIONS_CA"):
        await router_role.run(other, asyncio.Event(), ready=lambda _: None)


async def test_why_no_connection_came_about_is_found_out_also_of_what_is_no_grpc(authority: Authority) -> None:
    pair = authority.issue("expired", expired=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def say(address: str, tls: Tls | None) -> str:
        parsed = Address.parse(address, default="127.0.0.1:1", tls=tls)
        return await asyncio.to_thread(diagnose, parsed, within=5.0)

    async with listening(leave, context) as address:
        assert "has expired" in await say(address, Tls(ca=authority.file))
    async with listening(leave) as address:
        assert "does not speak TLS" in await say(address, Tls(ca=authority.file))
        assert await say(address, None) == ""
    assert await say(address, Tls(ca=authority.file)) == ""
    assert await say("unix:/run/nobody", None) == ""
    assert "go together" in await say("127.0.0.1:1", Tls(cert=pair.cert))


@asynccontextmanager
async def listening(answer: Callable[..., Any], context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


# --- versions, and the way of a request ---------------------------------------------------------------------------


@asynccontextmanager
async def version_over_tls(pair: Pair, clients: Authority) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A version server over TLS; its address and the metadata that it was sent."""
    seen: list[dict[str, Any]] = []

    async def predict(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        seen.append(dict(context.invocation_metadata() or ()))
        return prediction_pb2.PredictResponse(text="yes").SerializeToString()

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(predict)
    service, name = PREDICT[1:].split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.cert.read_bytes())],
        clients.file.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"tls://127.0.0.1:{port}", seen
    finally:
        await server.stop(None)


async def test_a_request_goes_over_tls_all_the_way_and_takes_its_credentials_along(
    database_url: str, nats_url: str, log_name: str, authority: Authority
) -> None:
    pair = authority.issue("router")
    mine = authority.issue("router-to-versions", "router@example.org")
    async with version_over_tls(authority.issue("spam", "spam.internal"), authority) as (version, seen):
        await register(database_url, {"base": f"{version}?server_name=spam.internal"}, {"base": Claim.LIVE})
        settings = Settings(
            database_url=database_url,
            nats_url=nats_url,
            log_name=log_name,
            router_listen="127.0.0.1:0",
            reflection="off",
            tls_cert=pair.cert,
            tls_key=pair.key,
            versions_ca=authority.file,
            versions_cert=mine.cert,
            versions_key=mine.key,
        )
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        role = asyncio.create_task(router_role.run(settings, stop, ready=ready.set_result))
        try:
            address = await asyncio.wait_for(ready, PATIENCE)

            def ask() -> None:
                with Client(address, tls=Tls(ca=authority.file)) as client:
                    answer = client.predict("spam", text="hello", metadata=(("authorization", "Bearer mine"),))
                    assert (answer.output, answer.version) == ("yes", "base")
                with Client(address) as client, pytest.raises(Unreachable):
                    client.predict("spam", text="hello", timeout=PATIENCE)
                with grpc.secure_channel(address, Tls(ca=authority.file).credentials()) as channel:
                    with pytest.raises(grpc.RpcError) as caught:
                        services(channel)
                    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

            await asyncio.to_thread(ask)
            assert seen[0]["authorization"] == "Bearer mine"
        finally:
            stop.set()
            await role


def calling(authority: Authority, pair: Pair | None = None) -> CallingTls:
    cert, key = (pair.cert, pair.key) if pair else (None, None)
    return CallingTls(Files.of("VERSIONS", cert=cert, key=key, ca=authority.file))


async def test_a_version_is_called_over_tls_by_its_name_and_anew_when_certificates_change(
    authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "other")
    mine = authority.issue("mine", "router@example.org")
    body = prediction_pb2.PredictRequest(text="x").SerializeToString()
    async with version_over_tls(authority.issue("spam", "spam.internal"), authority) as (address, _):
        named = f"{address}?server_name=spam.internal"

        async def reached(tls: CallingTls, where: str) -> bool:
            gateway = GrpcModelGateway(max_message_bytes=1 << 20, tls=tls)
            try:
                answer = await gateway.call(where, PREDICT, body, metadata=(), deadline=None)
            finally:
                await gateway.aclose()
            assert answer.reached == (answer.status_code == 0)
            return answer.reached

        assert await reached(calling(authority, mine), named)
        assert not await reached(calling(authority, mine), address)
        assert not await reached(calling(authority), named)
        assert not await reached(calling(stranger, mine), named)
        assert not await reached(calling(authority, mine), named.removeprefix("tls://").partition("?")[0])

        await GrpcVersionProbe(calling(authority, mine)).connect(named, within=PATIENCE)
        with pytest.raises(VersionUnavailable):
            await GrpcVersionProbe(calling(authority, mine)).connect(address, within=0.5)
        with pytest.raises(VersionUnavailable, match="no address"):
            VersionChannels().open("nonsense", ())

        tls = calling(authority, mine)
        gateway = GrpcModelGateway(max_message_bytes=1 << 20, tls=tls)
        gateway._tls = VersionChannels(tls, look_seconds=0.0)
        try:
            await gateway.call(named, PREDICT, body, metadata=(), deadline=None)
            first = gateway._channels[named]
            await gateway.call(named, PREDICT, body, metadata=(), deadline=None)
            assert gateway._channels[named] is first
            authority.issue("mine", "router@example.org")
            answer = await gateway.call(named, PREDICT, body, metadata=(), deadline=None)
            assert answer.status_code == 0
            assert gateway._channels[named] is not first
        finally:
            await gateway.aclose()


# --- the engines --------------------------------------------------------------------------------------------------


class NatsOverTls(EmbeddedNats):
    """A nats-server that speaks TLS, and asks who connects for a certificate."""

    def __init__(self, folder: Path, pair: Pair, authority: Authority) -> None:
        super().__init__(folder)
        self._tls = (
            f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}", ca_file: "{authority.file}", verify: true }}'
        )

    def _configuration(self) -> str:
        return f"{super()._configuration()}{self._tls}\n"


async def test_the_capture_log_is_reached_over_mutual_tls(authority: Authority, tmp_path: Path) -> None:
    mine = authority.issue("mine", "router@example.org")
    tls = ClientTls(Files.of("NATS", cert=mine.cert, key=mine.key, ca=authority.file))
    without = ClientTls(Files.of("NATS", cert=None, key=None, ca=authority.file))
    server = NatsOverTls(tmp_path / "nats", authority.issue("nats"), authority)
    url = server.start().replace("nats://127.0.0.1", "tls://localhost")
    try:
        client = await asyncio.wait_for(nats_connection.connect(url, name="test", tls=tls), PATIENCE)
        await jetstream_log.ensure_stream(client.jetstream(), Settings(log_name="captures"))
        backlog = JetStreamBacklog(url, "captures", tls=tls)
        assert await backlog.waiting() == 0
        for bad in (without, None):
            refused = JetStreamBacklog(url, "captures", tls=bad)
            with pytest.raises(LogUnavailable):
                await refused.waiting()
        # The server comes back with another certificate, and ours was renewed: the connection heals by itself.
        server.stop()
        authority.issue("mine", "router@example.org")
        authority.issue("nats")
        server.start()
        await asyncio.wait_for(_answered(client), PATIENCE)
        await backlog.aclose()
        await nats_connection.disconnect(client)
    finally:
        server.stop()


async def _answered(client: Any) -> None:
    while True:
        try:
            await client.jetstream(timeout=1).stream_info("captures")
        except (nats.errors.Error, OSError):
            await asyncio.sleep(0.05)
        else:
            return


@asynccontextmanager
async def postgres_over_tls(socket_path: str, pair: Pair) -> AsyncIterator[int]:
    """The way to a PostgreSQL without TLS of its own, over TLS as PostgreSQL speaks it; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            # SSLRequest: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
            assert await reader.readexactly(8) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
            writer.write(b"S")
            await writer.start_tls(context)
            inner, outer = await asyncio.open_unix_connection(socket_path)
            await asyncio.gather(_pump(reader, outer), _pump(inner, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def test_the_database_is_reached_over_tls_and_another_than_the_right_one_is_not(
    database_url: str, postgres: EmbeddedPostgres, authority: Authority, tmp_path: Path
) -> None:
    folder = psycopg.conninfo.conninfo_to_dict(database_url)["host"]
    name = database_url.partition("/test_")[2].partition("?")[0]
    trusted, other = authority.file, Authority(tmp_path, "other").file

    async def revision(host: str, ca: Path) -> int:
        url = f"postgresql://postgres@{host}:{port}/test_{name}?sslmode=verify-full&sslrootcert={ca}"
        engine = open_engine(url)
        try:
            return (await PostgresControl(engine).read()).revision
        finally:
            await engine.dispose()

    async with postgres_over_tls(f"{folder}/.s.PGSQL.5432", authority.issue("pg", "localhost")) as port:
        assert await revision("localhost", trusted) == 0
        with pytest.raises(StoreUnavailable, match="certificate"):
            await revision("127.0.0.1", trusted)
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await revision("localhost", other)


# --- applications -------------------------------------------------------------------------------------------------


async def test_an_application_follows_flags_over_tls_with_a_token(database_url: str, authority: Authority) -> None:
    settings = serving(authority.issue("control"), auth="tokens", flag_check_interval=0.1)
    issued = await tokens.create(Settings(database_url=database_url), name="app", role="viewer", life=None)
    await register(database_url, {"base": "127.0.0.1:1"}, {"base": Claim.LIVE})
    async with control_addresses(database_url, **settings) as (address, _):

        def read() -> str:
            provider = MultishadowProvider(address, tls=Tls(ca=authority.file), token=issued.text)
            provider.initialize(EvaluationContext())
            try:
                return provider.resolve_string_details("spam.base", "off", EvaluationContext("user")).value
            finally:
                provider.shutdown()

        assert await asyncio.to_thread(read) == "live"
        stranger = MultishadowProvider(address, tls=Tls(ca=authority.file))
        with pytest.raises(ProviderFatalError, match="needs a token"):
            await asyncio.to_thread(stranger.initialize, EvaluationContext())
        await asyncio.to_thread(stranger.shutdown)
