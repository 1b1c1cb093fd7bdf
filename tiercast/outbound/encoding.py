"""JSON as calls carry it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def _plain(value: Any) -> Any:
    """What JSON has no form for: views of the event as the objects that they show, all else as text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


# ASCII only: half a character (a lone surrogate) in one value would fail the whole call.
_encode = json.JSONEncoder(separators=(",", ":"), default=_plain).encode


def encode_json(value: Any) -> bytes:
    """A value as JSON, in as few bytes as ASCII takes.

    >>> encode_json({"tier": "Gold"})
    b'{"tier":"Gold"}'
    """
    return _encode(value).encode("ascii")
