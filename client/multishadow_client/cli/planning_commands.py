"""power, advise: before anything is started."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import document, figures, release_advice, share, terminal
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Output, Server, Timeout, examples
from multishadow_client.cli.release_advice import Change
from multishadow_client.cli.terminal import Format

POWER_EXAMPLES = examples(
    "shadowctl power --from 3% --to 4% --rps 50",
    "shadowctl power --from 3% --to 5% --rps 200 --percent 25 --candidates 3",
)
ADVISE_EXAMPLES = examples(
    "shadowctl advise retrained", "shadowctl advise architecture --no-labels", "shadowctl advise retrained --writes"
)


def power(
    *,
    better: Annotated[
        float, typer.Option("--from", metavar="RATE", parser=share.share, help="Divergence of one candidate, e.g. 3%.")
    ],
    worse: Annotated[
        float, typer.Option("--to", metavar="RATE", parser=share.share, help="Of the other one, e.g. 4%.")
    ],
    rps: Annotated[float, typer.Option("--rps", min=0, metavar="NUMBER", help="Requests per second to the model.")],
    percent: Annotated[
        float, typer.Option("--percent", "-p", min=0, max=100, metavar="PERCENT", help="Share that is shadowed.")
    ] = 100,
    candidates: Annotated[
        int, typer.Option("--candidates", "-k", min=2, max=10, metavar="NUMBER", help="How many are compared.")
    ] = 2,
    alpha: Annotated[
        float, typer.Option("--alpha", parser=share.chance, metavar="ALPHA", help="Chance of any false claim.")
    ] = 0.05,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Say how many requests, and how much time, it takes to prove that one candidate diverges more than another.

    The candidates are taken to diverge independently of each other; where they diverge on the same requests, less is
    enough.
    """
    wanted = control_pb2.PlanComparisonRequest(
        better=min(better, worse),
        worse=max(better, worse),
        rate=rps * percent / 100,
        candidates=candidates,
        alpha=alpha,
    )
    with ControlClient(server, timeout=timeout) as control:
        response = control.plan_comparison(wanted)
    terminal.show(output, Group(_plans(response), Text(_planned(wanted), style="dim")), document.plain(response))


def advise(
    *,
    change: Annotated[Change, typer.Argument(metavar="CHANGE", help=f"{', '.join(Change)}.", show_default=False)],
    writes: Annotated[bool, typer.Option("--writes", help="Answering has side effects.")] = False,
    reacts: Annotated[
        bool, typer.Option("--reacts", help="What users do next depends on the answer, as with recommendations.")
    ] = False,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Right answers become known later.")] = True,
    output: Output = Format.TABLE,
) -> None:
    """Say whether to shadow, to send out a canary, or to switch blue to green, for this kind of change, and why."""
    advice = release_advice.advise(change, writes=writes, reacts=reacts, labels=labels)
    said = Text.assemble((advice.way, "bold green"), f": {advice.reason}")
    for warning in advice.warnings:
        said.append(f"\n! {warning}", style="yellow")
    for step in advice.steps:
        said.append(f"\n  {step}", style="dim")
    terminal.show(output, said, advice.document())


def _planned(wanted: control_pb2.PlanComparisonRequest) -> str:
    pairs = wanted.candidates * (wanted.candidates - 1) // 2
    return (
        f"{100 * wanted.better:g} % against {100 * wanted.worse:g} %, {wanted.rate:g} requests compared per second; "
        f"α = {wanted.alpha:g}; family of {pairs} pair{'s' if pairs > 1 else ''}, e ≥ {2 * pairs / wanted.alpha:,.4g} "
        "decides."
    )


def _plans(response: control_pb2.PlanComparisonResponse) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in ("proven by then with chance", "requests compared", "time"):
        table.add_column(header, justify="right")
    for plan in response.plans:
        cells = (f"{100 * plan.chance:g} %", figures.count(plan.requests), figures.span(plan.seconds))
        table.add_row(*(Text(cell) for cell in cells))
    return table
