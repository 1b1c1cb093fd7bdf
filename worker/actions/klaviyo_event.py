"""Kind `klaviyo-event`: record events of profiles in Klaviyo.

The call: https://developers.klaviyo.com/en/reference/create_event
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import fields, validate

from tiercast.actions import Action, Job, Permanent, Properties, Result
from tiercast.outbound import ValueForm, short_key

from .klaviyo_api import KlaviyoApi, KlaviyoOptions, identified

PATH = "/api/events"

_MOST_PROPERTIES = 400

_FORM = ValueForm()


class KlaviyoEvent(Action):
    """Record an event of a profile in Klaviyo, such as "Loyalty Tier Joined", for flows to start from.

    Safe to repeat: the job's key goes along as `unique_id`, and Klaviyo keeps the first event of one. A profile that
    Klaviyo does not know is created. `rate` is 80 % of what Klaviyo takes.
    """

    kind = "klaviyo-event"
    fake = "tiercast.testing.vendors.klaviyo:FakeKlaviyo"
    defaults: ClassVar[Mapping[str, Any]] = {"rate": "2800/min"}

    class Options(KlaviyoOptions):
        event = fields.String(
            load_default="Loyalty Tier Joined",
            validate=validate.Length(1, 1000),
            metadata={"description": "name of the metric; it stays in the account for good, so name no tier here"},
        )
        properties = Properties(
            load_default=lambda: {"tier": "{{ event.tier.name }}", "campaign": "{{ event.campaign.name }}"},
            metadata={"description": "properties of the event; by default the tier and the campaign"},
        )
        value = fields.Raw(
            load_default=None, allow_none=True, metadata={"description": "what the event is worth, a number"}
        )
        time = fields.String(
            load_default="{{ event.at }}", metadata={"description": "when it happened; by default the event's time"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        if len(self.options.properties) > _MOST_PROPERTIES:
            raise ValueError(f"properties: Klaviyo takes at most {_MOST_PROPERTIES} of an event")
        self._api = KlaviyoApi(self.options, timeout=timeout)

    async def perform(self, job: Job) -> Result:
        await self._api.post(PATH, self._body(job), job, hidden=[str(job.options.id)])
        return "event accepted"

    async def verify(self) -> str | None:
        return await self._api.verify()

    def rehearse(self, job: Job) -> None:
        self._body(job)

    async def close(self) -> None:
        await self._api.close()

    def _body(self, job: Job) -> dict[str, Any]:
        who = identified(job, self.options.identifier)
        name = job.options.event.strip()
        if not 0 < len(name) < 128:
            raise Permanent("option event is empty or has 128 characters or more; nothing was sent")
        attributes = {
            "metric": {"data": {"type": "metric", "attributes": {"name": name}}},
            "profile": {"data": {"type": "profile", "attributes": who}},
            "properties": _FORM.shape(job.options.properties),
            "unique_id": short_key(job.key),
            **_FORM.shape({"time": {"datetime": job.options.time}, "value": {"number": job.options.value}}),
        }
        return {"data": {"type": "event", "attributes": attributes}}
