"""An HTTP answer, and what it means for the job."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..actions import Permanent, Unknown
from ..event import Event
from .redact import MAX_MESSAGE, redact, without_values
from .vendors import Meaning, Vendor
from .waits import Waits

#: Statuses that mean a wrong host, plan, version or path where a kind calls a path that no event changes: the lane is
#: held, or every job that waits would die of one setting. For `setting` of `Client.send`.
FIXED_PATH = frozenset({*range(300, 400), 402, 404, 405, 406, 410, 415})

#: The same where an id of the event stands in the path: 404 is the job's own then. What `Client.send` does by default.
PATH_WITH_ID = FIXED_PATH - {404}

#: What every vendor's answers mean that says nothing else.
COMMON = Vendor()

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

    def parsed(self) -> Any:
        """The body, parsed; None where it is no JSON, was cut off, or is too long to look into."""
        if len(self.content) > _MOST_PARSED:
            return None
        try:
            return self.json()
        except ValueError:
            return None

    def __repr__(self) -> str:
        """Name the status only: headers and body may be secret or personal."""
        return f"Answer({self.status})"


class TooLarge(Permanent):
    """The vendor refused the call because it is too large (413): a smaller one may pass."""


def classify(
    answer: Answer,
    *,
    host: str,
    secrets: Iterable[str] = (),
    personal: Iterable[str] | Event = (),
    later: Collection[int] = frozenset(),
    unsure: Collection[int] = frozenset(),
    setting: Collection[int] = PATH_WITH_ID,
    vendor: Vendor = COMMON,
    waits: Waits | None = None,
) -> None:
    """Return for an answer of status 2xx; raise what it means for every other.

    Args:
        answer: what the vendor answered.
        host: how the message names the vendor, if `vendor` has no name.
        secrets: values that the message must not repeat.
        personal: the event, or values of the customer that the message must not repeat either.
        later: statuses below 500 that this vendor uses for "try again".
        unsure: statuses after which the effect may have happened nevertheless.
        setting: statuses that no job can mend; see `FIXED_PATH`.
        vendor: what this vendor's codes and statuses mean; it decides before the rest.
        waits: where the vendor says when it takes calls again, if not as `vendor` says.

    Raises:
        RateLimited: 429.
        Unavailable: 421 and 5xx.
        RetryLater: 408, 425, and those in `later`.
        Unknown: those in `unsure`.
        Halt: 401, 403 (`credential`), and those in `setting`.
        TooLarge: 413.
        Permanent: every other status.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    codes = tuple(vendor.codes(answer))
    message = _message(answer, vendor.name or host, codes, secrets, personal)
    meaning = vendor.meaning_of(answer) or _common(status, later, unsure, setting)
    if meaning.verdict == "unknown":
        raise Unknown(message, unavailable=status >= 500)
    code = redact(" ".join((str(status), *codes)), secrets, personal=personal)
    if status == 413 and meaning.verdict == "dead":
        raise TooLarge(message, code=code)
    error = meaning.exception(message, code=code, after=(waits or vendor.waits).seconds(answer))
    if error is not None:
        raise error


def _common(status: int, later: Collection[int], unsure: Collection[int], setting: Collection[int]) -> Meaning:
    """What a status means by HTTP, and by what the call says of itself."""
    if status in unsure:
        return Meaning("unknown")
    if status == 429:
        return Meaning("limited")
    if status >= 500 or status == 421:
        return Meaning("unavailable")
    return Meaning("later") if status in later or status in _LATER else _refusal(status, setting)


def _refusal(status: int, setting: Collection[int]) -> Meaning:
    if status in {401, 403}:
        return Meaning("credential", "check the credential of this action")
    advice = "redirects are not followed; configure the final address" if 300 <= status < 400 else ""
    if status in setting:
        return Meaning("setting", advice or "check the address and the options of this action")
    return Meaning("dead", advice)


def vendor_message(answer: Answer) -> str:
    """The vendor's own words in an error, or an empty text; not yet redacted."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return next(_messages(answer.parsed(), _DEPTH), "")
    return answer.text.strip() if kind == "text/plain" else ""


def _message(
    answer: Answer, name: str, codes: tuple[str, ...], secrets: Iterable[str], personal: Iterable[str] | Event
) -> str:
    code, said = ", ".join(codes), vendor_message(answer)
    if os.environ.get(MESSAGES_VARIABLE) != "full":
        said = without_values(said)
    head = f"{name} answered {answer.status}"
    rest = f"{f' ({code})' if code and code != said else ''}{f': {said}' if said else ''}"
    if not rest:
        return head
    rest = redact(rest, secrets, personal=personal, limit=MAX_MESSAGE - len(head) - 1)
    return f"{head}{'' if rest.startswith(':') else ' '}{rest}"


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
