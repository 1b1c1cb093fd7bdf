"""What commands print: one JSON document, aligned tables, marks. Notes and progress go to standard error."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import click

from ..ledger.states import DeliveryState, JobState

T = TypeVar("T")

_COLOURS = {"paused": "yellow"} | {
    str(state): state.colour for states in (DeliveryState, JobState) for state in states if state.colour
}

#: What stands between two columns.
_GAP = "  "

#: The width of a terminal that does not tell.
_WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table. `shrink` says where a cell is cut that a terminal has no room for.

    What is to be copied is never cut: with `own-line`, such cells stand on a line of their own above their row.
    """

    title: str
    right: bool = False
    shrink: Literal["no", "end", "middle", "own-line"] = "no"
    least: int = 8


def as_json(document: Any) -> None:
    """Print one JSON document, and nothing else."""
    click.echo(json.dumps(document, indent=2))


def list_as_json(name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Print `{name: [...]}` as one document, an item a line, without holding all of them."""
    click.echo(f'{{"{name}": [', nl=False)
    separator = "\n"
    for item in items:
        click.echo(separator + json.dumps(item), nl=False)
        separator = ",\n"
    click.echo("]}" if separator == "\n" else "\n]}")


def note(text: str) -> None:
    """Say something beside the output, on standard error."""
    click.echo(text, err=True)


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def can_ask() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty()


def plain(text: object) -> str:
    """Text for one line of a terminal: what others sent can move no cursor and set no colour."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print an aligned table: cut to the terminal's width, whole where no person reads it."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns if is_terminal() else None
    for line in table(columns, rows, width=width, ellipsis=ellipsis()):
        click.echo(line)


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[object]], *, width: int | None, ellipsis: str = "…"
) -> Iterator[str]:
    """Lay out a table with a line of titles; None in a cell is empty. `width` None means as wide as need be."""
    cells = [["" if cell is None else plain(cell) for cell in row] for row in rows]
    own = next((i for i, column in enumerate(columns) if column.shrink == "own-line"), None)
    if width is not None and own is not None and sum(_widths(columns, cells)) + len(_GAP) * (len(columns) - 1) > width:
        above = [columns[own].title, *(row[own] for row in cells)]
        rest = [[cell for i, cell in enumerate(row) if i != own] for row in cells]
        others = [column for i, column in enumerate(columns) if i != own]
        for head, line in zip(above, _lines(others, rest, width - len(_GAP), ellipsis), strict=True):
            yield head
            yield _GAP + line
        return
    yield from _lines(columns, cells, width, ellipsis)


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max([len(column.title), *(len(row[i]) for row in cells)]) for i, column in enumerate(columns)]


def _lines(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int | None, ellipsis: str
) -> Iterator[str]:
    """A line of titles, then a line a row."""
    widths = _widths(columns, cells)
    if width is not None:
        _fit(columns, widths, width)
    titles = [column.title for column in columns]
    for number, row in enumerate([titles, *cells]):
        parts = []
        for cell, column, size in zip(row, columns, widths, strict=True):
            text = cut(cell, size, middle=column.shrink == "middle", ellipsis=ellipsis)
            last = column is columns[-1]
            text = text.rjust(size) if column.right else text if last else text.ljust(size)
            parts.append(_coloured(text) if number else text)
        yield _GAP.join(parts).rstrip()


def _fit(columns: Sequence[Column], widths: list[int], width: int) -> None:
    """Take what is too much from cells that are cut at their end, then from those cut in the middle."""
    for how in ("end", "middle"):
        for i in reversed(range(len(columns))):
            excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
            if excess > 0 and columns[i].shrink == how:
                widths[i] = max(min(widths[i], columns[i].least), widths[i] - excess)


def cut(text: str, size: int, *, middle: bool = False, ellipsis: str = "…") -> str:
    """Shorten a text to `size` characters, at its end or in its middle."""
    if len(text) <= size:
        return text
    room = max(0, size - len(ellipsis))
    tail = room // 2 if middle else 0
    return (text[: room - tail] + ellipsis + (text[-tail:] if tail else ""))[:size]


def _coloured(padded: str) -> str:
    colour = _COLOURS.get(padded.strip())
    return click.style(padded, fg=colour) if colour else padded


def can_show(text: str) -> bool:
    """Whether standard output's encoding has these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def ellipsis() -> str:
    """What stands for text that was cut."""
    return "…" if can_show("…") else "..."


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, aligned, one a line; None and empty values are left out.

    On a terminal prose is wrapped under itself; a key or an id stays in one piece.
    """
    kept = [(name, plain(value)) for name, value in facts if value not in (None, "")]
    size = max((len(name) for name, _ in kept), default=0)
    width = shutil.get_terminal_size((_WIDTH, 24)).columns if is_terminal() else None
    for name, value in kept:
        lines = [value]
        if width is not None and len(value) > width - size - len(_GAP):
            room = max(20, width - size - len(_GAP))
            lines = textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False) or [""]
        click.echo(f"{name.ljust(size)}{_GAP}{_coloured(lines[0])}")
        for line in lines[1:]:
            click.echo(" " * (size + len(_GAP)) + line)


def progress(items: Iterable[T], count: int, label: str) -> Iterator[T]:
    """Give items on; a person at a terminal sees how far of `count` it is."""
    shown = sys.stderr.isatty() and count > 1 and os.environ.get("TERM") != "dumb"
    if not shown:
        yield from items
        return
    with click.progressbar(items, length=count, label=label, file=sys.stderr, width=30) as bar:
        yield from bar
