"""Reads when a vendor takes calls again: from `Retry-After`, headers of its own, or its body."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .answers import Answer

#: The longest wait that an answer can ask for, in seconds; vendors with a daily limit name hours.
MAX_WAIT = 24 * 3600.0

#: More digits say nothing that a wait could mean.
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")

#: The longest date that HTTP knows has 33 characters.
_LONGEST_DATE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Where a vendor says when it takes calls again. The latest of what it says holds.

    >>> Waits(until=("x-rate-limit-reset",)).seconds(Answer(429, {"x-rate-limit-reset": "1800000000"}), now=1799999990)
    10.0

    Attributes:
        after: headers that hold seconds, or a date as `Retry-After` may.
        until: headers that hold a Unix time in seconds.
        more: reads what else the answer says, in seconds; None where it says nothing.
    """

    after: tuple[str, ...] = ("retry-after",)
    until: tuple[str, ...] = ()
    more: Callable[[Answer], float | None] | None = None

    def seconds(self, answer: Answer, *, now: float | None = None) -> float | None:
        """Seconds until the vendor takes calls again, from 0 to MAX_WAIT; None where it does not say."""
        headers = answer.headers
        found = [retry_after(headers[name], now=_vendors_now(headers, now)) for name in self.after if name in headers]
        found += [_until(headers[name], now=now) for name in self.until if name in headers]
        if self.more is not None:
            found.append(self.more(answer))
        named = [seconds for seconds in found if seconds is not None and math.isfinite(seconds)]
        return min(max(0.0, *named), MAX_WAIT) if named else None


#: What most vendors do, and RFC 9110 says.
RETRY_AFTER = Waits()


def retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Read a `Retry-After` header: seconds from `now` (Unix time) between 0 and MAX_WAIT, or None.

    >>> retry_after("120")
    120.0
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        # However many digits: a number without end is the longest wait, and no reason to fail.
        return min(float(text[:20]), MAX_WAIT)
    if _NUMBER.fullmatch(text):
        return min(float(text), MAX_WAIT)
    at = _http_date(text)
    if at is None:
        return None
    return min(max(0.0, at - (time.time() if now is None else now)), MAX_WAIT)


def _until(text: str, *, now: float | None) -> float | None:
    """Seconds until a Unix time; None where the text is none."""
    if not _NUMBER.fullmatch(text.strip()):
        return None
    return max(0.0, float(text) - (time.time() if now is None else now))


def _vendors_now(headers: Mapping[str, str], now: float | None) -> float | None:
    """A date is meant by the vendor's clock, which its Date header gives."""
    return now if now is not None else _http_date(headers.get("date", ""))


def _http_date(text: str) -> float | None:
    if not text or len(text) > _LONGEST_DATE:
        return None
    try:
        at = email.utils.parsedate_to_datetime(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
