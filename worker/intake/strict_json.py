"""Strict JSON: what Python's decoder takes too generously is refused, with a reason that shows no value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from tiercast.event import Json, json_text
from tiercast.schemas.errors import shown
from tiercast.schemas.fields import Note, found
from tiercast.text import clean_json, may_hold_half

#: The deepest nesting of objects and lists. Voucherify's own stays below 12, and all that handles the data
#: later recurses through it, with less stack to spare than there is here.
MAX_DEPTH = 64

#: Where text is an identity: one that is not what its sender meant could be taken for another's.
_IDENTITY = re.compile(
    r"event\.(id|type)|project_id|id|source_id|(data\.)?(customer|holder|campaign|loyalty_tier(_from|_to)?)\.(id|source_id)"
)


class Refused(ValueError):
    """A body that cannot be read: `path` says where (empty for the whole), `reason` why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


def parse_object(body: bytes, notes: list[Note]) -> Json:
    """The one JSON object of a body.

    Args:
        body: the raw bytes.
        notes: takes the places where half of a surrogate pair stood; it is read as U+FFFD.

    Raises:
        Refused: no JSON, no object, a key given twice, NaN, infinity, too deep, half a surrogate pair in an id.
    """
    try:
        text = json_text(body)
    except UnicodeDecodeError as error:
        raise Refused("", f"expected JSON in UTF-8, found byte {error.start + 1} to be none") from None
    if not text.strip():
        raise Refused("", "expected a JSON object, found an empty body")
    document = _decode(text)
    if not isinstance(document, dict):
        raise Refused("", f"expected a JSON object, found {found(document)}")
    if text.count("{") + text.count("[") > MAX_DEPTH and _deeper(document):
        raise _too_deep()
    if may_hold_half(text):
        _clean(document, notes)
    return document


def _decode(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except Refused:
        raise
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refused("", f"expected JSON, found something else at {where}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # sys.set_int_max_str_digits
        raise Refused("", "expected numbers of a sensible length, found one of thousands of digits") from None


def _too_deep() -> Refused:
    return Refused("", f"expected at most {MAX_DEPTH} levels of objects and lists, found more")


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Refused("", f"expected each key once, found {_repeated(pairs)} twice in one object")
    return result


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return f"`{shown(key)}`"
        seen.add(key)
    return "one"


def _no_constant(name: str) -> Any:
    raise Refused("", f"expected JSON, found {name}, which JSON does not have")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused("", "expected numbers up to 1.8e308, found a larger one")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def _deeper(document: Json) -> bool:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _containers(outer)]
        if not level:
            return False
    return True


def _containers(outer: Any) -> Iterator[Any]:
    values = outer.values() if isinstance(outer, dict) else outer
    return (value for value in values if isinstance(value, dict | list))


def _clean(document: Json, notes: list[Note]) -> None:
    ways: list[tuple[str, ...]] = []
    clean_json(document, ways.append)
    for way in ways:
        path = ".".join(map(shown, way))
        if _IDENTITY.fullmatch(path):
            raise Refused(path, "expected an id, found one with half of a surrogate pair, which no encoding can hold")
        notes.append((path, "half of a surrogate pair, which no encoding can hold, is read as U+FFFD"))
