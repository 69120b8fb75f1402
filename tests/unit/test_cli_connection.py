"""How shadowctl connects: what is typed, what the environment says, what is remembered, and what is never shown."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import yaml
from rich.console import Console

from authorities import Authority
from control_fixtures import at
from multishadow.v1 import access_pb2, access_pb2_grpc, control_pb2, control_pb2_grpc
from multishadow_client import cli
from multishadow_client.cli import connection
from multishadow_client.cli.status_view import StatusView

TOKEN = f"ms_{'a' * 8}_{'0' * 64}"


class Result(NamedTuple):
    code: int
    out: str
    err: str


Shadowctl = Callable[..., Result]


@pytest.fixture
def shadowctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shadowctl:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MULTISHADOW_ACTOR", "ann")

    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, *capsys.readouterr())

    return run


class Control(control_pb2_grpc.ControlServiceServicer, access_pb2_grpc.AccessServiceServicer):
    """Answers the calls of these tests, and remembers what was shown and asked."""

    def __init__(self) -> None:
        self.address = ""
        self.shown: list[str | None] = []
        self.asked: list[Any] = []
        self.audit: list[access_pb2.AuditLine] = []

    def _note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.shown.append({str(k): str(v) for k, v in context.invocation_metadata()}.get("authorization"))
        self.asked.append(request)

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> control_pb2.ListModelsResponse:  # noqa: N802
        self._note(request, context)
        return control_pb2.ListModelsResponse(models=[control_pb2.Model(name="spam", versions=["A"])])

    def GetCaller(self, request: Any, context: grpc.ServicerContext) -> access_pb2.GetCallerResponse:  # noqa: N802
        self._note(request, context)
        return access_pb2.GetCallerResponse(name="ci-bot", role="operator", token_id="aaaaaaaa")

    def CreateToken(self, request: Any, context: grpc.ServicerContext) -> access_pb2.CreateTokenResponse:  # noqa: N802
        self._note(request, context)
        token = access_pb2.Token(id="aaaaaaaa", name=request.name, role=request.role, created_at=at(0))
        return access_pb2.CreateTokenResponse(token=token, text=TOKEN)

    def RotateToken(self, request: Any, context: grpc.ServicerContext) -> access_pb2.RotateTokenResponse:  # noqa: N802
        self._note(request, context)
        token = access_pb2.Token(id="aaaaaaaa", name=request.token, role="viewer", former_until=at(86_400))
        return access_pb2.RotateTokenResponse(token=token, text=TOKEN)

    def ListAudit(self, request: Any, context: grpc.ServicerContext) -> access_pb2.ListAuditResponse:  # noqa: N802
        copy = access_pb2.ListAuditRequest()
        copy.CopyFrom(request)
        self._note(copy, context)
        after = request.after if request.HasField("after") else None
        if after is not None and len(self.asked) > 3:
            context.abort(grpc.StatusCode.CANCELLED, "the test has seen enough")
        lines = [line for line in self.audit if (after or 0) < line.id < (request.before or 1 << 60)]
        lines.sort(key=lambda line: line.id if after is not None else -line.id)
        return access_pb2.ListAuditResponse(lines=lines[: request.most])


@contextmanager
def serving(authority: Authority | None = None) -> Iterator[Control]:
    control = Control()  # type: ignore[abstract]  # what is not answered here says UNIMPLEMENTED
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    control_pb2_grpc.add_ControlServiceServicer_to_server(control, server)
    access_pb2_grpc.add_AccessServiceServicer_to_server(control, server)
    if authority is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = authority.issue("control")
        credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    control.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield control
    finally:
        server.stop(grace=None).wait(10)


@pytest.fixture
def control() -> Iterator[Control]:
    with serving() as control:
        yield control


def test_a_command_connects_over_tls_as_it_is_told_and_tells_what_is_missing(
    shadowctl: Shadowctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    with serving(authority) as control:
        at_it = ("get", "models", "--server", control.address)
        assert shadowctl(*at_it, "--ca", str(authority.file)).code == 0
        plain = shadowctl(*at_it)
        assert plain.code == 1
        assert f"hint: {control.address} speaks TLS: use it, too (shadowctl: --tls" in plain.err
        unknown = shadowctl(*at_it, "--tls")
        assert "of none of the authorities that are trusted here, the public ones" in unknown.err
        other = shadowctl(*at_it, "--ca", str(authority.file), "--server-name", "elsewhere")
        assert "is for localhost, 127.0.0.1, not for elsewhere" in other.err
        monkeypatch.setenv("MULTISHADOW_CLIENT_CA", str(authority.file))
        assert shadowctl(*at_it).code == 0
        clash = shadowctl(*at_it, "--no-tls")
        assert (clash.code, "--no-tls goes with none of" in clash.err) == (2, True)
    gone = shadowctl("get", "models", "--server", "127.0.0.1:1", "--ca", str(tmp_path / "nowhere"))
    assert (gone.code, "nowhere holds no authority's certificate" in gone.err) == (2, True)


def test_the_token_comes_from_the_environment_or_from_a_file_that_nobody_else_can_read(
    control: Control, shadowctl: Shadowctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTISHADOW_CONTROL", control.address)
    assert shadowctl("token", "whoami").out == "ci-bot (aaaaaaaa), operator\n"
    monkeypatch.setenv("MULTISHADOW_TOKEN", TOKEN)
    assert shadowctl("token", "whoami").code == 0
    file = tmp_path / "token"
    file.write_text("ms_from_file\n")
    file.chmod(0o644)
    told = shadowctl("token", "whoami", "--token-file", str(file))
    assert (told.code, f"chmod 600 {file}" in told.err) == (2, True)
    assert "ms_from_file" not in told.err + told.out
    file.chmod(0o600)
    assert shadowctl("token", "whoami", "--token-file", str(file)).code == 0
    monkeypatch.setenv("MULTISHADOW_TOKEN_FILE", str(file))
    assert shadowctl("token", "whoami").code == 0
    assert control.shown == [None, f"Bearer {TOKEN}", "Bearer ms_from_file", "Bearer ms_from_file"]
    for content in ("", "two words"):
        file.write_text(content)
        assert shadowctl("token", "whoami").code == 2
    assert shadowctl("token", "whoami", "--token-file", str(tmp_path / "nowhere")).code == 2


def test_what_use_is_told_of_a_connection_is_remembered_for_that_server_alone(
    control: Control, shadowctl: Shadowctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    used = shadowctl("use", "spam", "--server", control.address, "--token-file", "token")
    assert f"commands connect to {control.address}" in used.out
    kept = yaml.safe_load((tmp_path / "config/multishadow/connection.yaml").read_text())
    assert kept == {"server": control.address, "token_file": str(file)}
    assert TOKEN not in (tmp_path / "config/multishadow/connection.yaml").read_text()
    control.shown.clear()
    assert shadowctl("get", "models").code == 0
    assert shadowctl("get", "models", "--server", control.address).code == 0
    assert control.shown == [f"Bearer {TOKEN}"] * 2
    with serving() as other:
        assert shadowctl("get", "models", "--server", other.address).code == 0
        monkeypatch.setenv("MULTISHADOW_CONTROL", other.address)
        assert shadowctl("get", "models").code == 0
        assert other.shown == [None, None]
    monkeypatch.delenv("MULTISHADOW_CONTROL")
    # Choosing another model leaves it alone.
    assert shadowctl("use", "spam").code == 0
    document = json.loads(shadowctl("use", "-o", "json").out)
    assert document == {"model": "spam", "connection": kept}
    assert shadowctl("use", "--clear").out == "no model is chosen\n"
    assert connection.remembered() == connection.Connection()


def test_a_file_of_another_release_is_no_riddle(shadowctl: Shadowctl) -> None:
    connection.file().parent.mkdir(parents=True)
    for content in ("server: [1", "colour: red"):
        connection.file().write_text(content)
        told = shadowctl("get", "models")
        assert (told.code, "`shadowctl use --clear` removes it" in told.err) == (2, True)
    assert shadowctl("use", "--clear").code == 0
    assert not connection.file().exists()


def test_a_router_is_never_shown_the_token(shadowctl: Shadowctl, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def predict(_: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append({str(key): value for key, value in context.invocation_metadata()})
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(predict)
    service = grpc.method_handlers_generic_handler("multishadow.v1.PredictionService", {"Predict": handler})
    server.add_generic_rpc_handlers((service,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        monkeypatch.setenv("MULTISHADOW_TOKEN", TOKEN)
        assert shadowctl("predict", "spam", "--text", "x", "--router", address).code == 0
    finally:
        server.stop(grace=None).wait(10)
    assert "authorization" not in seen[0]


# --- tokens -------------------------------------------------------------------------------------------------------


def test_a_new_token_is_shown_once_or_written_to_a_file_of_its_owner(
    control: Control, shadowctl: Shadowctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTISHADOW_CONTROL", control.address)
    shown = shadowctl("token", "create", "ci-bot", "--role", "operator", "--expires", "90d")
    assert TOKEN in shown.out
    assert "the only time that it is shown" in shown.out
    assert control.asked[-1] == access_pb2.CreateTokenRequest(
        name="ci-bot", role="operator", expires_in_seconds=90 * 86_400, actor="ann"
    )
    assert json.loads(shadowctl("token", "create", "x", "--role", "viewer", "-o", "json").out)["text"] == TOKEN
    file = tmp_path / "ci-bot.token"
    saved = shadowctl("token", "rotate", "ci-bot", "--grace", "2h", "--save", str(file))
    assert TOKEN not in saved.out
    assert (file.read_text(), file.stat().st_mode & 0o777) == (f"{TOKEN}\n", 0o600)
    assert control.asked[-1].grace_seconds == 7200
    assert shadowctl("token", "rotate", "ci-bot", "--now", "--save", str(file)).code == 0
    assert control.asked[-1].grace_seconds == 0
    before = len(control.asked)
    nowhere = shadowctl("token", "create", "y", "--role", "viewer", "--save", str(tmp_path / "no" / "y"))
    assert (nowhere.code, len(control.asked)) == (2, before)


# --- the audit log ------------------------------------------------------------------------------------------------


def line(number: int) -> access_pb2.AuditLine:
    made = access_pb2.AuditLine(id=number, at=at(1_795_435_200 + number), actor="ci-bot", action="set_flag")
    made.subject = "spam.A"
    made.detail.update({"claim": f"shadow {number} %", "reason": ""})
    return made


def test_the_audit_log_is_read_page_by_page(
    control: Control, shadowctl: Shadowctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTISHADOW_CONTROL", control.address)
    control.audit = [line(number) for number in range(1, 1_206)]
    table = shadowctl("audit", "--most", "2").out
    assert [row.split()[0] for row in table.splitlines()[2:]] == ["1205", "1204"]
    assert "claim shadow 1205 %" in table
    document = json.loads(shadowctl("audit", "-n", "1100", "-o", "json").out)
    assert [each["id"] for each in document["lines"]] == list(range(1205, 105, -1))
    assert document["next_before"] == 106
    assert [each.most for each in control.asked[-2:]] == [1000, 100]
    rest = json.loads(shadowctl("audit", "-n", "1100", "--before", "106", "-o", "json").out)
    assert (rest["lines"][0]["id"], len(rest["lines"]), rest["next_before"]) == (105, 105, None)
    asked = ("--actor", "ci-bot", "--action", "promote", "--subject", "spam")
    assert shadowctl("audit", *asked, "--since", "2026-11-01", "--until", "2026-11-24T18:00+01:00").code == 0
    request = control.asked[-1]
    assert (request.actor, request.action, request.subject) == ("ci-bot", "promote", "spam")
    assert (request.since.ToJsonString(), request.until.ToJsonString()) == (
        "2026-11-01T00:00:00Z",
        "2026-11-24T17:00:00Z",
    )
    assert shadowctl("audit", "--since", "7d").code == 0
    assert shadowctl("audit", "--since", "yesterday").code == 2


def test_the_audit_log_is_followed_line_by_line(
    control: Control, shadowctl: Shadowctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTISHADOW_CONTROL", control.address)
    control.audit = [line(1), line(2)]
    # The fourth call fails, which ends it here as Ctrl-C does for people.
    followed = shadowctl("audit", "--follow", "-n", "1", "-o", "json")
    assert [json.loads(each)["id"] for each in followed.out.splitlines()] == [2]
    assert [each.after for each in control.asked[1:3]] == [2, 2]


def test_the_status_shows_what_is_left_open() -> None:
    status = control_pb2.GetStatusResponse(warnings=["control asks nobody for a token"])
    console = Console(width=100, file=io.StringIO())
    console.print(StatusView(status=status, versions=[], experiments=[], rollouts=[], now=datetime.now(UTC)))
    assert "warning: control asks nobody for a token" in console.file.getvalue()  # type: ignore[attr-defined]
