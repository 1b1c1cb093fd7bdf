"""The kinds braze and braze-event, against the fake Braze."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import marshmallow
import pytest

from tests.acting import acting, job_for, outcome_of, outcomes_of
from tiercast.actions import Action, Done, Halt, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from tiercast.runner import perform
from tiercast.testing.vendors import Answer, Fault, Window
from tiercast.testing.vendors.braze import FakeBraze
from worker.actions.braze import Braze
from worker.actions.braze_event import BrazeEvent

OWN = {"id": "c1", "properties": {"tier": "Gold"}, "create": True}


@pytest.fixture
def vendor() -> Iterator[FakeBraze]:
    with FakeBraze() as server:
        yield server


@pytest.fixture
def user(vendor: FakeBraze) -> Iterator[Action]:
    with acting(Braze, vendor.options() | OWN) as action:
        yield action


@pytest.fixture
def event(vendor: FakeBraze) -> Iterator[Action]:
    with acting(BrazeEvent, vendor.options() | OWN) as action:
        yield action


# --- users


def test_only_what_is_named_is_sent(vendor: FakeBraze, user: Action) -> None:
    assert perform(user, job_for(user, properties={"tier": "Gold", "note": None})) == "accepted"
    assert vendor.requests[0].json == {
        "attributes": [{"tier": "Gold", "external_id": "c1", "_update_existing_only": False}]
    }
    assert vendor.attributes_counted == 1


def test_no_ghosts_are_made_unless_asked(vendor: FakeBraze) -> None:
    options = vendor.options() | {"id": "c1", "properties": {"tier": "Gold"}}
    for identifier, more in (("external_id", {}), ("email", {}), ("user_alias", {"alias_label": "crm"})):
        with acting(Braze, options | {"identifier": identifier, **more}) as action:
            perform(action, job_for(action))
    assert not vendor.users
    with acting(Braze, options | {"identifier": "user_alias", "alias_label": "crm", "create": True}) as action:
        perform(action, job_for(action))
    assert vendor.effects()["users"] == {"crm:c1": {"tier": "Gold"}}


def test_failures_5_to_7_nothing_is_left_out_and_nothing_is_cast(vendor: FakeBraze) -> None:
    options = (
        vendor.options() | OWN | {"properties": {"tier": "x", "city": "x", "n": 1, "vip": True}, "clear": ["tier"]}
    )
    with acting(Braze, options) as action:
        perform(action, job_for(action, properties={"tier": "Gold", "city": "Ely"}))
        values = {
            "tier": None,
            "city": "",
            "n": {"number": "0"},
            "vip": {"boolean": "false"},
            "code": "007",
            "since": {"date": "2026-11-01"},
        }
        perform(action, job_for(action, properties=values))
        dead = outcome_of(action, job_for(action, properties={"since": {"date": "soon"}}))
    assert vendor.effects()["users"]["c1"] == {
        "city": "Ely",
        "n": 0,
        "vip": False,
        "code": "007",
        "since": "2026-11-01",
    }
    assert isinstance(dead, Permanent)
    assert "since" in str(dead)


@pytest.mark.parametrize("kind", [Braze, BrazeEvent])
def test_failure_20_a_201_can_hold_errors_that_are_settled_by_index(vendor: FakeBraze, kind: type[Action]) -> None:
    vendor.blocked.add("c3")
    with acting(kind, vendor.options() | OWN) as action:
        outcomes = outcomes_of(action, [job_for(action, id=f"c{number}") for number in range(6)])
    assert [type(outcome) for outcome in outcomes] == [str, str, str, Permanent, str, str]
    assert "c3" not in vendor.users
    assert len(vendor.requests) == 1


def test_failure_20_errors_without_an_index_confirm_nobody(vendor: FakeBraze, user: Action, event: Action) -> None:
    vendor.blocked.add("c3")
    vendor.errors_without_index = True
    # A user's attributes are sent again, in smaller calls
    outcomes = outcomes_of(user, [job_for(user, id=f"c{number}") for number in range(6)])
    assert [type(outcome) for outcome in outcomes] == [str, str, str, Permanent, str, str]
    # An event is not: nobody knows whether it was taken
    outcomes = outcomes_of(event, [job_for(event, id=f"c{number}") for number in range(6)])
    assert {type(outcome) for outcome in outcomes} == {Unknown}
    assert len(vendor.events) == 5


def test_failure_21_a_call_has_at_most_75_objects_and_4_mb(vendor: FakeBraze, user: Action) -> None:
    assert set(outcomes_of(user, [job_for(user, id=f"c{number}") for number in range(75)])) == {"accepted"}
    assert len(vendor.requests) == 1
    assert Braze.max_batch == BrazeEvent.max_batch == 75
    big = {"text": "x" * 90_000}
    assert set(outcomes_of(user, [job_for(user, id=f"d{number}", properties=big) for number in range(75)])) == {
        "accepted"
    }
    assert 7 <= len(vendor.requests) - 1 <= 8
    assert max(len(request.body) for request in vendor.requests) < 1_000_000
    large = outcome_of(user, job_for(user, properties={"text": "x" * 100_001}))
    assert isinstance(large, Permanent)


def test_failure_3_one_user_twice_goes_in_calls_of_their_own_in_order(vendor: FakeBraze, user: Action) -> None:
    jobs = [job_for(user, properties={"tier": str(number)}) for number in range(3)] + [job_for(user, id="c2")]
    assert set(outcomes_of(user, jobs)) == {"accepted"}
    assert [len(request.json["attributes"]) for request in vendor.requests] == [2, 1, 1]
    assert vendor.effects()["users"]["c1"] == {"tier": "2"}


def test_a_banned_id_is_that_jobs_alone(vendor: FakeBraze, user: Action) -> None:
    vendor.blocked.add("c1")
    dead = outcome_of(user, job_for(user))
    assert isinstance(dead, Permanent)
    assert (dead.code, "c1" in str(dead)) == (None, False)


def test_what_braze_queues_is_done_with_a_note(vendor: FakeBraze, user: Action) -> None:
    vendor.maintenance = True
    told = perform(user, job_for(user))
    assert isinstance(told, Done)
    assert "maintenance" in told.note


# --- events


def test_an_event_has_its_own_time_and_properties(vendor: FakeBraze, event: Action) -> None:
    job = job_for(event)
    perform(event, job)
    (made,) = vendor.events
    assert (made.user, made.name, made.properties) == ("c1", "tier_joined", {"tier": "Gold"})
    assert made.time[:19] == job.event.at[:19]


@pytest.mark.parametrize("fault", ["hang up after", "hang up before", "500 after", "500 before", "503 before"])
def test_failure_12_an_event_without_an_answer_is_unknown_and_never_sent_twice(
    vendor: FakeBraze, event: Action, fault: Fault
) -> None:
    vendor.faults.append(fault)
    outcomes = outcomes_of(event, [job_for(event, id=f"c{number}") for number in range(4)])
    assert {type(outcome) for outcome in outcomes} == {Unknown}
    assert len(vendor.requests) == 1
    assert not BrazeEvent.repeatable


@pytest.mark.parametrize("fault", ["hang up after", "500 after"])
def test_a_users_attributes_are_set_again(vendor: FakeBraze, user: Action, fault: Fault) -> None:
    vendor.faults.append(fault)
    assert isinstance(outcome_of(user, job_for(user)), Unknown | Unavailable)
    assert perform(user, job_for(user)) == "accepted"
    assert vendor.effects()["users"] == {"c1": {"tier": "Gold"}}


def test_an_event_that_cannot_be_sent_is_dead(vendor: FakeBraze, event: Action) -> None:
    wrongs: list[dict[str, Any]] = [{"event": "x" * 256}, {"event": " "}, {"time": "soon"}]
    for wrong in wrongs:
        assert isinstance(outcome_of(event, job_for(event, **wrong)), Permanent)
    assert not vendor.requests


# --- both


@pytest.mark.parametrize("kind", [Braze, BrazeEvent])
@pytest.mark.parametrize(
    ("answer", "error", "cause"),
    [
        (Answer(status=401, body={"message": "Invalid API key: braze-key-s3cr3t"}), Halt, "credential"),
        (Answer(status=403), Halt, "credential"),
        (Answer(status=404, body={"message": "Invalid URL"}), Halt, "setting"),
        (Answer(status=307, headers={"location": "https://x.example"}), Halt, "setting"),
        (Answer(status=400, body={"message": "malformed"}), Permanent, None),
        (Answer(status=400, body=b"<html>"), Permanent, None),
        (Answer(status=413), Permanent, None),
        (Answer(status=429), RateLimited, None),
        (Answer(status=201, body=b"<html>"), Unknown, None),
        (Answer(status=201, body=b""), Unknown, None),
        (Answer(status=201, body={"message": "something else"}), Unknown, None),
        (Answer(hang_up=True), Unknown, None),
    ],
)
def test_failure_31_every_answer_gives_an_outcome(
    vendor: FakeBraze, kind: type[Action], answer: Answer, error: type[Exception], cause: str | None
) -> None:
    with acting(kind, vendor.options() | OWN) as action:
        vendor.queue.append(answer)
        outcome = outcome_of(action, job_for(action))
    assert type(outcome) in {error, *error.__subclasses__()}
    assert getattr(outcome, "cause", None) == cause
    assert "s3cr3t" not in str(outcome)


def test_a_5xx_is_tried_again_for_users(vendor: FakeBraze, user: Action) -> None:
    vendor.queue.append(Answer(status=503))
    assert isinstance(outcome_of(user, job_for(user)), Unavailable)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"x-ratelimit-retry-after": "3", "x-ratelimit-reset": "9999999999"}, 3, 3),
        ({"x-ratelimit-reset": "9999999999"}, 86400, 86400),
    ],
)
def test_the_wait_is_in_brazes_own_headers(
    vendor: FakeBraze, user: Action, headers: dict[str, str], least: float, most: float
) -> None:
    vendor.queue.append(Answer(status=429, headers=headers))
    refused = outcome_of(user, job_for(user))
    assert isinstance(refused, RetryLater)
    assert least <= (refused.after or 0) <= most


def test_beyond_its_window_braze_is_waited_for() -> None:
    with FakeBraze(limits={"api": (Window(1, 30.0),)}) as vendor, acting(Braze, vendor.options() | OWN) as action:
        perform(action, job_for(action))
        refused = outcome_of(action, job_for(action))
    assert isinstance(refused, RateLimited)
    assert 25 < (refused.after or 0) <= 30


@pytest.mark.parametrize("host", ["evil.example", "rest.fra-02.braze.eu.evil.example", "rest.{{ event.id }}.braze.com"])
def test_the_host_is_one_of_brazes(host: str) -> None:
    with pytest.raises(marshmallow.ValidationError):
        Braze.Options().load({"token": "t", "host": host, "id": "c1", "properties": {"a": 1}})


@pytest.mark.parametrize(
    "more",
    [
        {"identifier": "user_alias"},
        {"alias_label": "crm"},
        {"properties": {}},
        {"properties": {"external_id": "x"}},
        {"properties": {"email": "x"}, "identifier": "email"},
        {"clear": ["other"]},
    ],
)
def test_options_that_contradict_are_refused(vendor: FakeBraze, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"alias_label|properties|clear"), acting(Braze, vendor.options() | OWN | more):
        pass


def test_nobody_and_nothing_are_skipped(user: Action) -> None:
    assert isinstance(outcome_of(user, job_for(user, id=" ")), Skip)
    assert isinstance(outcome_of(user, job_for(user, properties={"tier": None})), Skip)
