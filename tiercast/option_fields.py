"""Fields for the options of a kind, beside marshmallow's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from marshmallow import ValidationError, fields, validate

#: How a table gives a type to one template: `{ number = "{{ ... }}" }`.
TYPES = ("number", "boolean", "date", "datetime")


class Secret(fields.String):
    """An option that holds a secret: given only as `env:NAME` or `file:PATH`, never shown, never a template."""


class FileText(fields.String):
    """An option whose text may stand in a file: `file:PATH` is read when the configuration is, from its folder on."""


class Fixed(fields.String):
    """An option that no event may change, such as a host, a region or an account: it takes no template.

    With a template there, an event would choose who gets the credential.

    Args:
        pattern: what the whole text has to match.
        example: a text that matches; the message that refuses others names it.
    """

    #: The configuration refuses templates in fields that say so.
    templates = False

    def __init__(self, *, pattern: str = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", example: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._whole = re.compile(pattern)
        self._example = example

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        if not self._whole.fullmatch(text):
            example = f" such as {self._example}" if self._example else ""
            raise ValidationError(f"expected text{example} that matches {self._whole.pattern}")
        return text


class BaseUrl(fields.Url):
    """The address at which a vendor's API begins: http or https, without query, never a template."""

    templates = False

    def __init__(self, **options: Any) -> None:
        super().__init__(require_tld=False, schemes={"http", "https"}, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        host = text.partition("://")[2].partition("/")[0]
        if "?" in text or "#" in text or "@" in host:
            raise ValidationError("expected an address without user, query and fragment")
        return text.rstrip("/")


class Properties(fields.Dict):
    """A table of values for the vendor, by the vendor's names: text with templates, numbers, true and false, dates,
    lists, and `{ number = "{{ ... }}" }` where a template stands for something other than text (also `boolean`,
    `date`, `datetime`). `tiercast.outbound.ValueForm` makes of it what the vendor wants.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("load_default", dict)
        super().__init__(
            keys=fields.String(validate=validate.Length(1, 255)), values=_Property(allow_none=True), **options
        )


class _Property(fields.Raw):
    """One value of `Properties`."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> Any:
        value = super()._deserialize(value, attr, data, **options)
        if isinstance(value, Mapping):
            if len(value) != 1 or next(iter(value)) not in TYPES:
                raise ValidationError(f'expected a table with one of {", ".join(TYPES)}, as in {{ number = "..." }}')
        elif not isinstance(value, str | int | float | bool | date | datetime | list | None):
            raise ValidationError("expected text, a number, true or false, a date or a list")
        return value
