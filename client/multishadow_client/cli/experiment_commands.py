"""start, stop, compare: experiments."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import (
    comparison_view,
    completion,
    document,
    duration,
    figures,
    ramp,
    schedule_view,
    selection,
    share,
    terminal,
    watching,
)
from multishadow_client.cli.exit_code import ExitCode
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    ExperimentId,
    Model,
    Output,
    Percent,
    Reason,
    Server,
    Timeout,
    Versions,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

START_EXAMPLES = examples(
    "shadowctl start A B C --percent 25 --for 14d",
    "shadowctl start A --for 12h --model spam",
    "shadowctl start A B --ramp 1,5,25 --ramp-dwell 30m",
    "shadowctl start A B --window '22:00-06:00 Europe/Berlin' --window sat,sun",
)
STOP_EXAMPLES = examples("shadowctl stop", "shadowctl stop --model spam --reason 'B is being fixed'")
COMPARE_EXAMPLES = examples(
    "shadowctl compare A B C",
    "shadowctl compare --watch",
    "shadowctl compare -o json | jq '.candidates[] | {version, n, band}'",
)


class RankBy(StrEnum):
    """What candidates are ranked by; it is declared at the start, and never changes."""

    AGREEMENT = "agreement"
    LABELS = "labels"


class Unit(StrEnum):
    """What candidates are ranked by: what of the traffic is one observation."""

    SESSION = "session"
    REQUEST = "request"


def start(
    *,
    versions: Annotated[
        list[str], typer.Argument(metavar="VERSION", help="Candidates.", autocompletion=completion.versions)
    ],
    percent: Percent = None,
    duration_: Annotated[
        int | None,
        typer.Option(
            "--for", metavar="TIME", parser=duration.seconds, help="Time box, e.g. 90s, 15m, 12h, 14d; default: 14d."
        ),
    ] = None,
    bucket: Annotated[
        int | None,
        typer.Option(
            "--bucket", metavar="TIME", parser=duration.seconds, help="Width of the statistics' buckets; default: 1h."
        ),
    ] = None,
    noise_floor: Annotated[
        float | None,
        typer.Option(
            "--noise-floor",
            metavar="SHARE",
            parser=share.share,
            help="Ask the live version twice on this share of requests, e.g. 1%: how often does it differ from itself?",
        ),
    ] = None,
    rank_by: Annotated[
        RankBy, typer.Option("--rank-by", help="Who is best: by agreement with live, or by labels (see `label`).")
    ] = RankBy.AGREEMENT,
    ramp_steps: Annotated[
        str | None,
        typer.Option(
            "--ramp",
            metavar="STEPS",
            help="Climb to --percent by steps, e.g. 1,5,25; alone, or with `default`: 1, 5, 25 %.",
        ),
    ] = None,
    ramp_dwell: Annotated[
        int | None,
        typer.Option(
            "--ramp-dwell", metavar="TIME", parser=duration.seconds, help="How long a step lasts; default: 30m."
        ),
    ] = None,
    windows: Annotated[
        list[str] | None,
        typer.Option(
            "--window",
            metavar="WINDOW",
            help="Shadow only then, e.g. '22:00-06:00 Europe/Berlin', 'mon-fri 20:00-24:00' or 'sat,sun' (UTC). May be "
            "given several times.",
        ),
    ] = None,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Start comparing candidates with the live version on copies of real requests.

    Their flags are set to shadow for --percent of the requests. All candidates get the same requests. Callers keep
    getting the live version's answers, and notice nothing.

    With --ramp, they climb to that share together: a step is taken when it has lasted for --ramp-dwell, the candidates
    answer, and the workers keep up. With --window, they shadow in these hours only.
    """
    with ControlClient(server, timeout=timeout) as control:
        response = control.start_experiment(
            control_pb2.StartExperimentRequest(
                model=selection.model(model, control),
                candidates=versions,
                percent=percent,
                duration_seconds=duration_,
                bucket_seconds=bucket,
                noise_floor_percent=None if noise_floor is None else round(100 * noise_floor, 6),
                rank_by=rank_by if rank_by is RankBy.LABELS else "",
                ramp_percent=None if ramp_steps is None else ramp.steps(ramp_steps),
                ramp_dwell_seconds=ramp_dwell,
                windows=windows,
                actor=actor(),
            )
        )
    terminal.show(output, _started(response), document.plain(response))
    terminal.warn(response.warnings)


def stop(
    *,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Stop the running experiment; its shadows go off, its statistics stay."""
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.stop_experiment(control_pb2.StopExperimentRequest(model=name, actor=actor(), reason=reason))
    experiment = response.experiment
    said = Text.assemble((name, "bold"), f": experiment {experiment.id} is stopped, revision {response.revision}")
    said.append(f"\nIts statistics stay: shadowctl compare --experiment {experiment.id} --model {name}", style="dim")
    terminal.show(output, said, document.plain(response))
    terminal.warn(response.warnings)


def compare(
    *,
    versions: Versions = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep looking until Ctrl-C.")] = False,
    every: Annotated[
        int,
        typer.Option(
            "--every", metavar="TIME", parser=duration.seconds, show_default="2s", help="With --watch: how often."
        ),
    ] = 2,
    experiment: ExperimentId = 0,
    alpha: Annotated[
        float,
        typer.Option(
            "--alpha",
            parser=share.chance,
            metavar="ALPHA",
            show_default="0.05",
            help="Chance of any false claim, over all pairs and all times.",
        ),
    ] = 0.0,
    by: Annotated[
        Unit | None,
        typer.Option("--by", show_default="what the model says", help="Rank by sessions, or by single requests."),
    ] = None,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Compare candidates with the live version and with each other.

    The figures hold however often you look, so look as often as you like. Agreement with the live version is not
    quality: a candidate that is better must differ.

    Ends with 0 when the comparison is decided, with 3 when it is not yet, or has no data.
    """
    with ControlClient(server, timeout=timeout) as control:
        request = control_pb2.CompareRequest(
            model=selection.model(model, control),
            candidates=versions or [],
            experiment_id=experiment,
            alpha=alpha,
            unit=by or "",
        )
        if watch:
            watch_ = watching.Watch(
                output=output,
                every=every,
                page=lambda report: comparison_view.ComparisonView(report, advice_first=True),
                render=comparison_view.render,
            )
            response = watch_.watch(lambda: control.compare(request))
        else:
            response = control.compare(request)
            terminal.show(output, comparison_view.render(response), document.plain(response))
    raise typer.Exit(ExitCode.YES if response.state == "decided" else ExitCode.NOT_YET)


def _started(response: control_pb2.StartExperimentResponse) -> Text:
    experiment = response.experiment
    names = ", ".join(experiment.candidates)
    said = Text.assemble((experiment.model, "bold"), f": experiment {experiment.id} compares {names}")
    said.append(f" on {schedule_view.share(experiment)} of requests until {figures.moment(experiment.ends_at)}")
    basis = ", ranked by labels" if experiment.rank_by == RankBy.LABELS else ""
    said.append(f"{basis}, revision {response.revision}")
    for line in schedule_view.lines(experiment):
        said.append(f"\n{line}")
    compare = f"shadowctl compare {' '.join(experiment.candidates)} --model {experiment.model}"
    said.append(f"\nSee how it goes: {compare}", style="dim")
    return said
