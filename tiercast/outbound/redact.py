"""Keep secrets and personal data out of messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..event import Event, customer_object

#: How long a message may be. Vendors answer with whole pages at times.
MAX_MESSAGE = 300

_EMAIL = re.compile(r"[^\s<>\"'(),;:=\[\]{}]+(?:@|%40)[^\s<>\"'(),;:=\[\]{}]+")
_CREDENTIAL = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}")
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")

#: Parts of a customer that name no person and help an operator.
_IMPERSONAL = frozenset({"id", "object", "created_at", "updated_at", "loyalty", "referrals", "summary", "assets"})


def redact(text: str, secrets: Iterable[str] = (), *, personal: Iterable[str] = (), limit: int = MAX_MESSAGE) -> str:
    """Return `text` on one line, cut to `limit` characters, without secrets, e-mail addresses and `personal`.

    >>> redact("no mailbox ada@example.com, token s3cr3t-value", ["s3cr3t-value"])
    'no mailbox [email], token [secret]'
    """
    # Before anything is cut: half a secret is not found any more.
    for secret in _longest_first(secrets):
        text = text.replace(secret, "[secret]")
    text = _CREDENTIAL.sub(r"\1 [secret]", text)
    text = _EMAIL.sub("[email]", text)
    for value in _longest_first(personal):
        if value.casefold() in text.casefold():
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "[personal]", text, flags=re.IGNORECASE)
    text = _BLANKS.sub(" ", text).strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def personal_values(event: Event) -> tuple[str, ...]:
    """All text in the event that says who the customer is (name, source id, phone, ...), for `redact`.

    The customer's id is not among them: ids may be shown.
    """
    customer = customer_object(event) or {}
    found = set(_texts({key: value for key, value in customer.items() if key not in _IMPERSONAL}))
    found |= {part for value in found for part in value.split() if len(part) >= 3}
    return tuple(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str) and len(value.strip()) >= 2:
        yield value.strip()


def _longest_first(values: Iterable[str]) -> list[str]:
    return sorted((value for value in values if value), key=len, reverse=True)
