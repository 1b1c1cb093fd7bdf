"""Kind `voucherify-points`: pay loyalty points onto a customer's card in Voucherify.

The call: https://docs.voucherify.io/api-reference/loyalties/adjust-loyalty-card-balance
Its limits: https://docs.voucherify.io/guides/limits
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import fields, validate

from tiercast.actions import Action, Job, Permanent, Skip
from tiercast.outbound import Deadline

from .voucherify.api import RATE, Api, Credential, customer_field
from .voucherify.loyalty import Loyalty

#: A whole number as text, with or without a point and zeros behind it.
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})\.0{1,18}")


class _Points(fields.Integer):
    """A whole number; 15.0, which a division in a template gives, is one, and 15.5 is none."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, str) and (found := _WHOLE.fullmatch(value.strip())):
            value = found[1]
        elif isinstance(value, float):
            if not value.is_integer():
                raise self.make_error("invalid", input=value)
            value = int(value)
        return super()._validated(value)


class VoucherifyPoints(Action):
    """Pay loyalty points onto the customer's card in Voucherify, once.

    Voucherify has no idempotency key: a balance call that is repeated pays again. So the job's key goes along as
    `source_id`, and where an attempt ended without an answer, the card's transactions are searched for it before
    anything is repeated. Payments show there with a delay: an absence is believed only `settle_seconds` and one
    `timeout` after it was noted that the answer is missing. Where that cannot be found out, the job is uncertain.

    `once` is ["customer", "tier"] unless the configuration says otherwise. Paying points can itself move the customer
    to another tier, which sends the next tier event, which would pay again, and so round and round; and where points
    are spent, the same tier can be joined again and again. `once` pays each customer once for each tier, for ever.
    With `once = []` every event pays: only for rules that points cannot set off.

    The customer's one card in the campaign gets the points. No card, or two where one is expected: nothing is paid,
    and the job is dead with that reason. `rate` is a quarter of the smallest paid plan, 25 calls a minute, of which a
    payment takes two; name a share of your plan's, such as rate = "500/min".
    """

    kind = "voucherify-points"
    fake = "tiercast.testing.vendors.voucherify:FakeVoucherify"
    repeatable = False
    defaults: ClassVar[Mapping[str, Any]] = {"once": ["customer", "tier"], "rate": RATE}
    calls = 2

    class Options(Credential):
        points = _Points(
            required=True,
            validate=validate.Range(min=1, max=1_000_000_000),
            metadata={"description": "how many, above 0; may be a template"},
        )
        customer = customer_field()
        campaign = fields.String(
            load_default="{{ event.campaign.id }}", metadata={"description": "id or name of the loyalty campaign"}
        )
        reason = fields.String(load_default="", metadata={"description": "what the card's history says"})
        expiration_type = fields.String(
            load_default=None,
            allow_none=True,
            validate=validate.OneOf(["PROGRAM_RULES", "NON_EXPIRING"]),
            metadata={"description": "when the points expire; by default as Voucherify decides"},
        )
        settle_seconds = fields.Float(
            load_default=60.0,
            validate=validate.Range(0, 86400),
            metadata={"description": "how long a payment may take to show in the card's transactions"},
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        self._api = Api(self.options, timeout=timeout)

    async def perform(self, job: Job) -> str | None:
        loyalty = self._loyalty(job)
        card = _the_card(await loyalty.cards(*_whose(job)))
        options = job.options
        more = {name: options[name] for name in ("reason", "expiration_type") if options[name]}
        await loyalty.add(card, options.points, source_id=job.key, **more)
        return f"{options.points} points"

    async def confirm(self, job: Job) -> bool | None:
        loyalty = self._loyalty(job)
        # A payment by an earlier attempt went to one of them, however many there are by now.
        for card in await loyalty.cards(*_whose(job)):
            async for transaction in loyalty.transactions(card):
                if transaction.get("source_id") == job.key:
                    return True
        # The attempt may have sent its call as late as its time-out after its worker was given up.
        settled = job.since is not None and job.since >= job.options.settle_seconds + job.timeout
        return False if settled else None

    async def verify(self) -> str | None:
        return await self._api.verify(self.timeout)

    async def close(self) -> None:
        await self._api.close()

    def _loyalty(self, job: Job) -> Loyalty:
        return Loyalty(self._api, deadline=Deadline(job.timeout), event=job.event)


def _whose(job: Job) -> tuple[str, str]:
    """Campaign and customer of a job."""
    for name in ("campaign", "customer"):
        if not job.options[name].strip():
            raise Skip(f"option {name} is empty for this event")
    return job.options.campaign.strip(), job.options.customer.strip()


def _the_card(cards: list[str]) -> str:
    if not cards:
        raise Permanent("the customer has no card in this campaign, so nothing was paid")
    if len(cards) > 1:
        raise Permanent(f"the customer has {len(cards)} cards in this campaign: refused, not guessed; nothing was paid")
    return cards[0]
