"""Where answers and complaints are written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from multishadow_client.cli import document


class Format(StrEnum):
    """How an answer is written: for people, or for programs."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def stdout() -> Console:
    """For answers. Colours and control codes only on a terminal; NO_COLOR, FORCE_COLOR and COLUMNS are heeded."""
    return _console(stderr=False)


def stderr() -> Console:
    """For complaints and questions."""
    return _console(stderr=True)


def show(format_: Format, view: RenderableType, answer: Mapping[str, Any]) -> None:
    """Write an answer: the view for people, the document for programs."""
    match format_:
        case Format.TABLE:
            stdout().print(view)
        case Format.JSON:
            sys.stdout.write(document.as_json(answer) + "\n")
        case Format.YAML:
            # Each answer is a document of its own, so that several in a row stay readable.
            sys.stdout.write(f"---\n{document.as_yaml(answer)}\n")
    sys.stdout.flush()


def complain(message: str, hint: str = "") -> None:
    """Say on stderr what went wrong, and what to do."""
    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("hint: ", "bold"), hint), soft_wrap=True)


def remark(message: str) -> None:
    """Say on stderr what is worth knowing and is no error."""
    stderr().print(Text(message, style="dim"), soft_wrap=True)


def warn(warnings: Iterable[str]) -> None:
    """Say on stderr what may make an answer mean less than it seems to."""
    for warning in warnings:
        stderr().print(Text.assemble(("warning: ", "bold yellow"), warning), soft_wrap=True)


def confirmed(question: str) -> bool:
    """Ask on stderr; whatever is no yes is a no. Typer's own question leaves a blank on stdout, amid the answer."""
    stderr().print(Text(f"{question} [y/N] "), end="", soft_wrap=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _console(*, stderr: bool) -> Console:
    # Markup off: square brackets in names and messages are text. Rich assumes 80 columns where there is no terminal;
    # logs and pipes have room for the report as it is meant.
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 100
    return console
