"""Failures that bit other connectors of HubSpot, against the fake HubSpot; the numbers are those of the list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acting import acting, job_for, outcome_of, outcomes_of
from tiercast.actions import Action, Permanent, RateLimited, RetryLater, Unknown
from tiercast.runner import perform
from tiercast.testing.vendors import Answer, Request, Window
from tiercast.testing.vendors.hubspot import FakeHubSpot
from worker.actions.hubspot import HubSpot

OWN = {"id": "a@x.example", "properties": {"loyalty_tier": "Gold"}}
VERSIONS = ("2026-03", "2026-09")


@pytest.fixture
def vendor() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        yield server


@pytest.fixture(params=VERSIONS)
def contact(vendor: FakeHubSpot, request: pytest.FixtureRequest) -> Iterator[Action]:
    with acting(HubSpot, vendor.options() | OWN | {"version": request.param}) as action:
        yield action


def several(action: Action, count: int = 6, **bad: Any) -> list[Any]:
    """Jobs of different contacts; the fourth has other properties, if any are given."""
    jobs = [job_for(action, id=f"c{number}@x.example") for number in range(count)]
    if bad:
        jobs[3] = job_for(action, id="c3@x.example", properties=bad)
    return jobs


def test_failure_1_and_10_some_items_fail_and_each_job_has_its_own_outcome(
    vendor: FakeHubSpot, contact: Action
) -> None:
    outcomes = outcomes_of(contact, several(contact, loyalty_points="many"))
    assert [type(outcome) for outcome in outcomes] == [str, str, str, Permanent, str, str]
    assert "loyalty_points" in str(outcomes[3])
    assert "many" not in str(outcomes[3])
    assert (len(vendor.requests), len(vendor.contacts)) == (1, 5)


@pytest.mark.parametrize("status", [200, 207])
def test_failure_2_an_answer_without_results_and_errors_confirms_nobody(
    vendor: FakeHubSpot, contact: Action, status: int
) -> None:
    empty = Answer(status=status, body={"status": "COMPLETE", "results": [], "errors": []})
    vendor.queue.append(empty)
    assert isinstance(outcome_of(contact, job_for(contact)), Unknown)
    # In a batch they are sent again, which is harmless
    vendor.queue.append(empty)
    assert {type(outcome) for outcome in outcomes_of(contact, several(contact))} == {str}
    assert len(vendor.contacts) == 6


def test_failure_3_one_contact_twice_goes_in_calls_of_their_own(vendor: FakeHubSpot, contact: Action) -> None:
    tiers = ["1", "2", "3"]
    jobs = [
        job_for(contact, id=id_, properties={"loyalty_tier": tier})
        for tier, id_ in zip(tiers, ("A@x.example", "a@x.example ", "a@X.example"), strict=True)
    ]
    assert {type(outcome) for outcome in outcomes_of(contact, jobs)} == {str}
    assert len(vendor.requests) == 3
    assert vendor.contacts == {"a@x.example": {"loyalty_tier": "3"}}


def test_failures_4_to_7_ids_and_values_are_text_and_nothing_is_cast(vendor: FakeHubSpot, contact: Action) -> None:
    options = vendor.options() | OWN | {"id_property": "voucherify_source_id", "properties": {"loyalty_tier": "Gold"}}
    with acting(HubSpot, options) as by_number:
        perform(by_number, job_for(by_number, id=4711))
    assert vendor.requests[0].json["inputs"][0]["id"] == "4711"
    values = {
        "loyalty_points": {"number": "0"},
        "loyalty_vip": {"boolean": "false"},
        "phone": "+4930123456",
        "firstname": None,
        "lastname": "",
        "loyalty_since": {"date": "2026-11-01T10:00:00Z"},
    }
    perform(contact, job_for(contact, properties=values))
    assert vendor.contacts["a@x.example"] == {
        "loyalty_points": "0",
        "loyalty_vip": "false",
        "phone": "+4930123456",
        "loyalty_since": "2026-11-01",
    }
    dead = outcome_of(contact, job_for(contact, properties={"loyalty_since": {"date": "soon"}}))
    assert isinstance(dead, Permanent)
    assert "loyalty_since" in str(dead)


def test_failure_8_of_several_conflicts_each_is_found(vendor: FakeHubSpot, contact: Action) -> None:
    # Given that HubSpot names the first conflict of a call only
    vendor.conflicts |= {"c1@x.example", "c4@x.example"}
    outcomes = outcomes_of(contact, several(contact))
    assert [isinstance(outcome, RetryLater) for outcome in outcomes] == [False, True, False, False, True, False]
    assert len(vendor.contacts) == 4


def test_failure_9_a_200_whose_results_are_of_others_confirms_nobody(vendor: FakeHubSpot, contact: Action) -> None:
    vendor.queue.append(Answer(body={"status": "COMPLETE", "results": []}))
    assert isinstance(outcome_of(contact, job_for(contact)), Unknown)
    with acting(HubSpot, vendor.options() | OWN | {"id_property": "loyalty_tier"}) as action:
        assert isinstance(outcome_of(action, job_for(action, id="Gold")), Permanent)
    assert not vendor.contacts


def test_failure_28_a_lock_and_two_writers_are_passing(vendor: FakeHubSpot, contact: Action) -> None:
    for status in (409, 423, 477):
        vendor.queue.append(Answer(status=status))
        assert type(outcome_of(contact, job_for(contact))) is RetryLater


def test_failure_30_a_day_that_is_used_up_is_waited_for_longer_than_a_second(contact: Action) -> None:
    for policy, wait in (("DAILY", 1800.0), ("TEN_SECONDLY_ROLLING", None)):
        limits = {"api": (Window(1, 3600.0, policy),)}
        with FakeHubSpot(limits=limits) as busy, acting(HubSpot, busy.options() | OWN) as action:
            perform(action, job_for(action))
            refused = outcome_of(action, job_for(action))
        assert isinstance(refused, RateLimited)
        assert (refused.after, refused.everyone) == (wait, True)


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"[1]", b'{"results": 1}', b'{"status": "COMPLETE", "results": [{"id']
)
@pytest.mark.parametrize("status", [200, 207, 400, 502])
def test_failure_31_a_body_that_cannot_be_read_is_no_surprise(
    vendor: FakeHubSpot, contact: Action, status: int, body: bytes
) -> None:
    vendor.queue.append(Answer(status=status, body=body))
    assert isinstance(outcome_of(contact, job_for(contact)), Unknown | Permanent | RetryLater)
    assert not vendor.contacts


def test_failure_32_results_in_another_order_are_matched_by_their_trace(vendor: FakeHubSpot, contact: Action) -> None:
    def reordered(request: Request) -> Answer:
        inputs = request.json["inputs"]
        fault = {"status": "error", "category": "VALIDATION_ERROR", "message": "no"}
        bad = {**fault, "context": {"objectWriteTraceId": [inputs[2]["objectWriteTraceId"]]}}
        good = [one for one in reversed(inputs) if one is not inputs[2]]
        results = [{"id": one["id"], "new": True, "objectWriteTraceId": one["objectWriteTraceId"]} for one in good]
        return Answer(status=207, body={"results": results, "errors": [bad]})

    vendor.script = reordered
    outcomes = outcomes_of(contact, several(contact, 5))
    assert [type(outcome) for outcome in outcomes] == [str, str, Permanent, str, str]
    assert [str(outcome).split()[1] for outcome in outcomes if isinstance(outcome, str)] == [
        f"c{number}@x.example" for number in (0, 1, 3, 4)
    ]


def test_results_without_traces_count_only_where_all_are_there(vendor: FakeHubSpot, contact: Action) -> None:
    vendor.results_without_trace = True
    assert None in set(outcomes_of(contact, several(contact)))
    assert len(vendor.requests) == 1
    # With an error among them, nobody can tell which are in, so those are sent again alone.
    outcomes = outcomes_of(contact, several(contact, nope="1"))
    assert [isinstance(outcome, Permanent) for outcome in outcomes] == [False, False, False, True, False, False]
