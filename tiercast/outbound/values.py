"""Values as a vendor wants them: what is left out, what clears, and how dates, numbers and lists are written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from ..actions import Permanent

#: A number as text, as JSON writes it.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")

_BOOLEANS = {"true": True, "false": False}


def iso_date(value: date) -> str:
    """A day as 2026-11-27."""
    return value.isoformat()


def iso_datetime(value: datetime) -> str:
    """A time as 2026-11-27T13:30:00Z, in UTC, with milliseconds where there are any."""
    text = value.astimezone(UTC).isoformat(timespec="milliseconds" if value.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def unix_seconds(value: datetime) -> int:
    """A time in whole seconds since 1970."""
    return math.floor(value.timestamp())


def unix_milliseconds(value: datetime) -> int:
    """A time in whole milliseconds since 1970."""
    return math.floor(value.timestamp() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueForm:
    """How one vendor wants the values of `Properties`.

    Nothing (null, what renders empty, an empty list) is left out, unless the action's `clear` names the property: then
    what clears it at this vendor is sent. 0 and false are values. Text is never taken for a number or a date: only
    what the configuration calls one is, and what cannot be read as that makes the job dead, with the property's name.

    Attributes:
        cleared: what empties a property at this vendor.
        as_text: whether numbers, true and false are sent as text.
        day: how a day is written.
        time: how a time is written.
        lists: whether the vendor takes lists; a list that it does not take is written with `separator`.
        separator: what stands between the parts of a list that is written as text.
    """

    cleared: Any = None
    as_text: bool = False
    day: Callable[[date], Any] = iso_date
    time: Callable[[datetime], Any] = iso_datetime
    lists: bool = True
    separator: str = ";"

    def shape(self, properties: Mapping[str, Any], clear: Collection[str] = ()) -> dict[str, Any]:
        """The values to send, by name.

        Args:
            properties: an option of the field `Properties`, rendered for a job.
            clear: the names of those that are emptied where they have no value.

        Raises:
            Permanent: a value is not what the configuration calls it; the message names the property only.
        """
        shaped = {}
        for name, value in properties.items():
            made = self._shaped(name, value)
            if made is not None:
                shaped[name] = made
            elif name in clear:
                shaped[name] = self.cleared
        return shaped

    def _shaped(self, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            kind, value = next(iter(value.items()))
            value = _typed(name, kind, value)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, datetime):
            return self.time(value if value.tzinfo else value.replace(tzinfo=UTC))
        if isinstance(value, date):
            return self.day(value)
        if isinstance(value, list | tuple):
            parts = [part for part in (self._shaped(name, one) for one in value) if part is not None]
            if not parts:
                return None
            return parts if self.lists else self.separator.join(map(_text, parts))
        return _text(value) if self.as_text else value


def check_clear(properties: Mapping[str, Any], clear: Collection[str]) -> None:
    """Check that `clear` names properties of the action.

    Raises:
        ValueError: it names one that `properties` lacks, or names one twice.
    """
    for name in clear:
        if name not in properties:
            raise ValueError(f"clear: names {name}, which properties does not have")
    if len(set(clear)) < len(clear):
        raise ValueError("clear: names a property more than once")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _typed(name: str, kind: str, value: Any) -> Any:
    """A value as what the configuration calls it; None where there is nothing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    text = value.strip() if isinstance(value, str) else value
    try:
        match kind:
            case "number":
                return _number(text)
            case "boolean":
                return text if isinstance(text, bool) else _BOOLEANS[text.lower()]
            case "date":
                return _day(text)
            case "datetime":
                return _time(text)
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
        pass
    raise Permanent(f"property {name} is no {kind} for this event; nothing was sent")


def _number(value: Any) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError
        return value
    if not _NUMBER.fullmatch(value):
        raise ValueError
    return float(value) if set(".eE") & set(value) else int(value)


def _day(value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    # A time stands for its day in its own zone.
    return date.fromisoformat(value) if len(value) <= 10 else _time(value).date()


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
