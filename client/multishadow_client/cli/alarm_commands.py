"""alarms list, ack, history: what is wrong while nobody looks. probes: how versions answer the known questions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from multishadow.v1 import alarms_pb2 as pb
from multishadow_client import _prediction_json
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import alarm_view, completion, document, duration, selection, terminal, watching
from multishadow_client.cli.exit_code import ExitCode
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Output, Server, Timeout, actor, examples
from multishadow_client.cli.terminal import Format

LIST_EXAMPLES = examples(
    "shadowctl alarms",
    "shadowctl alarms list --model spam --watch",
    "shadowctl alarms list -o json | jq -r '.alarms[] | [.kind, .subject, .detail] | @tsv'",
)
ACK_EXAMPLES = examples(
    "shadowctl alarms ack 17 --note 'redeployed on purpose'", "shadowctl alarms ack --model spam --note 'on it'"
)
HISTORY_EXAMPLES = examples("shadowctl alarms history", "shadowctl alarms history --model spam --most 200 -o json")
PROBES_EXAMPLES = examples(
    "shadowctl probes", "shadowctl probes spam -o json", "shadowctl probes spam --history --version A"
)

_ModelName = Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="Only this model's; default: all.")]
_Watch = Annotated[bool, typer.Option("--watch", "-w", help="Keep looking until Ctrl-C.")]
_Every = Annotated[
    int,
    typer.Option(
        "--every", metavar="TIME", parser=duration.seconds, show_default="2s", help="With --watch: how often."
    ),
]
_Most = Annotated[int, typer.Option("--most", min=1, max=500, metavar="NUMBER", help="At most so many.")]


def alarms(
    *,
    context: typer.Context,
    model: _ModelName = "",
    watch: _Watch = False,
    every: _Every = 2,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """See what is wrong; without a command, the same as `list`."""
    if context.invoked_subcommand is None:
        list_alarms(model=model, watch=watch, every=every, server=server, timeout=timeout, output=output)


def list_alarms(
    *,
    model: _ModelName = "",
    watch: _Watch = False,
    every: _Every = 2,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List the alarms that are on, what was found, and what to do.

    Ends with 0 when none is on that nobody has acknowledged, with 1 otherwise.
    """
    with ControlClient(server, timeout=timeout) as control:
        if watch:
            watch_ = watching.Watch(output=output, every=every, page=alarm_view.alarms, render=alarm_view.alarms)
            response = watch_.watch(lambda: control.list_alarms(model))
        else:
            response = control.list_alarms(model)
            terminal.show(output, alarm_view.alarms(response), document.plain(response))
    if any(not alarm.HasField("acknowledged_at") for alarm in response.alarms):
        raise typer.Exit(ExitCode.FAILED)


def acknowledge(
    *,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="Which; default: all that are on.", show_default=False)
    ] = None,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What you know; kept in the audit log.")] = "",
    model: _ModelName = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Say that you know of alarms. They stay on until what raised them is over, and no longer end `alarms` with 1.

    An acknowledged `answer_changed` is over when no running experiment counts the version.
    """
    with ControlClient(server, timeout=timeout) as control:
        response = control.acknowledge_alarms(
            pb.AcknowledgeAlarmsRequest(ids=numbers or (), model=model, actor=actor(), note=note)
        )
    terminal.show(output, alarm_view.acknowledged(response.alarms), document.plain(response))


def history(
    *,
    most: _Most = 50,
    model: _ModelName = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List alarms whether they are on or over, newest first. They are kept for 30 days after they are over."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_alarm_history(model, most=most)
    terminal.show(output, alarm_view.history(response), document.plain(response))


def probes(
    *,
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]",
            help="Only this model's; default: all.",
            autocompletion=completion.models,
            show_default=False,
        ),
    ] = "",
    changes: Annotated[bool, typer.Option("--history", help="What became of them, newest first.")] = False,
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help="With --history: only this one's.")] = "",
    most: _Most = 50,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Tell how every version stands with its model's probes: synthetic requests that it is asked on a timer.

    Ends with 0 when every probe that was asked is ok, with 1 when one is wrong or failing, with 3 while one was never
    asked.
    """
    with ControlClient(server, timeout=timeout) as control:
        if changes:
            told = control.list_probe_changes(selection.model(model, control), version=version, most=most)
            terminal.show(output, alarm_view.probe_changes(told), document.plain(told))
            return
        response = control.list_probes(model)
    terminal.show(output, alarm_view.probes(response), _document(response))
    outcomes = {standing.outcome for standing in response.standings}
    if outcomes & {"wrong", "failing"}:
        raise typer.Exit(ExitCode.FAILED)
    if "not asked yet" in outcomes:
        raise typer.Exit(ExitCode.NOT_YET)


def _document(response: pb.ListProbesResponse) -> dict[str, Any]:
    """With answers as model files write them."""
    told = document.plain(response)
    for standing, record in zip(response.standings, told["standings"], strict=True):
        record["answer"] = _prediction_json.plain(standing.answer) if standing.HasField("answer") else None
    return told
