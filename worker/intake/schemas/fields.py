"""Fields that check and never convert: text is no number, a number no text, a boolean neither.

Each field takes null, since what the payload designer has dropped counts as null. An error says what was
expected and what type was found, never the value: that may be personal.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from marshmallow import Schema, ValidationError, fields

from tiercast.event import MAX_ID

#: An opaque id: no whitespace and no control character, so that it can stand in keys, headers and logs.
_ID = re.compile(rf"[^\s\x00-\x1f\x7f-\x9f]{{1,{MAX_ID}}}")

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


class _Checked(fields.Field[Any]):
    """A field that takes null and says nothing about a missing key."""

    def __init__(self) -> None:
        super().__init__(allow_none=True)

    def check(self, value: Any) -> Any:
        """Return what the value loads as; raise ValidationError where it is of another type."""
        raise NotImplementedError


class Text(_Checked):
    """A string, empty or not."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise unlike("a string", value)
        return value


class Id(_Checked):
    """An opaque id."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise unlike("an id", value)
        if not _ID.fullmatch(value):
            raise ValidationError(
                f"expected an id (1 to {MAX_ID} characters without whitespace or control characters), "
                f"found a string of {len(value)} that is none"
            )
        return value


class Number(_Checked):
    """A number; true and false are none."""

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise unlike("a number", value)
        return value


class Whole(_Checked):
    """A whole number; 150.0 is one, "150" and true are none."""

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise unlike("a whole number", value)
        if isinstance(value, float) and not value.is_integer():
            raise ValidationError("expected a whole number, found one with a fraction")
        return value


class Object(_Checked):
    """An object whose inside is the sender's own business, such as metadata."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise unlike("an object", value)
        return value


class Time(_Checked):
    """A time in ISO 8601, loaded as microseconds since 1970; UTC without an offset, a date is its start."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise unlike("a time in ISO 8601", value)
        us = microseconds(value)
        if us is None:
            raise ValidationError("expected a time in ISO 8601, found a string that is none")
        return us


class Moment(Time):
    """The time that orders an event: between 1970 and 2255, where its microseconds stay exact everywhere."""

    def check(self, value: Any) -> Any:
        us = super().check(value)
        if not 0 <= us <= MAX_MOMENT:
            raise ValidationError("expected a time between 1970 and 2255, found another one")
        return us


class Hint(_Checked):
    """A time where it is one, else null: for objects whose shape we do not know."""

    def check(self, value: Any) -> Any:
        us = microseconds(value) if isinstance(value, str) else None
        return us if us is not None and 0 <= us <= MAX_MOMENT else None


class Part(_Checked):
    """An object with a schema of its own.

    Unlike marshmallow's `Nested` it takes an instance that was built once, says what type it found, keeps the
    order of the keys, and leaves out what our schemas do not have (hooks, validators, renaming), which would
    take most of the time of a tier event. So its schema may hold fields of this module only.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self._checks = tuple((key, _check_of(field)) for key, field in schema.load_fields.items())

    def check(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise unlike("an object", value)
        loaded: dict[str, Any] = dict(value)
        errors: dict[str, Any] = {}
        for key, check in self._checks:
            inner = value.get(key)
            if inner is not None:
                try:
                    loaded[key] = check(inner)
                except ValidationError as error:
                    errors[key] = error.messages
        if errors:
            raise ValidationError(errors)
        return loaded


class MapOf(_Checked):
    """A map of ids to objects of one schema."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self._part = Part(schema)

    def check(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise unlike("an object", value)
        errors: dict[str, Any] = {}
        for key, item in value.items():
            try:
                if item is not None:
                    self._part.check(item)
            except ValidationError as error:
                errors[key] = error.messages
        if errors:
            raise ValidationError(errors)
        return value


def _check_of(field: fields.Field[Any]) -> Callable[[Any], Any]:
    if not isinstance(field, _Checked):
        raise TypeError(f"{type(field).__name__} is no field of worker.intake.schemas.fields")
    return field.check


@lru_cache(maxsize=1024)  # an event names one time several times, and events the same times of campaign and tier
def microseconds(text: str) -> int | None:
    """A time in ISO 8601 as microseconds since 1970, exact; None where the text is no such time."""
    if not _TIME.fullmatch(text):
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:  # 31 February
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - _EPOCH) // _MICROSECOND
