"""The built-in kinds, taken through K1 to K20: the level that `tiercast kinds show` tells is earned here.

`make kinds` runs this and writes the levels beside the code of the kinds.
"""

from __future__ import annotations

from typing import Any

from tiercast.actions import Halt, Job, RetryLater
from tiercast.testing import KindKit
from tiercast.testing.vendors.endpoint import FakeEndpoint
from tiercast.testing.vendors.hubspot import FakeHubSpot
from tiercast.testing.vendors.server import Request
from tiercast.testing.vendors.voucherify import FakeVoucherify
from worker.actions.hubspot import HubSpot
from worker.actions.log import Log
from worker.actions.voucherify_points import VoucherifyPoints
from worker.actions.webhook import Webhook

_NO_BULK = "it has no bulk call"
_REPEATABLE = "repeating it is harmless, so nothing is confirmed"
_CALLS_NOBODY = "it calls nobody"


class TestHubSpot(KindKit):
    action_class = HubSpot
    server = FakeHubSpot
    options = {  # noqa: RUF012 - as a configuration holds them
        "id": "{{ event.customer.email }}",
        "properties": {"loyalty_tier": "{{ event.tier.name }}"},
    }
    differs = {409: RetryLater, 423: RetryLater, 404: Halt}  # noqa: RUF012
    not_applicable = {  # noqa: RUF012
        "K17": _REPEATABLE,
    }
    a_property = "loyalty_points"
    vendor: FakeHubSpot

    def spoil(self, job: Job) -> None:
        self.vendor.invalid.add(str(job.options.id))

    def spoil_call(self, job: Job) -> None:
        self.vendor.spoilers.add(str(job.options.id))


class TestWebhook(KindKit):
    action_class = Webhook
    server = FakeEndpoint
    options = {}  # noqa: RUF012
    not_applicable = {  # noqa: RUF012
        **dict.fromkeys(("K8", "K9", "K10", "K11", "K12"), _NO_BULK),
        "K17": _REPEATABLE,
        "K20": "what an endpoint does with a call is its own: none is known to be harmless",
    }

    def key_in(self, request: Request) -> str | None:
        return request.headers.get("webhook-id")


class TestVoucherifyPoints(KindKit):
    action_class = VoucherifyPoints
    server = FakeVoucherify
    options: Any = {"points": 10}  # noqa: RUF012
    differs = {}  # noqa: RUF012
    not_applicable = dict.fromkeys(("K8", "K9", "K10", "K11", "K12"), _NO_BULK)

    vendor: FakeVoucherify

    def prepare(self, job: Job) -> None:
        if (job.options.campaign, job.options.customer) not in self.vendor.cards:
            self.vendor.card_of(job.options.customer, job.options.campaign)

    def key_in(self, request: Request) -> str | None:
        found: str | None = request.json.get("source_id")
        return found


class TestLog(KindKit):
    action_class = Log
    options = {"message": "{{ event.type }}"}  # noqa: RUF012
    not_applicable = {  # noqa: RUF012
        **dict.fromkeys((f"K{number}" for number in (3, 4, 5, 6, 7, 13, 14, 17, 18, 20)), _CALLS_NOBODY),
        **dict.fromkeys(("K8", "K9", "K10", "K11", "K12"), _NO_BULK),
    }
