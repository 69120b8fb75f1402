"""calibrate: which threshold to compare by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, document, figures, report_table, selection, share, terminal
from multishadow_client.cli.exit_code import ExitCode
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
from multishadow_client.cli.terminal import Format

EXAMPLES = examples(
    "shadowctl calibrate", "shadowctl calibrate A --missed 5%", "shadowctl calibrate --missed 2% --apply"
)


def calibrate(
    *,
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION", help="The candidate to go by; default: all.", autocompletion=completion.versions
        ),
    ] = "",
    missed: Annotated[
        float,
        typer.Option(
            "--missed",
            metavar="SHARE",
            parser=share.share,
            show_default="1%",
            help="Largest share of requests that may differ really and count as agreement.",
        ),
    ] = 0.0,
    apply: Annotated[bool, typer.Option("--apply", help="Compare by the proposed threshold from now on.")] = False,
    experiment: ExperimentId = 0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Propose the most lenient threshold that is proven to miss few real differences.

    It goes by answers that labels (`label`) or people (`review`) told apart or told to be the same. A threshold decides
    about embeddings and texts only. With --apply a running experiment begins a new epoch: its statistics start anew.

    Ends with 0 when there is a proposal, with 3 when nothing is proven yet.
    """
    with ControlClient(server, timeout=timeout) as control:
        name = selection.model(model, control)
        response = control.calibrate(
            control_pb2.CalibrateRequest(model=name, experiment_id=experiment, version=version, missed=missed)
        )
        changes = _apply(control, response) if apply and response.HasField("proposed") else None
    said = {**document.plain(response), "changes": changes}
    terminal.show(output, _view(response, changes), said)
    if not response.HasField("proposed"):
        raise typer.Exit(ExitCode.NOT_YET)


def _apply(control: ControlClient, response: control_pb2.CalibrateResponse) -> list[str]:
    """Change the threshold and nothing else of the comparator; what changed, a line each."""
    (model,) = (model for model in control.list_models().models if model.name == response.model)
    comparator = model.comparator
    comparator.threshold = response.proposed
    request = control_pb2.ApplyModelRequest(model=response.model, comparator=comparator, actor=actor())
    return list(control.apply_model(request).changes)


def _view(response: control_pb2.CalibrateResponse, changes: list[str] | None) -> RenderableType:
    table = report_table.table(
        ("threshold", "right"),
        ("missed", "right"),
        ("at most", "right"),
        ("false alarms", "right"),
        ("of", "left"),
        (f"≤ {figures.percent(response.missed)} missed", "left"),
    )
    for step in response.steps:
        report_table.add_row(
            table,
            f"{step.threshold:.2f}",
            figures.percent(step.missed),
            figures.at_most(step.missed_upper),
            figures.percent(step.false_alarms),
            step.version,
            Text("proven", style="green") if step.proven else Text("not proven", style="yellow"),
        )
    told = f"{figures.count(response.told_agreeing)} agreed, {figures.count(response.told_divergent)} diverged"
    title = f"experiment {response.experiment_id}, epoch {response.epoch}; pairs told apart or the same: {told}"
    return Group(report_table.title(f"{response.model}: threshold", title), table, Text(), *_advice(response, changes))


def _advice(response: control_pb2.CalibrateResponse, changes: list[str] | None) -> Iterator[Text]:
    yield Text(
        "Missed: really different, and counting as agreement; a share of all compared requests, "
        f"α = {response.alpha:g}, valid at every look.",
        style="dim",
    )
    present = f"{response.threshold:g}"
    if not response.HasField("proposed"):
        yield Text(
            f"No threshold is proven yet; it stays at {present}. Look at more answers that agreed (`shadowctl review "
            "list --agreeing`), send more labels, or allow more with --missed.",
            style="bold yellow",
        )
    elif changes is not None:
        became = "; ".join(changes) or f"it is {present} already"
        yield Text(f"Applied: {became}. Statistics of other thresholds are kept apart.", style="bold green")
    elif response.proposed == response.threshold:
        yield Text(f"The present threshold {present} is the one to keep.", style="bold green")
    else:
        yield Text(
            f"Proposed: {response.proposed:g} instead of {present}; --apply makes it so, and begins a new epoch.",
            style="bold green",
        )
