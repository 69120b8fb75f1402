"""Model files: what `shadowctl apply` reads.

A file holds one or more documents, each a model. Keys are the API's field names. The documents are walked as nodes, not
as loaded values, because a node knows its line and column, and because YAML 1.1 takes `1e-9` for text.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer
import yaml

from multishadow.v1.control_pb2 import ApplyModelRequest
from multishadow_client.cli import cost_manifest, dead_letter_terms, duration, privacy_manifest, probe_manifest
from multishadow_client.cli.exit_code import Mistake

_Read = Callable[[yaml.Node], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDocument:
    """One model of a file.

    Args:
        where: `file:line`, for messages.
        request: what to apply; its actor is not set yet.
    """

    where: str
    request: ApplyModelRequest


def read(file: Path) -> list[ModelDocument]:
    """Read every model of a file; `-` is standard input.

    Raises:
        Mistake: the file cannot be read, or is no model file; says file, line, column and what is allowed.
    """
    name, text = _text(file)
    reader = _Reader(name)
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if not _empty(node)]
    except yaml.MarkedYAMLError as error:
        raise Mistake(_syntax(name, error, text)) from error
    except yaml.YAMLError as error:
        raise Mistake(f"{name}: this is no YAML: {error}") from error
    except RecursionError as error:
        raise Mistake(f"{name}: its brackets are nested too deeply for a model file") from error
    if not nodes:
        raise Mistake(f"{name}: there is no model in it; it needs at least `model:` and `versions:`")
    return [reader.document(node) for node in nodes]


def _text(file: Path) -> tuple[str, str]:
    if str(file) == "-":
        return "<stdin>", sys.stdin.read()
    try:
        return str(file), file.read_text(encoding="utf-8")
    except OSError as error:
        raise Mistake(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{file}: not UTF-8 text at byte {error.start}") from error


def _empty(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and node.value == "")


def _syntax(name: str, error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"{name}: this is no YAML: {error.problem}"
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    context = f" {error.context}" if error.context else ""
    return (
        f"{name}:{mark.line + 1}:{mark.column + 1}: this is no YAML: {error.problem}{context}\n"
        f"    {line}\n    {' ' * mark.column}^"
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads nodes, and names the place of whatever is wrong."""

    name: str

    def document(self, node: yaml.Node) -> ModelDocument:
        fields = self._mapping(
            node,
            "a model",
            required=("model",),
            model=self._name,
            comparator=self._comparator,
            default_timeout_ms=self._positive,
            labels=self._labels,
            gates=self._gates,
            segments=self._segments,
            privacy=self._privacy,
            protocol=self._name,
            max_request_bytes=self._count,
            writes=self._yes_or_no,
            writing_methods=self._list_of(self._name, "methods, e.g. [Predict]"),
            sessions=self._sessions,
            probes=lambda probes: probe_manifest.read(probes, self._wrong),
            dead_letters=self._dead_letters,
            cost=self._cost,
            versions=self._list_of(self._version, "versions"),
        )
        writes = {"all": fields.pop("writes", False), "methods": fields.pop("writing_methods", [])}
        if any(key.value in {"writes", "writing_methods"} for key, _ in node.value):
            fields["writes"] = writes
        where = f"{self.name}:{node.start_mark.line + 1}"
        return ModelDocument(where=where, request=ApplyModelRequest(**fields))

    def _comparator(self, node: yaml.Node) -> Mapping[str, Any]:
        return self._mapping(
            node,
            "a comparator",
            threshold=self._number,
            ignored_fields=self._list_of(self._name, "paths, e.g. [meta.timestamp, items.*.id]"),
            absolute_tolerance=self._number,
            relative_tolerance=self._number,
            output=self._output,
        )

    def _output(self, node: yaml.Node) -> Mapping[str, Any]:
        return self._mapping(
            node,
            "an output",
            tensor=self._name,
            read_as=self._name,
            labels=self._list_of(self._name, "names of classes, in their order"),
        )

    def _labels(self, node: yaml.Node) -> Mapping[str, int]:
        if isinstance(node, yaml.ScalarNode) and node.value == "off":
            return {"keep_seconds": 0}
        terms = self._mapping(node, "`labels` (or off)", delay=self._span, keep=self._span)
        return {f"{name}_seconds": seconds for name, seconds in terms.items()}

    def _segments(self, node: yaml.Node) -> Mapping[str, list[str]]:
        if isinstance(node, yaml.ScalarNode) and node.value == "all":
            return {"attributes": []}
        return {"attributes": self._list_of(self._name, "attributes, e.g. [country, user.plan] (or all)")(node)}

    def _privacy(self, node: yaml.Node) -> Mapping[str, Any]:
        read = self._mapping(
            node,
            "`privacy`",
            payloads=lambda form: privacy_manifest.form(self._name(form), partial(self._wrong, form)),
            redact=self._redact,
            keep=self._span,
            keep_bytes=lambda size: privacy_manifest.size(self._name(size), partial(self._wrong, size)),
        )
        return privacy_manifest.fields(read)

    def _redact(self, node: yaml.Node) -> Mapping[str, Any]:
        return self._mapping(
            node,
            "`redact`",
            paths=self._list_of(self._name, "paths, e.g. [input.user.email, output.*.name, attributes.phone]"),
            patterns=self._list_of(self._name, "patterns, e.g. [email, card, key, phone]"),
            custom=self._list_of(
                self._custom, "regexes, each with its name, e.g. [{name: order, regex: 'ORD-[0-9]+'}]"
            ),
        )

    def _custom(self, node: yaml.Node) -> Mapping[str, Any]:
        return self._mapping(node, "a custom pattern", required=("name", "regex"), name=self._name, regex=self._name)

    def _sessions(self, node: yaml.Node) -> Mapping[str, Any]:
        if isinstance(node, yaml.ScalarNode) and node.value == "off":
            return {"idle_seconds": 0}
        terms = self._mapping(
            node,
            "`sessions` (or off)",
            idle=self._span,
            turn=self._name,
            first=self._count,
            wait_ms=self._count,
            unit=self._name,
        )
        if "idle" in terms:
            terms["idle_seconds"] = terms.pop("idle")
        return terms

    def _dead_letters(self, node: yaml.Node) -> Mapping[str, Any]:
        if isinstance(node, yaml.ScalarNode) and node.value == "none":
            return {"retries": 0}
        terms = self._mapping(
            node,
            "`dead_letters` (or none)",
            required=(),
            retries=self._count,
            backoff=self._backoff,
            keep=self._span,
            max=self._positive,
            **{"for": self._list_of(self._name, "reasons, e.g. [timeout, UNAVAILABLE]")},
        )
        return dead_letter_terms.fields(terms)

    def _cost(self, node: yaml.Node) -> Mapping[str, Any]:
        if isinstance(node, yaml.ScalarNode) and node.value == "none":
            return {}
        terms = self._mapping(
            node,
            "`cost` (or none)",
            gpu_hour=self._number,
            currency=self._name,
            rps_per_gpu=lambda rates: cost_manifest.rates(rates, self._number, self._wrong),
        )
        return {**terms, **terms.pop("rps_per_gpu", {})}

    def _backoff(self, node: yaml.Node) -> tuple[float, float]:
        try:
            return dead_letter_terms.backoff(self._name(node))
        except typer.BadParameter as error:
            raise self._wrong(node, error.message) from error

    def _gates(self, node: yaml.Node) -> Mapping[str, Any]:
        limits = self._mapping(
            node,
            "`gates`",
            minimum_duration=self._span,
            divergence=self._number,
            inferiority=self._number,
            latency_ratio=self._number,
            failures=self._number,
            completeness=self._number,
            divergent_samples=self._count,
        )
        if "minimum_duration" in limits:
            limits["minimum_duration_seconds"] = limits.pop("minimum_duration")
        return limits

    def _version(self, node: yaml.Node) -> Mapping[str, Any]:
        return self._mapping(
            node,
            "a version",
            required=("name", "address"),
            name=self._name,
            address=self._name,
            timeout_ms=self._positive,
            max_in_flight=self._positive,
            served_name=self._text_or_none,
            served_version=self._text_or_none,
            limits=self._limits,
        )

    def _limits(self, node: yaml.Node) -> Mapping[str, Any]:
        if isinstance(node, yaml.ScalarNode) and node.value == "none":
            return {}
        return self._mapping(
            node,
            "`limits` (or none)",
            requests_per_second=self._number,
            bytes_per_second=self._number,
            capacity=self._number,
            utilisation=self._number,
            max_request_bytes=self._positive,
            circuit_breaker=self._circuit_breaker,
        )

    def _circuit_breaker(self, node: yaml.Node) -> Mapping[str, Any]:
        if isinstance(node, yaml.ScalarNode) and node.value == "on":
            return {}
        return self._mapping(node, "`circuit_breaker` (or on)", failures=self._positive, share=self._number)

    def _mapping(self, node: yaml.Node, what: str, *, required: tuple[str, ...] = (), **read: _Read) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, f"{what} is a mapping of {', '.join(read)}")
        fields: dict[str, Any] = {}
        for key, value in self._entries(node):
            if key.value not in read:
                raise self._wrong(key, _unknown(key.value, tuple(read), what))
            if key.value in fields:
                raise self._wrong(key, f"{key.value!r} stands here twice")
            fields[key.value] = read[key.value](value)
        if missing := [name for name in required if name not in fields]:
            raise self._wrong(node, f"{what} needs {' and '.join(repr(name) for name in missing)}")
        return fields

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._wrong(key, "a key must be a plain word")
            yield key, value

    def _list_of(self, read: _Read, what: str) -> _Read:
        def items(node: yaml.Node) -> list[Any]:
            if not isinstance(node, yaml.SequenceNode):
                raise self._wrong(node, f"a list of {what} must stand here")
            return [read(item) for item in node.value]

        return items

    def _name(self, node: yaml.Node) -> str:
        # The text as it was typed: a version called 1.0 or no is meant by that name, whatever YAML makes of it.
        if not isinstance(node, yaml.ScalarNode) or not node.value or node.tag == "tag:yaml.org,2002:null":
            raise self._wrong(node, "a text must stand here")
        return str(node.value)

    def _text_or_none(self, node: yaml.Node) -> str:
        # Empty takes back what was set.
        return "" if isinstance(node, yaml.ScalarNode) and not node.value else self._name(node)

    def _number(self, node: yaml.Node) -> float:
        try:
            value = float(self._name(node).replace("_", ""))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._wrong(node, f"a number must stand here, e.g. 0.85; got {self._name(node)!r}")
        return value

    def _yes_or_no(self, node: yaml.Node) -> bool:
        text = self._name(node)
        if text not in {"true", "false"}:
            raise self._wrong(node, f"true or false must stand here; got {text!r}")
        return text == "true"

    def _positive(self, node: yaml.Node) -> int:
        return self._whole(node, least=1)

    def _count(self, node: yaml.Node) -> int:
        return self._whole(node, least=0)

    def _whole(self, node: yaml.Node, *, least: int) -> int:
        text = self._name(node).replace("_", "")
        if not text.isdecimal() or not least <= int(text) < 2**31:
            wanted = "above 0" if least else "from 0"
            raise self._wrong(node, f"a whole number {wanted} must stand here, e.g. 2000; got {text!r}")
        return int(text)

    def _span(self, node: yaml.Node) -> int:
        text = self._name(node)
        try:
            return 0 if text == "0" else duration.seconds(text)
        except typer.BadParameter as error:
            raise self._wrong(node, error.message) from error

    def _wrong(self, node: yaml.Node, problem: str) -> Mistake:
        mark = node.start_mark
        return Mistake(f"{self.name}:{mark.line + 1}:{mark.column + 1}: {problem}")


def _unknown(key: str, allowed: tuple[str, ...], what: str) -> str:
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    return f"{what} has no {key!r}{meant} Allowed: {', '.join(allowed)}"
