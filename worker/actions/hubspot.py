"""Kind `hubspot`: create or update contacts in HubSpot.

The call: https://developers.hubspot.com/docs/api-reference/2026-03/crm/objects/contacts/batch/upsert-contacts
Its errors: https://developers.hubspot.com/docs/api-reference/error-handling
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from marshmallow import fields

from tiercast.actions import Action, Done, Job, Permanent, Properties, Result, RetryLater, Skip, Unknown
from tiercast.outbound import (
    Answer,
    Bulk,
    Deadline,
    Item,
    Meaning,
    check_clear,
    encode_json,
    json_list,
    redact,
    without_values,
)

from .hubspot_api import (
    CONFLICT,
    FORM,
    HUBSPOT,
    HubSpotApi,
    HubSpotOptions,
    Personal,
    advice_of,
    listed_in,
    objects_in,
    reason_of,
)

#: The call; the dated version of the API stands in its path.
UPSERT = "/crm/objects/{version}/contacts/batch/upsert"

#: The wait, in seconds, after the first conflict of a contact, and the longest; it doubles.
_CONFLICT_WAIT = 5.0
_LONGEST_CONFLICT_WAIT = 3600.0

#: Categories of an item's error that no repeat can mend; the rest is tried again, as often as `attempts` says.
_FINAL = ("VALIDATION", "INVALID", "NOT_FOUND", "MISSING", "BAD_REQUEST", "OBJECT_ALREADY", "BANNED", "UNSUPPORTED")

#: A full answer tells every default property of 100 contacts.
_MAX_ANSWER = 8 * 1024 * 1024


class HubSpot(Action):
    """Create or update a HubSpot contact, up to 100 in one call.

    Safe to repeat: it sets what is set. A property whose template renders empty (null, for instance) is left out, so
    it stays as it is in HubSpot; `clear` names those that are emptied then. What the action does not name stays, too.

    `order` is "latest" unless the configuration says otherwise.
    """

    kind = "hubspot"
    fake = "tiercast.testing.vendors.hubspot:FakeHubSpot"
    defaults: ClassVar[Mapping[str, Any]] = {"order": "latest"}
    max_batch = 100

    class Options(HubSpotOptions):
        id = fields.String(required=True, metadata={"description": "which contact; a template"})
        id_property = fields.String(
            load_default="email", metadata={"description": "email, or any property whose values are unique"}
        )
        properties = Properties(metadata={"description": "by HubSpot's internal names; what renders empty is left out"})
        clear = fields.List(
            fields.String(), load_default=list, metadata={"description": "properties that are emptied by what is empty"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        check_clear(self.options.properties, self.options["clear"])
        self._api = HubSpotApi(self.options, timeout=timeout)
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
        return await self._api.verify()

    def rehearse(self, job: Job) -> None:
        self._item(job)

    async def close(self) -> None:
        await self._api.close()

    def _item(self, job: Job) -> Item:
        contact = str(job.options.id).strip()
        if not contact:
            raise Skip("option id is empty for this event")
        content = {
            "idProperty": self.options.id_property,
            "id": contact,
            "properties": FORM.shape(job.options.properties, self.options["clear"]),
            "objectWriteTraceId": _trace(job),
        }
        # Compared without case: HubSpot keeps e-mail addresses in lower case, and refuses a call that names one twice.
        return Item(job, encode_json(content), identity=contact.casefold())

    async def _send(self, items: Sequence[Item], seconds: float) -> Mapping[str, Result | Exception]:
        jobs = [item.job for item in items]
        try:
            answer = await self._api.send(
                "POST",
                UPSERT,
                content=b'{"inputs":' + json_list(items) + b"}",
                timeout=seconds,
                personal=Personal(jobs),
                max_answer=_MAX_ANSWER,
            )
        except RetryLater as error:
            raise _patient(error, jobs[0]) if len(jobs) == 1 and _is_conflict(error) else error from None
        return dict(_outcomes(jobs, _body(answer, len(jobs))))


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, RetryLater) and (error.code or "").startswith(str(CONFLICT))


def _patient(conflict: RetryLater, job: Job) -> RetryLater:
    """A conflict of two writers is over in seconds; one about values that another contact has may last for days."""
    wait = min(_LONGEST_CONFLICT_WAIT, _CONFLICT_WAIT * 2.0 ** min(job.attempt - 1, 20))
    return RetryLater(str(conflict), after=max(conflict.after or 0.0, wait), code=conflict.code)


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
    errors = [error for error in objects_in(answer.get("errors")) if _is_error(error)]
    failed = {trace: error for error in errors for trace in _traces(error)}
    done = {trace: result for result in objects_in(answer.get("results")) for trace in _traces(result)}
    complete = not errors and len(objects_in(answer.get("results"))) == len(jobs)
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
    listed = [str(part.get("error", "refused")) for part in listed_in(message)]
    return HUBSPOT.item(
        codes=[*listed, category],
        message=reason_of(message),
        otherwise=Meaning("dead" if final else "later"),
        advice=advice_of(message),
        personal=Personal([job]),
    )


def _told(result: Mapping[str, Any], job: Job) -> Result:
    text = f"contact {result.get('id', 'without id')} {'created' if result.get('new') else 'updated'}"
    warnings = objects_in(result.get("warnings"))
    if not warnings:
        return text
    said = without_values(str(warnings[0].get("message") or "no message"))
    return Done(text, redact(f"HubSpot warns: {said}", personal=Personal([job])))


def _is_error(error: Mapping[str, Any]) -> bool:
    return str(error.get("status", "error")).lower() != "success"


def _traces(item: Mapping[str, Any]) -> list[str]:
    """The `objectWriteTraceId` of a result (text) or of an error (a list, under `context`)."""
    context = item.get("context")
    value = item.get("objectWriteTraceId") or (context.get("objectWriteTraceId") if isinstance(context, dict) else None)
    return [str(part) for part in value] if isinstance(value, list) else [str(value)] if value else []


def _trace(job: Job) -> str:
    return hashlib.sha256(job.key.encode()).hexdigest()[:24]
