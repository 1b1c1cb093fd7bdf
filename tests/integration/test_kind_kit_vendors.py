"""The kinds of the marketing systems, taken through K1 to K20."""

# ruff: noqa: RUF012 - options as a configuration holds them

from __future__ import annotations

from tiercast.actions import Halt, Job, Permanent, RetryLater
from tiercast.testing import KindKit
from tiercast.testing.vendors.braze import FakeBraze
from tiercast.testing.vendors.customerio import FakeCustomerIO
from tiercast.testing.vendors.hubspot import FakeHubSpot
from tiercast.testing.vendors.klaviyo import FakeKlaviyo
from tiercast.testing.vendors.server import Request
from tiercast.testing.vendors.voucherify import FakeVoucherify
from worker.actions.braze import Braze
from worker.actions.braze_event import BrazeEvent
from worker.actions.customerio import CustomerIO
from worker.actions.customerio_event import CustomerIOEvent
from worker.actions.hubspot_event import HubSpotEvent
from worker.actions.klaviyo import Klaviyo
from worker.actions.klaviyo_event import KlaviyoEvent
from worker.actions.voucherify_customer import VoucherifyCustomer
from worker.actions.voucherify_reward import VoucherifyReward

_NO_BULK = dict.fromkeys(("K8", "K9", "K10", "K11", "K12"), "it has no bulk call")
_REPEATABLE = {"K17": "repeating it is harmless, so nothing is confirmed"}
_SOURCE_ID = "{{ event.customer.source_id }}"
_TIER = {"tier": "{{ event.tier.name }}"}


class TestBraze(KindKit):
    action_class = Braze
    server = FakeBraze
    options = {"id": _SOURCE_ID, "properties": _TIER, "create": True}
    not_applicable = _REPEATABLE | {"K20": "Braze has no harmless call that proves the key"}
    a_property = "note"
    vendor: FakeBraze

    def spoil(self, job: Job) -> None:
        self.vendor.blocked.add(job.options.id)


class TestBrazeEvent(TestBraze):
    action_class = BrazeEvent  # type: ignore[assignment]
    not_applicable = {
        "K4": "Braze drops no twins: a repeat after no answer is left to the operator",
        "K17": "there is no way to look an event up",
        "K20": "Braze has no harmless call that proves the key",
    }


class TestCustomerIO(KindKit):
    action_class = CustomerIO
    server = FakeCustomerIO
    options = {"id": _SOURCE_ID, "properties": _TIER}
    not_applicable = _REPEATABLE
    a_property = "note"

    def spoil(self, job: Job) -> None:
        job.options["id"] = "x" * 200  # longer than the vendor takes


class TestCustomerIOEvent(TestCustomerIO):
    action_class = CustomerIOEvent  # type: ignore[assignment]


class TestKlaviyo(KindKit):
    action_class = Klaviyo
    server = FakeKlaviyo
    options = {"id": _SOURCE_ID, "properties": _TIER, "identifier": "external_id"}
    differs = {404: (Halt, Permanent), 409: Permanent}
    not_applicable = _NO_BULK | _REPEATABLE
    a_property = "note"


class TestKlaviyoEvent(TestKlaviyo):
    action_class = KlaviyoEvent  # type: ignore[assignment]

    def key_in(self, request: Request) -> str | None:
        found: str | None = request.json["data"]["attributes"].get("unique_id")
        return found


class TestHubSpotEvent(KindKit):
    action_class = HubSpotEvent
    server = FakeHubSpot
    options = {"event": "pe4242_tier_joined", "id": "{{ event.customer.email }}", "properties": _TIER}
    not_applicable = _NO_BULK | _REPEATABLE
    a_property = "points"

    def key_in(self, request: Request) -> str | None:
        found: str | None = request.json.get("uuid")
        return found


class TestVoucherifyCustomer(KindKit):
    action_class = VoucherifyCustomer
    server = FakeVoucherify
    options = {"properties": _TIER}
    differs = {423: RetryLater}
    not_applicable = _NO_BULK | _REPEATABLE
    a_property = "note"
    vendor: FakeVoucherify

    def prepare(self, job: Job) -> None:
        customer = job.event.customer
        if customer is not None and customer.id not in self.vendor.customers:
            self.vendor.customer(str(customer.id), source_id=customer.source_id)


class _Shop(FakeVoucherify):
    """Has a campaign with codes."""

    def __init__(self) -> None:
        super().__init__()
        self.codes["Welcome"] = [f"CODE-{number}" for number in range(1000)]


class TestVoucherifyReward(KindKit):
    action_class = VoucherifyReward
    server = _Shop
    options = {"campaign": "Welcome"}
    differs = {423: RetryLater}
    not_applicable = _NO_BULK | _REPEATABLE
    a_property = "note"
    vendor: FakeVoucherify

    def prepare(self, job: Job) -> None:
        customer = job.event.customer
        if customer is not None and customer.id not in self.vendor.customers:
            self.vendor.customer(str(customer.id), source_id=customer.source_id)

    def key_in(self, request: Request) -> str | None:
        found: str | None = request.json.get("source_id")
        return found
