"""Say what an HTTP answer means for the job."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Collection, Iterable
from datetime import UTC
from typing import Any

import httpx

from ..actions import Halt, Permanent, RetryLater, Unknown
from .redact import redact

#: The longest wait that an answer can ask for, in seconds; vendors with a daily limit name hours.
MAX_WAIT = 24 * 3600.0

#: Statuses that say "not now" (https://httpwg.org/specs/rfc9110.html, RFC 8470 for 425, RFC 6585 for 429).
_LATER = frozenset({408, 425, 429})

#: Where vendors put their message, by habit; RFC 9457 names `detail` and `title`.
_MESSAGE_KEYS = (
    "message",
    "detail",
    "error_description",
    "error",
    "title",
    "errors",
    "details",
    "description",
)


def classify(
    response: httpx.Response,
    *,
    secrets: Iterable[str] = (),
    personal: Iterable[str] = (),
    later: Collection[int] = frozenset(),
    unsure: Collection[int] = frozenset(),
) -> None:
    """Return for an answer of status 2xx; raise what it means for every other.

    Args:
        response: the answer, read.
        secrets: values that its message must not repeat.
        personal: the same, of the customer; see `personal_values`.
        later: statuses below 500 that this vendor uses for "try again".
        unsure: statuses after which the effect may have happened nevertheless.

    Raises:
        RetryLater: 408, 425, 429 and 5xx, at the time that `Retry-After` names; 429 for everyone.
        Halt: 401 and 403.
        Permanent: every other 4xx, and 3xx, since redirects are not followed.
        Unknown: those in `unsure`.
    """
    status = response.status_code
    if 200 <= status < 300:
        return
    said = vendor_message(response)
    message = redact(
        f"{response.request.url.host} answered {status}{f': {said}' if said else ''}",
        secrets,
        personal=personal,
    )
    if status in unsure:
        raise Unknown(message)
    if status in _LATER or status in later or status >= 500:
        raise RetryLater(message, after=_wait(response), everyone=status == 429)
    if status in {401, 403}:
        raise Halt(f"{message} (check the credential of this action)")
    if 300 <= status < 400:
        raise Permanent(f"{message} (redirects are not followed; configure the final address)")
    raise Permanent(message)


def retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Read a `Retry-After` header: seconds from `now` (Unix time) between 0 and MAX_WAIT, or None.

    >>> retry_after("120")
    120.0
    """
    text = (value or "").strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text), MAX_WAIT)
    at = _http_date(text)
    if at is None:
        return None
    return min(max(0.0, at - (time.time() if now is None else now)), MAX_WAIT)


def vendor_message(response: httpx.Response) -> str:
    """The vendor's own words in an error, or an empty text; not yet redacted."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("json"):
        try:
            return _find_message(json.loads(response.content))
        except (ValueError, RecursionError):
            return ""
    return response.text.strip() if kind == "text/plain" else ""


def _find_message(body: Any) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return next((found for part in body if (found := _find_message(part))), "")
    if isinstance(body, dict):
        return next((found for key in _MESSAGE_KEYS if (found := _find_message(body.get(key)))), "")
    return ""


def _wait(response: httpx.Response) -> float | None:
    # A date is meant by the vendor's clock, which its Date header tells.
    return retry_after(response.headers.get("retry-after"), now=_http_date(response.headers.get("date", "")))


def _http_date(text: str) -> float | None:
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
