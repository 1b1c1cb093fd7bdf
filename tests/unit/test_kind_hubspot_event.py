"""The kind hubspot-event, against the fake HubSpot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acting import acting, job_for, outcome_of, verified
from tiercast.actions import Action, Done, Halt, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from tiercast.runner import perform
from tiercast.testing.vendors import Answer, Fault
from tiercast.testing.vendors.hubspot import FakeHubSpot
from worker.actions.hubspot_event import HubSpotEvent

OWN = {"event": "pe4242_tier_joined", "id": "a@x.example", "properties": {"tier": "Gold", "points": 0}}


@pytest.fixture
def vendor() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        yield server


@pytest.fixture
def event(vendor: FakeHubSpot) -> Iterator[Action]:
    with acting(HubSpotEvent, vendor.options() | OWN) as action:
        yield action


def test_the_call_is_the_documented_one(vendor: FakeHubSpot, event: Action) -> None:
    job = job_for(event)
    assert perform(event, job) == "event recorded"
    body = vendor.requests[0].json
    assert body.pop("occurredAt")[:19] == job.event.at[:19]
    assert len(body.pop("uuid")) == 36
    assert body == {
        "eventName": "pe4242_tier_joined",
        "email": "a@x.example",
        "properties": {"tier": "Gold", "points": "0"},
    }


@pytest.mark.parametrize("fault", ["hang up after", "500 after"])
@pytest.mark.parametrize("status", [400, 409])
def test_failure_12_a_repeat_is_recognised_whatever_status_refuses_it(
    vendor: FakeHubSpot, event: Action, fault: Fault, status: int
) -> None:
    vendor.twin_status = status
    vendor.faults.append(fault)
    job = job_for(event, key="job-1")
    assert isinstance(outcome_of(event, job), Unknown | Unavailable)
    told = outcome_of(event, job)
    assert isinstance(told, Done)
    assert "earlier attempt" in told.note
    assert perform(event, job_for(event, key="job-2")) == "event recorded"
    assert len(vendor.events) == 2


def test_a_conflict_that_names_no_uuid_is_tried_again(vendor: FakeHubSpot, event: Action) -> None:
    vendor.queue.append(Answer(status=409, body={"category": "CONFLICT", "message": "conflict"}))
    assert type(outcome_of(event, job_for(event))) is RetryLater
    vendor.queue.append(Answer(status=400, body={"message": "uuid has a wrong form"}))
    assert isinstance(outcome_of(event, job_for(event)), Permanent)


def test_a_contact_can_be_named_by_its_record_id(vendor: FakeHubSpot) -> None:
    with acting(HubSpotEvent, vendor.options() | OWN | {"identifier": "objectId", "id": "901"}) as action:
        perform(action, job_for(action))
        assert isinstance(outcome_of(action, job_for(action, id=" ")), Skip)
    assert vendor.events[0].contact == "901"


def test_a_name_that_is_not_full_is_refused_at_start_and_for_an_event(vendor: FakeHubSpot) -> None:
    with (
        pytest.raises(ValueError, match="full name"),
        acting(HubSpotEvent, vendor.options() | OWN | {"event": "joined"}),
    ):
        pass
    with acting(HubSpotEvent, vendor.options() | OWN | {"event": "pe4242_{{ event.tier.name | lower }}"}) as action:
        assert isinstance(outcome_of(action, job_for(action, event="pe4242_a b")), Permanent)
    assert not vendor.requests


def test_what_is_not_defined_is_dead_with_one_code(vendor: FakeHubSpot, event: Action) -> None:
    for wrong in ({"properties": {"nope": "1"}}, {"event": "pe4242_other"}):
        dead = outcome_of(event, job_for(event, **wrong))
        assert isinstance(dead, Permanent)
        assert dead.code == "400 VALIDATION_ERROR"
    assert isinstance(outcome_of(event, job_for(event, time="soon")), Permanent)


@pytest.mark.parametrize(
    ("answer", "error", "cause"),
    [
        (Answer(status=401), Halt, "credential"),
        (Answer(status=403), Halt, "credential"),
        (Answer(status=404, body=b"<html>"), Halt, "setting"),
        (Answer(status=410), Halt, "setting"),
        (Answer(status=302, headers={"location": "/"}), Halt, "setting"),
        (Answer(status=400, body=b"<html>"), Permanent, None),
        (Answer(status=423), RetryLater, None),
        (Answer(status=429), RateLimited, None),
        (Answer(status=502, body=b"<html>"), Unavailable, None),
        (Answer(hang_up=True), Unknown, None),
    ],
)
def test_failure_31_every_answer_gives_an_outcome(
    vendor: FakeHubSpot, event: Action, answer: Answer, error: type[Exception], cause: str | None
) -> None:
    vendor.queue.append(answer)
    outcome = outcome_of(event, job_for(event))
    assert type(outcome) is error
    assert getattr(outcome, "cause", None) == cause


def test_a_version_that_was_retired_holds_the_lane(vendor: FakeHubSpot) -> None:
    with acting(HubSpotEvent, vendor.options() | OWN | {"version": "2025-09"}) as action:
        assert isinstance(outcome_of(action, job_for(action)), Halt)
    with acting(HubSpotEvent, vendor.options() | OWN | {"version": "2026-09"}) as action:
        assert perform(action, job_for(action)) == "event recorded"


def test_a_missing_scope_is_named_and_the_token_is_proved(vendor: FakeHubSpot, event: Action) -> None:
    assert verified(event) == "the token belongs to account 4242"
    vendor.scopes.clear()
    held: Any = outcome_of(event, job_for(event))
    assert isinstance(held, Halt)
    assert "analytics.behavioral_events.send" in str(held)
