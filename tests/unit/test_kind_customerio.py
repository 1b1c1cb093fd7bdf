"""The kinds customerio and customerio-event, against the fake Customer.io."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acting import acting, job_for, outcome_of, outcomes_of, verified
from tiercast.actions import Action, Halt, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from tiercast.runner import perform
from tiercast.testing.vendors import Answer
from tiercast.testing.vendors.customerio import FakeCustomerIO
from worker.actions.customerio import CustomerIO
from worker.actions.customerio_event import CustomerIOEvent

OWN = {"id": "c1", "properties": {"tier": "Gold"}}


@pytest.fixture
def vendor() -> Iterator[FakeCustomerIO]:
    with FakeCustomerIO() as server:
        yield server


@pytest.fixture
def person(vendor: FakeCustomerIO) -> Iterator[Action]:
    with acting(CustomerIO, vendor.options() | OWN) as action:
        yield action


@pytest.fixture
def event(vendor: FakeCustomerIO) -> Iterator[Action]:
    with acting(CustomerIOEvent, vendor.options() | OWN) as action:
        yield action


# --- people


def test_the_call_is_the_documented_one(vendor: FakeCustomerIO, person: Action) -> None:
    job = job_for(person)
    assert perform(person, job) == "accepted"
    assert vendor.requests[0].json == {
        "batch": [
            {
                "type": "person",
                "action": "identify",
                "identifiers": {"id": "c1"},
                "attributes": {"tier": "Gold"},
                "timestamp": job.event.created_us // 1_000_000,
            }
        ]
    }


def test_hundreds_take_one_call(vendor: FakeCustomerIO, person: Action) -> None:
    outcomes = outcomes_of(person, [job_for(person, id=f"c{number}") for number in range(300)])
    assert set(outcomes) == {"accepted"}
    assert (len(vendor.requests), len(vendor.people)) == (1, 300)


def test_a_call_stays_below_the_vendors_bytes(vendor: FakeCustomerIO, person: Action) -> None:
    texts = {f"a{number}": "x" * 900 for number in range(30)}
    outcomes = outcomes_of(person, [job_for(person, id=f"c{number}", properties=texts) for number in range(40)])
    assert set(outcomes) == {"accepted"}
    assert 3 <= len(vendor.requests) <= 4
    assert max(len(request.body) for request in vendor.requests) <= 500_000
    large = outcome_of(person, job_for(person, properties={f"a{number}": "x" * 900 for number in range(40)}))
    assert isinstance(large, Permanent)


def test_failure_22_each_job_has_the_outcome_of_its_own_entry(vendor: FakeCustomerIO, person: Action) -> None:
    jobs = [job_for(person, id=f"c{number}") for number in range(5)]
    jobs[2] = job_for(person, id="c2", properties={"tier": "x" * 1001})
    outcomes = outcomes_of(person, jobs)
    assert [type(outcome) for outcome in outcomes] == [str, str, Permanent, str, str]
    assert "attributes.tier" in str(outcomes[2])
    assert "xxx" not in str(outcomes[2])
    assert len(vendor.requests) == 1


def test_failure_22_errors_that_name_no_entry_confirm_nobody(vendor: FakeCustomerIO, person: Action) -> None:
    vendor.queue.append(Answer(status=207, body={"errors": [{"reason": "invalid"}]}))
    outcomes = outcomes_of(person, [job_for(person, id=f"c{number}") for number in range(4)])
    # Each was sent again, in smaller calls
    assert set(outcomes) == {"accepted"}
    assert len(vendor.people) == 4
    vendor.queue.append(Answer(status=207, body={"errors": []}))
    assert isinstance(outcome_of(person, job_for(person)), Unknown)


def test_a_batch_of_which_all_fail_costs_one_call(vendor: FakeCustomerIO, person: Action) -> None:
    jobs = [job_for(person, id=f"c{number}", properties={"tier": "x" * 1001}) for number in range(20)]
    outcomes = outcomes_of(person, jobs)
    assert {type(outcome) for outcome in outcomes} == {Permanent}
    assert {getattr(outcome, "code", None) for outcome in outcomes} == {"too_large attributes.tier"}
    assert len(vendor.requests) == 1


def test_failure_23_identifiers_are_in_the_body_and_one(vendor: FakeCustomerIO, person: Action) -> None:
    perform(person, job_for(person, id="crm/1+2"))
    assert vendor.requests[0].route == "/api/v2/batch"
    assert vendor.people[0].identifiers == {"id": "crm/1+2"}
    with pytest.raises(ValueError, match="email is an identifier"):
        CustomerIO("x", CustomerIO.Options().load(vendor.options() | {"id": "c1", "properties": {"email": "a"}}))


def test_failures_5_to_7_nothing_is_left_out_and_nothing_is_cast(vendor: FakeCustomerIO) -> None:
    options = vendor.options() | {
        "id": "c1",
        "properties": {"tier": "Gold", "city": "Ely", "points": 1, "vip": True, "since": "x"},
        "clear": ["tier"],
    }
    with acting(CustomerIO, options) as action:
        perform(action, job_for(action, properties={"tier": "Gold", "city": "Ely"}))
        values = {
            "tier": None,
            "city": "",
            "points": {"number": "0"},
            "vip": {"boolean": "false"},
            "since": {"date": "2026-11-01"},
        }
        perform(action, job_for(action, properties=values))
        dead = outcome_of(action, job_for(action, properties={"since": {"datetime": "soon"}}))
    assert vendor.effects()["people"]["c1"] == {"city": "Ely", "points": 0, "vip": False, "since": 1793491200}
    assert isinstance(dead, Permanent)
    assert "since" in str(dead)


def test_failure_3_one_person_twice_goes_in_calls_of_their_own_in_order(vendor: FakeCustomerIO, person: Action) -> None:
    jobs = [job_for(person, properties={"tier": str(number)}) for number in range(3)] + [job_for(person, id="c2")]
    assert set(outcomes_of(person, jobs)) == {"accepted"}
    sent = [[entry["identifiers"]["id"] for entry in request.json["batch"]] for request in vendor.requests]
    assert sent == [["c1", "c2"], ["c1"], ["c1"]]
    assert vendor.effects()["people"]["c1"] == {"tier": "2"}


# --- events


def test_failure_23_an_event_has_an_id_of_its_own(vendor: FakeCustomerIO, event: Action) -> None:
    # Given two jobs of one person, and the first repeated after a lost answer
    first, second = job_for(event, key="job-1"), job_for(event, key="job-2")
    vendor.faults.append("hang up after")
    assert isinstance(outcome_of(event, first), Unknown)
    assert perform(event, first) == "accepted"
    perform(event, second)
    # Then Customer.io has two events
    assert len(vendor.events) == 2
    assert vendor.sent == 3
    assert vendor.events[0].timestamp == first.event.created_us // 1_000_000


def test_events_of_one_person_share_a_call(vendor: FakeCustomerIO, event: Action) -> None:
    assert set(outcomes_of(event, [job_for(event) for _ in range(50)])) == {"accepted"}
    assert (len(vendor.requests), len(vendor.events)) == (1, 50)


def test_an_event_that_cannot_be_sent_is_refused(vendor: FakeCustomerIO, event: Action) -> None:
    assert isinstance(outcome_of(event, job_for(event, event="x" * 101)), Permanent)
    assert isinstance(outcome_of(event, job_for(event, time="soon")), Permanent)
    with pytest.raises(ValueError, match="recipient"):
        CustomerIOEvent(
            "x", CustomerIOEvent.Options().load(vendor.options() | {"id": "c", "properties": {"recipient": 1}})
        )
    assert not vendor.requests


# --- both


@pytest.mark.parametrize("kind", [CustomerIO, CustomerIOEvent])
@pytest.mark.parametrize(
    ("answer", "error", "cause"),
    [
        (Answer(status=401), Halt, "credential"),
        (Answer(status=301, headers={"location": "https://track-eu.customer.io"}), Halt, "setting"),
        (Answer(status=404), Halt, "setting"),
        (Answer(status=410), Halt, "setting"),
        (Answer(status=400, body=b"<html>"), Permanent, None),
        (Answer(status=400, body={"errors": [{"reason": "invalid", "field": "x"}]}), Permanent, None),
        (Answer(status=413), Permanent, None),
        (Answer(status=429), RateLimited, None),
        (Answer(status=503, body=b"<html>"), Unavailable, None),
        (Answer(status=200, body=b"<html>"), Unknown, None),
        (Answer(status=200, body=b""), Unknown, None),
        (Answer(status=200, body=[1]), Unknown, None),
        (Answer(hang_up=True), Unknown, None),
    ],
)
def test_failure_31_every_answer_gives_an_outcome(
    vendor: FakeCustomerIO, kind: type[Action], answer: Answer, error: type[Exception], cause: str | None
) -> None:
    with acting(kind, vendor.options() | OWN) as action:
        vendor.queue.append(answer)
        outcome = outcome_of(action, job_for(action))
    assert type(outcome) in {error, *error.__subclasses__()}
    assert getattr(outcome, "cause", None) == cause


def test_a_429_is_everyones_and_nothing_more_is_sent(vendor: FakeCustomerIO, person: Action) -> None:
    vendor.queue.append(Answer(status=429))
    outcomes = outcomes_of(person, [job_for(person) for _ in range(5)])
    assert {type(outcome) for outcome in outcomes} == {RateLimited}
    assert len(vendor.requests) == 1
    assert all(isinstance(outcome, RetryLater) and outcome.everyone for outcome in outcomes)


def test_it_proves_the_key_and_the_region(vendor: FakeCustomerIO, person: Action) -> None:
    assert verified(person) == "Customer.io takes the key, region us"
    vendor.region = "eu"
    with pytest.raises(Halt, match='set region = "eu"'):
        verified(person)
    vendor.queue.append(Answer(status=401))
    with pytest.raises(Halt):
        verified(person)


def test_nobody_and_nothing_are_skipped(person: Action) -> None:
    assert isinstance(outcome_of(person, job_for(person, id=" ")), Skip)
    assert isinstance(outcome_of(person, job_for(person, properties={"tier": None})), Skip)
    assert isinstance(outcome_of(person, job_for(person, id="x" * 151)), Permanent)


@pytest.mark.parametrize("region", ["us", "eu"])
def test_the_host_is_the_regions(region: str) -> None:
    secrets = {"site_id": "s", "api_key": "k"}
    made: Any = CustomerIO("x", CustomerIO.Options().load(secrets | OWN | {"region": region}))
    assert made.options.base_url is None
    with pytest.raises(Exception, match="region"):
        CustomerIO.Options().load(secrets | OWN | {"region": "{{ event.customer.id }}"})
