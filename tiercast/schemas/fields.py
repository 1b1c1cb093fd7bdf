"""Fields that say what a value counts as, or that it is of a wrong type.

Voucherify's payload designer drops keys, and quotes values of which it does not know the type. So every field takes
null; empty text counts as null where a time, a number or an id is expected; and a number in quotes counts as that
number where one is expected. Nothing else is converted: text is no number, a number no text, a boolean neither.

What a wrong type means depends on the place. Where a field decides (an id, the event's time, customer, campaign and
tiers), the delivery cannot be read. Anywhere else the value counts as null, and the delivery has a note.

An error says what was expected and what type was found, never the value: that may be personal.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from marshmallow import Schema, ValidationError, fields

from ..event import MAX_ID
from .errors import shown

#: An opaque id: no whitespace and no control character, so that it can stand in keys, headers and logs.
_ID = re.compile(rf"[^\s\x00-\x1f\x7f-\x9f]{{1,{MAX_ID}}}")
_ID_EXPECTED = f"an id (1 to {MAX_ID} characters without whitespace or control characters)"

#: A number as JSON writes it, at most as long as a double is exact and a little more.
_NUMBER = re.compile(r"-?[0-9]{1,17}(\.[0-9]{1,17})?", re.ASCII)

#: ISO 8601 as Voucherify writes it: milliseconds and Z as a rule, microseconds and plain dates at times.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

#: The last microsecond that a double holds exactly (June 2255): the ledger's Lua has no other numbers.
MAX_MOMENT = 2**53 - 1

#: What an operator reads for a JSON value's type.
_FOUND: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def found(value: object) -> str:
    """The JSON type of a value, in words."""
    return _FOUND.get(type(value), "something else")


def unlike(expected: str, value: object) -> ValidationError:
    """The error for a value of another type."""
    return ValidationError(f"expected {expected}, found {found(value)}")


#: A value of a wrong type that counts as null: its path, and what was expected and found.
Note = tuple[str, str]


class _Checked(fields.Field[Any]):
    """A field that takes null and says nothing about a missing key. It `decides` where a wrong type is fatal."""

    decides = False

    def __init__(self) -> None:
        super().__init__(allow_none=True)

    def check(self, value: Any) -> Any:
        """Return what the value counts as: itself, null or a number. Raise ValidationError if it is of a wrong type."""
        raise NotImplementedError


class Text(_Checked):
    """A string, empty or not."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise unlike("a string", value)
        return value


class Id(_Checked):
    """An opaque id that stands in keys."""

    decides = True

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise unlike("an id", value)
        if _ID.fullmatch(value):
            return value
        if not value:
            return None
        raise ValidationError(f"expected {_ID_EXPECTED}, found a string of {len(value)} that is none")


class Reference(Id):
    """An id within `data`. It stands in no key, so blanks at its ends do no harm; they are not compared."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise unlike("an id", value)
        return value if _ID.fullmatch(value) or super().check(value.strip()) else None


class SourceId(_Checked):
    """The id that the customer has elsewhere: any text."""

    decides = True

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise unlike("a string", value)
        return value if value and not value.isspace() else None


class Number(_Checked):
    """A number; true and false are none."""

    expected = "a number"

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._quoted(value.strip())
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise unlike(self.expected, value)
        return value

    def _quoted(self, text: str) -> int | float | None:
        if not text:
            return None
        if not _NUMBER.fullmatch(text):
            raise ValidationError(f"expected {self.expected}, found a string that is none")
        return float(text) if "." in text else int(text)


class Whole(Number):
    """A whole number; 150.0 is one, 150.5 and true are none."""

    expected = "a whole number"

    def check(self, value: Any) -> Any:
        number = value if type(value) is int else super().check(value)
        if isinstance(number, float):
            if not number.is_integer():
                raise ValidationError("expected a whole number, found one with a fraction")
            return int(number)
        return number


class Object(_Checked):
    """An object whose inside is the sender's own business, such as metadata."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise unlike("an object", value)
        return value


