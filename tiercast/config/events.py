"""Names and patterns of event types."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache

from ..event import TIER_EVENTS

_ON = re.compile(r"[A-Za-z0-9_.*-]+")

#: How like a tier event a name is that must be a slip. `customer.loyalty.updated` is 0.82 like one, a letter left out
#: is 0.98.
_SLIP = 0.95


@lru_cache(maxsize=1024)
def pattern(text: str) -> re.Pattern[str]:
    """A name or pattern of `on`: `*` stands for anything.

    Each part between two stars matches where it first occurs, and is not tried anywhere else: later would leave less
    text to the parts behind it. So the time is linear in the text, however many stars there are.
    """
    first, *rest = (re.escape(part) for part in text.split("*"))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + last)


def event_fault(on: str) -> str | None:
    """Say what is wrong with a name or pattern of events, or None.

    Any event of Voucherify's can be named, those that are new since too; what is nearly a tier event is a slip.
    """
    if not _ON.fullmatch(on):
        return "expected an event's name, or a pattern such as customer.loyalty.tier.*"
    if any(pattern(on).fullmatch(known) for known in TIER_EVENTS):
        return None
    known = ("customer.loyalty.tier.*",) if "*" in on else TIER_EVENTS
    near = get_close_matches(on.lower(), known, 1, _SLIP)
    return f"no tier event is called {on}. Did you mean {near[0]}?" if near else None
