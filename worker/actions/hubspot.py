"""Kind `hubspot`: create or update contacts in HubSpot.

The call: https://developers.hubspot.com/docs/api-reference/2026-03/crm/objects/contacts/batch/upsert-contacts
Its errors: https://developers.hubspot.com/docs/api-reference/error-handling
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from marshmallow import fields

from tiercast.actions import Action, Job, Permanent, RateLimited, RetryLater, Secret, Skip, Unknown
from tiercast.outbound import (
    FIXED_PATH,
    Answer,
    Client,
    Deadline,
    Waits,
    encode_json,
    personal_values,
    redact,
    without_values,
)

#: The dated API version stands in the path.
PATH = "/crm/objects/2026-03/contacts/batch/upsert"

#: HubSpot's own "try again": 423 locked, 477 account being moved (with Retry-After).
_LATER = frozenset({423, 477})

#: 409 is two writers at once, or values that belong to another contact for good; it names the first conflict only.
_CONFLICT = 409

#: The wait, in seconds, after the first conflict of a contact, and the longest; it doubles.
_CONFLICT_WAIT = 5.0
_LONGEST_CONFLICT_WAIT = 3600.0

#: The least wait, in seconds, where the day's calls are used up: they come back at midnight of the account's zone.
_DAILY_WAIT = 1800.0

#: Categories of an item's error that no repeat can mend; the rest is tried again, as often as `attempts` says.
_FINAL = ("VALIDATION", "INVALID", "NOT_FOUND", "MISSING", "BAD_REQUEST", "OBJECT_ALREADY", "BANNED", "UNSUPPORTED")

#: A full answer tells every default property of 100 contacts.
_MAX_ANSWER = 8 * 1024 * 1024

_UNMENTIONED = "HubSpot's answer does not mention the contact"

Outcome = tuple[Job, str | Exception | None]


class HubSpot(Action):
    """Create or update a HubSpot contact, up to 100 in one call.

    Safe to repeat: it sets what is set. A property whose template renders empty (null, for instance) is cleared:
    an empty text is what clears a property in HubSpot. What the action does not name stays as it is.
    """

    kind = "hubspot"
    max_batch = 100

    class Options(Action.Options):
        token = Secret(required=True, metadata={"description": "access token with crm.objects.contacts.write"})
        id = fields.String(required=True, metadata={"description": "which contact; a template"})
        id_property = fields.String(
            load_default="email", metadata={"description": "email, or any property whose values are unique"}
        )
        properties = fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True), load_default=dict)
        base_url = fields.Url(load_default="https://api.hubapi.com", require_tld=False, schemes={"http", "https"})

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        self._url = self.options.base_url.rstrip("/") + PATH
        self._headers = {"authorization": f"Bearer {self.options.token}", "content-type": "application/json"}
        self._client = Client(timeout=timeout)

    async def perform(self, job: Job) -> str | None:
        async for _, outcome in self._settle([job], Deadline(job.timeout)):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        raise Unknown(_UNMENTIONED)

    async def perform_many(self, jobs: list[Job]) -> AsyncIterator[Outcome]:
        deadline = Deadline(min(job.timeout for job in jobs))
        for batch in _without_repeats(jobs):
            if not deadline.another():
                return
            async for settled in self._settle(batch, deadline):
                yield settled

    async def close(self) -> None:
        await self._client.close()

    async def _settle(self, jobs: list[Job], deadline: Deadline) -> AsyncIterator[Outcome]:
        """Upsert the contacts of `jobs`; what has no outcome when the time is used up is left out."""
        inputs, empty = self._inputs(jobs)
        for skipped in empty:
            yield skipped
        jobs = [job for job in jobs if _trace(job) in inputs]
        if not jobs:
            return
        try:
            answer = await self._call(list(inputs.values()), jobs, deadline)
        except (Permanent, _Conflict) as error:
            if len(jobs) == 1:
                yield jobs[0], _patient(error, jobs[0]) if isinstance(error, _Conflict) else error
                return
            # It refuses the whole call, whatever it names: smaller calls find out which contacts it is about.
            answer = None
        settled = set()
        for job, outcome in _outcomes(jobs, answer) if answer is not None else ():
            settled.add(job.key)
            yield job, outcome
        rest = [job for job in jobs if job.key not in settled]
        if len(jobs) > 1:
            async for half in self._halves(rest, deadline):
                yield half
        elif rest:
            yield rest[0], Unknown(_UNMENTIONED)

    async def _halves(self, jobs: list[Job], deadline: Deadline) -> AsyncIterator[Outcome]:
        """Try again in two calls, so that one bad contact costs a few calls and not the others their update."""
        middle = (len(jobs) + 1) // 2
        for half in (jobs[:middle], jobs[middle:]):
            if half and deadline.another():
                async for settled in self._settle(half, deadline):
                    yield settled

    def _inputs(self, jobs: list[Job]) -> tuple[dict[str, Mapping[str, Any]], list[Outcome]]:
        inputs: dict[str, Mapping[str, Any]] = {}
        empty: list[Outcome] = []
        for job in jobs:
            contact = _text(job.options.id).strip()
            if not contact:
                empty.append((job, Skip("option id is empty for this event")))
                continue
            inputs[_trace(job)] = {
                "idProperty": self.options.id_property,
                "id": contact,
                "properties": {name: _text(value) for name, value in job.options.properties.items()},
                "objectWriteTraceId": _trace(job),
            }
        return inputs, empty

    async def _call(self, inputs: list[Mapping[str, Any]], jobs: list[Job], deadline: Deadline) -> Mapping[str, Any]:
        content = encode_json({"inputs": inputs})
        try:
            answer = await self._client.send(
                "POST",
                self._url,
                content=content,
                headers=self._headers,
                timeout=deadline.left,
                secrets=[self.options.token],
                personal=_Personal(jobs),
                later=_LATER | {_CONFLICT},
                setting=FIXED_PATH,
                waits=_WAITS,
                max_answer=_MAX_ANSWER,
            )
        except RetryLater as error:
            if type(error) is RetryLater and f"answered {_CONFLICT}" in str(error):
                raise _Conflict(str(error), after=error.after) from None
            raise
        return _body(answer, len(jobs))


class _Conflict(RetryLater):
    """HubSpot answered 409: later, for the contact that it is about."""


def _patient(conflict: _Conflict, job: Job) -> _Conflict:
    """A conflict of two writers is over in seconds; one about values that another contact has may last for days."""
    wait = min(_LONGEST_CONFLICT_WAIT, _CONFLICT_WAIT * 2.0 ** min(job.attempt - 1, 20))
    return _Conflict(str(conflict), after=max(conflict.after or 0.0, wait))


class _Personal:
    """What no message may repeat of the customers of some jobs; gathered only where there is a message."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs

    def __iter__(self) -> Iterator[str]:
        return iter(_personal(self._jobs))


