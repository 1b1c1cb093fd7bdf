"""Kind `voucherify-customer`: set metadata of the customer in Voucherify.

The call: https://docs.voucherify.io/api-reference/customers/update-customer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import fields

from tiercast.actions import Action, Job, Permanent, Properties, Result, Skip
from tiercast.outbound import FIXED_PATH, Deadline, ValueForm, check_clear, personal_values

from .voucherify.api import RATE, Api, Credential, customer_field, segment

PATH = "/v1/customers"

#: Null empties a key of metadata.
_FORM = ValueForm(cleared=None)


class VoucherifyCustomer(Action):
    """Set metadata of the customer in Voucherify, such as the tier, for segments and rules of other campaigns.

    Safe to repeat: it sets what is set, and what the action does not name stays. A property that renders empty is left
    out; `clear` names those that are emptied then. A customer whom Voucherify does not know makes the job dead, unless
    `create` is set.

    `order` is "latest" unless the configuration says otherwise. `rate` is a quarter of the smallest paid plan; the shop
    lives on the rest.
    """

    kind = "voucherify-customer"
    fake = "tiercast.testing.vendors.voucherify:FakeVoucherify"
    defaults: ClassVar[Mapping[str, Any]] = {"order": "latest", "rate": RATE}

    class Options(Credential):
        customer = customer_field()
        properties = Properties(metadata={"description": "metadata; what renders empty is left out"})
        clear = fields.List(
            fields.String(), load_default=list, metadata={"description": "properties that are emptied by what is empty"}
        )
        create = fields.Boolean(
            load_default=False,
            metadata={"description": "create the customer if unknown; `customer` is a source id then"},
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        if not self.options.properties:
            raise ValueError("properties: names nothing to set")
        check_clear(self.options.properties, self.options["clear"])
        self._api = Api(self.options, timeout=timeout)

    async def perform(self, job: Job) -> Result:
        customer, metadata = self._what(job)
        deadline = Deadline(job.timeout)
        hidden = [*personal_values(job.event), customer]
        try:
            await self._api.send(
                "PUT", f"{PATH}/{segment(customer)}", deadline=deadline, personal=hidden, json={"metadata": metadata}
            )
        except Permanent as error:
            if not (self.options.create and (error.code or "").startswith("404")):
                raise
            body = {"source_id": customer, "metadata": metadata}
            await self._api.send("POST", PATH, deadline=deadline, personal=hidden, json=body, setting=FIXED_PATH)
            return f"customer created with {_counted(metadata)}"
        return f"{_counted(metadata)} set"

    async def verify(self) -> str | None:
        return await self._api.verify(self.timeout)

    def rehearse(self, job: Job) -> None:
        self._what(job)

    async def close(self) -> None:
        await self._api.close()

    def _what(self, job: Job) -> tuple[str, dict[str, Any]]:
        customer = job.options.customer.strip()
        if not customer:
            raise Skip("option customer is empty for this event")
        metadata = _FORM.shape(job.options.properties, self.options["clear"])
        if not metadata:
            raise Skip("every property is empty for this event")
        return customer, metadata


def _counted(metadata: Mapping[str, Any]) -> str:
    return "1 property" if len(metadata) == 1 else f"{len(metadata)} properties"
