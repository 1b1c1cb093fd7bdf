"""Text that can be stored and sent anywhere: no half of a surrogate pair, which no encoding can hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

#: Half of a surrogate pair, as Python holds it. Two halves in a row that make a pair are read as one character before.
_HALF = re.compile("[\ud800-\udfff]")

#: The escapes of half a surrogate pair in JSON. Only they can bring one in: UTF-8 itself has none.
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")

#: What stands in for it: U+FFFD, the replacement character.
_REPLACEMENT = "\ufffd"


def clean_text(text: str) -> str:
    """The text with each half of a surrogate pair replaced by U+FFFD, so that it can be encoded.

    >>> clean_text("Ada \\ud83d")
    'Ada \ufffd'
    """
    return text if text.isascii() or not _HALF.search(text) else _HALF.sub(_REPLACEMENT, text)


def may_hold_half(json: str) -> bool:
    """Whether the texts of a JSON document can hold half of a surrogate pair. Whole pairs are escaped alike."""
    return _ESCAPED_HALF.search(json) is not None


def clean_json(value: Any, found: Callable[[tuple[str, ...]], object] = len, way: tuple[str, ...] = ()) -> Any:
    """A JSON value with all its texts and keys clean, changed in place.

    Args:
        value: text, list, object or anything else that JSON has.
        found: called with the way to each text, or to the object of each key, that was not clean.
        way: the way to the value itself.
    """
    if isinstance(value, str):
        if not _HALF.search(value):
            return value
        found(way)
        return clean_text(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            value[key] = clean_json(inner, found, (*way, key))
        if any(_HALF.search(key) for key in value):
            found(way)
            items = [(clean_text(key), inner) for key, inner in value.items()]
            value.clear()
            value.update(items)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            value[index] = clean_json(inner, found, (*way, str(index)))
    return value
