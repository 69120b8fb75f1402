"""Which stored answers a command is about: options that `divergences` shares, and the filter that they make."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1 import export_pb2 as pb
from multishadow_client.cli import completion, duration
from multishadow_client.cli.exit_code import Mistake

DIVERGED = "diverged"


class Looked(StrEnum):
    """Whether somebody gave a verdict."""

    YES = "yes"
    NO = "no"


Candidate = Annotated[
    str,
    typer.Option("--version", metavar="VERSION", help="Only this candidate's.", autocompletion=completion.versions),
]
Outcomes = Annotated[
    list[str] | None,
    typer.Option(
        "--outcome",
        metavar="OUTCOME",
        help="ok, diverged, uncomparable, error or timeout; once for each; `all` for all; default: diverged.",
        autocompletion=completion.outcomes,
    ),
]
Attributes = Annotated[
    list[str] | None,
    typer.Option(
        "--where", "-w", metavar="PATH=VALUE", help="Only requests with this attribute; once for each: country=NO."
    ),
]
Above = Annotated[
    float | None,
    typer.Option("--similarity-from", metavar="S", show_default=False, help="Similarity at least this, 0 to 1."),
]
Below = Annotated[
    float | None,
    typer.Option("--similarity-to", metavar="S", show_default=False, help="Similarity at most this, 0 to 1."),
]
Reviewed = Annotated[
    Looked | None, typer.Option("--reviewed", show_default=False, help="Only those with a verdict, or without one.")
]
Since = Annotated[
    int,
    typer.Option(
        "--since", metavar="TIME", parser=duration.seconds, show_default=False, help="Only those of the last 2h, 3d, …"
    ),
]


def chosen(
    *,
    model: str,
    experiment: int,
    version: str,
    outcomes: Sequence[str] | None,
    where: Sequence[str] | None,
    similarity_from: float | None,
    similarity_to: float | None,
    reviewed: Looked | None,
    since: int,
) -> pb.AnswerFilter:
    """The filter that the options make. Raises Mistake: an attribute is no PATH=VALUE."""
    named = list(outcomes or [DIVERGED])
    return pb.AnswerFilter(
        model=model,
        experiment_id=experiment,
        version=version,
        outcomes=[] if "all" in named else named,
        attributes=dict(map(_attribute, where or ())),
        least_similarity=similarity_from,
        most_similarity=similarity_to,
        reviewed=None if reviewed is None else reviewed is Looked.YES,
        since=Timestamp(seconds=int(time.time()) - since) if since else None,
    )


def _attribute(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise Mistake(f"--where {text}: write PATH=VALUE, like country=NO or user.plan=pro")
    return path, value
