"""Kind `hubspot-event`: record custom events of contacts in HubSpot.

The call: https://developers.hubspot.com/docs/api-reference/2026-03/events/send-event-data/send-event-occurrence
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from marshmallow import fields, validate

from tiercast.actions import Action, Done, Job, Permanent, Properties, Result, Skip
from tiercast.outbound import Answer, Meaning, ValueForm, body_object, uuid_key

from .hubspot_api import FORM, HUBSPOT, HubSpotApi, HubSpotOptions, Personal

SEND = "/events/{version}/send"

#: What HubSpot calls an event in full: the account's id, and the name.
_EVENT = re.compile(r"pe[0-9]{1,20}_[a-z0-9_]{1,200}")

#: How a refusal of a known `uuid` reads. Its status is not documented, so the words decide.
_KNOWN = re.compile(r"\b(already|duplicate|exists|unique)", re.IGNORECASE)

_TIMES = ValueForm()


def _judge(answer: Answer) -> Meaning | None:
    message = str(body_object(answer).get("message") or "")
    if answer.status in {400, 409} and "uuid" in message.lower() and _KNOWN.search(message):
        return Meaning("done")
    if answer.status == 403:
        return Meaning(
            "credential", "the token needs the scope analytics.behavioral_events.send, the account Enterprise"
        )
    return HUBSPOT.judge(answer) if HUBSPOT.judge is not None else None


_VENDOR = replace(HUBSPOT, judge=_judge)


class HubSpotEvent(Action):
    """Record a custom event of a contact in HubSpot, such as "pe123_tier_joined", for workflows to start from.

    Safe to repeat: a UUID made of the job's key goes along, and HubSpot takes an event of one UUID once within a year.
    The event and its properties must be defined in HubSpot, which needs an Enterprise tier.
    `rate` is 80 % of what HubSpot takes.
    """

    kind = "hubspot-event"
    fake = "tiercast.testing.vendors.hubspot:FakeHubSpot"
    defaults: ClassVar[Mapping[str, Any]] = {"rate": "1000/s"}

    class Options(HubSpotOptions):
        event = fields.String(
            required=True, metadata={"description": "the event's full name, pe<account>_<name>; may be a template"}
        )
        identifier = fields.String(
            load_default="email",
            validate=validate.OneOf(["email", "objectId"]),
            metadata={"description": "what `id` is: email, or objectId, the contact's record id"},
        )
        id = fields.String(required=True, metadata={"description": "which contact; a template"})
        properties = Properties(metadata={"description": "properties of the event, by their internal names"})
        time = fields.String(
            load_default="{{ event.at }}", metadata={"description": "when it happened; by default the event's time"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        if "{" not in self.options.event:
            _full_name(self.options.event)
        self._api = HubSpotApi(self.options, timeout=timeout, vendor=_VENDOR)

    async def perform(self, job: Job) -> Result:
        answer = await self._api.send("POST", SEND, json=self._body(job), timeout=job.timeout, personal=Personal([job]))
        if answer.status >= 400:
            return Done("event recorded", "HubSpot has it from an earlier attempt")
        return "event recorded"

    async def verify(self) -> str | None:
        return await self._api.verify()

    def rehearse(self, job: Job) -> None:
        self._body(job)

    async def close(self) -> None:
        await self._api.close()

    def _body(self, job: Job) -> dict[str, Any]:
        contact = str(job.options.id).strip()
        if not contact:
            raise Skip("option id is empty for this event")
        try:
            name = _full_name(job.options.event)
        except ValueError:
            raise Permanent("option event is not of the form pe123_name for this event; nothing was sent") from None
        body = {
            "eventName": name,
            self.options.identifier: contact,
            "properties": FORM.shape(job.options.properties),
            "uuid": uuid_key(job.key),
        }
        time = _TIMES.shape({"time": {"datetime": job.options.time}}).get("time")
        return body if time is None else {**body, "occurredAt": time}


def _full_name(text: str) -> str:
    """An event's full name.

    Raises:
        ValueError: it is none.
    """
    name = text.strip()
    if not _EVENT.fullmatch(name):
        raise ValueError("event: expected the full name that HubSpot shows, such as pe123456_tier_joined")
    return name
