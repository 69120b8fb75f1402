"""predict: ask a model, as a caller would."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from multishadow_client._address import ROUTER
from multishadow_client._client import Client
from multishadow_client._prediction import Classification, Embedding, Output, Prediction
from multishadow_client._stream import PredictionStream
from multishadow_client.cli import completion, terminal
from multishadow_client.cli import options as shared
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.terminal import Format

EXAMPLES = shared.examples(
    "shadowctl predict spam --text 'You have won'",
    "shadowctl predict digits --tensor '[0, 0, 5, 13]' -o json",
    "shadowctl predict chat --text 'Tell me a story' --stream",
    "shadowctl predict fraud --json '{\"amount\": 12.5}' --session user-17",
)


def predict(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model.", autocompletion=completion.models)],
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="A text.")] = None,
    structured: Annotated[str | None, typer.Option("--json", metavar="JSON", help="A JSON object.")] = None,
    tensor: Annotated[
        str | None, typer.Option("--tensor", metavar="JSON", help="Nested JSON lists of numbers.")
    ] = None,
    raw: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="A file, as raw bytes.")] = None,
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Session id.")] = "",
    request_id: Annotated[str, typer.Option("--request-id", metavar="ID", help="Your id of this request.")] = "",
    router: Annotated[
        str, typer.Option("--router", envvar="MULTISHADOW_ROUTER", metavar="HOST:PORT", help="Where the router is.")
    ] = ROUTER,
    stream: Annotated[
        bool, typer.Option("--stream", help="Ask for the answer piece by piece, and show it as it comes.")
    ] = False,
    timeout: shared.Timeout = shared.DEFAULT_TIMEOUT,
    output: shared.Output = Format.TABLE,
) -> None:
    """Ask a model through the router, and see which version answered."""
    inputs: dict[str, Any] = {
        "text": text,
        "structured": _json("--json", structured, dict),
        "tensor": _json("--tensor", tensor, list),
        "raw": _bytes(raw),
    }
    if sum(value is not None for value in inputs.values()) != 1:
        raise Mistake("give the model exactly one of --text, --json, --tensor, --file")
    with Client(router, timeout=timeout) as client:
        try:
            named = {"session_id": session, "request_id": request_id, **inputs}
            if stream:
                _show_stream(client.predict_stream(model, **named), output)
                return
            prediction = client.predict(model, **named)
        except (TypeError, ValueError) as error:
            raise Mistake(str(error)) from error
    terminal.show(output, _view(prediction), {**_document(prediction), "output": _plain(prediction.output)})


def _show_stream(stream: PredictionStream, output: Format) -> None:
    """Pieces as they come, then who gave them; a document has to wait for its end."""
    with stream:
        for piece in stream:
            if output is Format.TABLE and piece is not None:
                terminal.stdout().print(Text(_words(piece)), end="" if isinstance(piece, str) else "\n", soft_wrap=True)
    whole = stream.whole
    assert whole is not None
    if output is Format.TABLE and isinstance(whole.output, str):
        terminal.stdout().print()
    terminal.show(output, _facts(whole), {**_document(whole), "output": _plain(whole.output)})


def _json(option: str, text: str | None, kind: type) -> Any:  # noqa: ANN401 -- JSON is any
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise Mistake(f"{option}: this is no JSON: {error}") from error
    if not isinstance(value, kind):
        raise Mistake(f"{option} takes {'an object' if kind is dict else 'a list'}, not {text}")
    return value


def _bytes(file: Path | None) -> bytes | None:
    try:
        return None if file is None else file.read_bytes()
    except OSError as error:
        raise Mistake(f"cannot read {file}: {error.strerror}") from error


def _document(prediction: Prediction) -> dict[str, Any]:
    return {
        "version": prediction.version,
        "request_id": prediction.request_id,
        "revision": prediction.revision,
    }


def _plain(output: Output) -> Any:  # noqa: ANN401 -- a document is any
    match output:
        case Classification():
            return dataclasses.asdict(output)
        case Embedding():
            return list(output.values)
        case bytes():
            return base64.b64encode(output).decode()
        case _:
            return output


def _view(prediction: Prediction) -> Text:
    return Text.assemble((f"{_words(prediction.output)}\n", "bold"), _facts(prediction))


def _facts(prediction: Prediction) -> Text:
    facts = (f"{key.replace('_', ' ')} {value}" for key, value in _document(prediction).items() if value)
    return Text(" · ".join(facts), style="dim")


def _words(output: Output) -> str:
    match output:
        case Classification(label=label, confidence=confidence):
            return label if confidence is None else f"{label} ({confidence:.4f})"
        case Embedding(values=values):
            shown = ", ".join(f"{value:.4f}" for value in values[:6])
            return f"[{shown}{', …' if len(values) > 6 else ''}] ({len(values)} values)"
        case bytes():
            return f"{len(output):,} bytes"
        case str():
            return output
        case _:
            return "no output that is known here" if output is None else json.dumps(output, ensure_ascii=False)
