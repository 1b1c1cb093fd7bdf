"""Horizontal bars as SVG: the little that the docs need of a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 720, 170, 90, 30, 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One bar; `low` and `high` make its whisker, `ours` its colour."""

    label: str
    value: float
    low: float
    high: float
    ours: bool


def bars(title: str, rows: Sequence[Row], *, unit: str = "") -> str:
    """Draw the rows that have a value. The whisker spans the rounds."""
    shown = [row for row in rows if not math.isnan(row.value)]
    scale = (_WIDTH - _LEFT - _RIGHT) / max([row.high for row in shown] or [1.0])
    height = _TOP + _ROW * len(shown) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="bold" fill="#1b1b1b">{escape(title)}</text>',
    ]
    for place, row in enumerate(shown):
        parts += _row(row, _TOP + _ROW * place, scale, unit)
    return "\n".join([*parts, "</svg>", ""])


def _row(row: Row, y: float, scale: float, unit: str) -> list[str]:
    colour = "#0b6e4f" if row.ours else "#9aa5b1"
    end, low, high = (_LEFT + value * scale for value in (row.value, row.low, row.high))
    middle = y + 10
    text = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:,.1f}"
    return [
        f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end" fill="#1b1b1b">{escape(row.label)}</text>',
        f'<rect x="{_LEFT}" y="{y}" width="{max(1.0, end - _LEFT):.1f}" height="20" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8" '
        'stroke="#1b1b1b" fill="none"/>',
        f'<text x="{max(end, high) + 6:.1f}" y="{y + 15}" fill="#1b1b1b">{text}{escape(unit)}</text>',
    ]