def _body(answer: Answer, count: int) -> Mapping[str, Any]:
    if not answer.readable and answer.status == 200:
        # 200 says that all of it was carried out, and what else it says was compressed beyond reading, unasked.
        return {"results": [{"id": "unknown"}] * count}
    try:
        body = answer.json()
    except ValueError:
        raise Unknown("HubSpot's answer is no JSON or was cut off") from None
    if not isinstance(body, dict):
        raise Unknown("HubSpot's answer is not an object")
    return body


def _daily(answer: Answer) -> float | None:
    """How long to wait where the body says that the day's calls are used up."""
    try:
        body = answer.json()
    except ValueError:
        return None
    return _DAILY_WAIT if isinstance(body, dict) and str(body.get("policyName")).upper() == "DAILY" else None


_WAITS = Waits(more=_daily)


def _without_repeats(jobs: list[Job]) -> Iterator[list[Job]]:
    """Split into calls that name each contact once, in order: HubSpot refuses a call that names one twice."""
    calls: list[list[Job]] = []
    seen: dict[str, int] = {}
    for job in jobs:
        # Compared without case: HubSpot keeps e-mail addresses in lower case.
        contact = _text(job.options.id).strip().casefold()
        turn = seen[contact] = seen.get(contact, -1) + 1
        if turn == len(calls):
            calls.append([])
        calls[turn].append(job)
    yield from calls


def _outcomes(jobs: list[Job], answer: Mapping[str, Any]) -> Iterator[Outcome]:
    """What HubSpot says of each job; one that it does not mention is left out."""
    errors = [error for error in _objects(answer.get("errors")) if _is_error(error)]
    failed = {trace: error for error in errors for trace in _traces(error)}
    done = {trace: result for result in _objects(answer.get("results")) for trace in _traces(result)}
    complete = not errors and len(_objects(answer.get("results"))) == len(jobs)
    for job in jobs:
        trace = _trace(job)
        if trace in failed or (len(jobs) == 1 and errors):
            yield job, _item_error(failed.get(trace, errors[0]), _personal([job]))
        elif trace in done:
            yield job, _told(done[trace])
        elif complete:
            yield job, None


def _item_error(error: Mapping[str, Any], personal: Iterable[str]) -> Exception:
    category = str(error.get("category") or "").upper()
    message = redact(f"HubSpot: {category or 'error'}: {_reason(error)}", personal=personal)
    if "RATE" in category:
        return RateLimited(message)
    if any(word in category for word in _FINAL):
        return Permanent(message)
    return RetryLater(message)


def _reason(error: Mapping[str, Any]) -> str:
    """The message; where it lists properties as JSON, only their names and what is wrong, not their values."""
    message = str(error.get("message") or "no message")
    head, bracket, rest = message.partition("[")
    try:
        found = _objects(json.loads(bracket + rest))
    except (ValueError, RecursionError):
        return without_values(message)
    listed = "; ".join(f"{part.get('name', 'a property')}: {part.get('error', 'refused')}" for part in found)
    return f"{head.strip()} {listed}" if listed else without_values(message)


def _told(result: Mapping[str, Any]) -> str:
    return f"contact {result.get('id', 'without id')} {'created' if result.get('new') else 'updated'}"


def _is_error(error: Mapping[str, Any]) -> bool:
    return str(error.get("status", "error")).lower() != "success"


def _traces(item: Mapping[str, Any]) -> list[str]:
    """The `objectWriteTraceId` of a result (text) or of an error (a list, under `context`)."""
    context = item.get("context")
    value = item.get("objectWriteTraceId") or (context.get("objectWriteTraceId") if isinstance(context, dict) else None)
    return [str(part) for part in value] if isinstance(value, list) else [str(value)] if value else []


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _trace(job: Job) -> str:
    return hashlib.sha256(job.key.encode()).hexdigest()[:24]


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _personal(jobs: list[Job]) -> list[str]:
    return [value for job in jobs for value in (*personal_values(job.event), _text(job.options.id))]
