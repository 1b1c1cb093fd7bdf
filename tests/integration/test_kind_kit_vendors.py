"""The kinds of vendors, taken through K1 to K20."""

from __future__ import annotations

from typing import Any, ClassVar

from tiercast.actions import Action, Job
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
_PERSON: dict[str, Any] = {
    "id": "{{ event.customer.source_id or event.customer.id }}",
    "properties": {"tier": "{{ event.tier.name }}"},
}


class FakeVoucherifyWithGifts(FakeVoucherify):
    """Has the campaign that the tests publish codes of; each job brings a code."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.codes["Gifts"] = []


class TestVoucherifyReward(KindKit):
    action_class = VoucherifyReward
    server = FakeVoucherifyWithGifts
    options = {"campaign": "Gifts", "identifier": "source_id"}  # noqa: RUF012
    not_applicable = {**_NO_BULK, **_REPEATABLE}  # noqa: RUF012
    a_property = "note"
    vendor: FakeVoucherify

    def prepare(self, job: Job) -> None:
        self.vendor.codes["Gifts"].append(f"CODE {job.key}")

    def key_in(self, request: Request) -> str | None:
        found: str | None = request.json.get("source_id")
        return found


class TestVoucherifyCustomer(KindKit):
    action_class = VoucherifyCustomer
    server = FakeVoucherify
    options = {"properties": {"tier": "{{ event.tier.name }}"}}  # noqa: RUF012
    not_applicable = {**_NO_BULK, **_REPEATABLE}  # noqa: RUF012
    a_property = "note"
    vendor: FakeVoucherify

    def prepare(self, job: Job) -> None:
        if job.options.customer not in self.vendor.customers:
            self.vendor.customer(job.options.customer)


class TestKlaviyo(KindKit):
    action_class = Klaviyo
    server = FakeKlaviyo
    options = _PERSON
    not_applicable = {**_NO_BULK, **_REPEATABLE}  # noqa: RUF012
    a_property = "note"


class TestKlaviyoEvent(KindKit):
    action_class = KlaviyoEvent
    server = FakeKlaviyo
    options = {**_PERSON, "time": "{{ event.at }}"}  # noqa: RUF012
    not_applicable = {**_NO_BULK, **_REPEATABLE}  # noqa: RUF012
    a_property = "note"

    def key_in(self, request: Request) -> str | None:
        found: str = request.json["data"]["attributes"]["unique_id"]
        return found


class TestCustomerIO(KindKit):
    action_class: ClassVar[type[Action]] = CustomerIO
    server = FakeCustomerIO
    options = _PERSON
    not_applicable = _REPEATABLE
    a_property = "note"
    vendor: FakeCustomerIO

    def spoil(self, job: Job) -> None:
        self.vendor.invalid.add(str(job.options.id))

    def spoil_call(self, job: Job) -> None:
        self.vendor.spoilers.add(str(job.options.id))


class TestCustomerIOEvent(TestCustomerIO):
    action_class = CustomerIOEvent
    options = {**_PERSON, "time": "{{ event.at }}"}  # noqa: RUF012

    def key_in(self, request: Request) -> str | None:
        found: str = request.json["batch"][0]["id"]
        return found


class TestBraze(KindKit):
    action_class: ClassVar[type[Action]] = Braze
    server = FakeBraze
    options = {**_PERSON, "create": True}  # noqa: RUF012
    not_applicable = {  # noqa: RUF012
        **_REPEATABLE,
        "K20": "Braze has no call that proves a key and changes nothing",
    }
    a_property = "note"
    vendor: FakeBraze

    def spoil(self, job: Job) -> None:
        self.vendor.blocked.add(str(job.options.id))

    def spoil_call(self, job: Job) -> None:
        self.vendor.spoilers.add(str(job.options.id))


class TestBrazeEvent(TestBraze):
    action_class = BrazeEvent
    options = {**_PERSON, "create": True, "time": "{{ event.at }}"}  # noqa: RUF012
    not_applicable = {  # noqa: RUF012
        "K4": "Braze has no idempotency key and tells no event by one: such a job is uncertain",
        "K17": "Braze cannot be asked what became of an event",
        "K20": "Braze has no call that proves a key and changes nothing",
    }


class TestHubSpotEvent(KindKit):
    action_class = HubSpotEvent
    server = FakeHubSpot
    options = {  # noqa: RUF012
        "event": "pe4242_tier_joined",
        "id": "{{ event.customer.email }}",
        "properties": {"tier": "{{ event.tier.name }}"},
        "time": "{{ event.at }}",
    }
    not_applicable = {**_NO_BULK, **_REPEATABLE}  # noqa: RUF012
    a_property = "points"

    def key_in(self, request: Request) -> str | None:
        found: str = request.json["uuid"]
        return found
