"""An HTTP answer, and what it means for the job."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..actions import Halt, Permanent, RateLimited, RetryLater, Unavailable, Unknown
from ..event import Event
from .redact import MAX_MESSAGE, redact, without_values
from .waits import RETRY_AFTER, Waits

#: Statuses that mean a wrong host, plan, version or path where a kind calls a path that no event changes: the lane is
#: held, or every job that waits would die of one setting. For `setting` of `Client.send`.
FIXED_PATH = frozenset({*range(300, 400), 402, 404, 405, 406, 410, 415})

#: Whether the vendor's whole message is shown, as `full` says, or by default what is left without its values.
MESSAGES_VARIABLE = "TIERCAST_VENDOR_MESSAGES"

#: Statuses that say "not now" (https://httpwg.org/specs/rfc9110.html, RFC 8470 for 425).
_LATER = frozenset({408, 425})

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

#: Where vendors put a code that says what is wrong.
_CODE_KEYS = ("code", "key", "errorCode", "error_code", "ErrorCode", "category", "errorType", "policyName", "reason")

#: A code is one word that is no address and no long number.
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

#: A longer body is not searched for a message: reading it would hold up the loop.
_MOST_PARSED = 1024 * 1024

#: How deeply a message may lie in the body.
_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """What a vendor answered.

    Attributes:
        status: the HTTP status.
        headers: by name. Those of a real answer are found in any case; write lower case in one made for a test.
        content: the body, at most as long as the call allowed, decompressed where the vendor compressed it.
        readable: False where the vendor compressed the body in a way that cannot be undone; `content` is then empty.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    readable: bool = True

    @property
    def text(self) -> str:
        """The body as text, in the encoding that its type names, else UTF-8; what cannot be decoded is replaced."""
        charset = self.headers.get("content-type", "").lower().partition("charset=")[2].partition(";")[0].strip("\"' ")
        try:
            encoding = codecs.lookup(charset).name if charset.isascii() else "utf-8"
            return self.content.decode(encoding, "replace")
        except (LookupError, ValueError, AssertionError):
            return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, parsed.

        Raises:
            ValueError: it is not JSON, or was cut off.
        """
        try:
            return json.loads(self.content)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def __repr__(self) -> str:
        """Name the status only: headers and body may be secret or personal."""
        return f"Answer({self.status})"


def classify(
    answer: Answer,
    *,
    host: str,
    secrets: Iterable[str] = (),
    personal: Iterable[str] | Event = (),
    later: Collection[int] = frozenset(),
    unsure: Collection[int] = frozenset(),
    setting: Collection[int] = frozenset(),
    waits: Waits = RETRY_AFTER,
) -> None:
    """Return for an answer of status 2xx; raise what it means for every other.

    Args:
        answer: what the vendor answered.
        host: how the message names the vendor.
        secrets: values that the message must not repeat.
        personal: the event, or values of the customer that the message must not repeat either.
        later: statuses below 500 that this vendor uses for "try again".
        unsure: statuses after which the effect may have happened nevertheless.
        setting: statuses that no job can mend; see `FIXED_PATH`.
        waits: where the vendor says when it takes calls again.

    Raises:
        RateLimited: 429.
        Unavailable: 421 and 5xx.
        RetryLater: 408, 425, and those in `later`.
        Unknown: those in `unsure`.
        Halt: 401, 403 (`credential`), and those in `setting`.
        Permanent: every other status.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    message = _message(answer, host, secrets, personal)
    if status in unsure:
        raise Unknown(message, unavailable=status >= 500)
    if status == 429:
        raise RateLimited(message, after=waits.seconds(answer))
    if status in later or status in _LATER:
        raise RetryLater(message, after=waits.seconds(answer))
    if status >= 500 or status == 421:
        raise Unavailable(message, after=waits.seconds(answer))
    raise _refusal(message, status, setting)


def _refusal(message: str, status: int, setting: Collection[int]) -> Exception:
    if status in {401, 403}:
        return Halt(f"{message} (check the credential of this action)", cause="credential")
    if 300 <= status < 400:
        message = f"{message} (redirects are not followed; configure the final address)"
    if status in setting:
        return Halt(f"{message} (check the address and the options of this action)", cause="setting")
    return Permanent(message)


def vendor_message(answer: Answer) -> str:
    """The vendor's own words in an error, or an empty text; not yet redacted."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return next(_messages(_parsed(answer), _DEPTH), "")
    return answer.text.strip() if kind == "text/plain" else ""


def vendor_code(answer: Answer) -> str:
    """The vendor's codes for an error, parted by a comma, or an empty text; not yet redacted."""
    body = _parsed(answer)
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict):
        return ""
    places = [body, body.get("error"), *(body["errors"][:1] if isinstance(body.get("errors"), list) else ())]
    codes = [
        str(place[key]) for place in places if isinstance(place, dict) for key in _CODE_KEYS if _is_code(place, key)
    ]
    return ", ".join(dict.fromkeys(code for code in codes if code != str(answer.status)))


def _is_code(place: Mapping[str, Any], key: str) -> bool:
    value = place.get(key)
    if isinstance(value, bool):
        return False
    return (isinstance(value, int) and abs(value) < 1_000_000) or (
        isinstance(value, str) and _CODE.fullmatch(value) is not None
    )


def _message(answer: Answer, host: str, secrets: Iterable[str], personal: Iterable[str] | Event) -> str:
    code, said = vendor_code(answer), vendor_message(answer)
    if os.environ.get(MESSAGES_VARIABLE) != "full":
        said = without_values(said)
    head = f"{host} answered {answer.status}"
    rest = f"{f' ({code})' if code and code != said else ''}{f': {said}' if said else ''}"
    if not rest:
        return head
    rest = redact(rest, secrets, personal=personal, limit=MAX_MESSAGE - len(head) - 1)
    return f"{head}{'' if rest.startswith(':') else ' '}{rest}"


def _parsed(answer: Answer) -> Any:
    if len(answer.content) > _MOST_PARSED:
        return None
    try:
        return answer.json()
    except ValueError:
        return None


def _messages(body: Any, depth: int) -> Iterator[str]:
    """Texts that look like a message, the most likely first."""
    if isinstance(body, str):
        if body.strip():
            yield body
    elif depth and isinstance(body, list):
        for part in body:
            yield from _messages(part, depth - 1)
    elif depth and isinstance(body, dict):
        for key in _MESSAGE_KEYS:
            yield from _messages(body.get(key), depth - 1)
