"""Every error: of the servers with its gRPC status, of the client, and the exit codes of `shadowctl`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import grpc

from docsite import members
from docsite.markdown import page, prose, table
from multishadow_client import _errors as of_client
from multishadow_client.cli.exit_code import ExitCode
from multishadow_server import errors as of_server
from multishadow_server.entrypoints import status

SOURCE = "server/multishadow_server/errors.py, entrypoints/status.py and client/multishadow_client/_errors.py"
INTRODUCTION = """\
Messages say what was wrong, where, and what to do. Errors of a live version reach its callers as they are, with the
version's name in the trailing metadata `x-multishadow-version`; those below are multishadow's own."""
OF_CLIENT = """\
What `multishadow_client` raises, and by which statuses. Each has `code`, `request_id` and `version` beside its message.
Mistakes in the program that calls are `TypeError` and `ValueError`, as everywhere in Python."""
EVALUATION = """\
`EvaluationFailed` leaves by the code of OpenFeature that it carries, as flagd's clients expect it:"""
EXIT_CODES = "Those of `shadowctl`; [in scripts](../shadowctl.md#in-scripts) says when each command ends with which."


def omissions() -> Iterator[str]:
    """Errors without a docstring, and exit codes that are not described."""
    for base in (of_server.MultishadowError, of_client.MultishadowError):
        for depth, kind in _tree(base):
            if depth and not kind.__doc__:
                yield f"the error {kind.__module__}.{kind.__name__} has no docstring"
    yield from members.omissions(ExitCode)


def pages() -> Iterator[tuple[str, str]]:
    """The one page of errors."""
    served = [
        (_indented(depth, kind), _own_status(kind), _first_line(kind))
        for depth, kind in _tree(of_server.MultishadowError)
        if depth
    ]
    evaluation = [
        (f"`{code}`", f"`{status.code_of(of_server.EvaluationFailed('', code=code, key='')).name}`")
        for code in (*status.EVALUATION_CODES, "any other")
    ]
    raised = [
        (_indented(depth, kind), ", ".join(_statuses(kind)), _first_line(kind))
        for depth, kind in _tree(of_client.MultishadowError)
        if depth
    ]
    said = members.described(ExitCode)
    codes = [(f"{code}", f"`{code.name}`", prose(said.get(f"{code}", ""))) for code in ExitCode]
    body = [
        INTRODUCTION,
        "## Of the servers",
        table(("error", "gRPC status", "means that"), served),
        EVALUATION,
        table(("code", "gRPC status"), evaluation),
        "## Of the Python client",
        OF_CLIENT,
        table(("error", "raised for", "means that"), raised),
        "## Exit codes",
        EXIT_CODES,
        table(("code", "", "means"), codes),
    ]
    yield "errors.md", page(title="Errors and exit codes", source=SOURCE, parts=body)


def _tree(kind: type[Exception], depth: int = 0) -> Iterator[tuple[int, type[Exception]]]:
    """A class and those below it, in the order of the file; only the file's own."""
    yield depth, kind
    for each in kind.__subclasses__():
        if each.__module__ == kind.__module__:
            yield from _tree(each, depth + 1)


def _own_status(kind: type[Exception]) -> str:
    if kind is of_server.EvaluationFailed:
        return "see below"
    assert issubclass(kind, of_server.MultishadowError)
    return f"`{status.code_of(kind('')).name}`"


def _statuses(kind: type[Exception]) -> list[str]:
    """The statuses that the client makes this error of."""
    if kind is of_client.Unreachable:
        return ["`UNAVAILABLE`, before anything was sent"]
    made = [
        code.name
        for code in grpc.StatusCode
        if code is not grpc.StatusCode.OK and type(of_client.from_status(code, "", address="", trailing={})) is kind
    ]
    return [f"`{name}`" for name in made]


def _indented(depth: int, kind: type[Exception]) -> str:
    return f"{'└ ' if depth > 1 else ''}`{kind.__name__}`"


def _first_line(kind: type[Exception]) -> str:
    return prose(inspect.cleandoc(kind.__doc__ or "").split("\n\n", maxsplit=1)[0])
