"""What a schema's fields expect, and what marshmallow found wrong with a value, in the words of our messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from marshmallow import fields, validate

#: How marshmallow's own sentences begin. Any other message comes from a field's author, and is told as it is.
_STANDARD = re.compile(
    r"(not a valid|must be|invalid (value|input)|field may not be|special numeric|number too large|length must|"
    r"shorter than|longer than|string does not match|missing data)",
    re.IGNORECASE,
)

#: By class, in this order: an Email is a String too.
_TYPES: tuple[tuple[type[fields.Field[Any]], str], ...] = (
    (fields.Email, "an email address"),
    (fields.Url, "an address such as https://example.com"),
    (fields.Integer, "a whole number"),
    (fields.Number, "a number"),
    (fields.Boolean, "true or false"),
    (fields.List, "a list"),
    (fields.Mapping, "a table"),
    (fields.Nested, "a table"),
    (fields.String, "text"),
)


def is_standard(message: str) -> bool:
    """Whether a message is one of marshmallow's own."""
    return _STANDARD.match(message) is not None


def expected(field: fields.Field[Any]) -> str:
    """What a field takes, such as "a number from 1 to 10000"; empty where its schema does not know."""
    for check in field.validators:
        if isinstance(check, validate.OneOf):
            return one_of([str(choice) for choice in check.choices])
    named = next((word for kind, word in _TYPES if isinstance(field, kind)), "")
    for check in field.validators:
        if isinstance(check, validate.Range):
            return f"{named or 'a value'}{_bounds(check)}"
    if isinstance(field, fields.List) and (inner := expected(field.inner)):
        return f"a list of {'texts' if inner == 'text' else inner}"
    return named


def _bounds(check: validate.Range) -> str:
    low = None if check.min is None else f"{check.min}"
    high = None if check.max is None else f"{check.max}"
    if low is None or high is None:
        above, below = ("from", "up to") if check.min_inclusive else ("above", "below")
        return f" {above} {low}" if low is not None else f" {below} {high}" if high is not None else ""
    return f" from {low} to {high}"


def one_of(choices: Sequence[str]) -> str:
    """Choices in a row: "a, b or c"."""
    return " or ".join(part for part in (", ".join(choices[:-1]), choices[-1]) if part) if choices else ""


def missing(field: fields.Field[Any] | None) -> str:
    """That a required option is not there, and what it would be."""
    told = (field.metadata.get("description") or expected(field)) if field else ""
    return f"is missing; expected {told}" if told and told != "text" else "is missing"


def inner_field(field: fields.Field[Any] | None, part: str | int) -> fields.Field[Any] | None:
    """The field of what stands within a list or table, or None where the schema does not know."""
    if isinstance(field, fields.List):
        return field.inner
    if isinstance(field, fields.Mapping):
        return field.value_field
    if isinstance(field, fields.Nested):
        return next((one for name, one in field.schema.fields.items() if (one.data_key or name) == part), None)
    return None


def messages_of(
    messages: Any, field: fields.Field[Any] | None, path: tuple[str | int, ...] = ()
) -> Iterable[tuple[tuple[str | int, ...], fields.Field[Any] | None, str]]:
    """Each message of a ValidationError, with its place below the option and the field there."""
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            if name == "_schema":
                yield from messages_of(inner, field, path)
            elif isinstance(field, fields.Mapping) and isinstance(inner, Mapping) and inner.keys() <= {"key", "value"}:
                # How marshmallow tells a table's key from its value.
                for which, told in inner.items():
                    yield from messages_of(told, field.value_field if which == "value" else None, (*path, name))
            else:
                yield from messages_of(inner, inner_field(field, name), (*path, name))
    elif isinstance(messages, list):
        for one in messages:
            yield from messages_of(one, field, path)
    else:
        yield path, field, str(messages)


def key_of(key: str, path: Iterable[str | int]) -> str:
    """A dotted key, with places in lists as `key[0]`."""
    for part in path:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    return key