class Time(_Checked):
    """A time in ISO 8601: UTC without an offset, a date is its start."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise unlike("a time in ISO 8601", value)
        if microseconds(value) is None:
            if not value:
                return None
            raise ValidationError("expected a time in ISO 8601, found a string that is none")
        return value


class Moment(Time):
    """The time that orders an event: between 1970 and 2255, where its microseconds stay exact everywhere."""

    decides = True

    def check(self, value: Any) -> Any:
        text = super().check(value)
        if text and moment(text) is None:
            raise ValidationError("expected a time between 1970 and 2255, found another one")
        return text


class _Container(_Checked):
    """A field of an object that is settled in place. `path` is that of the object, with a dot behind it."""

    def settle(self, value: Any, path: str, notes: list[Note]) -> None:
        """Check the object; raise ValidationError where it cannot be read, note what counts as null."""
        raise NotImplementedError


class Part(_Container):
    """An object with a schema of its own.

    Unlike marshmallow's `Nested` it takes an instance that was built once, says what type it found, changes the object
    in place (and only where a value counts as another), and leaves out what our schemas do not have (hooks, validators,
    renaming), which would take most of the time of a tier event. So its schema may hold fields of this module only.

    Args:
        schema: that of the object.
        decides: an object of a wrong type is fatal.
    """

    def __init__(self, schema: Schema, *, decides: bool = False) -> None:
        super().__init__()
        self.decides = decides
        self._fields = tuple(_ways_of(key, field) for key, field in schema.load_fields.items())

    def settle(self, value: Any, path: str, notes: list[Note]) -> None:
        if not isinstance(value, dict):
            raise unlike("an object", value)
        errors: dict[str, Any] | None = None
        for key, check, settle, decides in self._fields:
            inner = value.get(key)
            if inner is None:
                continue
            try:
                if settle is not None:
                    settle(inner, path + key + ".", notes)
                    continue
                counts_as = check(inner)
            except ValidationError as error:
                if decides:
                    errors = errors or {}
                    errors[key] = error.messages
                    continue
                notes.append((f"{path}{key}", str(error.messages[0])))
                counts_as = None
            if counts_as is not inner:
                value[key] = counts_as
        if errors:
            raise ValidationError(errors)


class MapOf(_Container):
    """A map of ids to objects of one schema. An item of a wrong type counts as null."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self._part = Part(schema)

    def settle(self, value: Any, path: str, notes: list[Note]) -> None:
        if not isinstance(value, dict):
            raise unlike("an object", value)
        for key, item in value.items():
            if item is None:
                continue
            where = path + shown(key)
            try:
                self._part.settle(item, f"{where}.", notes)
            except ValidationError as error:
                notes.append((where, str(error.messages[0])))
                value[key] = None


def _ways_of(
    key: str, field: fields.Field[Any]
) -> tuple[str, Callable[[Any], Any], Callable[[Any, str, list[Note]], None] | None, bool]:
    """How a field is asked: its key, its `check`, the `settle` of a container, and whether it decides."""
    if not isinstance(field, _Checked):
        raise TypeError(f"{type(field).__name__} is no field of tiercast.schemas.fields")
    return key, field.check, field.settle if isinstance(field, _Container) else None, field.decides


def moment(text: object) -> int | None:
    """A time that can order an event, as microseconds since 1970; None where the value is no such time."""
    us = microseconds(text) if isinstance(text, str) else None
    return us if us is not None and 0 <= us <= MAX_MOMENT else None


@lru_cache(maxsize=1024)  # an event names one time several times, and events the same times of campaign and tier
def microseconds(text: str) -> int | None:
    """A time in ISO 8601 as microseconds since 1970, exact; None where the text is no such time."""
    if not _TIME.fullmatch(text):
        return None
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:  # 31 February
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return (when - _EPOCH) // _MICROSECOND
