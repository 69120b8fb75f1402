"""replay: send requests again that were answered once, and compare the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from multishadow.v1 import prediction_pb2
from multishadow.v1 import replay_pb2 as pb
from multishadow_client import _prediction_json
from multishadow_client._address import CONTROL, ROUTER
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import MultishadowError
from multishadow_client.cli import completion, duration, figures, replay_file, selection, terminal
from multishadow_client.cli.exit_code import ExitCode, Mistake
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    ExperimentId,
    Model,
    Output,
    Server,
    Timeout,
    actor,
    examples,
)
from multishadow_client.cli.replay_summary import ReplaySummary
from multishadow_client.cli.share import share
from multishadow_client.cli.terminal import Format

EXAMPLES = examples(
    "shadowctl replay --to spam.B --stored --diverged",
    "shadowctl replay --to spam.B sessions.jsonl --speed 10 --output-file results.jsonl",
    "shadowctl replay --to spam --stored --since 2h --rate 50 --allow 1%",
)
MOST_PROBLEMS = 20


def replay(
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="MODEL[.VERSION]",
            help="A version, at its registered address; or a model, through the router.",
            autocompletion=completion.versions,
            show_default=False,
        ),
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Logged sessions: JSONL or Parquet.", show_default=False)
    ] = None,
    stored: Annotated[bool, typer.Option("--stored", help="The requests of stored comparisons.")] = False,
    experiment: ExperimentId = 0,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Received since: 2h ago, or 2026-11-23T12:00:00Z.")
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Received before.")] = "",
    diverged: Annotated[
        bool, typer.Option("--diverged", help="Only those on which some candidate diverged or failed.")
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, metavar="NUMBER", help="At most so many, the newest.")] = 10_000,
    speed: Annotated[
        str, typer.Option("--speed", metavar="FACTOR", help="1: as they arrived; 10: ten times as fast; max: at once.")
    ] = "max",
    rate: Annotated[
        float, typer.Option("--rate", min=0, metavar="NUMBER", help="Requests per second, evenly.", show_default=False)
    ] = 0.0,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=1_000, metavar="NUMBER", help="Most under way at once.")
    ] = 8,
    output_file: Annotated[
        Path | None, typer.Option("--output-file", metavar="FILE", help="A JSON line for each result.")
    ] = None,
    with_responses: Annotated[
        bool, typer.Option("--with-responses", help="With --output-file: the answers, too.")
    ] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad lines of the file out.")] = False,
    allow: Annotated[
        float, typer.Option("--allow", metavar="SHARE", parser=share, help="Share that may differ or fail.")
    ] = 0.0,
    model: Model = "",
    router: Annotated[
        str,
        typer.Option(
            "--router", envvar="MULTISHADOW_ROUTER", metavar="HOST:PORT", help="The router, as control reaches it."
        ),
    ] = ROUTER,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Send requests again that were answered once, and compare the answers with the former ones.

    Control sends them, and compares by the model's comparator. Requests of one session are sent one after the other.
    Replayed requests count in no experiment.

    Ends with 0 when no more than --allow of the answers differ, fail or cannot be compared, with 1 when more do, with 3
    when it was stopped before its end. Bad lines in the file end it with 2 before anything is sent, unless --skip-bad.
    """
    if stored == (file is not None):
        raise Mistake("say which requests, once: a FILE of logged sessions, or --stored")
    if not stored and (experiment or since or until or diverged):
        raise Mistake("--experiment, --since, --until, --diverged are for --stored requests; a FILE is sent whole")
    factor, even = _pace(speed, rate)
    with ControlClient(server, timeout=timeout) as control:
        name, version = _target(to, model, control)
        terms = pb.ReplayTerms(
            model=name,
            version=version,
            router="" if version else router,
            concurrency=concurrency,
            with_responses=with_responses,
            actor=actor(),
            speed=factor,
            rate=even,
        )
        summary = ReplaySummary()
        if file is None:
            chosen = pb.StoredRequests(experiment_id=experiment, diverged=diverged, most=most)
            _set_moment(chosen.since, "--since", since)
            _set_moment(chosen.until, "--until", until)
            terms.stored.CopyFrom(chosen)
            requests: Iterator[pb.ReplayRequest] = iter((pb.ReplayRequest(terms=terms),))
        else:
            need_at = bool(terms.speed)
            summary.total = _checked(file, need_at=need_at, skip_bad=skip_bad)
            requests = _requests(terms, file, need_at=need_at, skip_bad=skip_bad)
        failure = _run(control, requests, summary, output_file)
    terminal.show(output, summary.view(), summary.document())
    if failure is not None:
        raise failure
    if not summary.complete:
        raise typer.Exit(ExitCode.NOT_YET)
    if summary.bad_share > allow:
        raise typer.Exit(ExitCode.FAILED)


def _run(
    control: ControlClient, requests: Iterator[pb.ReplayRequest], summary: ReplaySummary, output_file: Path | None
) -> MultishadowError | None:
    """Replay until the end or Ctrl-C; an error in the middle is returned, so that what was seen is told first."""
    try:
        with _written(output_file) as write, _progress(summary) as advance:
            for response in control.replay(requests):
                _take(response, summary, write)
                advance()
    except KeyboardInterrupt:
        terminal.remark("stopped; requests under way are abandoned")
    except MultishadowError as error:
        if not summary.n:
            raise
        return error
    return None


