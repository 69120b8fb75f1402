"""What a migration may do while roles of the release before go on working on the tables.

They read and write by the columns that they know. So a migration only adds (expands), in a way that their INSERTs and
SELECTs do not notice, and that holds no big table for long. What a release has stopped using is dropped (contracted) by
a later one, whose migration says why nobody misses it: `CONTRACT = "..."`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# Tables that grow with time, not with what people do. An index or a constraint on them is built for minutes.
BIG = frozenset({"rollup", "comparison", "answer", "label", "live_count", "dead_letter"})
_CONTRACTING = frozenset({"drop_column", "drop_table", "rename_table"})
_BUILDING = frozenset({"create_index", "create_unique_constraint", "create_primary_key", "create_exclude_constraint"})
_CHECKING = frozenset({"create_foreign_key", "create_check_constraint"})
_VOLATILE = re.compile(r"random|uuid|clock_timestamp|timeofday|nextval", re.IGNORECASE)
_SQL_CONTRACTING = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|VIEW|TYPE|SCHEMA)\b|\bRENAME\b|\bSET\s+NOT\s+NULL\b|\bDROP\s+DEFAULT\b|"
    r"\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b",
    re.IGNORECASE,
)
_SQL_HOLDING = re.compile(
    r"\bVACUUM\s+FULL\b|\bCLUSTER\b|\bLOCK\s+TABLE\b|\bREINDEX\b(?!.*CONCURRENTLY)", re.IGNORECASE
)


@dataclass(slots=True)
class _Migration:
    """What is known of a migration while its operations are read."""

    made: set[str] = field(default_factory=set)
    contract: str = ""


def problems(source: str) -> list[str]:
    """What is wrong with a migration's `upgrade`, a line each; empty when roles can go on meanwhile."""
    tree = ast.parse(source)
    migration = _Migration()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONTRACT":
            migration.contract = str(ast.literal_eval(node.value))
    upgrades = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "upgrade"]
    return [f"line {call.lineno}: {said}" for call in _operations(upgrades) for said in _of(call, migration)]


def _operations(upgrades: Sequence[ast.FunctionDef]) -> Iterator[ast.Call]:
    """Calls of `op.something`, in the order of the text."""
    calls = [node for upgrade in upgrades for node in ast.walk(upgrade) if isinstance(node, ast.Call)]
    return iter(sorted((call for call in calls if _named(call)), key=lambda call: (call.lineno, call.col_offset)))


def _named(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "op":
        return function.attr
    return ""


def _of(call: ast.Call, migration: _Migration) -> Iterator[str]:
    name, keywords = _named(call), {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    texts = [str(argument.value) if isinstance(argument, ast.Constant) else "" for argument in call.args]
    if name == "create_table":
        migration.made.add(texts[0])
    elif name in _CONTRACTING and not migration.contract:
        yield f'{name} {texts[0]}: the release before still uses it; drop it a release later, and say CONTRACT = "why"'
    elif name == "add_column" and texts[0] not in migration.made:
        yield from _of_column(texts[0], call.args[1])
    elif name == "alter_column":
        yield from _of_change(f"{texts[0]}.{texts[1]}", keywords, migration)
    elif name in _BUILDING | _CHECKING:
        yield from _of_building(name, texts[1], keywords, migration)
    elif name == "execute":
        yield from _of_statement(ast.unparse(call.args[0]), migration)


def _of_column(table: str, column: ast.expr) -> Iterator[str]:
    assert isinstance(column, ast.Call)
    where = f"{table}.{ast.literal_eval(column.args[0])}"
    keywords = {keyword.arg: keyword.value for keyword in column.keywords}
    default = keywords.get("server_default")
    has_default = default is not None and ast.unparse(default) != "None"
    nullable = ast.unparse(keywords["nullable"]) == "True" if "nullable" in keywords else True
    if not nullable and not has_default:
        yield f"{where}: roles of the release before insert rows without it; make it nullable or give a server_default"
    if has_default and default is not None and _VOLATILE.search(ast.unparse(default)):
        yield f"{where}: a default that differs by row rewrites the table under its lock"


def _of_change(where: str, keywords: dict[str, ast.expr], migration: _Migration) -> Iterator[str]:
    if migration.contract:
        return
    for name in ("new_column_name", "type_"):
        if name in keywords:
            yield f"{where}: {name}: the release before knows it as it was; add a column, and drop this one later"
    if "nullable" in keywords and ast.unparse(keywords["nullable"]) == "False":
        yield f"{where}: NOT NULL reads the whole table under its lock, and the release before may write NULL"
    if "server_default" in keywords and ast.unparse(keywords["server_default"]) == "None":
        yield f"{where}: roles of the release before insert rows without it, and need its default"


def _of_building(name: str, table: str, keywords: dict[str, ast.expr], migration: _Migration) -> Iterator[str]:
    if table in migration.made or table not in BIG:
        return
    if name in _BUILDING and "postgresql_concurrently" not in keywords:
        yield f"{name} on {table}: writes wait until it is built; say postgresql_concurrently=True"
    if name in _CHECKING and "postgresql_not_valid" not in keywords:
        yield f"{name} on {table}: every row is read under its lock; postgresql_not_valid=True"


def _of_statement(statement: str, migration: _Migration) -> Iterator[str]:
    if _SQL_CONTRACTING.search(statement) and not migration.contract:
        yield f"the release before still uses what this changes: {statement[:60]}"
    if _SQL_HOLDING.search(statement):
        yield f"it holds a table for as long as it takes: {statement[:60]}"
