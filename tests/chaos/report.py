"""The table, for a terminal of 80 columns and for the docs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .audit import Row

_TITLES = ("scenario", "accepted", "processed", "effects", "lost", "outside", "inside", "of", "s")
_WIDTHS = (-16, 9, 10, 8, 6, 8, 7, 6, 7)


def heading() -> str:
    """The heading of the terminal's table."""
    return _set(_TITLES)


def line(row: Row) -> str:
    """One row of the terminal's table."""
    return _set(_cells(row)) + ("" if row.kept else "  BROKEN")


def total(rows: Iterable[Row]) -> str:
    """The sums, in a sentence."""
    rows = list(rows)
    return (
        f"{sum(row.accepted for row in rows)} accepted, {sum(row.effects for row in rows)} effects, "
        f"{sum(row.lost for row in rows)} lost, {sum(row.outside for row in rows)} doubled outside the window, "
        f"{sum(row.inside for row in rows)} inside."
    )


def markdown(rows: Iterable[Row], texts: Mapping[str, str]) -> str:
    """The table for the docs."""
    rows = list(rows)
    head = "| scenario | accepted | processed | effects | lost | doubled outside | inside (in flight) | caught up |"
    lines = [head, "| --- | --: | --: | --: | --: | --: | --: | --: |"]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.accepted} | {row.processed} | {row.effects} | {row.lost} | {row.outside} "
            f"| {row.inside} ({row.bound}) | {row.seconds:.1f} s |"
        )
    return "\n".join([*lines, "", total(rows), "", *(f"- `{row.name}`: {texts.get(row.name, '')}" for row in rows), ""])


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (row.accepted, row.processed, row.effects, row.lost, row.outside, row.inside, row.bound)
    return (row.name, *map(str, numbers), f"{row.seconds:.1f}")


def _set(cells: Iterable[str]) -> str:
    pairs = zip(cells, _WIDTHS, strict=True)
    return "".join(f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}" for cell, width in pairs)
