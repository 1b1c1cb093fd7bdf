"""Kind `braze-event`: record custom events of users in Braze.

The call: https://www.braze.com/docs/api/endpoints/user_data/post_user_track
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from marshmallow import fields

from tiercast.actions import Action, Job, Permanent, Properties, Result
from tiercast.outbound import ValueForm

from .braze_api import MOST_OBJECTS, RATE, BrazeApi, BrazeOptions

_FORM = ValueForm()

_MOST_NAME_CHARACTERS = 255


class BrazeEvent(Action):
    """Record a custom event of a user in Braze, such as "tier_joined", for campaigns and Canvases to start from.

    Braze has no idempotency key: what is sent twice counts twice. So an attempt that ended without an answer leaves its
    job uncertain, and an operator decides. Users whom Braze does not know are left out, without a word from Braze,
    unless `create` is set. `rate` is 80 % of what Braze takes.
    """

    kind = "braze-event"
    fake = "tiercast.testing.vendors.braze:FakeBraze"
    repeatable = False
    defaults: ClassVar[Mapping[str, Any]] = {"rate": RATE}
    max_batch = MOST_OBJECTS

    class Options(BrazeOptions):
        event = fields.String(
            load_default="tier_joined",
            metadata={"description": "name of the event; names are limited in number, so name no tier here"},
        )
        properties = Properties(
            load_default=lambda: {"tier": "{{ event.tier.name }}", "campaign": "{{ event.campaign.name }}"},
            metadata={"description": "properties of the event; by default the tier and the campaign"},
        )
        time = fields.String(
            load_default="{{ event.at }}", metadata={"description": "when it happened; by default the event's time"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        self._api = BrazeApi(self.options, array="events", object_of=self._object, timeout=timeout)

    async def perform(self, job: Job) -> Result:
        return await self._api.one(job)

    async def perform_many(self, jobs: list[Job]) -> AsyncIterator[tuple[Job, Result | Exception]]:
        async for settled in self._api.settle(jobs):
            yield settled

    def rehearse(self, job: Job) -> None:
        self._api.item(job)

    async def close(self) -> None:
        await self._api.close()

    def _object(self, job: Job) -> Mapping[str, Any]:
        name = job.options.event.strip()
        if not 0 < len(name) <= _MOST_NAME_CHARACTERS:
            raise Permanent(f"option event is empty or has more than {_MOST_NAME_CHARACTERS} characters")
        time = _FORM.shape({"time": {"datetime": job.options.time}}).get("time") or job.event.at
        return {"name": name, "time": time, "properties": _FORM.shape(job.options.properties)}
