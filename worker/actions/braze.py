"""Kind `braze`: set attributes of users in Braze.

The call: https://www.braze.com/docs/api/endpoints/user_data/post_user_track
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from marshmallow import fields

from tiercast.actions import Action, Job, Properties, Result, Skip
from tiercast.outbound import ValueForm, check_clear

from .braze_api import IDENTIFIERS, MOST_OBJECTS, RATE, BrazeApi, BrazeOptions

#: Null removes an attribute.
_FORM = ValueForm(cleared=None)


class Braze(Action):
    """Set attributes of a user in Braze, such as the tier, up to 75 users in one call.

    Safe to repeat: it sets what is set. What renders empty is left out, so it stays as it is; `clear` names those that
    are emptied then. Only what the action names is sent, since Braze may bill each attribute that is written. Users
    whom Braze does not know are left out, without a word from Braze, unless `create` is set.

    `order` is "latest" unless the configuration says otherwise; `rate` is 80 % of what Braze takes.
    """

    kind = "braze"
    fake = "tiercast.testing.vendors.braze:FakeBraze"
    defaults: ClassVar[Mapping[str, Any]] = {"order": "latest", "rate": RATE}
    max_batch = MOST_OBJECTS

    class Options(BrazeOptions):
        properties = Properties(metadata={"description": "attributes of the user; what renders empty is left out"})
        clear = fields.List(
            fields.String(), load_default=list, metadata={"description": "properties that are emptied by what is empty"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        if not self.options.properties:
            raise ValueError("properties: names nothing to set")
        taken = sorted(set(self.options.properties) & {*IDENTIFIERS, "_update_existing_only"} - {"email", "phone"})
        if taken or self.options.identifier in self.options.properties:
            raise ValueError(
                f"properties: {(*taken, self.options.identifier)[0]} says who the user is; it stands in id"
            )
        check_clear(self.options.properties, self.options["clear"])
        self._api = BrazeApi(self.options, array="attributes", object_of=self._object, timeout=timeout)

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
        attributes = _FORM.shape(job.options.properties, self.options["clear"])
        if not attributes:
            raise Skip("every property is empty for this event")
        return attributes
