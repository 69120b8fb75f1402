"""Which settings a role reads, found in the code from the role's module on.

Parts of the program are its functions and classes. A role reads what its module reads, and what the parts do that are
named there, and so on: so what a module has for one role is not said of others that import it for something else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import multishadow_server
from multishadow_server.settings import Settings

PACKAGE = multishadow_server.__name__
HOME = Path(multishadow_server.__file__).parent.parent


class Part(NamedTuple):
    """A function or class of a module; "" is all of it."""

    module: str
    name: str


class Found(NamedTuple):
    """What stands in a part: settings that it reads, and parts that it names."""

    settings: frozenset[str]
    named: frozenset[Part]


# What every command of a role does before it runs the role.
START = Part(f"{PACKAGE}.entrypoints.cli", "_log_to_stderr")


@cache
def _properties() -> Mapping[str, frozenset[str]]:
    """The settings behind each property of Settings, as if they were read themselves."""
    body = next(node for node in _tree(Settings.__module__).body if isinstance(node, ast.ClassDef))
    return {
        node.name: frozenset(each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute) and _own(each))
        for node in body.body
        if isinstance(node, ast.FunctionDef)
    }


def readers(roles: Mapping[str, str]) -> Mapping[str, frozenset[str]]:
    """By setting: the roles that read it.

    Args:
        roles: each role's module.
    """
    read = {role: _reached(Part(module, ""), START) for role, module in roles.items()}
    return {
        name: frozenset(role for role, settings in read.items() if name in settings) for name in Settings.model_fields
    }


def _reached(*begin: Part) -> frozenset[str]:
    settings: set[str] = set()
    seen, ahead = set(begin), list(begin)
    while ahead:
        found = _found(ahead.pop())
        settings |= found.settings
        ahead += found.named - seen
        seen |= found.named
    return frozenset(settings)


@cache
def _found(part: Part) -> Found:
    tree = _tree(part.module)
    body: list[ast.stmt] = list(tree.body) if not part.name else _definitions(tree).get(part.name, [])
    names = _names(part.module)
    inside = [node for statement in body for node in ast.walk(statement)]
    return Found(frozenset(_settings(inside)), frozenset(_named(inside, names)) - {part})


def _settings(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Attribute) and _of_settings(node.value):
            yield from _properties().get(node.attr, {node.attr} & Settings.model_fields.keys())


def _of_settings(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in {"settings", "_settings"}


def _own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def _named(nodes: list[ast.AST], names: Mapping[str, Part]) -> Iterator[Part]:
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = names.get(node.value.id)
            if module is not None and not module.name:
                yield Part(module.module, node.attr)
        elif isinstance(node, ast.Name) and node.id in names and names[node.id].name:
            yield names[node.id]


@cache
def _names(module: str) -> Mapping[str, Part]:
    """What a module calls things of the program: other modules, their parts, and its own."""
    tree = _tree(module)
    found = {name: Part(module, name) for name in _definitions(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                part = Part(whole, "") if _file(whole) else Part(str(node.module), name.name)
                found[name.asname or name.name] = part
    return found


@cache
def _file(module: str) -> Path | None:
    """Where a module of the program is written; None for what is none."""
    path = HOME.joinpath(*module.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


@cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    text = path.read_text() if path else ""
    # What never says the word neither reads settings nor hands them on: most of the program.
    return ast.parse(text if "settings" in text.lower() else "")


def _definitions(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name: [node] for node in tree.body if isinstance(node, kinds)}
