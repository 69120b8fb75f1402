"""What `shadowctl cost` shows, and a model's terms of cost in a line."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1.control_pb2 import CostTerms
from multishadow.v1.reports_pb2 import Bill, CostOption, EstimateCostResponse
from multishadow_client.cli import figures, report_table

_DAY = 86_400
_COLUMNS = (
    ("share", "right"),
    ("requests ×", "right"),
    ("GPUs", "right"),
    ("a day", "right"),
    ("whole box", "right"),
    ("still to come", "right"),
    ("saves", "right"),
    ("decides in", "right"),
    ("later by", "right"),
)


def terms(of: CostTerms) -> str:
    """What a GPU costs and does."""
    said = [f"{of.gpu_hour:g} {of.currency} per GPU hour"] if of.HasField("gpu_hour") else ["no price of a GPU hour"]
    if of.HasField("rps_per_gpu"):
        said.append(f"{of.rps_per_gpu:g} requests/s per GPU")
    said += [f"{version} {rate:g} requests/s per GPU" for version, rate in sorted(of.rps_per_gpu_by_version.items())]
    return f"cost: {', '.join(said)}"


def estimate(response: EstimateCostResponse) -> RenderableType:
    """A table of shares, with what each costs and when it decides."""
    table = report_table.table(*_COLUMNS)
    present = max((shadow.fraction for shadow in response.shadows), default=0.0)
    for option in response.options:
        report_table.add_row(table, *_cells(response, option, is_present=option.fraction == present))
    title = report_table.title(
        f"Cost of experiment {response.experiment_id} of {response.model}", f"beside {response.live_version}"
    )
    return Group(title, table, *(Text(line, style="dim") for line in _notes(response)), *_missing(response))


def _cells(response: EstimateCostResponse, option: CostOption, *, is_present: bool) -> Iterator[Text]:
    bill, style = option.bill, "bold" if is_present else ""
    cells = (
        f"{figures.percent(option.fraction)}{' (now)' if is_present else ''}",
        f"{bill.multiplier:.2f}",
        figures.count(bill.gpus) if bill.HasField("gpus") else figures.NONE,
        _money(bill.per_day if bill.HasField("per_day") else None, response.currency),
        _money(bill.for_box if bill.HasField("for_box") else None, response.currency),
        _money(bill.to_come if bill.HasField("to_come") else None, response.currency),
        _money(option.saves if option.HasField("saves") else None, response.currency),
        _decides(option),
        _later(option),
    )
    for cell in cells:
        yield Text(cell, style=style)


def _money(amount: float | None, currency: str) -> str:
    if amount is None:
        return figures.NONE
    return f"{amount:,.0f} {currency}" if abs(amount) >= 100 else f"{amount:,.2f} {currency}"


def _decides(option: CostOption) -> str:
    if not option.HasField("decides_in_days"):
        return figures.NONE
    if option.decides_in_days == 0:
        return "decided"
    late = "" if option.in_time else " (after the box)"
    return f"{figures.span(option.decides_in_days * _DAY)}{late}"


def _later(option: CostOption) -> str:
    if not option.HasField("later_days"):
        return figures.NONE
    days = option.later_days
    if abs(days) < 1e-9:
        return "as now"
    return f"{figures.span(abs(days) * _DAY)} {'later' if days > 0 else 'sooner'}"


def _notes(response: EstimateCostResponse) -> Iterator[str]:
    measured = f" ({response.measured})" if response.measured else ""
    shadows = ", ".join(f"{each.version} {figures.percent(each.fraction)}" for each in response.shadows)
    yield f"{response.rps:,.4g} live requests per second{measured}; copies: {shadows}"
    if _apart(response.present):
        yield f"{response.present.gpus_apart:,} GPUs where no version shares one with another"
    if assumed := [each for each in response.shadows if each.assumed]:
        named = ", ".join(f"{each.version} {each.rps_per_gpu:g}/s" for each in assumed)
        yield f"one GPU is taken to give the declared capacity: {named}; `rps_per_gpu` under `cost` says otherwise"
    if response.HasField("comparisons_needed") and not response.comparisons_needed:
        yield response.basis
    elif response.HasField("comparisons_needed"):
        yield (
            f"the decision takes about {response.comparisons_needed:,} more comparisons of each candidate, at "
            f"{response.comparisons_per_second:,.3g} a second now: {response.basis}"
        )
    else:
        yield f"nobody can tell when it decides: {response.basis}"
    price = f", {response.gpu_hour:g} {response.currency} a GPU hour" if response.HasField("gpu_hour") else ""
    yield (
        f"gpus = ceil(rps · f · N / (rps_per_gpu · utilisation)), cost = gpus · price · 24 · days{price}; time box "
        f"{figures.span(response.box_days * _DAY)}, {figures.span(response.days_left * _DAY)} of it left"
    )


def _apart(bill: Bill) -> bool:
    return bill.HasField("gpus_apart") and bill.gpus_apart != bill.gpus


def _missing(response: EstimateCostResponse) -> Iterator[Text]:
    for each in response.missing:
        yield Text(f"! {each}", style="yellow")
