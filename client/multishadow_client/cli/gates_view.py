"""What `shadowctl gates` shows, and the lines of gates in `shadowctl compare`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multishadow.v1.control_pb2 import Gate, GateReview, Panel
from multishadow_client.cli import figures

_STATES: Mapping[str, tuple[str, str]] = {
    "pass": ("✔", "green"),
    "fail": ("✘", "bold red"),
    "unknown": ("…", "yellow"),
}
_SILENT = ("–", "dim")
_VERDICTS: Mapping[str, str] = {"PROMOTE": "bold green", "REJECT": "bold red"}
_ALARMS = ("sample_ratio", "drift")


def render(reviews: Sequence[GateReview]) -> RenderableType:
    """Every candidate's gates, each followed by what they say together."""
    parts: list[RenderableType] = []
    for review in reviews:
        parts += [Text(review.version, style="bold"), _gates(review.gates), *_notes(review), verdict(review), Text()]
    return Group(*parts[:-1])


def verdict(review: GateReview) -> Text:
    """One line: the verdict, and the gates that stand in the way."""
    holding = [gate.name for gate in review.gates if gate.holds_up]
    style = _VERDICTS.get(review.verdict, "bold yellow")
    said = Text.assemble((review.version, "bold"), ": ", (review.verdict, style))
    if review.verdict == "NO_DATA":
        return said.append("; nothing of it was compared yet")
    return said.append(f"; held up by {', '.join(holding)}" if holding else "; every gate passes or is waived")


def alarms(reviews: Sequence[GateReview]) -> Iterator[Text]:
    """What says that the measurement itself is not to be trusted."""
    for review in reviews:
        for gate in review.gates:
            if gate.name in _ALARMS and gate.state == "fail":
                waived = f" (waived: {gate.waiver.text})" if gate.HasField("waiver") else ""
                yield Text(f"! {review.version}: {gate.name}: {gate.number}; {gate.remedy}{waived}", style="bold red")


def panel(classical: Panel, labels: Mapping[str, str]) -> RenderableType:
    """The classical tests."""
    table = _table("pair", "McNemar exact", "mid-p", "paired t")
    for pair in classical.pairs:
        table.add_row(
            Text(f"{labels.get(pair.first, pair.first)} − {labels.get(pair.second, pair.second)}"),
            *(Text(figures.p_value(p)) for p in (pair.mcnemar_exact, pair.mcnemar_mid_p, pair.paired_t)),
        )
    cochran = f"Cochran's Q over all: p = {figures.p_value(classical.cochran_q)}; p-values are raw."
    return Group(table, Text(cochran, style="dim"))


def _gates(gates: Sequence[Gate]) -> Table:
    table = _table("", "gate", "found", "asked for", "what would change it")
    for gate in gates:
        sign, style = _SILENT if _silent(gate) else _STATES.get(gate.state, ("?", ""))
        name = gate.name + (" (advisory)" if gate.advisory else "") + (" (waived)" if gate.HasField("waiver") else "")
        cells = (name, gate.number, gate.bound, gate.remedy)
        table.add_row(Text(sign, style=style), *(Text(cell) for cell in cells))
    return table


def _silent(gate: Gate) -> bool:
    """Whether it is an alarm that cannot have rung yet, and holds nothing up."""
    return gate.state == "unknown" and not (gate.holds_up or gate.advisory or gate.HasField("waiver"))


def _notes(review: GateReview) -> Iterator[Text]:
    """Who vouched for what, and who waived what, and why."""
    for gate in review.gates:
        for what, record in (("attested", gate.attestation), ("waived", gate.waiver)):
            if record.by:
                said = f"{gate.name} {what} by {record.by} on {figures.moment(record.at)}: {record.text}"
                yield Text(said, style="dim")


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table