def _take(response: pb.ReplayResponse, summary: ReplaySummary, write: Callable[[pb.ReplayResult], None]) -> None:
    match response.WhichOneof("message"):
        case "started":
            summary.target = response.started.target
            summary.total = response.started.total or summary.total
        case "result":
            summary.add(response.result)
            write(response.result)
        case "ended":
            summary.gone = response.ended.gone
            summary.complete = True
        case None:
            pass


def _target(to: str, named_model: str, control: ControlClient) -> tuple[str, str]:
    """The (model, version) that is meant; the version is empty where a model's name is given."""
    if to in {each.name for each in control.list_models().models}:
        return to, ""
    return selection.version(to, named_model, control)


def _pace(speed: str, rate: float) -> tuple[float, float]:
    """The (speed, rate) that are meant; both 0 is as fast as possible."""
    if rate:
        if speed != "max":
            raise Mistake("give --speed or --rate, not both: a rate takes the place of the arrivals")
        return 0.0, rate
    if speed == "max":
        return 0.0, 0.0
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1e6:
        raise Mistake(f"--speed: {speed!r} is no factor; write 1, 10, 0.5 or max")
    return factor, 0.0


def _set_moment(field: Timestamp, option: str, typed: str) -> None:
    """Set the field to a time, or to a span before now; leave it when nothing was typed."""
    if not typed:
        return
    try:
        field.FromJsonString(typed)
    except ValueError:
        try:
            ago = duration.seconds(typed.removesuffix(" ago"))
        except typer.BadParameter as error:
            raise Mistake(f"{option}: {typed!r} is no time; write 2h, or 2026-11-23T12:00:00Z") from error
        field.FromSeconds(int(datetime.now(UTC).timestamp()) - ago)


# --- a file -------------------------------------------------------------------------------------------------------


def _checked(file: Path, *, need_at: bool, skip_bad: bool) -> int:
    """How many requests the file holds. Raises Mistake: bad lines, each named, or none that can be sent."""
    good = bad = 0
    for row in replay_file.read(file, need_at=need_at):
        if not row.problem:
            good += 1
            continue
        bad += 1
        if bad <= MOST_PROBLEMS:
            terminal.remark(f"{row.where}: {row.problem}")
        elif bad == MOST_PROBLEMS + 1:
            terminal.remark("further bad lines are only counted")
    if bad and not skip_bad:
        raise Mistake(f"{file}: {figures.count(bad)} bad lines, so nothing was sent; --skip-bad leaves them out")
    if not good:
        raise Mistake(f"{file}: there is no request in it")
    return good


def _requests(terms: pb.ReplayTerms, file: Path, *, need_at: bool, skip_bad: bool) -> Iterator[pb.ReplayRequest]:
    yield pb.ReplayRequest(terms=terms)
    for row in replay_file.read(file, need_at=need_at):
        if row.request is not None:
            yield pb.ReplayRequest(request=row.request)
        elif not skip_bad:
            raise Mistake(f"{row.where}: {row.problem}; the file has changed since it was checked")


# --- results and progress -----------------------------------------------------------------------------------------


@contextmanager
def _written(file: Path | None) -> Iterator[Callable[[pb.ReplayResult], None]]:
    """Writes each result as a line, at once, so that what was seen is there however the replay ends."""
    if file is None:
        yield lambda _: None
        return
    try:
        stream = file.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise Mistake(f"cannot write {file}: {error.strerror}") from error
    with stream:
        yield lambda result: _write(stream.write, result)


def _write(write: Callable[[str], Any], result: pb.ReplayResult) -> None:
    write(json.dumps(_line(result), ensure_ascii=False, allow_nan=False) + "\n")


def _line(result: pb.ReplayResult) -> dict[str, Any]:
    line: dict[str, Any] = {
        "index": result.index,
        "request_id": result.request_id,
        "session_id": result.session_id,
        "outcome": result.outcome,
        "reason": result.reason,
        "detail": result.detail,
        "similarity": result.similarity if result.HasField("similarity") else None,
        "latency_ms": round(result.latency_ms, 3),
        "recorded_latency_ms": (
            round(result.recorded_latency_ms, 3) if result.HasField("recorded_latency_ms") else None
        ),
        "late_ms": round(result.late_ms, 3),
        "version": result.version,
    }
    if result.response:
        line["response"] = _prediction_json.plain(prediction_pb2.PredictResponse.FromString(result.response))
    return line


@dataclass(kw_only=True, slots=True)
class _Advance:
    """Moves the bar to where the summary is."""

    summary: ReplaySummary
    progress: Progress
    task: Any

    def __call__(self) -> None:
        total = self.summary.total or None
        self.progress.update(self.task, completed=self.summary.n, total=total, to=self.summary.target)


@contextmanager
def _progress(summary: ReplaySummary) -> Iterator[_Advance]:
    console = terminal.stderr()
    columns = (
        TextColumn("{task.fields[to]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Advance(summary=summary, progress=progress, task=progress.add_task("", total=None, to=""))
