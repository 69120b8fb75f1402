"""Tables of reports, and the lines above them."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text


def title(name: str, about: str) -> Text:
    """What a table is called, and what it is about."""
    return Text.assemble((name, "bold"), "  ", (about, "dim"))


def table(*columns: tuple[str, str]) -> Table:
    """A table without frame; columns are (header, "left" or "right")."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for header, side in columns:
        made.add_column(header, justify="right" if side == "right" else "left", overflow="fold")
    return made


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row; as Text, so that a console that reads markup or colours numbers leaves names and figures alone."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
