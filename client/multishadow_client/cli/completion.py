"""Names for the shell's completion, asked of control.

A shell waits while it completes: control gets half a second, and whatever fails completes to nothing.
"""

from __future__ import annotations

import json
import os

import typer

from multishadow.v1.flags_pb2 import GetFlagDefinitionRequest, ListFlagDefinitionsRequest
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import MultishadowError
from multishadow_client.cli import connection, selection
from multishadow_client.cli.exit_code import Mistake

_PATIENCE = 0.5


def models(context: typer.Context, incomplete: str) -> list[str]:
    """Names of models."""
    return _matching([name for name, _ in _registered(context)], incomplete)


def versions(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the versions of the model that is meant, without those that stand on the line already."""
    named = context.params.get("model") or os.environ.get("MULTISHADOW_MODEL", "") or _remembered()
    typed = context.params.get("versions") or []
    names = [version for model, versions in _registered(context) if named in {"", model} for version in versions]
    return _matching([name for name in dict.fromkeys(names) if name not in typed], incomplete)


def flags(context: typer.Context, incomplete: str) -> list[str]:
    """Keys of flags, without those that stand on the line already."""
    typed = context.params.get("keys") or []
    try:
        with ControlClient(_server(context), timeout=_PATIENCE) as control:
            known = control.list_flag_definitions(ListFlagDefinitionsRequest(prefix=incomplete)).flags
    except MultishadowError:
        return []
    return _matching([flag.key for flag in known if flag.key not in typed], incomplete)


def claims(incomplete: str) -> list[str]:
    """What a flag can say."""
    return _matching(["off", "shadow", "live"], incomplete)


def plans(incomplete: str) -> list[str]:
    """Plans of a staged promotion."""
    return _matching(["auto", "cautious", "bold"], incomplete)


def roles(incomplete: str) -> list[str]:
    """What a token may allow."""
    return _matching(["viewer", "operator", "admin"], incomplete)


def outcomes(incomplete: str) -> list[str]:
    """What can have become of a copy."""
    return _matching(["all", "ok", "diverged", "uncomparable", "error", "timeout"], incomplete)


def events(incomplete: str) -> list[str]:
    """What webhooks are told of."""
    known = [
        "winner.proven",
        "version.promoted",
        "version.rolled_back",
        "experiment.ended",
        "gate.failed",
        "alarm.raised",
        "alarm.cleared",
        "rollout.held",
        "rollout.finished",
        "report.stored",
    ]
    return _matching(known, incomplete)


def variants(context: typer.Context, incomplete: str) -> list[str]:
    """What the flag on the line can serve: its variants, which are claims for a version's."""
    request = GetFlagDefinitionRequest(key=context.params.get("key") or "")
    try:
        with ControlClient(_server(context), timeout=_PATIENCE) as control:
            definition = json.loads(control.get_flag_definition(request).flag.definition)
    except (MultishadowError, ValueError):
        return claims(incomplete)
    return _matching(list(definition["variants"]), incomplete)


def _server(context: typer.Context) -> str:
    named = context.params.get("server") or os.environ.get("MULTISHADOW_CONTROL", "")
    try:
        return connection.completing(named, context.params, default=CONTROL)
    except Mistake:
        return named or CONTROL


def _registered(context: typer.Context) -> list[tuple[str, list[str]]]:
    try:
        with ControlClient(_server(context), timeout=_PATIENCE) as control:
            return [(model.name, list(model.versions)) for model in control.list_models().models]
    except MultishadowError:
        return []


def _remembered() -> str:
    try:
        return selection.remembered()
    except Mistake:
        return ""


def _matching(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
