"""Every gate, and what people can vouch for."""

from __future__ import annotations

from collections.abc import Iterator

from docsite import members
from docsite.markdown import page, prose, table
from multishadow_server.core.gates import Attestation, GateName, Verdict

SOURCE = "server/multishadow_server/core/gates.py"
INTRODUCTION = """\
What has to hold before `shadowctl promote` lets a version become live, in the order of `shadowctl gates`. The numbers
behind each, and the limits that a model's file sets, are in [statistics](../statistics.md#gates)."""


def omissions() -> Iterator[str]:
    """Gates that are not described."""
    return members.omissions(GateName)


def pages() -> Iterator[tuple[str, str]]:
    """The one page of gates."""
    said = members.described(GateName)
    vouched = ", ".join(f"`{each}`" for each in Attestation)
    verdicts = ", ".join(f"`{each}`" for each in Verdict)
    people = (
        f"What people vouch for with `shadowctl attest`: {vouched}. What all gates together say: {verdicts} "
        "([which means what](../statistics.md#gates))."
    )
    body = [
        INTRODUCTION,
        table(("gate", "passes when"), [(f"`{gate}`", prose(said.get(gate, ""))) for gate in GateName]),
        people,
    ]
    yield "gates.md", page(title="Gates", source=SOURCE, parts=body)
