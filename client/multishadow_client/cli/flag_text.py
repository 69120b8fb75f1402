"""Definitions and documents of flags as text: JSON, or YAML that means what it says.

YAML 1.1, which PyYAML reads, takes `on` and `off` for booleans, and they are the names of most flags' variants. Here
plain words are text, as in YAML 1.2: only `true`, `false`, `null` and numbers are anything else, and keys never are.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, cast

import yaml

from multishadow_client.cli.exit_code import Mistake

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$")


class _Loader(yaml.SafeLoader):
    """Reads the JSON schema of YAML 1.2: https://yaml.org/spec/1.2.2/#json-schema."""


class _Dumper(yaml.SafeDumper):
    """Quotes whatever a reader of YAML 1.1 or of 1.2 would not take for text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002  its base's signature
        """A rule that stands twice is written twice."""
        return True


def _resolvers(loader: type[yaml.SafeLoader | yaml.SafeDumper]) -> None:
    """Both classes share their base's tables, which must stay as they are."""
    resolve = cast("Any", loader).add_implicit_resolver
    resolve("tag:yaml.org,2002:int", _INTEGER, list("-0123456789"))
    resolve("tag:yaml.org,2002:float", _FLOAT, list("-0123456789"))


_Loader.yaml_implicit_resolvers = {}
cast("Any", _Loader).add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)$"), ["t", "f"])
cast("Any", _Loader).add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(null|~|)$"), ["n", "~", ""])
_resolvers(_Loader)
_resolvers(_Dumper)


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key.start_mark)
        if key.value in value:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands here twice", key.start_mark)
        value[key.value] = loader.construct_object(item, deep=True)
    return value


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, name: str) -> Any:  # noqa: ANN401 -- a document is any
    """A value from JSON or YAML.

    Args:
        text: of which JSON is a part of YAML, except for a few escapes.
        name: of the file, for errors.

    Raises:
        Mistake: it is neither; with file, line and column.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        pass
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise Mistake(f"{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Mistake(f"{name}: neither JSON nor YAML: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Leaves a key that stands twice to the reader of YAML, who says where."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def read(file: Path) -> tuple[Any, str]:
    """The value in a file, and the file's name; `-` is standard input.

    Raises:
        Mistake: it cannot be read, or is neither JSON nor YAML.
    """
    if str(file) == "-":
        return parse(sys.stdin.read(), "<stdin>"), "<stdin>"
    try:
        return parse(file.read_text(encoding="utf-8"), str(file)), str(file)
    except OSError as error:
        raise Mistake(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{file}: not UTF-8 text at byte {error.start}") from error


def as_json(value: Any, name: str) -> str:  # noqa: ANN401 -- a document is any
    """JSON for control. Raises Mistake for what YAML can say and JSON cannot."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Mistake(f"{name}: cannot be said in JSON: {error}") from error


def as_yaml(value: Any) -> str:  # noqa: ANN401 -- a document is any
    """YAML for people, and for every reader of YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100)


def of_definition(definition: str) -> str:
    """YAML of a definition that control sent as JSON; empty for none."""
    return as_yaml(json.loads(definition)) if definition else ""
