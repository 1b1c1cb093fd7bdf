"""What one vendor's answers mean, where that differs from what HTTP says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..actions import Halt, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from ..event import Event
from .redact import MAX_MESSAGE, redact, without_values
from .waits import RETRY_AFTER, Waits

if TYPE_CHECKING:
    from .answers import Answer

#: What an answer can mean for the job. `skip`: there is nothing to do; `dead`: this job only; `later`: this job, after
#: its backoff; `limited`: too many calls, everyone waits; `unavailable`: the vendor is down; `setting`, `credential`:
#: the lane is held; `unknown`: it may have happened.
Verdict = Literal["done", "skip", "dead", "later", "limited", "unavailable", "setting", "credential", "unknown"]

#: Where vendors put a code that says what is wrong.
_CODE_KEYS = ("code", "key", "errorCode", "error_code", "ErrorCode", "category", "errorType", "policyName", "reason")

#: A code is one word that is no address and no long number.
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code or a status means for the job.

    >>> Meaning("setting", "create the property in HubSpot, or take it out of properties")
    Meaning(verdict='setting', advice='create the property in HubSpot, or take it out of properties', after=None)

    Attributes:
        verdict: see `Verdict`.
        advice: what the operator should do; it ends the message.
        after: the least seconds to wait, whatever the answer names.
    """

    verdict: Verdict
    advice: str = ""
    after: float | None = None

    def exception(self, message: str, *, code: str | None = None, after: float | None = None) -> Exception | None:
        """What it raises; None for `done`.

        Args:
            message: what happened; the advice is added.
            code: the vendor's code, see `Permanent`.
            after: the seconds that the answer named.
        """
        if self.advice:
            message = f"{message} ({self.advice})"
        waits = [seconds for seconds in (self.after, after) if seconds is not None]
        wait = max(waits) if waits else None
        if self.verdict in _LATER:
            return _LATER[self.verdict](message, after=wait, code=code)
        held = _HALTS.get(self.verdict)
        if held is not None:
            return Halt(message, cause=held, code=code, after=_HELD_SECONDS if wait is None else wait)
        others: dict[Verdict, Exception] = {
            "skip": Skip(message),
            "dead": Permanent(message, code=code),
            "unknown": Unknown(message),
        }
        return others.get(self.verdict)


#: Seconds after which a held lane tries again, where neither the answer nor the table names a time.
_HELD_SECONDS = 300.0

_HALTS: dict[Verdict, Literal["credential", "setting"]] = {"credential": "credential", "setting": "setting"}
_LATER: dict[Verdict, type[RateLimited | RetryLater | Unavailable]] = {
    "later": RetryLater,
    "limited": RateLimited,
    "unavailable": Unavailable,
}


#: What a meaning is found by: a status, the vendor's code, or both.
Key = int | str | tuple[int, str]


def usual_codes(answer: Answer) -> tuple[str, ...]:
    """The vendor's codes for an error, from the usual places of a JSON body; not yet redacted."""
    body = answer.parsed()
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict):
        return ()
    places = [body, body.get("error"), *(body["errors"][:1] if isinstance(body.get("errors"), list) else ())]
    codes = [
        str(place[key]) for place in places if isinstance(place, dict) for key in _CODE_KEYS if is_code(place.get(key))
    ]
    return tuple(dict.fromkeys(code for code in codes if code != str(answer.status)))


def is_code(value: object) -> bool:
    """Whether a value of a body is a code and not a text, a flag or a long number."""
    if isinstance(value, bool):
        return False
    return (isinstance(value, int) and abs(value) < 1_000_000) or (
        isinstance(value, str) and _CODE.fullmatch(value) is not None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """How one vendor answers. A kind makes one and gives it to its client: `Client(vendor=...)`.

        SALESFORCE = Vendor(
            name="Salesforce",
            meanings={
                (403, "REQUEST_LIMIT_EXCEEDED"): Meaning("limited", after=900),
                "INVALID_FIELD": Meaning("dead", "name a field of the object in properties"),
                300: Meaning("dead", "the external id matches several records"),
            },
        )

    Attributes:
        name: how messages call the vendor; by default its host.
        meanings: what codes and statuses mean, before the common table. The first that is there holds: status and
            code, then the code alone, then the status alone.
        codes: reads the vendor's codes from an answer, the most telling first.
        judge: reads the meaning of an answer that no code tells (an HTML page where JSON belongs, say), before
            `meanings`; None where it has nothing to say.
        waits: where the vendor says when it takes calls again.
    """

    name: str = ""
    meanings: Mapping[Key, Meaning] = field(default_factory=dict)
    codes: Callable[[Answer], Iterable[str]] = usual_codes
    judge: Callable[[Answer], Meaning | None] | None = None
    waits: Waits = RETRY_AFTER

    def meaning(self, status: int | None, codes: Iterable[str]) -> Meaning | None:
        """What the table says of a status and codes; None where it says nothing."""
        return next((found for key in _keys(status, tuple(codes)) if (found := self.meanings.get(key))), None)

    def meaning_of(self, answer: Answer) -> Meaning | None:
        """What the vendor's own rules say of an answer that is no success; None where they say nothing."""
        judged = self.judge(answer) if self.judge is not None else None
        return judged or self.meaning(answer.status, self.codes(answer))

    def item(
        self,
        *,
        codes: Iterable[str],
        message: object = "",
        status: int | None = None,
        otherwise: Meaning,
        advice: str = "",
        secrets: Iterable[str] = (),
        personal: Iterable[str] | Event = (),
    ) -> Exception | None:
        """What an error of one item of a bulk answer means, by the same table.

        Args:
            codes: the item's codes, the most telling first.
            message: what the vendor says of it; what it quotes is not shown.
            status: the item's status, if it has one of its own.
            otherwise: what holds where the table says nothing.
            advice: in place of the meaning's advice.
            secrets: values that the message must not repeat.
            personal: the event, or values of the customer that the message must not repeat.
        """
        found = [code for code in map(str, codes) if is_code(code)]
        meaning = self.meaning(status, found) or otherwise
        if advice:
            meaning = Meaning(meaning.verdict, advice, meaning.after)
        said = without_values(message) if isinstance(message, str) else ""
        head = " ".join(str(part) for part in (self.name or "the vendor", status, ", ".join(found)) if part)
        text = redact(f"{head}: {said}" if said else head, secrets, personal=personal, limit=MAX_MESSAGE)
        return meaning.exception(text, code=" ".join(map(str, filter(None, (status, *found)))) or None)


def _keys(status: int | None, codes: tuple[str, ...]) -> Iterator[Key]:
    if status is not None:
        yield from ((status, code) for code in codes)
    yield from codes
    if status is not None:
        yield status


def body_object(answer: Answer) -> Mapping[str, Any]:
    """The body where it is a JSON object, else an empty one: a body that cannot be read says nothing."""
    body = answer.parsed()
    return body if isinstance(body, dict) else {}
