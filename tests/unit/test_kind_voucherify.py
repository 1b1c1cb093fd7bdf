"""The kinds voucherify-reward and voucherify-customer, against the fake Voucherify."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acting import acting, job_for, outcome_of, verified
from tiercast.actions import Action, Done, Halt, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from tiercast.runner import perform
from tiercast.testing.vendors import Answer, Fault, Window
from tiercast.testing.vendors.voucherify import FakeVoucherify
from worker.actions.voucherify_customer import VoucherifyCustomer
from worker.actions.voucherify_reward import VoucherifyReward


@pytest.fixture
def vendor() -> Iterator[FakeVoucherify]:
    with FakeVoucherify() as server:
        server.customer("cust_1", source_id="crm/1", language="en")
        server.codes["Gold gifts"] = ["GOLD-CODE-1", "GOLD-CODE-2"]
        yield server


@pytest.fixture
def reward(vendor: FakeVoucherify) -> Iterator[Action]:
    options = {**vendor.options(), "campaign": "Gold gifts", "customer": "cust_1"}
    with acting(VoucherifyReward, options) as action:
        yield action


@pytest.fixture
def customer(vendor: FakeVoucherify) -> Iterator[Action]:
    options = {**vendor.options(), "customer": "cust_1", "properties": {"tier": "Gold"}}
    with acting(VoucherifyCustomer, options) as action:
        yield action


# --- reward


def test_a_reward_is_one_code_for_the_customer(vendor: FakeVoucherify, reward: Action) -> None:
    told = perform(reward, job_for(reward, key="job-1", properties={"tier": "Gold", "points": 0, "note": None}))
    assert told == "publication pub_000000"
    (made,) = vendor.publications
    assert (made.customer, made.source_id, made.metadata) == ("cust_1", "job-1", {"tier": "Gold", "points": 0})
    assert "CODE" not in str(told)


@pytest.mark.parametrize("fault", ["hang up after", "500 after"])
@pytest.mark.parametrize("join_once", [True, False])
@pytest.mark.parametrize("twins_tell", [True, False])
def test_a_reward_that_is_repeated_gives_no_second_code(
    vendor: FakeVoucherify, fault: Fault, join_once: bool, twins_tell: bool
) -> None:
    # Given an attempt whose answer got lost
    vendor.twins_tell = twins_tell
    options = {**vendor.options(), "campaign": "Gold gifts", "customer": "cust_1", "join_once": join_once}
    with acting(VoucherifyReward, options) as action:
        vendor.faults.append(fault)
        assert isinstance(outcome_of(action, job_for(action, key="job-1")), Unknown | Unavailable)
        # When the job is performed again
        told = outcome_of(action, job_for(action, key="job-1", attempt=2))
    # Then it is done, and the customer has one code
    assert told == "publication pub_000000"
    assert vendor.effects()["codes"] == {"GOLD-CODE-1": "cust_1"}


def test_a_customer_who_has_a_code_of_the_campaign_gets_no_second_one_and_the_note_says_so(
    vendor: FakeVoucherify, reward: Action
) -> None:
    perform(reward, job_for(reward, key="job-1"))
    told = perform(reward, job_for(reward, key="job-2"))
    assert isinstance(told, Done)
    assert "no second one" in told.note
    assert len(vendor.publications) == 1


def test_an_empty_campaign_holds_the_lane_until_codes_are_added(vendor: FakeVoucherify, reward: Action) -> None:
    vendor.codes["Gold gifts"].clear()
    held = outcome_of(reward, job_for(reward, key="job-1"))
    assert isinstance(held, Halt)
    assert (held.cause, "no code left" in str(held)) == ("setting", True)
    vendor.codes["Gold gifts"].append("NEW")
    assert outcome_of(reward, job_for(reward, key="job-1")) == "publication pub_000000"


def test_a_campaign_that_is_not_there_holds_the_lane_but_not_where_an_event_names_it(vendor: FakeVoucherify) -> None:
    for campaign, wanted in (("None such", Halt), ("{{ event.tier.name }} gifts", Permanent)):
        with acting(VoucherifyReward, {**vendor.options(), "campaign": campaign, "customer": "cust_1"}) as action:
            assert type(outcome_of(action, job_for(action, campaign="None such"))) is wanted


def test_a_customer_who_is_not_there_is_that_jobs_alone(vendor: FakeVoucherify, reward: Action) -> None:
    found = outcome_of(reward, job_for(reward, customer="cust_9"))
    assert isinstance(found, Permanent)
    assert "no such customer" in str(found)
    assert "cust_9" not in str(found)


def test_a_reward_names_the_campaign_and_the_customer_as_configured(vendor: FakeVoucherify) -> None:
    vendor.codes["camp_7"] = ["A", "B"]
    options = {**vendor.options(), "campaign": "camp_7", "customer": "crm/1", "identifier": "source_id"}
    with acting(VoucherifyReward, options) as action:
        perform(action, job_for(action))
        assert isinstance(outcome_of(action, job_for(action, customer=" ")), Skip)
    assert vendor.requests[0].json["campaign"] == {"id": "camp_7", "count": 1}
    assert vendor.requests[0].json["customer"] == {"source_id": "crm/1"}
    assert vendor.publications[0].customer == "cust_1"


def test_it_proves_the_credential_and_the_campaign(vendor: FakeVoucherify, reward: Action) -> None:
    assert "has the campaign" in str(verified(reward))
    del vendor.codes["Gold gifts"]
    with pytest.raises(Halt):
        verified(reward)
    assert not vendor.publications


# --- customer


def test_metadata_is_set_and_the_rest_stays(vendor: FakeVoucherify, customer: Action) -> None:
    properties = {
        "tier": "Gold",
        "points": {"number": "0"},
        "vip": False,
        "none": None,
        "since": {"date": "2026-11-01"},
    }
    assert perform(customer, job_for(customer, properties=properties)) == "4 properties set"
    assert vendor.effects()["metadata"]["cust_1"] == {
        "language": "en",
        "tier": "Gold",
        "points": 0,
        "vip": False,
        "since": "2026-11-01",
    }


def test_failure_5_only_what_clear_names_is_emptied(vendor: FakeVoucherify) -> None:
    vendor.customers["cust_1"]["metadata"] |= {"tier": "Gold", "city": "Ely"}
    options = {
        **vendor.options(),
        "customer": "cust_1",
        "properties": {"tier": "{{ event.tier.name }}", "city": "{{ event.customer.address.city }}"},
        "clear": ["tier"],
    }
    with acting(VoucherifyCustomer, options) as action:
        perform(action, job_for(action, properties={"tier": None, "city": ""}))
    assert vendor.effects()["metadata"]["cust_1"] == {"language": "en", "city": "Ely"}


def test_failure_7_text_is_not_cast_and_a_date_that_is_none_names_its_property(
    vendor: FakeVoucherify, customer: Action
) -> None:
    perform(customer, job_for(customer, properties={"phone": "+49301234", "code": "007"}))
    assert vendor.effects()["metadata"]["cust_1"] == {"language": "en", "phone": "+49301234", "code": "007"}
    found = outcome_of(customer, job_for(customer, properties={"since": {"date": "soon"}}))
    assert isinstance(found, Permanent)
    assert "since" in str(found)


def test_an_unknown_customer_is_dead_or_created(vendor: FakeVoucherify, customer: Action) -> None:
    assert isinstance(outcome_of(customer, job_for(customer, customer="crm-2")), Permanent)
    options = {**vendor.options(), "customer": "crm-2", "properties": {"tier": "Gold"}, "create": True}
    with acting(VoucherifyCustomer, options) as action:
        assert perform(action, job_for(action)) == "customer created with 1 property"
        assert perform(action, job_for(action, properties={"tier": "Silver"})) == "1 property set"
    assert list(vendor.effects()["metadata"].values()) == [{"language": "en"}, {"tier": "Silver"}]


def test_a_metadata_schema_that_refuses_a_type_names_the_property_and_not_the_value(
    vendor: FakeVoucherify, customer: Action
) -> None:
    vendor.metadata_types = {"tier": int}
    found = outcome_of(customer, job_for(customer, properties={"tier": "Secret tier"}))
    assert isinstance(found, Permanent)
    assert "the property tier" in str(found)
    assert "Secret" not in str(found)
    assert found.code == "400 metadata_validation_failed"


def test_ids_are_escaped_in_the_path(vendor: FakeVoucherify, customer: Action) -> None:
    perform(customer, job_for(customer, customer="crm/1"))
    assert vendor.requests[0].path == "/v1/customers/crm%2F1"
    outcome_of(customer, job_for(customer, customer=".."))
    assert vendor.requests[1].path == "/v1/customers/%2E%2E"


def test_nothing_to_set_is_skipped_and_no_properties_are_refused(vendor: FakeVoucherify, customer: Action) -> None:
    assert isinstance(outcome_of(customer, job_for(customer, properties={"tier": None})), Skip)
    for wrong in ({}, {"properties": {"tier": "x"}, "clear": ["other"]}):
        with pytest.raises(ValueError, match=r"properties|clear"), acting(VoucherifyCustomer, vendor.options() | wrong):
            pass
    assert not vendor.requests


# --- both


@pytest.mark.parametrize("kind", [VoucherifyReward, VoucherifyCustomer])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(status=401), Halt),
        (Answer(status=402), Halt),
        (Answer(status=301, headers={"location": "https://elsewhere.example"}), Halt),
        (Answer(status=423), RetryLater),
        (Answer(status=503), Unavailable),
        (Answer(status=400, body=b"<html>"), Permanent),
        (Answer(status=429), RateLimited),
    ],
)
def test_failure_31_every_answer_gives_an_outcome(
    vendor: FakeVoucherify, kind: type[Action], answer: Answer, error: type[Exception]
) -> None:
    own: dict[str, Any] = {"campaign": "Gold gifts"} if kind is VoucherifyReward else {"properties": {"tier": "Gold"}}
    with acting(kind, {**vendor.options(), "customer": "cust_1", **own}) as action:
        vendor.queue.append(answer)
        assert type(outcome_of(action, job_for(action))) is error


def test_failure_30_a_window_is_waited_for_briefly_and_a_cycle_long(vendor: FakeVoucherify, customer: Action) -> None:
    limits = {"api": (Window(1, 20.0, "api_calls"),)}
    with FakeVoucherify(limits=limits) as busy:
        busy.customer("cust_1")
        with acting(VoucherifyCustomer, {**busy.options(), "customer": "cust_1", "properties": {"a": 1}}) as action:
            perform(action, job_for(action))
            short = outcome_of(action, job_for(action))
    vendor.cycle_calls = 0
    long = outcome_of(customer, job_for(customer))
    assert isinstance(short, RateLimited)
    assert isinstance(long, RateLimited)
    assert (15 < (short.after or 0) <= 22, long.after, short.everyone) == (True, 3600.0, True)
