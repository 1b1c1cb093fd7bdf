"""From values to text, bounded."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Undefined

from .budget import TemplateFault, charge, check_length
from .null import is_null

#: In this order: true is a number to Python.
_WORDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    ((int, float), "a number"),
    (dict, "a table"),
    ((list, tuple), "a list"),
)


def text_of(value: Any) -> str:
    """What a value renders as: null as nothing, tables and lists as JSON, true and false as JSON spells them."""
    if isinstance(value, str):
        return value  # Markup stays Markup.
    if is_null(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return json_of(value)
    if isinstance(value, int | float):
        return str(value)
    raise TemplateFault(f"writes {word_for(value)}, which is no text; add | list or | join")


def json_of(value: Any) -> str:
    """A value as JSON, given up as soon as it gets too long."""
    pieces: list[str] = []
    size = 0
    if is_null(value):
        return "null"
    for piece in _ENCODER.iterencode(value):
        charge(1 + len(piece) // 64)
        size += len(piece)
        check_length(size)
        pieces.append(piece)
    return "".join(pieces)


def word_for(value: Any) -> str:
    """What a value is, in the user's words; never the value itself."""
    if is_null(value):
        return "null"
    return next((word for type_, word in _WORDS if isinstance(value, type_)), "a series")


def _otherwise(value: Any) -> Any:
    if isinstance(value, Undefined):
        return None
    raise TemplateFault(f"cannot write {word_for(value)} as JSON; add | list")


_ENCODER = json.JSONEncoder(default=_otherwise)
