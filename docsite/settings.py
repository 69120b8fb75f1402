"""Every setting of the roles, and which of them reads it."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from docsite import reading
from docsite.markdown import page, prose, table
from multishadow_server.settings import Settings

ROLES = {
    "router": "multishadow_server.app.router",
    "worker": "multishadow_server.app.worker",
    "control": "multishadow_server.app.control",
    "serve": "multishadow_server.adapters.deployment",
}
ALL = {"router", "worker", "control"}
KINDS = {str: "text", int: "whole number", float: "number", Path: "path"}
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "length ≥"}
INTRODUCTION = """\
Environment variables, for every role. The command lines of the roles take the most used ones as options, too
([multishadow](multishadow.md)), and an option wins over a variable. *Read by* names the roles whose behaviour it
changes: `serve` hands all of them on to the roles that it runs. Those of `shadowctl` are
[its own](../shadowctl.md#in-scripts)."""


def omissions(of: Mapping[str, FieldInfo] = Settings.model_fields) -> Iterator[str]:
    """Settings that do not say what they are for, or that nobody reads."""
    readers = reading.readers(ROLES)
    for name, field in of.items():
        if not field.description:
            yield f"the setting `{name}` has no description"
        if not readers.get(name):
            yield f"no role reads the setting `{name}`"


def pages() -> Iterator[tuple[str, str]]:
    """The one page of settings."""
    readers = reading.readers(ROLES)
    rows = [
        (
            f"`MULTISHADOW_{name.upper()}`",
            _type(field),
            _default(name, field),
            _read_by(readers.get(name, frozenset())),
            prose(field.description or ""),
        )
        for name, field in Settings.model_fields.items()
    ]
    body = table(("variable", "type", "default", "read by", ""), rows)
    source = "server/multishadow_server/settings.py"
    yield "settings.md", page(title="Settings", source=source, parts=[INTRODUCTION, body])


def _read_by(roles: frozenset[str]) -> str:
    return "every role" if roles >= ALL else ", ".join(role for role in ROLES if role in roles)


def _default(name: str, field: FieldInfo) -> str:
    if name == "instance":
        return "host name and process id"
    default = field.get_default()
    return "" if default is None or default == "" else f"`{default}`"


def _type(field: FieldInfo) -> str:
    kinds = [kind for kind in _members(field.annotation) if kind is not types.NoneType]
    named = " or ".join(_kind(kind) for kind in kinds)
    bounds = [
        f"{sign} {_number(getattr(limit, name))}"
        for limit in field.metadata
        for name, sign in BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return prose(" ".join([named, ", ".join(bounds)]).strip())


def _members(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401  whatever stands in the settings
    return get_args(annotation) if get_origin(annotation) is types.UnionType else (annotation,)


def _kind(kind: Any) -> str:  # noqa: ANN401  as above
    if get_origin(kind) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(kind))
    return KINDS.get(kind, str(kind))


def _number(limit: float) -> str:
    return f"{limit:,}"
