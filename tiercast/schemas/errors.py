"""What an operator reads of a marshmallow error: the path of the first fault, and what is wrong there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

#: Keys that can be shown. Any other may be a value in disguise: an email as the key of a map.
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def first_fault(messages: Any, prefix: str = "") -> tuple[str, str]:
    """The path and text of the first fault in marshmallow's nested messages, and how many more there are.

    >>> first_fault({"tier": {"points": {"from": ["expected a whole number, found a string"]}}}, "data")
    ('data.tier.points.from', 'expected a whole number, found a string')
    """
    path, text = "", "not as expected"
    more = -1
    for more, (where, what) in enumerate(_faults(messages)):
        if more == 0:
            path, text = where, what
    if more > 0:
        text += f" (and {more} more)"
    return join(prefix, path), text


def join(prefix: str, path: str) -> str:
    """One dotted path of two."""
    return f"{prefix}.{path}" if prefix and path else prefix or path


def shown(key: str) -> str:
    """A key as it can be shown: `*` where it may be a person's."""
    return key if _PLAIN_KEY.fullmatch(key) else "*"


def _faults(messages: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(messages, dict):
        for key, inner in messages.items():
            yield from _faults(inner, path if key == "_schema" else join(path, shown(str(key))))
    elif isinstance(messages, list):
        for inner in messages:
            yield from _faults(inner, path)
    else:
        yield path, str(messages)
