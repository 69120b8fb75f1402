"""Every command of `multishadow` and `shadowctl`, by walking their trees."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer.main

from docsite.markdown import anchor, page, paragraphs, prose, table
from multishadow_client.cli.program import command as shadowctl
from multishadow_server.entrypoints.cli import cli

# What every program of this kind has, and nobody looks up.
USUAL = {"--help", "--install-completion", "--show-completion"}
SOURCES = {
    "shadowctl": "client/multishadow_client/cli",
    "multishadow": "server/multishadow_server/entrypoints/cli.py",
}
# An option is described once, before the commands, when at least so many commands of a program have it.
SHARED_BY = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command, or a group of them.

    Args:
        path: its words, the program's name first.
        node: what typer made of it.
        group: whether others stand below it.
    """

    path: tuple[str, ...]
    node: Any
    group: bool

    @property
    def name(self) -> str:
        """Its words after the program's."""
        return " ".join(self.path[1:])

    def parameters(self) -> Iterator[tuple[str, str]]:
        """How each argument and option is written, and what its help says."""
        context = self.node.context_class(self.node, info_name=self.path[-1])
        for each in self.node.get_params(context):
            if not (USUAL & set(each.opts) or getattr(each, "hidden", False)):
                written, said = each.get_help_record(context)
                # Typer sets a default that is shown by another text in brackets.
                shown = re.sub(r"default: \((.*?)\)", r"default: \1", said)
                yield written, shown if getattr(each, "help", None) else ""


def trees() -> dict[str, Any]:
    """The programs by their names."""
    return {"shadowctl": shadowctl(), "multishadow": typer.main.get_command(cli)}


def commands(name: str, node: Any, path: tuple[str, ...] = ()) -> Iterator[Command]:  # noqa: ANN401  as typer has it
    """A program and everything below it that it shows."""
    below = getattr(node, "commands", {})
    yield Command(path=(*path, name), node=node, group=bool(below))
    for word, each in below.items():
        if not each.hidden:
            yield from commands(word, each, (*path, name))


def omissions(of: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Commands, arguments and options that do not say what they are for; of all programs, unless some are given."""
    for name, tree in (trees() if of is None else of).items():
        for command in commands(name, tree):
            if not command.node.help:
                yield f"the command `{' '.join(command.path)}` has no help"
            for written, said in command.parameters():
                if not said:
                    yield f"`{written}` of the command `{' '.join(command.path)}` has no help"


def pages() -> Iterator[tuple[str, str]]:
    """A page for each program."""
    for name, tree in trees().items():
        found = list(commands(name, tree))
        shared = _shared(found)
        parts = [_text(tree.help), _epilog(tree.epilog), _contents(found)]
        if shared:
            parts += ["## Options of many commands", table(("option", ""), map(_row, shared))]
        parts += [part for command in found[1:] for part in _section(command, shared)]
        yield f"{name}.md", page(title=f"{name}: every command", source=SOURCES[name], parts=parts)


def _shared(found: Sequence[Command]) -> list[tuple[str, str]]:
    counted = Counter(each for command in found for each in command.parameters())
    return [each for each, times in counted.items() if times >= SHARED_BY and each[0].startswith("-")]


def _contents(found: Sequence[Command]) -> str:
    rows = [
        (f"[`{command.name}`](#{anchor(command.name)})", _first_sentence(command.node.help or ""))
        for command in found[1:]
        if len(command.path) == 2
    ]
    return table(("command", ""), rows)


def _section(command: Command, shared: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f"{'#' * len(command.path)} {command.name}"
    yield _text(command.node.help)
    own = [each for each in command.parameters() if each not in shared]
    if not command.group or own:
        yield table(("argument or option", ""), map(_row, own))
        others = [each for each in command.parameters() if each in shared]
        if others:
            names = ", ".join(f"`{_long(written)}`" for written, _ in others)
            yield f"And of [the options of many commands](#options-of-many-commands): {names}."
    yield _epilog(command.node.epilog)


def _long(written: str) -> str:
    """The long name of an option, of how it is written: `-s, --server HOST:PORT`."""
    return next(word for word in re.split(r"[ ,]+", written) if word.startswith("--"))


def _row(parameter: tuple[str, str]) -> tuple[str, str]:
    written, said = parameter
    choices = re.search(r" <([\w-]+(?:\|[\w-]+)+)>", written)
    if choices is None:
        return f"`{written}`", prose(said)
    # A bar in a cell's code is shown in one way on the site and in another on forges.
    named = ", ".join(f"`{each}`" for each in choices[1].split("|"))
    return f"`{written.replace(choices[0], '')}`", f"{prose(said)} One of {named}."


def _first_sentence(text: str) -> str:
    return prose(text.split("\n\n", maxsplit=1)[0].split(". ", maxsplit=1)[0]).removesuffix(".")


def _text(help_: str | None) -> str:
    """A help's paragraphs; those that are examples as code."""
    parts = re.split(r"\n\s*\n", help_ or "")
    return "\n\n".join(
        f"```sh\n{' '.join(part.split()).removeprefix('Example: ')}\n```"
        if part.lstrip().startswith("Example: ")
        # What the multishadow's help means as bold.
        else paragraphs(re.sub(r"\*\*(.+?)\*\*", r"`\1`", part))
        for part in parts
    )


def _epilog(text: str | None) -> str:
    """What stands below a help: examples as code, the rest as it is."""
    lines = (text or "").splitlines()
    examples = [line.strip() for line in lines if line.startswith("  ")]
    rest = [line for line in lines if line and not line.startswith("  ") and line != "Examples:"]
    code = "\n".join(["```sh", *examples, "```"]) if examples else ""
    return "\n\n".join(part for part in (code, *_sentences(rest)) if part)


def _sentences(lines: Sequence[str]) -> list[str]:
    return [prose(each) for each in re.split(r"\n(?=[A-Z][a-z ]+:)", "\n".join(lines)) if each]
