"""The kinds klaviyo and klaviyo-event, against the fake Klaviyo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acting import acting, job_for, outcome_of, verified
from tiercast.actions import Action, Done, Halt, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from tiercast.runner import perform
from tiercast.testing.vendors import Answer, Window
from tiercast.testing.vendors.klaviyo import FakeKlaviyo
from worker.actions.klaviyo import Klaviyo
from worker.actions.klaviyo_event import KlaviyoEvent


@pytest.fixture
def vendor() -> Iterator[FakeKlaviyo]:
    with FakeKlaviyo() as server:
        yield server


@pytest.fixture
def profile(vendor: FakeKlaviyo) -> Iterator[Action]:
    with acting(Klaviyo, {**vendor.options(), "id": "c1", "properties": {"tier": "Gold"}}) as action:
        yield action


@pytest.fixture
def event(vendor: FakeKlaviyo) -> Iterator[Action]:
    with acting(KlaviyoEvent, {**vendor.options(), "id": "c1"}) as action:
        yield action


# --- profiles


def test_a_profile_is_created_then_updated(vendor: FakeKlaviyo, profile: Action) -> None:
    assert str(perform(profile, job_for(profile))).endswith("created")
    told = perform(profile, job_for(profile, properties={"tier": "Silver"}, attributes={"first_name": "Ada"}))
    assert str(told).endswith("updated")
    assert vendor.effects()["profiles"] == {"c1": {"tier": "Silver"}}
    assert vendor.profiles[0].attributes == {"first_name": "Ada"}


def test_failures_5_6_and_19_nothing_is_left_out_zero_arrives_and_clear_empties(vendor: FakeKlaviyo) -> None:
    options = {
        **vendor.options(),
        "id": "c1",
        "properties": {"tier": "Gold", "city": "Ely", "points": 1, "vip": True, "tags": ["a"]},
        "clear": ["tier"],
    }
    with acting(Klaviyo, options) as action:
        perform(action, job_for(action))
        empty: dict[str, Any] = {
            "tier": None,
            "city": "",
            "points": {"number": "0"},
            "vip": {"boolean": "false"},
            "tags": [],
        }
        perform(action, job_for(action, properties=empty))
    assert vendor.effects()["profiles"]["c1"] == {"city": "Ely", "points": 0, "vip": False, "tags": ["a"]}
    assert "tags" not in vendor.requests[-1].json["data"]["attributes"]["properties"]


def test_failure_7_text_is_not_cast(vendor: FakeKlaviyo, profile: Action) -> None:
    perform(profile, job_for(profile, properties={"code": "007", "phone": "+49301234"}))
    assert vendor.effects()["profiles"]["c1"] == {"code": "007", "phone": "+49301234"}
    dead = outcome_of(profile, job_for(profile, properties={"since": {"date": "soon"}}))
    assert isinstance(dead, Permanent)
    assert "since" in str(dead)


@pytest.mark.parametrize("phone", ["030 123456", "+49 30 123", "0049301234567", "+12"])
def test_failure_16_a_phone_that_klaviyo_refuses_is_left_out_with_a_note(
    vendor: FakeKlaviyo, profile: Action, phone: str
) -> None:
    told = perform(profile, job_for(profile, attributes={"phone_number": phone}))
    assert isinstance(told, Done)
    assert told.note.startswith("phone_number left out")
    assert phone not in str(told)
    assert vendor.effects()["profiles"] == {"c1": {"tier": "Gold"}}
    # As the only identifier there is nothing left to send.
    options = {**vendor.options(), "identifier": "phone_number", "id": "x", "properties": {"tier": "Gold"}}
    with acting(Klaviyo, options) as action:
        assert isinstance(outcome_of(action, job_for(action, id=phone)), Permanent)
    assert len(vendor.requests) == 1


def test_failure_17_two_profiles_are_a_matter_for_a_person(vendor: FakeKlaviyo, profile: Action) -> None:
    with acting(Klaviyo, {**vendor.options(), "identifier": "email", "id": "x", "properties": {"a": 1}}) as other:
        perform(other, job_for(other, id="ada@x.example"))
    perform(profile, job_for(profile))
    dead = outcome_of(profile, job_for(profile, attributes={"email": "ada@x.example"}))
    assert isinstance(dead, Permanent)
    assert vendor.profiles[1].id in str(dead) or vendor.profiles[0].id in str(dead)
    assert "ada@" not in str(dead)
    assert dead.code == "409 duplicate_profile"


def test_a_refused_value_names_its_place_and_not_the_value(profile: Action) -> None:
    dead = outcome_of(profile, job_for(profile, attributes={"email": "secret-word"}))
    assert isinstance(dead, Permanent)
    assert "Klaviyo refuses attributes/email" in str(dead)
    assert "secret-word" not in str(dead)


@pytest.mark.parametrize(
    "more",
    [
        {"attributes": {"tier": "Gold"}},
        {"attributes": {"external_id": "x"}},
        {"properties": {}},
        {"clear": ["other"]},
    ],
)
def test_options_that_contradict_are_refused(vendor: FakeKlaviyo, more: dict[str, Any]) -> None:
    options = {**vendor.options(), "id": "c1", "properties": {"tier": "Gold"}, **more}
    with pytest.raises(ValueError, match=r"attributes|properties|clear"), acting(Klaviyo, options):
        pass


def test_nothing_to_say_is_skipped(profile: Action) -> None:
    assert isinstance(outcome_of(profile, job_for(profile, id=" ")), Skip)
    assert isinstance(outcome_of(profile, job_for(profile, properties={"tier": None})), Skip)


# --- events


def test_failure_18_an_event_has_its_own_id_and_time(vendor: FakeKlaviyo, event: Action) -> None:
    # Given two jobs within a second, and the first repeated after a lost answer
    vendor.faults.append("hang up after")
    assert isinstance(outcome_of(event, job_for(event, key="job-1")), Unknown)
    assert perform(event, job_for(event, key="job-1", attempt=2)) == "event accepted"
    perform(event, job_for(event, key="job-2"))
    # Then Klaviyo has two
    assert [one.unique_id for one in vendor.events] == ["job-1", "job-2"]
    assert vendor.sent == 3
    assert vendor.events[0].time.endswith("Z")


def test_an_event_holds_the_tier_and_its_value(vendor: FakeKlaviyo, event: Action) -> None:
    perform(event, job_for(event, properties={"tier": "Gold", "campaign": None}, value="12.5"))
    attributes = vendor.requests[0].json["data"]["attributes"]
    assert (attributes["properties"], attributes["value"]) == ({"tier": "Gold"}, 12.5)
    assert attributes["metric"]["data"]["attributes"] == {"name": "Loyalty Tier Joined"}


@pytest.mark.parametrize("wrong", [{"event": "x" * 128}, {"event": " "}, {"time": "soon"}, {"value": "many"}])
def test_an_event_that_cannot_be_sent_is_dead(vendor: FakeKlaviyo, event: Action, wrong: dict[str, Any]) -> None:
    assert isinstance(outcome_of(event, job_for(event, **wrong)), Permanent)
    assert not vendor.requests


# --- both


@pytest.mark.parametrize("kind", [Klaviyo, KlaviyoEvent])
@pytest.mark.parametrize(
    ("answer", "error", "cause"),
    [
        (Answer(status=401), Halt, "credential"),
        (Answer(status=403), Halt, "credential"),
        (Answer(status=404, body=b"<html>"), Halt, "setting"),
        (Answer(status=405), Halt, "setting"),
        (Answer(status=410), Halt, "setting"),
        (Answer(status=415), Halt, "setting"),
        (Answer(status=302, headers={"location": "/"}), Halt, "setting"),
        (Answer(status=404, body={"errors": [{"code": "not_found"}]}), Permanent, None),
        (Answer(status=400, body=[1]), Permanent, None),
        (Answer(status=413), Permanent, None),
        (Answer(status=408), RetryLater, None),
        (Answer(status=503, body=b"<html>"), Unavailable, None),
        (Answer(hang_up=True), Unknown, None),
    ],
)
def test_failure_31_every_answer_gives_an_outcome(
    vendor: FakeKlaviyo, kind: type[Action], answer: Answer, error: type[Exception], cause: str | None
) -> None:
    own = {"properties": {"tier": "Gold"}}
    with acting(kind, {**vendor.options(), "id": "c1", **own}) as action:
        vendor.queue.append(answer)
        outcome = outcome_of(action, job_for(action))
    assert type(outcome) in {error, *error.__subclasses__()}
    assert getattr(outcome, "cause", None) == cause


@pytest.mark.parametrize("kind", [Klaviyo, KlaviyoEvent])
def test_a_retired_revision_holds_the_lane_and_says_what_to_change(vendor: FakeKlaviyo, kind: type[Action]) -> None:
    vendor.revisions.discard("2026-07-15")
    own = {"properties": {"tier": "Gold"}}
    with acting(kind, {**vendor.options(), "id": "c1", **own}) as action:
        held = outcome_of(action, job_for(action))
    assert isinstance(held, Halt)
    assert "set version to a newer one" in str(held)
    with acting(kind, {**vendor.options(), "id": "c1", "version": "2026-10-15", **own}) as action:
        assert not isinstance(outcome_of(action, job_for(action)), Exception)


def test_a_429_is_waited_for_by_everyone() -> None:
    own = {"id": "c1", "properties": {"tier": "Gold"}}
    with (
        FakeKlaviyo(limits={"profiles": (Window(1, 30.0),)}) as vendor,
        acting(Klaviyo, vendor.options() | own) as action,
    ):
        perform(action, job_for(action))
        refused = outcome_of(action, job_for(action))
    assert isinstance(refused, RateLimited)
    assert 25 < (refused.after or 0) <= 30


def test_it_proves_the_key() -> None:
    own = {"id": "c1", "properties": {"tier": "Gold"}}
    with FakeKlaviyo(limits={}) as vendor, acting(Klaviyo, vendor.options() | own) as action:
        assert verified(action) == "the key belongs to account XyZ123"
        vendor.scopes.discard("accounts:read")
        assert verified(action) == "Klaviyo knows the key"
        vendor.queue.append(Answer(status=401))
        with pytest.raises(Halt):
            verified(action)
