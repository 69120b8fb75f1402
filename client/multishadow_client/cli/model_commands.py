"""apply, use, get: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1.control_pb2 import ApplyModelResponse
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import Unavailable
from multishadow_client.cli import completion, connection, document, listing_view, manifest, selection, terminal
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Model, Output, Server, Timeout, actor, examples
from multishadow_client.cli.terminal import Format

GET_EXAMPLES = examples("shadowctl get models", "shadowctl get flags --model spam", "shadowctl get versions -o json")
APPLY_EXAMPLES = examples("shadowctl apply -f model.yaml", "cat *.yaml | shadowctl apply -f -")
USE_EXAMPLES = examples(
    "shadowctl use spam",
    "shadowctl use --server control.internal:50052 --ca ca.pem --token-file ~/.multishadow-token",
    "shadowctl use",
    "shadowctl use --clear",
)


def apply(
    *,
    file: Annotated[
        Path,
        typer.Option("--file", "-f", metavar="FILE", help="YAML with one or more models; - is standard input."),
    ],
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Create or update models and their versions from a file.

    A model has `model`, `versions` (each with `name`, `address`) and may have `comparator`, `default_timeout_ms`,
    `labels` and `protocol`.
    Versions that the file does not name are left as they are. The whole file is read before anything is changed.
    """
    documents = manifest.read(file)
    with ControlClient(server, timeout=timeout) as control:
        for model in documents:
            model.request.actor = actor()
            try:
                response = control.apply_model(model.request)
            except Exception as error:
                error.add_note(f"{model.where}, model {model.request.model!r}")
                raise
            terminal.show(output, _changes(response), document.plain(response))


def use(
    *,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The model.", autocompletion=completion.models, show_default=False)
    ] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Choose none.")] = False,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Choose the model that commands are about when they name none; without MODEL, tell which it is.

    What is typed of the connection (--server, --tls, --ca, --cert, --key, --server-name, --token-file) is remembered,
    too, for this server alone.
    """
    if clear:
        selection.forget()
        connection.forget()
    elif model:
        _check(model, server=server, timeout=timeout)
        selection.remember(model)
    if not clear:
        connection.remember_typed(server)
    chosen = selection.remembered()
    said = f"commands are about {chosen} ({selection.file()})" if chosen else "no model is chosen"
    kept = connection.remembered()
    if kept.server or kept.how() or kept.token_file:
        said += f"\ncommands connect to {connection.words(kept)} ({connection.file()})"
    terminal.show(output, Text(said), {"model": chosen or None, "connection": connection.plain(kept)})


def get_models(*, server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE) -> None:
    """List models, with what is live."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_models()
    terminal.show(output, listing_view.models(response.models), document.plain(response))


def get_versions(
    *, model: Model = "", server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE
) -> None:
    """List versions in order of registration, with what they claim; of all models unless one is chosen."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_versions(model or selection.remembered())
    terminal.show(output, listing_view.versions(response.versions), document.plain(response))


def get_flags(
    *, model: Model = "", server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE
) -> None:
    """List flags with their last change; of all models unless one is chosen."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_flags(model or selection.remembered())
    terminal.show(output, listing_view.flags(response.flags), document.plain(response))


def get_experiments(
    *, model: Model = "", server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE
) -> None:
    """List experiments, newest first; of all models unless one is chosen."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_experiments(model or selection.remembered())
    terminal.show(output, listing_view.experiments(response.experiments), document.plain(response))


def _check(model: str, *, server: str, timeout: float) -> None:
    """A name that control does not know is a slip; a control that is away is no reason not to choose."""
    try:
        with ControlClient(server, timeout=timeout) as control:
            names = sorted(model.name for model in control.list_models().models)
    except Unavailable as error:
        terminal.remark(f"not checked whether there is such a model: {error}")
        return
    if model not in names:
        raise Mistake(f"there is no model {model!r}; there is {', '.join(names) or 'none yet'}")


def _changes(response: ApplyModelResponse) -> Text:
    name = response.model.name
    if not response.changes:
        return Text.assemble((name, "bold"), ": everything was so already")
    lines = "".join(f"\n  {change}" for change in response.changes)
    number = len(response.changes)
    return Text.assemble(
        (name, "bold"), f": {number} change{'s' if number > 1 else ''}, revision {response.revision}{lines}"
    )
