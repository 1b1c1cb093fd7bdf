"""Kind `customerio`: create or update people in Customer.io.

The call: https://docs.customer.io/integrations/api/track/#operation/batch
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from marshmallow import fields

from tiercast.actions import Action, Job, Properties, Result, Skip
from tiercast.outbound import check_clear

from .customerio_api import FORM, IDENTIFIERS, RATE, CustomerIOApi, CustomerIOOptions


class CustomerIO(Action):
    """Create or update a person in Customer.io: attributes such as the tier, hundreds in one call.

    Safe to repeat: it sets what is set. What renders empty is left out, so it stays as it is; `clear` names those that
    are emptied then. Each write carries the event's time, so that Customer.io itself drops a late one.

    `order` is "latest" unless the configuration says otherwise.
    """

    kind = "customerio"
    fake = "tiercast.testing.vendors.customerio:FakeCustomerIO"
    defaults: ClassVar[Mapping[str, Any]] = {"order": "latest", "rate": RATE}
    max_batch = 500

    class Options(CustomerIOOptions):
        properties = Properties(metadata={"description": "attributes of the person; what renders empty is left out"})
        clear = fields.List(
            fields.String(), load_default=list, metadata={"description": "properties that are emptied by what is empty"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        if not self.options.properties:
            raise ValueError("properties: names nothing to set")
        if taken := sorted(set(self.options.properties) & {*IDENTIFIERS}):
            raise ValueError(
                f"properties: {taken[0]} is an identifier; name people by one, in id. Where another person has it, "
                f"Customer.io answers 200 and changes nothing"
            )
        check_clear(self.options.properties, self.options["clear"])
        self._api = CustomerIOApi(self.options, entry=self._entry, in_order=True, most=self.max_batch, timeout=timeout)

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
        attributes = FORM.shape(job.options.properties, self.options["clear"])
        if not attributes:
            raise Skip("every property is empty for this event")
        return {"action": "identify", "attributes": attributes, "timestamp": job.event.created_us // 1_000_000}
