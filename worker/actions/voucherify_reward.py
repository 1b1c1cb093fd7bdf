"""Kind `voucherify-reward`: give the customer a code of a campaign in Voucherify.

The call: https://docs.voucherify.io/api-reference/publications/create-publication
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from marshmallow import fields, validate

from tiercast.actions import Action, Done, Halt, Job, Properties, Result, RetryLater, Skip
from tiercast.outbound import (
    FIXED_PATH,
    Answer,
    Deadline,
    Meaning,
    ValueForm,
    body_object,
    personal_values,
    short_key,
)

from .voucherify.api import RATE, VOUCHERIFY, Api, Credential, customer_field, is_template, segment

PATH = "/v1/publications"

_TWIN = "duplicate_source_id"

_FORM = ValueForm()

_MEANINGS = {
    **VOUCHERIFY.meanings,
    # An earlier attempt of this job was carried out.
    _TWIN: Meaning("done"),
    "no_voucher_suitable_for_publication": Meaning(
        "setting", "the campaign has no code left: add codes to it, or make it an auto-update campaign; the jobs wait"
    ),
    "missing_vouchers": Meaning("setting", "option campaign is empty"),
    "voucher_cannot_be_published": Meaning("dead", "the customer has joined this campaign already"),
}


def _judge(answer: Answer) -> Meaning | None:
    if answer.status == 404 and body_object(answer).get("resource_type") == "campaign":
        return Meaning("setting", "Voucherify has no campaign of the name or id in option campaign")
    assert VOUCHERIFY.judge is not None  # noqa: S101 - for the type
    return VOUCHERIFY.judge(answer)


#: Where the configuration names the campaign, and where an event does: its missing is that job's alone.
_FIXED = replace(VOUCHERIFY, meanings=_MEANINGS, judge=_judge)
_NAMED_BY_EVENT = replace(VOUCHERIFY, meanings={**_MEANINGS, 404: Meaning("dead")})


class VoucherifyReward(Action):
    """Give the customer a code of a campaign in Voucherify, once.

    The job's key goes along as `source_id`, which Voucherify takes once: a repeat is refused, and that is success. With
    `join_once`, Voucherify gives a customer one and always the same code of a campaign.

    `once` is ["customer", "tier"] unless the configuration says otherwise: who joins a tier again gets no second code.
    A campaign without codes holds the lane: add codes, and the jobs that wait are done. `rate` is a quarter of the
    smallest paid plan; the shop lives on the rest.
    """

    kind = "voucherify-reward"
    fake = "tiercast.testing.vendors.voucherify:FakeVoucherify"
    defaults: ClassVar[Mapping[str, Any]] = {"once": ["customer", "tier"], "rate": RATE}

    class Options(Credential):
        campaign = fields.String(required=True, metadata={"description": "name or id (camp_...) of the campaign"})
        customer = customer_field("the customer, by `identifier`")
        identifier = fields.String(
            load_default="id",
            validate=validate.OneOf(["id", "source_id"]),
            metadata={"description": "id or source_id; an unknown source_id creates a customer"},
        )
        join_once = fields.Boolean(
            load_default=True, metadata={"description": "one code of the campaign for a customer, for ever"}
        )
        properties = Properties(metadata={"description": "metadata of the publication"})

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        self._vendor = _NAMED_BY_EVENT if is_template(self.options.campaign) else _FIXED
        self._api = Api(self.options, timeout=timeout)

    async def perform(self, job: Job) -> Result:
        body = self._body(job)
        deadline = Deadline(job.timeout)
        hidden = [*personal_values(job.event), body["customer"][self.options.identifier]]
        answer = await self._api.send(
            "POST",
            PATH,
            deadline=deadline,
            personal=hidden,
            params={"join_once": "true"} if self.options.join_once else None,
            json=body,
            setting=FIXED_PATH,
            vendor=self._vendor,
        )
        if answer.status >= 400:
            return await self._earlier(body["source_id"], deadline, hidden)
        told = body_object(answer)
        text = _reference(told)
        if told.get("source_id") not in (None, body["source_id"]):
            return Done(text, "the customer had a code of this campaign already; no second one was published")
        return text

    async def verify(self) -> str | None:
        if is_template(self.options.campaign):
            return await self._api.verify(self.timeout)
        path = f"/v1/campaigns/{segment(self.options.campaign.strip())}"
        await self._api.read(path, deadline=Deadline(self.timeout), setting=FIXED_PATH, vendor=_FIXED)
        return "Voucherify takes the API key and has the campaign"

    def rehearse(self, job: Job) -> None:
        self._body(job)

    async def close(self) -> None:
        await self._api.close()

    def _body(self, job: Job) -> dict[str, Any]:
        campaign, customer = job.options.campaign.strip(), job.options.customer.strip()
        for option, value in (("campaign", campaign), ("customer", customer)):
            if not value:
                raise Skip(f"option {option} is empty for this event")
        body = {
            "campaign": {"id" if campaign.startswith("camp_") else "name": campaign, "count": 1},
            "customer": {self.options.identifier: customer},
            "source_id": short_key(job.key),
        }
        metadata = _FORM.shape(job.options.properties)
        return {**body, "metadata": metadata} if metadata else body

    async def _earlier(self, source_id: str, deadline: Deadline, hidden: list[str]) -> str:
        """What an earlier attempt published; that it did is known already, so a failure to look it up is none."""
        try:
            found = await self._api.read(PATH, deadline=deadline, personal=hidden, params={"source_id": source_id})
        except (RetryLater, Halt):
            found = {}
        listed = found.get("publications")
        return (
            _reference(listed[0])
            if isinstance(listed, list) and listed and isinstance(listed[0], dict)
            else "published"
        )


def _reference(publication: Mapping[str, Any]) -> str:
    """Which publication it is; the code itself is worth money, and stays out of the records."""
    id = publication.get("id")
    return f"publication {id}" if isinstance(id, str) and id.isascii() and len(id) <= 64 else "published"
