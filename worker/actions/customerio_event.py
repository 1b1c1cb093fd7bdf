"""Kind `customerio-event`: record events of people in Customer.io.

The call: https://docs.customer.io/integrations/api/track/#operation/batch
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from marshmallow import fields

from tiercast.actions import Action, Job, Permanent, Properties, Result
from tiercast.outbound import ulid_of

from .customerio_api import FORM, RATE, CustomerIOApi, CustomerIOOptions

#: Data of an event by these names override those of a message that it triggers.
_RESERVED = frozenset({"from_address", "recipient", "reply_to"})

_MOST_NAME_BYTES = 100


class CustomerIOEvent(Action):
    """Record an event of a person in Customer.io, such as "tier_joined", for campaigns to start from.

    Safe to repeat: each event carries a ULID made of the job's key, by which Customer.io drops a second one. A person
    whom Customer.io does not know is created.
    """

    kind = "customerio-event"
    fake = "tiercast.testing.vendors.customerio:FakeCustomerIO"
    defaults: ClassVar[Mapping[str, Any]] = {"rate": RATE}
    max_batch = 500

    class Options(CustomerIOOptions):
        event = fields.String(load_default="tier_joined", metadata={"description": "name of the event"})
        properties = Properties(
            load_default=lambda: {"tier": "{{ event.tier.name }}", "campaign": "{{ event.campaign.name }}"},
            metadata={"description": "data of the event; by default the tier and the campaign"},
        )
        time = fields.String(
            load_default="{{ event.at }}", metadata={"description": "when it happened; by default the event's time"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        if taken := sorted(set(self.options.properties) & _RESERVED):
            raise ValueError(f"properties: {taken[0]} would override that of a message; take another name")
        self._api = CustomerIOApi(self.options, entry=self._entry, in_order=False, most=self.max_batch, timeout=timeout)

    async def perform(self, job: Job) -> Result:
        return await self._api.one(job)

    async def perform_many(self, jobs: list[Job]) -> AsyncIterator[tuple[Job, Result | Exception]]:
        async for settled in self._api.settle(jobs):
            yield settled

    async def verify(self) -> str | None:
        return await self._api.verify()

    def rehearse(self, job: Job) -> None:
        self._api.item(job)

    async def close(self) -> None:
        await self._api.close()

    def _entry(self, job: Job) -> Mapping[str, Any]:
        name = job.options.event.strip()
        if not 0 < len(name.encode("utf-8", "replace")) <= _MOST_NAME_BYTES:
            raise Permanent(f"option event is empty or has more than {_MOST_NAME_BYTES} bytes; nothing was sent")
        time = FORM.shape({"time": {"datetime": job.options.time}}).get("time")
        entry = {"action": "event", "name": name, "id": ulid_of(job), "attributes": FORM.shape(job.options.properties)}
        return entry if time is None else {**entry, "timestamp": time}
