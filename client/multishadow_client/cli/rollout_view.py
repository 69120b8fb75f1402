"""A rollout as people see it: its stages, its guardrails with their numbers, and what comes next.

● 1 % ─── ● 5 % ─── ◉ 25 % ─── ○ 50 % ─── ○ 100 %
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multishadow.v1.rollouts_pb2 import (
    GetRolloutResponse,
    Guardrail,
    PlanRolloutResponse,
    Rollout,
    RolloutEvent,
    RolloutTerms,
)
from multishadow_client.cli import figures

_STATES = {
    "running": "bold cyan",
    "paused": "bold yellow",
    "completed": "bold green",
    "aborted": "bold red",
    "rolled_back": "bold red",
}
_STANDINGS = {
    "kept": ("✔", "green"),
    "waiting": ("…", "yellow"),
    "broken": ("✘", "bold red"),
    "severe": ("✘✘", "bold red"),
    "unwatched": ("–", "dim"),
}
_MOST_EVENTS = 12


def status(view: GetRolloutResponse) -> RenderableType:
    """Everything about one rollout."""
    rollout = view.rollout
    parts: list[RenderableType] = [_title(rollout), Text(), _stages(rollout), _dwell(view), Text()]
    if view.guardrails:
        parts += [_guardrails(view.guardrails), Text()]
    if coming := list(_next(view)):
        parts += [*coming, Text()]
    return Group(*parts, _events(view.events))


def plan(response: PlanRolloutResponse) -> RenderableType:
    """What a rollout would be, before it starts."""
    terms = response.terms
    title = Text.assemble(
        (response.model, "bold"), ": ", (response.version, "bold"), f" over {response.previous_version}, plan "
    )
    title.append(terms.plan, style="bold").append(f" ({terms.plan_reason})")
    parts: list[RenderableType] = [title, Text(), _plan_stages(response), _duration(response), Text(), _limits(terms)]
    budget = f"setback {terms.max_setbacks} aborts" if terms.max_setbacks > 1 else "the first setback aborts"
    parts.append(Text(f"At each stage's end: on, hold, or back one stage; {budget}, a severe breach at once.", "dim"))
    parts += [Text(f"! {warning}", style="yellow") for warning in response.warnings]
    if response.gates_holding:
        parts.append(Text(f"! gates in the way: {', '.join(response.gates_holding)}", style="yellow"))
    if response.obstacle:
        parts.append(Text(f"It cannot be started: {response.obstacle}", style="bold red"))
    return Group(*parts)


def listing(rollouts: Sequence[Rollout]) -> RenderableType:
    """Rollouts as a table, and why each is as it is: sentences, which would press the table's columns flat."""
    if not rollouts:
        return Text("no rollouts yet: shadowctl promote VERSION --staged", style="dim")
    table = _table("id", "model", "version", "state", "stage", "started", "ended", "by", gap=1)
    for each in rollouts:
        cells = (
            str(each.id),
            each.model,
            f"{each.version} over {each.previous_version}",
            each.state,
            f"{each.percent:g} %",
            figures.moment(each.started_at),
            figures.moment(each.ended_at) if each.HasField("ended_at") else figures.NONE,
            each.started_by,
        )
        table.add_row(*(Text(cell, style=_STATES.get(each.state, "") if cell == each.state else "") for cell in cells))
    notes = [Text(f"rollout {each.id}: {each.note}", style="dim") for each in rollouts if each.note]
    return Group(table, *notes)


def changed(rollout: Rollout) -> Text:
    """One line about a rollout that somebody just changed."""
    said = Text.assemble((rollout.model, "bold"), f": rollout {rollout.id} of {rollout.version} is ")
    said.append(rollout.state, style=_STATES.get(rollout.state, ""))
    return said.append(f" at {rollout.percent:g} %" if not rollout.HasField("ended_at") else f": {rollout.note}")


def _title(rollout: Rollout) -> Text:
    said = Text.assemble(
        f"rollout {rollout.id} of ", (rollout.model, "bold"), ": ", (rollout.version, "bold"),
        f" over {rollout.previous_version}  ", (rollout.state, _STATES.get(rollout.state, "")),
    )  # fmt: skip
    if rollout.note and rollout.state != "running":
        said.append(f" by {rollout.changed_by}: {rollout.note}")
    said.append(f"\nstarted by {rollout.started_by} on {figures.moment(rollout.started_at)}", style="dim")
    return said.append(f"; {rollout.reason}" if rollout.reason else "", style="dim")


