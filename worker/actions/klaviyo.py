"""Kind `klaviyo`: create or update profiles in Klaviyo.

The call: https://developers.klaviyo.com/en/reference/create_or_update_profile
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import fields

from tiercast.actions import Action, Done, Job, Properties, Result, Skip
from tiercast.outbound import ValueForm, body_object, check_clear

from .klaviyo_api import IDENTIFIERS, KlaviyoApi, KlaviyoOptions, identified, is_phone

PATH = "/api/profile-import"

#: Klaviyo's own attributes of a profile; what else is to be set is a property.
ATTRIBUTES = frozenset({*IDENTIFIERS, "first_name", "last_name", "organization", "locale", "title", "image"})

#: Null clears a property; what is left out stays.
_FORM = ValueForm(cleared=None)


class Klaviyo(Action):
    """Create or update a profile in Klaviyo: its properties, such as the tier, and its attributes.

    Safe to repeat: it sets what is set. What renders empty is left out, so it stays as it is in Klaviyo; `clear` names
    the properties that are emptied then. A phone number that is not in the form +4930123456 would lose the whole
    profile, so it is left out with a note. It subscribes nobody and changes no consent.

    `order` is "latest" unless the configuration says otherwise; `rate` is 80 % of what Klaviyo takes.
    """

    kind = "klaviyo"
    fake = "tiercast.testing.vendors.klaviyo:FakeKlaviyo"
    defaults: ClassVar[Mapping[str, Any]] = {"order": "latest", "rate": "600/min"}

    class Options(KlaviyoOptions):
        properties = Properties(metadata={"description": "properties of the profile; what renders empty is left out"})
        clear = fields.List(
            fields.String(), load_default=list, metadata={"description": "properties that are emptied by what is empty"}
        )
        attributes = Properties(
            metadata={"description": "Klaviyo's own attributes, such as first_name, locale or phone_number"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        check_clear(self.options.properties, self.options["clear"])
        for attribute in self.options.attributes:
            if attribute not in ATTRIBUTES:
                raise ValueError(f"attributes: {attribute} is none of Klaviyo's; put it into properties")
            if attribute == self.options.identifier:
                raise ValueError(f"attributes: {attribute} is the identifier; its value stands in id")
        if not self.options.properties and not self.options.attributes:
            raise ValueError("properties: names nothing to set")
        self._api = KlaviyoApi(self.options, timeout=timeout)

    async def perform(self, job: Job) -> Result:
        body, notes = self._body(job)
        answer = await self._api.post(PATH, body, job, hidden=[str(job.options.id)])
        data = body_object(answer).get("data")
        id = data.get("id") if isinstance(data, dict) else None
        text = f"profile {id or 'without id'} {'created' if answer.status == 201 else 'updated'}"
        return Done(text, "; ".join(notes)) if notes else text

    async def verify(self) -> str | None:
        return await self._api.verify()

    def rehearse(self, job: Job) -> None:
        self._body(job)

    async def close(self) -> None:
        await self._api.close()

    def _body(self, job: Job) -> tuple[dict[str, Any], list[str]]:
        who = identified(job, self.options.identifier)
        attributes = _FORM.shape(job.options.attributes)
        notes = []
        if "phone_number" in attributes and not is_phone(attributes["phone_number"]):
            del attributes["phone_number"]
            notes.append("phone_number left out: it is not in the form +4930123456")
        properties = _FORM.shape(job.options.properties, self.options["clear"])
        if not attributes and not properties:
            raise Skip("every property is empty for this event")
        made = {**attributes, **who}
        if properties:
            made["properties"] = properties
        return {"data": {"type": "profile", "attributes": made}}, notes
