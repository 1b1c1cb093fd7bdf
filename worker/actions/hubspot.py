"""Kind `hubspot`: create or update contacts in HubSpot.

The call: https://developers.hubspot.com/docs/api-reference/2026-03/crm/objects/contacts/batch/upsert-contacts
Its errors: https://developers.hubspot.com/docs/api-reference/error-handling
The account: https://developers.hubspot.com/docs/api-reference/2026-03/account/account-information/get-account-details
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from marshmallow import fields

from tiercast.actions import (
    Action,
    BaseUrl,
    Done,
    Fixed,
    Job,
    Permanent,
    Properties,
    Result,
    RetryLater,
    Secret,
    Skip,
    Unknown,
)
from tiercast.outbound import (
    FIXED_PATH,
    Answer,
    Bulk,
    Client,
    Deadline,
    Item,
    Meaning,
    ValueForm,
    Vendor,
    Waits,
    body_object,
    check_clear,
    encode_json,
    json_list,
    personal_values,
    redact,
    usual_codes,
    without_values,
)

#: The calls; the dated version of the API stands in their paths.
UPSERT = "/crm/objects/{version}/contacts/batch/upsert"
ACCOUNT = "/account-info/{version}/details"

#: 409 is two writers at once, or values that belong to another contact for good; it names the first conflict only.
_CONFLICT = 409

#: The wait, in seconds, after the first conflict of a contact, and the longest; it doubles.
_CONFLICT_WAIT = 5.0
_LONGEST_CONFLICT_WAIT = 3600.0

#: The least wait, in seconds, where the day's calls are used up: they come back at midnight of the account's zone.
_DAILY_WAIT = 1800.0

#: What a property that does not exist is called in the list that an error's message holds.
_NO_PROPERTY = "PROPERTY_DOESNT_EXIST"

#: Categories of an item's error that no repeat can mend; the rest is tried again, as often as `attempts` says.
_FINAL = ("VALIDATION", "INVALID", "NOT_FOUND", "MISSING", "BAD_REQUEST", "OBJECT_ALREADY", "BANNED", "UNSUPPORTED")

#: A full answer tells every default property of 100 contacts.
_MAX_ANSWER = 8 * 1024 * 1024

#: An empty text is what clears a property. All values are text; those of a list are parted by semicolons.
_FORM = ValueForm(cleared="", as_text=True, lists=False, separator=";")


def _daily(answer: Answer) -> float | None:
    """How long to wait where the body says that the day's calls are used up."""
    return _DAILY_WAIT if str(body_object(answer).get("policyName")).upper() == "DAILY" else None


def _codes(answer: Answer) -> Iterator[str]:
    """What is wrong with single properties tells more than the category of the whole."""
    yield from dict.fromkeys(
        str(part.get("error", "")) for part in _listed(body_object(answer).get("message")) if part.get("error")
    )
    yield from usual_codes(answer)


def _judged(answer: Answer) -> Meaning | None:
    advice = _advice(body_object(answer).get("message"))
    return Meaning("dead", advice) if advice else None


_VENDOR = Vendor(
    name="HubSpot",
    meanings={
        _CONFLICT: Meaning("later"),
        423: Meaning("later"),  # the contact is locked
        477: Meaning("later"),  # the account is being moved, with Retry-After
        "RATE_LIMITS": Meaning("limited"),
        "RATE_LIMIT": Meaning("limited"),
    },
    codes=_codes,
    judge=_judged,
    waits=Waits(more=_daily),
)