def _stages(rollout: Rollout) -> Text:
    line = Text("  ")
    ended = rollout.HasField("ended_at")
    for place, percent in enumerate(rollout.terms.stages):
        line.append(" ─── " if place else "", style="dim")
        if rollout.state == "completed" or place < rollout.stage:
            mark, style = "●", "dim" if ended and rollout.state != "completed" else "green"
        elif place == rollout.stage:
            mark, style = ("✘", "bold red") if ended else ("◉", _STATES[rollout.state])
        else:
            mark, style = "○", "dim"
        line.append(f"{mark} {percent:g} %", style=style)
    return line


def _dwell(view: GetRolloutResponse) -> Text:
    rollout = view.rollout
    setbacks = f"{rollout.setbacks} of {rollout.terms.max_setbacks} setbacks"
    if rollout.HasField("ended_at"):
        # What aborts it for a setback goes back to the base, not to a stage, and is not among those counted.
        counted = "" if rollout.state == "aborted" else f"; {setbacks}"
        return Text(f"  ended on {figures.moment(rollout.ended_at)}{counted}", style="dim")
    so_far = view.read_at.seconds - rollout.entered_at.seconds
    dwell = figures.span(rollout.terms.dwell_seconds)
    return Text(f"  at {rollout.percent:g} % for {figures.span(so_far)} of {dwell}; {setbacks}", style="dim")


def _guardrails(guardrails: Sequence[Guardrail]) -> Table:
    table = _table("", "guardrail", "new version", "base", "difference", "limit")
    for each in guardrails:
        mark, style = _STANDINGS.get(each.standing, ("?", ""))
        cells = (each.name, each.new, each.base, each.found, each.limit)
        table.add_row(Text(mark, style=style), *(Text(cell) for cell in cells))
    return table


def _next(view: GetRolloutResponse) -> Iterator[Text]:
    rollout = view.rollout
    if view.stragglers:
        yield Text(f"! not acknowledged by {', '.join(view.stragglers)}", style="yellow")
    if rollout.state == "paused":
        yield Text("next: nothing until `shadowctl rollout resume`; a severe breach still aborts it", "bold yellow")
    if rollout.state != "running":
        return
    broken = [each.name for each in view.guardrails if each.standing == "broken"]
    at = figures.clock(view.next_at)
    if view.next == "wait" and broken:
        yield Text(f"next: {_back(rollout)} at {at}, as {', '.join(broken)} is broken", style="bold red")
    elif view.next == "wait":
        yield Text(f"next: {_onwards(rollout)} at {at}, if every guardrail is kept then", style="bold")
    elif view.next == "hold":
        yield Text(f"next: {_onwards(rollout)}, held for {view.next_why}", style="bold yellow")
    else:
        yield Text(f"next: {view.next.replace('_', ' ')}, any moment now: {view.next_why}", style="bold")


def _onwards(rollout: Rollout) -> str:
    stages = rollout.terms.stages
    return f"{stages[rollout.stage + 1]:g} %" if rollout.stage + 1 < len(stages) else "the end"


def _back(rollout: Rollout) -> str:
    spent = rollout.setbacks + 1 >= rollout.terms.max_setbacks
    if spent or not rollout.stage:
        return f"back to {rollout.previous_version}"
    return f"back to {rollout.terms.stages[rollout.stage - 1]:g} %"


def _events(events: Sequence[RolloutEvent]) -> Group:
    table = _table("at", "what", "share", "revision", "by", "why")
    for event in events[-_MOST_EVENTS:]:
        table.add_row(
            *(
                Text(cell)
                for cell in (
                    f"{datetime.fromtimestamp(event.at.seconds, UTC):%m-%d %H:%M:%S}",
                    event.move.replace("_", " "),
                    f"{event.percent:g} %",
                    str(event.revision),
                    event.actor,
                    event.why,
                )
            )
        )
    left_out = len(events) - _MOST_EVENTS
    return Group(*([Text(f"{left_out} earlier ones are left out", style="dim")] if left_out > 0 else []), table)


def _plan_stages(response: PlanRolloutResponse) -> Text:
    stages = [
        f"{percent:g} % ({figures.span(seconds)})"
        for percent, seconds in zip(response.terms.stages, response.stage_seconds, strict=True)
    ]
    return Text("  " + " ─── ".join(stages))


def _duration(response: PlanRolloutResponse) -> Text:
    total = figures.span(sum(response.stage_seconds))
    rate = response.requests_per_second
    if not rate:
        return Text(f"  {total} at least; longer where requests are too few to tell", style="dim")
    return Text(f"  about {total} at the present {rate:,.3g} requests per second", style="dim")


def _limits(terms: RolloutTerms) -> Table:
    table = _table("guardrail", "the new version may be worse by")
    for each in terms.limits:
        table.add_row(
            Text(each.name), Text(each.limit if each.watched else "not watched", "" if each.watched else "dim")
        )
    return table


def _table(*headers: str, gap: int = 2) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table
