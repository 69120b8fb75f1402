"""cost: what shadowing costs, and what a smaller share of the requests would save."""

from __future__ import annotations

from typing import Annotated

import typer

from multishadow.v1 import reports_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import cost_view, document, selection, share, terminal
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    ExperimentId,
    Model,
    Output,
    Server,
    Timeout,
    examples,
)
from multishadow_client.cli.terminal import Format

EXAMPLES = examples(
    "shadowctl cost",
    "shadowctl cost --model spam --fraction 0.05,0.10,0.25",
    "shadowctl cost --fraction 5%,50% --rps 2000",
    "shadowctl cost --json | jq '.present.for_box'",
)


def cost(
    *,
    fraction: Annotated[
        str,
        typer.Option(
            "--fraction", "-f", metavar="SHARES", help="Shares of live requests to compare, apart by commas: 5%,0.25."
        ),
    ] = "",
    rps: Annotated[
        float | None,
        typer.Option(
            "--rps", metavar="NUMBER", help="Live requests per second; default: as measured.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --output json.")] = False,
    model: Model = "",
    experiment: ExperimentId = 0,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Say what an experiment costs, and for other shares what they would save and when the decision would come.

    GPUs are ceil(rps · f · N / (rps_per_gpu · 0.70)), cost is gpus · price · 24 · days. Live requests are measured. The
    price and the rate of a GPU stand in the model's file: `cost: {gpu_hour: 2.50, currency: USD, rps_per_gpu: 40}`.
    """
    fractions = [share.share(each) for each in fraction.split(",") if each.strip()]
    with ControlClient(server, timeout=timeout) as control:
        response = control.estimate_cost(
            pb.EstimateCostRequest(
                model=selection.model(model, control), experiment_id=experiment, fractions=fractions, rps=rps
            )
        )
    terminal.show(Format.JSON if as_json else output, cost_view.estimate(response), document.plain(response))
