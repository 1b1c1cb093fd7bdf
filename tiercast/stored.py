"""An event made again from what is stored: its raw body and its head."""

from __future__ import annotations

import json
from typing import Any

from .event import Event, Json, data_of, json_text
from .schemas import settle_shapes
from .text import clean_json, may_hold_half


def revive(body: bytes, *, id: str, type: str, at: str, created_us: int, source: str, form: str = "") -> Event:
    """Make the event again from its stored body and head, as it was when it was read.

    Raises:
        ValueError: the body is not one that was read before.
    """
    data = _stored_data(body, type, form)
    return Event(id=id, type=type, at=at, created_us=created_us, source=source, data=data, form=form)


# fast path: the body is parsed only for a kind that looks into it.
class StoredEvent(Event):
    """As `revive` makes it, with a body that is parsed when `data` is first asked for: many a kind needs the id only.

    `data` raises ValueError where the body is not one that was read before.
    """

    __slots__ = ("_body", "_data")

    _body: bytes
    _data: Json

    def __init__(
        self, body: bytes, *, id: str, type: str, at: str, created_us: int, source: str, form: str = ""
    ) -> None:
        put = object.__setattr__  # the event is frozen
        put(self, "id", id)
        put(self, "type", type)
        put(self, "at", at)
        put(self, "created_us", created_us)
        put(self, "source", source)
        put(self, "form", form)
        put(self, "_body", body)

    @property
    def data(self) -> Json:
        try:
            return self._data
        except AttributeError:
            object.__setattr__(self, "_data", _stored_data(self._body, self.type, self.form))
            return self._data

    def __eq__(self, other: object) -> bool:
        """Compare what they tell, parsed or not."""
        return isinstance(other, Event) and self.head() == other.head() and self.data == other.data

    __hash__ = None  # type: ignore[assignment]


def _stored_data(body: bytes, type: str, form: str) -> Json:
    text = json_text(body)
    document: Any = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("the body holds no object")
    data = data_of(document, form)
    if may_hold_half(text):
        clean_json(data)
    settle_shapes(type, data)
    return data
