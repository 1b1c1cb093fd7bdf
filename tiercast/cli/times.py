"""Times on the command line: what `--since` takes, and how times are shown."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import click

from ..event import iso_from_us

_AGO = re.compile(r"(\d{1,9})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Moment(click.ParamType[int]):
    """A time: so long ago (`2h`), or ISO 8601. Converts to milliseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert the text of an option."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if ago := _AGO.fullmatch(text):
            return int((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is no time; expected an age such as 15m, 2h, 3d or 1w, or ISO 8601 such as "
                "2026-08-14 or 2026-08-14T09:30:00Z.",
                param,
                ctx,
            )
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def iso(ms: int | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601 in UTC with milliseconds."""
    return None if ms is None else iso_from_us(ms * 1000)


def span(seconds: float) -> str:
    """A length of time in at most four characters: `8s`, `15m`, `36h`, `9d`."""
    for limit, unit in ((120, "s"), (7200, "m"), (172800, "h")):
        if seconds < limit:
            return f"{max(0, int(seconds)) // _SECONDS[unit]}{unit}"
    return f"{int(seconds) // 86400}d"


def age(ms: int) -> str:
    """How long ago that was, in at most four characters."""
    return span(time.time() - ms / 1000)
