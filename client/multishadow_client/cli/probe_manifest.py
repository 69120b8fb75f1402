"""The `probes` of a model file.

probes:
- name: obvious-spam
request: {text: "You have won"}
expect: {classification: spam}
every: 30s
- {name: greeting, request: {text: "hello"}, expect: stable, threshold: 0.9}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import typer
import yaml

from multishadow.v1.alarms_pb2 import Probe, ProbeSet
from multishadow_client import _prediction_json
from multishadow_client.cli import duration
from multishadow_client.cli.exit_code import Mistake

Wrong = Callable[[yaml.Node, str], Mistake]

FIELDS = ("name", "request", "expect", "every", "threshold", "session_id", "attributes")
# YAML 1.1 takes `1e-9` for text; JSON does not, and these are JSON values.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


def read(node: yaml.Node, wrong: Wrong) -> ProbeSet:
    """The probes at a node; `off` is none.

    Args:
        node: what stands at `probes`.
        wrong: makes the complaint about a node.

    Raises:
        Mistake: where, and what is allowed.
    """
    if isinstance(node, yaml.ScalarNode) and node.value == "off":
        return ProbeSet()
    if not isinstance(node, yaml.SequenceNode):
        raise wrong(node, "`probes` (or off) is a list of mappings with name and request")
    try:
        return ProbeSet(probes=[_probe(each, wrong) for each in node.value])
    except RecursionError:
        # An alias may stand for what it is in.
        raise wrong(node, "these probes are nested too deeply") from None


def _probe(node: yaml.Node, wrong: Wrong) -> Probe:
    parts = _parts(node, wrong)
    if missing := [name for name in ("name", "request") if name not in parts]:
        raise wrong(node, f"a probe needs {' and '.join(repr(name) for name in missing)}")
    session = _plain(parts["session_id"], wrong) if "session_id" in parts else ""
    attributes = _plain(parts["attributes"], wrong) if "attributes" in parts else None
    try:
        request = _prediction_json.request_of(
            _plain(parts["request"], wrong), session_id=str(session), attributes=attributes
        )
    except ValueError as error:
        raise wrong(parts["request"], str(error)) from error
    probe = Probe(name=_text(parts["name"], wrong), request=request)
    if "every" in parts:
        probe.every_seconds = _span(parts["every"], wrong)
    if "threshold" in parts:
        threshold = _plain(parts["threshold"], wrong)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise wrong(parts["threshold"], f"a number must stand here, e.g. 0.9; got {threshold!r}")
        probe.threshold = threshold
    if "expect" in parts and not _is_stable(parts["expect"]):
        try:
            probe.expected.CopyFrom(_prediction_json.answer_of(_plain(parts["expect"], wrong)))
        except ValueError as error:
            raise wrong(parts["expect"], f"{error} (or stable)") from error
    return probe


def _parts(node: yaml.Node, wrong: Wrong) -> Mapping[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise wrong(node, f"a probe is a mapping of {', '.join(FIELDS)}")
    parts: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if key.value not in FIELDS:
            raise wrong(key, f"a probe has no {key.value!r}. Allowed: {', '.join(FIELDS)}")
        if key.value in parts:
            raise wrong(key, f"{key.value!r} stands here twice")
        parts[key.value] = value
    return parts


def _is_stable(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == "stable"


def _text(node: yaml.Node, wrong: Wrong) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        raise wrong(node, "a text must stand here")
    return str(node.value)


def _span(node: yaml.Node, wrong: Wrong) -> int:
    try:
        return duration.seconds(_text(node, wrong))
    except typer.BadParameter as error:
        raise wrong(node, error.message) from error


def _plain(node: yaml.Node, wrong: Wrong) -> Any:  # noqa: ANN401 -- JSON is any
    """A node as the JSON value that it stands for; dates and the like stay the text that was typed."""
    match node:
        case yaml.MappingNode():
            return {_text(key, wrong): _plain(value, wrong) for key, value in node.value}
        case yaml.SequenceNode():
            return [_plain(item, wrong) for item in node.value]
    quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
    text = str(node.value)
    if not quoted and _NUMBER.fullmatch(text):
        return float(text) if set(text) & set(".eE") else int(text)
    if not quoted and text in {"true", "false"}:
        return text == "true"
    return None if not quoted and text in {"null", "~", ""} else text
