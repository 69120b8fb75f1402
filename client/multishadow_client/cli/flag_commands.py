"""flag set: what one version claims."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._client import ControlClient
from multishadow_client.cli import completion, document, selection, terminal
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    Model,
    Output,
    Percent,
    Reason,
    Server,
    Timeout,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

_CLAIMS = {
    "off": control_pb2.CLAIM_OFF,
    "shadow": control_pb2.CLAIM_SHADOW,
    "live": control_pb2.CLAIM_LIVE,
}


SET_EXAMPLES = examples(
    "shadowctl flag set spam.A shadow --percent 25",
    "shadowctl flag set A off --model spam --reason 'eats all the memory'",
)


def set_flag(
    *,
    key: Annotated[
        str,
        typer.Argument(
            metavar="FLAG",
            help="The flag: MODEL.VERSION, or VERSION of the chosen model.",
            autocompletion=completion.flags,
        ),
    ],
    claim: Annotated[
        str, typer.Argument(metavar="CLAIM", help="off, shadow or live.", autocompletion=completion.claims)
    ],
    percent: Percent = None,
    reason: Reason = "",
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Set what one version claims.

    With --percent, `shadow` gives it that share of requests as copies. To make a version live, use `promote`, which
    `rollback` takes back.
    """
    if claim not in _CLAIMS:
        raise Mistake(f"{claim!r} is no claim; a version claims {', '.join(_CLAIMS)}")
    with ControlClient(server, timeout=timeout) as control:
        model, version = selection.version(key, model, control)
        response = control.set_flag(
            control_pb2.SetFlagRequest(
                model=model,
                version=version,
                claim=_CLAIMS[claim],
                percent=percent,
                actor=actor(),
                reason=reason,
            )
        )
    said = Text.assemble((response.flag.key, "bold"), f": {response.flag.claim}, revision {response.revision}")
    terminal.show(output, said, document.plain(response))
    terminal.warn(response.warnings)
