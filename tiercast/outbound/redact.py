"""Keeps secrets and personal data out of messages. All work is linear in a text that is cut first."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from ..event import Event

#: How long a message may be. Vendors answer with whole pages at times.
MAX_MESSAGE = 300

#: How much of a text is looked at: others choose how long theirs is, and the work must not grow with it.
_WINDOW_CHARACTERS = 2048

#: A longer value is recognised by its beginning, and what follows it is left out.
_LONG_VALUE = 256

#: With more values than this the text is left out: comparing it with all of them would take too long.
_MOST_VALUES = 4000

#: A shorter secret is a word of every message.
_SHORTEST_SECRET = 4

#: No e-mail address is longer (RFC 5321).
_LONGEST_ADDRESS = 320

_TOKEN = re.compile(r"[^\s<>\"'(),;:=\[\]{}]+")
_CREDENTIAL = re.compile(r"(?i)\b(bearer|basic)\s{1,8}[a-z0-9._~+/=-]{6,}")
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_SURROGATES = re.compile("[\ud800-\udfff]")

#: Quoted text, and long numbers such as those of phones, cards and accounts.
_QUOTED = re.compile(r"\"[^\"]{0,500}\"?|`[^`]{0,500}`?|(?<!\w)'[^']{0,500}'(?!\w)|“[^”]{0,500}”?")
_NUMBER = re.compile(r"\+?\d(?:[ ()./-]{0,2}\d){5,30}")
#: A quoted word that is the name of a field or a code: loyalty_tier, firstName, PROPERTY_DOESNT_EXIST.
_NAME = re.compile(r"[a-z]+(?:_[a-z0-9]+)+|[a-z]+(?:[A-Z][a-z0-9]*)+|[A-Z]+(?:_[A-Z0-9]+)+")

#: Parts of a customer that name no person and help an operator.
_IMPERSONAL = frozenset({"id", "object", "created_at", "updated_at", "loyalty", "referrals", "summary", "assets"})

#: Where an event holds people, besides an object that says that it is a customer.
_PEOPLE = frozenset({"customer", "holder", "referrer", "referee", "related_customer"})

#: How deeply people are looked for in an event.
_DEPTH = 8


def redact(
    text: str, secrets: Iterable[str] = (), *, personal: Iterable[str] | Event = (), limit: int = MAX_MESSAGE
) -> str:
    """Return `text` on one line, cut to `limit` characters, without secrets, e-mail addresses and `personal`.

    >>> redact("no mailbox ada@example.com, token s3cr3t-value", ["s3cr3t-value"])
    'no mailbox [email], token [secret]'
    """
    hidden = _longest_first(value for value in secrets if len(value) >= _SHORTEST_SECRET)
    whose = _longest_first(personal_values(personal) if isinstance(personal, Event) else personal)
    cut = len(text) > _WINDOW_CHARACTERS
    text = _without_secrets(text[:_WINDOW_CHARACTERS], hidden)
    text = _without_secrets(_decoded(text), hidden)
    text = _CREDENTIAL.sub(r"\1 [secret]", text)
    text = _TOKEN.sub(_without_address, text)
    text = _without_personal(text, whose)
    if cut:
        # What was cut may have parted a secret or a value, whose first half is not recognised.
        text = text[: -max(_LONGEST_ADDRESS, *(min(len(value), _WINDOW_CHARACTERS) for value in (*hidden, *whose, "")))]
    text = _BLANKS.sub(" ", _SURROGATES.sub("\ufffd", text)).strip()
    return text if len(text) <= limit and not cut else text[: max(0, limit - 1)].rstrip() + "…"


def without_values(text: str) -> str:
    """A vendor's message without what it quotes: quoted text and long numbers; names of fields and codes stay.

    >>> without_values('"Ada L." is no valid value of "first_name", call 0170 1234567')
    '"…" is no valid value of "first_name", call [number]'
    """
    return _NUMBER.sub("[number]", _QUOTED.sub(_without_quoted, text[:_WINDOW_CHARACTERS]))


def personal_values(event: Event) -> tuple[str, ...]:
    """All text in the event that says who its people are (name, source id, phone, ...), for `redact`.

    People are the customer, a holder, and whatever else the event calls a customer, itself too. Their ids are not
    among the values: ids may be shown.
    """
    found: set[str] = set()
    for person in _people(event.data, _DEPTH):
        found.update(_texts({key: value for key, value in person.items() if key not in _IMPERSONAL}, _DEPTH))
    found |= {part for value in found for part in value.split() if len(part) >= 3}
    return tuple(found)


def _people(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if not depth:
        return
    if isinstance(value, Mapping):
        if value.get("object") == "customer":
            yield value
        for name, part in value.items():
            if name in _PEOPLE and isinstance(part, Mapping):
                yield part
            else:
                yield from _people(part, depth - 1)
    elif isinstance(value, list):
        for part in value:
            yield from _people(part, depth - 1)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping) and depth:
        for part in value.values():
            yield from _texts(part, depth - 1)
    elif isinstance(value, list) and depth:
        for part in value:
            yield from _texts(part, depth - 1)
    elif isinstance(value, str) and len(value.strip()) >= 2:
        yield value.strip()
    elif isinstance(value, int) and abs(value) >= 100_000:
        yield str(value)


def _without_secrets(text: str, secrets: list[str]) -> str:
    folded = text.casefold()
    for secret in secrets:
        if secret in text or secret.casefold() in folded:
            text = re.sub(re.escape(secret), "[secret]", text, flags=re.IGNORECASE)
    return text


def _decoded(text: str) -> str:
    """The text without the escapes of addresses, HTML and JSON, behind which a value would not be recognised."""
    if "%" in text:
        text = unquote(text)
    if "&" in text:
        text = html.unescape(text)
    if "\\u" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return unicodedata.normalize("NFC", text)


def _without_address(found: re.Match[str]) -> str:
    return "[email]" if "@" in found[0][1:-1] else found[0]


def _without_personal(text: str, values: list[str]) -> str:
    if len(values) > _MOST_VALUES:
        return "[left out: too much personal data to compare it with]"
    folded = text.casefold()
    # Most values are not there, and a search for plain text is fast.
    found = [value for value in values if _short(value).casefold() in folded]
    if not found:
        return text
    long = [_pattern(_short(value)) for value in found if len(value) > _LONG_VALUE]
    if long and (begins := re.search("|".join(long), text, re.IGNORECASE)):
        return _without_personal(text[: begins.start()], values) + "[personal]"
    short = "|".join(_pattern(value) for value in found if len(value) <= _LONG_VALUE)
    if not short:
        return text
    left = re.sub(short, "[personal]", text, flags=re.IGNORECASE)
    # A case that only case folding finds, such as STRASSE for Straße.
    folds = "|".join(_pattern(value.casefold()) for value in found)
    again = left.casefold()
    return re.sub(folds, "[personal]", again) if re.search(folds, again) else left


def _pattern(value: str) -> str:
    """A pattern for a value as a word of its own; writing beyond ASCII need not part its words."""
    escaped = re.escape(value)
    return rf"(?<![^\W_]){escaped}(?![^\W_])" if value.isascii() else escaped


def _short(value: str) -> str:
    return unicodedata.normalize("NFC", value[:_LONG_VALUE])


def _without_quoted(found: re.Match[str]) -> str:
    quoted = found[0]
    inner = quoted.strip("\"'`“”")
    return quoted if not inner or _NAME.fullmatch(inner) else f"{quoted[0]}…{'”' if quoted[0] == '“' else quoted[0]}"


def _longest_first(values: Iterable[str]) -> list[str]:
    return sorted({value for value in values if value}, key=len, reverse=True)
