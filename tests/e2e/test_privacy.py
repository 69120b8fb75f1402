"""Secrets planted into real traffic, under every form of storage; every table, log and file is searched for them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.struct_pb2 import Value

from multishadow.v1 import control_pb2, control_pb2_grpc, prediction_pb2, prediction_pb2_grpc, privacy_pb2
from multishadow_server.adapters.embedded import EmbeddedPostgres
from running import Running, running
from store_fixtures import everything, rows
from version_servers import Behaviour, Context, serving
from waiting import PATIENCE, until

FREE = tuple(part for role in ("router", "control", "http") for part in (f"--{role}-listen", "127.0.0.1:0"))
FORMS = {
    "full": privacy_pb2.Privacy(),
    "redacted": privacy_pb2.Privacy(
        paths=["input.name", "output.name", "attributes.who"], patterns=["email", "key"], custom=[]
    ),
    "hashed": privacy_pb2.Privacy(payloads="hashed"),
    "none": privacy_pb2.Privacy(payloads="none"),
}
REQUESTS = 9
CREDENTIAL = "planted-credential-of-a-caller"


def name(form: str) -> str:
    return f"Liddell-{form}"


def mail(form: str) -> str:
    return f"alice.{form}@example.com"


def key(form: str) -> str:
    return f"sk_live_{form}abcdefghijklmnop"


def secrets(form: str) -> list[bytes]:
    return [each(form).encode() for each in (name, mail, key)]


def request_of(form: str, number: int) -> prediction_pb2.PredictRequest:
    asked = prediction_pb2.PredictRequest(
        model=form, request_id=f"{form}-{number}", session_id=f"{mail(form)}/{number}"
    )
    asked.attributes.update({"mail": mail(form), "who": name(form), "plan": "free"})
    if number % 3 == 0:
        asked.text = f"{number}: I am {mail(form)}, and my key is {key(form)}"
    elif number % 3 == 1:
        asked.structured.update({"name": name(form), "mail": mail(form), "number": number})
    else:
        asked.raw = f"{number} {name(form)} {mail(form)} {key(form)}".encode()
    return asked


def answer_to(asked: prediction_pb2.PredictRequest, word: str) -> prediction_pb2.PredictResponse:
    """An answer that repeats what it was asked, as models do."""
    form = asked.model
    match asked.WhichOneof("input"):
        case "text":
            return prediction_pb2.PredictResponse(text=f"{word} to {mail(form)} with {key(form)}")
        case "structured":
            answer = prediction_pb2.PredictResponse()
            answer.structured.update({"name": f"{name(form)} {word}", "mail": mail(form)})
            return answer
    return prediction_pb2.PredictResponse(raw=word.encode() + asked.raw)


def repeating(word: str, *, fails: Callable[[int], bool] = lambda _: False) -> Behaviour:
    async def behave(asked: prediction_pb2.PredictRequest, context: Context) -> prediction_pb2.PredictResponse:
        if fails(int(asked.request_id.rsplit("-", 1)[1])):
            form = asked.model
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"cannot use {name(form)}, {mail(form)}")
        return answer_to(asked, word)

    return behave


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployed:
    command: Running
    control_address: str
    control: Any
    router: Any
    database_url: str


@asynccontextmanager
async def deployed(folder: Path) -> AsyncIterator[Deployed]:
    """Everything as `multishadow serve` runs it, with its log at its most talkative."""
    environment = {"MULTISHADOW_LOG_KEY": "a key for the log's files", "MULTISHADOW_WORKER_LINGER": "0.05"}
    options = (*FREE, "--routers", "1", "--data-dir", str(folder), "--log-level", "debug")
    async with AsyncExitStack() as stack:
        command = stack.enter_context(running("serve", *options, environment=environment))
        command.line_with("Next:")
        found = dict(re.findall(r"^(router|control) +(127\S+)", command.output, flags=re.MULTILINE))
        # Whoever starts a server on the same folder joins the one that runs, and learns its address. It leaves at once:
        # the server is to end with its last user, before its files are searched.
        joined = EmbeddedPostgres(folder / "postgres")
        url = joined.start()
        joined.stop()
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(found[role])) for role in ("control", "router")
        ]
        yield Deployed(
            command=command,
            control_address=found["control"],
            control=control_pb2_grpc.ControlServiceStub(channels[0]),
            router=prediction_pb2_grpc.PredictionServiceStub(channels[1]),
            database_url=url,
        )


async def compare_under_every_form(at: Deployed, stack: AsyncExitStack) -> None:
    base = await stack.enter_async_context(serving(repeating("live")))
    candidate = await stack.enter_async_context(serving(repeating("shadow", fails=lambda number: number % 4 == 3)))
    revision = 0
    for form, terms in FORMS.items():
        labels = control_pb2.LabelTerms(delay_seconds=0) if form in {"full", "redacted"} else None
        versions = [
            control_pb2.VersionSpec(name=version, address=server.address, timeout_ms=20_000)
            for version, server in (("base", base), ("A", candidate))
        ]
        await at.control.ApplyModel(
            control_pb2.ApplyModelRequest(model=form, versions=versions, labels=labels, privacy=terms, actor="ada")
        )
        started = await at.control.StartExperiment(
            control_pb2.StartExperimentRequest(model=form, candidates=["A"], actor="ada")
        )
        revision = started.revision

    async def router_follows() -> bool:
        status = await at.control.GetStatus(control_pb2.GetStatusRequest())
        return any(each.revision >= revision for each in status.processes if each.role == "router")

    await until(router_follows)


async def send(at: Deployed) -> None:
    for form in FORMS:
        for number in range(REQUESTS):
            metadata = (("authorization", f"Bearer {CREDENTIAL}"), ("x-contact", mail(form)))
            await at.router.Predict(request_of(form, number), timeout=PATIENCE, metadata=metadata)

        async def counted(model: str = form) -> bool:
            (report,) = (await at.control.Compare(control_pb2.CompareRequest(model=model))).candidates
            return bool(report.n == REQUESTS)

        await until(counted)


async def label(at: Deployed, form: str) -> None:
    for number in range(REQUESTS):
        right = Value(string_value=f"live to {mail(form)} with {key(form)}")
        reception = await at.control.RecordLabel(
            control_pb2.RecordLabelRequest(model=form, request_id=f"{form}-{number}", value=right, actor="ada")
        )
        assert reception.reception == "counted"


def marks(at: Deployed, form: str) -> list[tuple[Any, ...]]:
    """Whom labels found right (o), wrong (b), or could not judge (x), and how often."""
    return rows(
        at.database_url,
        "SELECT subject, level, CAST(n AS int) FROM rollup JOIN epoch ON epoch.id = epoch_id JOIN experiment ON "
        f"experiment.id = experiment_id WHERE model = '{form}' AND family = 'label' ORDER BY 1, 2",
    )


def shadowctl(at: Deployed, *arguments: str) -> str:
    program = Path(sys.executable).with_name("shadowctl")
    command = [str(program), *arguments, "--server", at.control_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def found_in(data: bytes, form: str) -> list[bytes]:
    return [secret for secret in secrets(form) if secret in data]


async def test_no_secret_is_stored_logged_or_written_but_where_the_terms_say_so(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with deployed(folder) as at, AsyncExitStack() as stack:
        await compare_under_every_form(at, stack)
        await send(at)
        await label(at, "full")
        await label(at, "redacted")
        stored = everything(at.database_url)
        # The search finds what there is.
        assert found_in(stored, "full") == secrets("full")
        for form in ("redacted", "hashed", "none"):
            assert found_in(stored, form) == []
        assert CREDENTIAL.encode() not in stored
        # An answer and its label are redacted alike, so what was right still is.
        for form in ("full", "redacted"):
            assert ("base", "o", REQUESTS // 3) in marks(at, form)

        shown = shadowctl(at, "privacy", "show", "redacted")
        assert "payloads redacted; hiding input.name, output.name, attributes.who, email, key stored" in shown
        assert re.search(rf"answers redacted {REQUESTS} .* comparisons redacted \d", shown)
        lines = await at.control.ListComparisons(control_pb2.ListComparisonsRequest(model="none"))
        assert "payload not stored (privacy: none)" in shadowctl(at, "review", "show", str(lines.comparisons[0].id))

        erased = shadowctl(at, "privacy", "purge", "full", "--yes", "--reason", "for a test")
        assert f"{REQUESTS} answers, {REQUESTS} labels and 0 dead letters are erased" in erased
        # What is left are levels of segments: "full" says that callers' attributes may be counted by.
        left = re.sub(rb"attributes\.[a-z]+=\S+", b"", everything(at.database_url))
        assert found_in(left, "full") == []

        at.command.process.send_signal(signal.SIGTERM)
        assert at.command.ended() == 0
        said = at.command.output.encode()
        assert b"DEBUG" in said
        for form in FORMS:
            assert found_in(said, form) == []
        assert CREDENTIAL.encode() not in said
    assert not (folder / "postgres" / "postmaster.pid").exists()
    # Nor are they in PostgreSQL's files, its write-ahead log, or nats-server's streams, which are encrypted.
    written = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert sum(map(len, written.values())) > 10_000_000
    for form in ("redacted", "hashed", "none"):
        assert [file for file, data in written.items() if found_in(data, form)] == []
    assert [file for file, data in written.items() if CREDENTIAL.encode() in data] == []
