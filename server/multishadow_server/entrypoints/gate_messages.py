"""Gates, the panel and plans as messages of the control API."""

from __future__ import annotations

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core.gates import Gate, Record, Review
from multishadow_server.core.panel import Panel
from multishadow_server.entrypoints import control_messages as messages


def review_message(review: Review) -> pb.GateReview:
    """A candidate's gates with their verdict."""
    return pb.GateReview(
        version=review.version, verdict=review.verdict, gates=[_gate_message(gate) for gate in review.gates]
    )


def panel_message(panel: Panel) -> pb.Panel:
    """The classical tests."""
    return pb.Panel(
        label=panel.label,
        cochran_q=panel.cochran_q,
        pairs=[
            pb.PanelPair(
                first=pair.first,
                second=pair.second,
                mcnemar_exact=pair.mcnemar_exact,
                mcnemar_mid_p=pair.mcnemar_mid_p,
                paired_t=pair.paired_t,
            )
            for pair in panel.pairs
        ],
    )


def _gate_message(gate: Gate) -> pb.Gate:
    return pb.Gate(
        name=gate.name,
        state=gate.state,
        number=gate.number,
        bound=gate.bound,
        remedy=gate.remedy,
        advisory=gate.advisory,
        holds_up=gate.holds_up,
        waiver=_record_message(gate.waiver),
        attestation=_record_message(gate.attestation),
    )


def _record_message(record: Record | None) -> pb.GateRecord | None:
    if record is None:
        return None
    return pb.GateRecord(text=record.text, by=record.by, at=messages.moment(record.at))
