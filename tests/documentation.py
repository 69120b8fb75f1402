"""The documentation as a reader finds it: its pages, their links, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import typer.main
from docsite import markdown

from multishadow_client.cli.program import command as shadowctl
from multishadow_server.entrypoints.cli import cli as multishadow

ROOT = Path(__file__).parents[1]
PROGRAMS = {"multishadow": typer.main.get_command(multishadow), "shadowctl": shadowctl()}

FENCE = re.compile(r"^( *)(`{3,})(\w*)[^\n]*\n(.*?)^\1\2 *$", flags=re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^|[\s(;])(?:\.venv/bin/)?(multishadow|shadowctl) +([^\n]*)")
SHELLS = {"sh", "yaml", "console"}
# Where a shell ends a command; what follows is another one, or none.
ENDS = re.compile(r"^(?:\|\|?|&&?|;;?|[12]?>+|<+|\)|2>&1)$")


class Link(NamedTuple):
    """A link to another page or to a file, and where on it."""

    target: str
    heading: str


class Command(NamedTuple):
    """What a page tells people to type: the program, and its arguments."""

    program: str
    arguments: list[str]


def pages() -> list[Path]:
    """Every page that people read."""
    entrances = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench" / "README.md"]
    return [*entrances, *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def without_code(path: Path) -> str:
    """A page without its blocks of code, in which nothing is a heading or a link."""
    return FENCE.sub("", path.read_text())


def links(text: str) -> Iterator[Link]:
    """Links that do not lead elsewhere on the net."""
    for target, heading in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)", re.sub(r"`[^`\n]*`", "", text)):
        yield Link(target, heading)


@cache
def headings(path: Path) -> frozenset[str]:
    """What links to a page's headings end with."""
    found = re.findall(r"^#+ +(.*?) *$", without_code(path), flags=re.MULTILINE)
    return frozenset(markdown.anchor(re.sub(r"[`*]|\[(.*?)\]\(.*?\)", r"\1", heading)) for heading in found)


def typed(text: str) -> Iterator[Command]:
    """Every command in blocks of code that a shell, a pipeline, or a person at a terminal is to run."""
    for _, _, language, code in FENCE.findall(text):
        if language in SHELLS:
            # At a terminal only what follows the prompt was typed.
            shown = re.sub(r"^(?!\$ ).*\n", "", code, flags=re.MULTILINE) if language == "console" else code
            for line in shown.replace("\\\n", " ").splitlines():
                # What is said about a command is not typed.
                spoken = re.search(r"(?:^|\s)#|\becho\b", line)
                for program, rest in COMMAND.findall(line[: spoken.start()] if spoken else line):
                    if arguments := list(_words(rest)):
                        yield Command(program, arguments)


def named(text: str) -> Iterator[Command]:
    """Every command in backquotes, which may leave out what goes without saying."""
    for program, rest in re.findall(r"`(multishadow|shadowctl) ([a-z][^`]*)`", FENCE.sub("", text)):
        yield Command(program, list(_words(rest.replace("\n", " "))))


def understand(command: Command) -> None:
    """Parse it as the program would.

    Raises:
        Exception: of the command line's parser; the program would end with exit code 2.
        KeyError: there is no such subcommand.
    """
    node, arguments = _descend(command)
    node.make_context(node.name, arguments)


def unknown(command: Command) -> list[str]:
    """What the program does not know of a command whose arguments may be left out; subcommands raise KeyError."""
    node, arguments = _descend(command)
    context = node.context_class(node, info_name=node.name)
    known = {name for each in node.get_params(context) for name in (*each.opts, *each.secondary_opts)}
    return [word for word in arguments if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]


def _descend(command: Command) -> tuple[Any, list[str]]:
    node: Any = PROGRAMS[command.program]
    arguments = list(command.arguments)
    while hasattr(node, "commands") and arguments and re.match(r"[a-z]", arguments[0]):
        node = node.commands[arguments.pop(0)]
    return node, arguments


def _words(line: str) -> Iterator[str]:
    """The words of a command, up to where the shell ends it."""
    # Of what a shell would put there, anything will do.
    line = re.sub(r"\$\([^)]*\)|\$\{\{.*?\}\}", "x", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for word in lexer:
        if ENDS.match(word):
            return
        if word != "…":
            yield word