class HubSpot(Action):
    """Create or update a HubSpot contact, up to 100 in one call.

    Safe to repeat: it sets what is set. A property whose template renders empty (null, for instance) is left out, so
    it stays as it is in HubSpot; `clear` names those that are emptied then. What the action does not name stays, too.
    """

    kind = "hubspot"
    max_batch = 100

    class Options(Action.Options):
        token = Secret(required=True, metadata={"description": "access token with crm.objects.contacts.write"})
        id = fields.String(required=True, metadata={"description": "which contact; a template"})
        id_property = fields.String(
            load_default="email", metadata={"description": "email, or any property whose values are unique"}
        )
        properties = Properties(metadata={"description": "by HubSpot's internal names; what renders empty is left out"})
        clear = fields.List(
            fields.String(), load_default=list, metadata={"description": "properties that are emptied by what is empty"}
        )
        version = Fixed(
            pattern=r"20[0-9]{2}-(03|09)",
            example="2026-03",
            load_default="2026-03",
            metadata={"description": "of HubSpot's API; each is served for 18 months"},
        )
        base_url = BaseUrl(
            load_default="https://api.hubapi.com", metadata={"description": "where HubSpot's API is; for tests"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        check_clear(self.options.properties, self.options["clear"])
        self._headers = {"authorization": f"Bearer {self.options.token}", "content-type": "application/json"}
        self._client = Client(timeout=timeout, vendor=_VENDOR)
        self._bulk = Bulk(
            item=self._item,
            send=self._send,
            most=self.max_batch,
            # A conflict refuses the whole call, whichever contact it is about.
            halves=lambda error: isinstance(error, Permanent) or _is_conflict(error),
            unmentioned="HubSpot's answer does not mention the contact",
        )

    async def perform(self, job: Job) -> Result:
        return await self._bulk.one(job, Deadline(job.timeout))

    async def perform_many(self, jobs: list[Job]) -> AsyncIterator[tuple[Job, Result | Exception]]:
        async for settled in self._bulk.settle(jobs, Deadline(min(job.timeout for job in jobs))):
            yield settled

    async def verify(self) -> str | None:
        answer = await self._client.send(
            "GET", self._url(ACCOUNT), headers=self._headers, secrets=[self.options.token], setting=FIXED_PATH
        )
        account = body_object(answer).get("portalId")
        return f"the token belongs to account {account}" if account else "HubSpot takes the token"

    def rehearse(self, job: Job) -> None:
        self._item(job)

    async def close(self) -> None:
        await self._client.close()

    def _url(self, path: str) -> str:
        base: str = self.options.base_url
        return base + path.format(version=self.options.version)

    def _item(self, job: Job) -> Item:
        contact = str(job.options.id).strip()
        if not contact:
            raise Skip("option id is empty for this event")
        content = {
            "idProperty": self.options.id_property,
            "id": contact,
            "properties": _FORM.shape(job.options.properties, self.options["clear"]),
            "objectWriteTraceId": _trace(job),
        }
        # Compared without case: HubSpot keeps e-mail addresses in lower case, and refuses a call that names one twice.
        return Item(job, encode_json(content), identity=contact.casefold())

    async def _send(self, items: Sequence[Item], seconds: float) -> Mapping[str, Result | Exception]:
        jobs = [item.job for item in items]
        try:
            answer = await self._client.send(
                "POST",
                self._url(UPSERT),
                content=b'{"inputs":' + json_list(items) + b"}",
                headers=self._headers,
                timeout=seconds,
                secrets=[self.options.token],
                personal=_Personal(jobs),
                setting=FIXED_PATH,
                max_answer=_MAX_ANSWER,
            )
        except RetryLater as error:
            raise _patient(error, jobs[0]) if len(jobs) == 1 and _is_conflict(error) else error from None
        return dict(_outcomes(jobs, _body(answer, len(jobs))))


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, RetryLater) and (error.code or "").startswith(str(_CONFLICT))


def _patient(conflict: RetryLater, job: Job) -> RetryLater:
    """A conflict of two writers is over in seconds; one about values that another contact has may last for days."""
    wait = min(_LONGEST_CONFLICT_WAIT, _CONFLICT_WAIT * 2.0 ** min(job.attempt - 1, 20))
    return RetryLater(str(conflict), after=max(conflict.after or 0.0, wait), code=conflict.code)


class _Personal:
    """What no message may repeat of the customers of some jobs; gathered only where there is a message."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs

    def __iter__(self) -> Iterator[str]:
        return (value for job in self._jobs for value in (*personal_values(job.event), str(job.options.id)))


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


def _outcomes(jobs: list[Job], answer: Mapping[str, Any]) -> Iterator[tuple[str, Result | Exception]]:
    """What HubSpot says of each job, by key; one that it does not mention is left out."""
    errors = [error for error in _objects(answer.get("errors")) if _is_error(error)]
    failed = {trace: error for error in errors for trace in _traces(error)}
    done = {trace: result for result in _objects(answer.get("results")) for trace in _traces(result)}
    complete = not errors and len(_objects(answer.get("results"))) == len(jobs)
    for job in jobs:
        trace = _trace(job)
        if trace in failed or (len(jobs) == 1 and errors):
            error = _item_error(failed.get(trace, errors[0]), job)
            if error is not None:
                yield job.key, error
        elif trace in done:
            yield job.key, _told(done[trace], job)
        elif complete:
            yield job.key, None


def _item_error(error: Mapping[str, Any], job: Job) -> Exception | None:
    category = str(error.get("category") or "").upper()
    final = any(word in category for word in _FINAL)
    message = error.get("message")
    listed = [str(part.get("error", "refused")) for part in _listed(message)]
    return _VENDOR.item(
        codes=[*listed, category],
        message=_reason(message),
        otherwise=Meaning("dead" if final else "later"),
        advice=_advice(message),
        personal=_Personal([job]),
    )


def _advice(message: object) -> str:
    missing = [str(part.get("name", "it")) for part in _listed(message) if part.get("error") == _NO_PROPERTY]
    if not missing:
        return ""
    which = f"the property {missing[0]}" if len(missing) == 1 else f"the properties {', '.join(missing)}"
    return f"create {which} in HubSpot, or take {'it' if len(missing) == 1 else 'them'} out of properties"


def _listed(message: object) -> list[Mapping[str, Any]]:
    """The properties that a message lists as JSON behind its first words."""
    _, bracket, rest = str(message or "").partition("[")
    try:
        return _objects(json.loads(bracket + rest)) if bracket else []
    except (ValueError, RecursionError):
        return []


def _reason(message: object) -> str:
    """The message; where it lists properties as JSON, only their names and what is wrong, not their values."""
    listed = _listed(message)
    if not listed:
        return str(message or "no message")
    told = (f"{part.get('name', 'a property')}: {part.get('error', 'refused')}" for part in listed)
    return f"{str(message).partition('[')[0].strip()} {'; '.join(told)}"


def _told(result: Mapping[str, Any], job: Job) -> Result:
    text = f"contact {result.get('id', 'without id')} {'created' if result.get('new') else 'updated'}"
    warnings = _objects(result.get("warnings"))
    if not warnings:
        return text
    said = without_values(str(warnings[0].get("message") or "no message"))
    return Done(text, redact(f"HubSpot warns: {said}", personal=_Personal([job])))


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
