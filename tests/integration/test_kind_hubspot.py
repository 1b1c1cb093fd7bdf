"""The hubspot kind against a stand-in that answers in HubSpot's shapes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import marshmallow
import pytest

from tiercast.actions import Action, Halt, Job, Permanent, RateLimited, Result, RetryLater, Skip, Unknown
from tiercast.runner import ActionRunner, close, perform, perform_many
from tiercast.testing import make_action, make_job
from tiercast.testing.vendors import Answer
from tiercast.testing.vendors.hubspot import FakeHubSpot
from worker.actions.hubspot import HubSpot

Outcome = Result | Exception


@pytest.fixture
def hubspot() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        server.properties |= dict.fromkeys(("tier", "since", "n", "points", "vip", "visits"), "string")
        server.spoilers.add("poison@x.example")
        yield server


@pytest.fixture
def action(hubspot: FakeHubSpot) -> Iterator[Action]:
    options = {"token": "pat-s3cr3t", "id": "x", "properties": {}, "base_url": hubspot.url}
    made = make_action(HubSpot, options)
    yield made
    close(made)


def contact(action: Action, id_: str, **properties: Any) -> Job:
    return make_job(action, id=id_, properties=properties)


def together(action: Action, jobs: list[Job]) -> list[Outcome]:
    outcomes = {job.key: outcome for job, outcome in perform_many(action, jobs)}
    return [outcomes.get(job.key, "left out") for job in jobs]


def test_the_call_is_the_documented_one(hubspot: FakeHubSpot, action: Action) -> None:
    told = perform(action, contact(action, "ines@example.com", loyalty_tier="Gold leaf", points=7, vip=True))
    (request,) = hubspot.requests
    assert (request.method, request.path) == ("POST", "/crm/objects/2026-03/contacts/batch/upsert")
    assert request.headers["content-type"] == "application/json"
    (entry,) = request.json["inputs"]
    trace = entry.pop("objectWriteTraceId")
    assert entry == {
        "id": "ines@example.com",
        "idProperty": "email",
        "properties": {"loyalty_tier": "Gold leaf", "points": "7", "vip": "true"},
    }
    assert trace.isalnum()
    assert told == "contact 101 created"


def test_a_contact_is_updated_the_second_time(hubspot: FakeHubSpot, action: Action) -> None:
    job = contact(action, "ines@example.com", loyalty_tier="Gold leaf")
    perform(action, job)
    assert perform(action, job) == "contact 101 updated"
    assert hubspot.contacts == {"ines@example.com": {"loyalty_tier": "Gold leaf"}}


def test_5_what_is_empty_is_left_out_and_only_clear_empties(hubspot: FakeHubSpot) -> None:
    # Given an action that clears the tier of who left it
    named = {"loyalty_tier": "x", "since": "x", "visits": "x"}
    options = {"token": "pat-s3cr3t", "id": "x", "properties": named, "clear": ["loyalty_tier"]}
    action = make_action(HubSpot, {**options, "base_url": hubspot.url})
    # When both of its texts render empty
    perform(action, contact(action, "ines@example.com", loyalty_tier=None, since="", visits=0))
    close(action)
    # Then only the named one is emptied, and 0 is a value (failures 5 and 6)
    assert hubspot.contacts["ines@example.com"] == {"loyalty_tier": "", "visits": "0"}


def test_clear_names_properties_that_there_are() -> None:
    with pytest.raises(ValueError, match="clear: names tier, which properties does not have"):
        make_action(HubSpot, {"token": "t", "id": "x", "clear": ["tier"]})


def test_a_hundred_take_one_call(hubspot: FakeHubSpot, action: Action) -> None:
    outcomes = together(action, [contact(action, f"c{number}@example.com", n=number) for number in range(100)])
    assert all(isinstance(outcome, str) and outcome.startswith("contact") for outcome in outcomes)
    assert len(hubspot.requests) == 1
    assert len(hubspot.contacts) == 100


def test_each_job_has_the_outcome_of_its_own_item(hubspot: FakeHubSpot, action: Action) -> None:
    jobs = [contact(action, "a@x.example", tier="1"), contact(action, "b@x.example", missing="1"),
            contact(action, " ", tier="1"), contact(action, "d@x.example", tier="1")]  # fmt: skip
    outcomes = together(action, jobs)
    assert [type(outcome) for outcome in outcomes] == [str, Permanent, Skip, str]
    assert str(outcomes[1]) == (
        "HubSpot PROPERTY_DOESNT_EXIST, VALIDATION_ERROR: Property values were not valid: missing: "
        "PROPERTY_DOESNT_EXIST (create the property missing in HubSpot, or take it out of properties)"
    )
    assert isinstance(outcomes[1], Permanent)
    assert outcomes[1].code == "PROPERTY_DOESNT_EXIST VALIDATION_ERROR"
    assert len(hubspot.requests) == 1


def test_a_contact_named_twice_gets_both_updates_in_order(hubspot: FakeHubSpot, action: Action) -> None:
    # Given three updates of one contact, in different spellings, among others
    jobs = [contact(action, "ines@x.example", tier="1"), contact(action, "Ines@X.example", tier="2"),
            contact(action, "other@x.example", tier="9"), contact(action, "ines@x.example", tier="3")]  # fmt: skip
    # When they are performed together
    outcomes = together(action, jobs)
    # Then no call names it twice, and the last one wins
    assert all(isinstance(outcome, str) for outcome in outcomes)
    sent = [[entry["properties"]["tier"] for entry in request.json["inputs"]] for request in hubspot.requests]
    assert sent == [["1", "9"], ["2"], ["3"]]


def test_one_contact_that_spoils_the_call_does_not_hurt_the_others(hubspot: FakeHubSpot, action: Action) -> None:
    jobs = [contact(action, f"c{number}@x.example") for number in range(24)]
    jobs.insert(9, contact(action, "poison@x.example"))
    outcomes = together(action, jobs)
    assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Permanent)] == [9]
    assert len(hubspot.contacts) == 24
    assert len(hubspot.requests) <= 12


def test_errors_that_name_no_item_are_found_by_smaller_calls(hubspot: FakeHubSpot, action: Action) -> None:
    hubspot.errors_without_trace = True
    jobs = [contact(action, "a@x.example"), contact(action, "b@x.example", missing="1"), contact(action, "c@x.example")]
    assert [type(outcome) for outcome in together(action, jobs)] == [str, Permanent, str]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(status=429, body={"message": "ten secondly limit"}, headers={"retry-after": "3"}), RetryLater),
        (Answer(status=423), RetryLater),
        (Answer(status=477, headers={"retry-after": "60"}), RetryLater),
        (Answer(status=502), RetryLater),
        (Answer(status=403, body={"message": "This app hasn't been granted all required scopes"}), Halt),
        (Answer(hang_up=True), Unknown),
        (Answer(body=b"<html>"), Unknown),
        (Answer(body=[1]), Unknown),
        (Answer(body={"status": "COMPLETE", "results": []}), Unknown),
    ],
)
def test_what_holds_for_the_whole_call(
    hubspot: FakeHubSpot, action: Action, answer: Answer, error: type[Exception]
) -> None:
    hubspot.queue.append(answer)
    with pytest.raises(error):
        perform(action, contact(action, "ines@example.com"))
    if answer.body != {"status": "COMPLETE", "results": []}:
        hubspot.queue.append(answer)
        outcomes = together(action, [contact(action, "a@x.example"), contact(action, "b@x.example")])
        assert all(isinstance(outcome, error) for outcome in outcomes)
    assert not hubspot.contacts


def test_a_conflict_is_that_contacts_alone(hubspot: FakeHubSpot, action: Action) -> None:
    # Given a HubSpot that answers 409 for a whole batch in which one contact conflicts for good
    hubspot.conflicts.add("c4@x.example")
    # When ten are performed together
    outcomes = together(action, [contact(action, f"c{number}@x.example") for number in range(10)])
    # Then the others are written by smaller calls, and that one is tried again later
    assert [place for place, outcome in enumerate(outcomes) if not isinstance(outcome, str)] == [4]
    assert isinstance(outcomes[4], RetryLater)
    assert len(hubspot.requests) <= 10


def test_an_answer_that_is_compressed_unasked_is_read(hubspot: FakeHubSpot, action: Action) -> None:
    body = gzip.compress(b'{"status": "COMPLETE", "results": [{"id": "7", "new": true}]}')
    hubspot.queue.append(Answer(body=body, headers={"content-encoding": "gzip"}))
    assert perform(action, contact(action, "ines@example.com")) is None
    # One that cannot be read is judged by its status
    hubspot.queue.append(Answer(body=b"???", headers={"content-encoding": "br"}))
    assert perform(action, contact(action, "ines@example.com")) is None


def test_a_day_that_is_used_up_is_waited_for_longer(hubspot: FakeHubSpot, action: Action) -> None:
    hubspot.queue.append(Answer(status=429, body={"errorType": "RATE_LIMIT", "policyName": "DAILY"}))
    with pytest.raises(RateLimited) as raised:
        perform(action, contact(action, "ines@example.com"))
    assert raised.value.after == 1800


def test_429_waits_for_everyone(hubspot: FakeHubSpot, action: Action) -> None:
    hubspot.queue.append(Answer(status=429, headers={"retry-after": "3"}))
    with pytest.raises(RetryLater) as raised:
        perform(action, contact(action, "ines@example.com"))
    assert (raised.value.after, raised.value.everyone) == (3.0, True)


@pytest.mark.parametrize(
    ("category", "error"),
    [
        ("VALIDATION_ERROR", Permanent),
        ("OBJECT_NOT_FOUND", Permanent),
        ("RATE_LIMITS", RetryLater),
        ("CONFLICT", RetryLater),
        ("INTERNAL_ERROR", RetryLater),
        ("", RetryLater),
    ],
)
def test_errors_of_items(hubspot: FakeHubSpot, action: Action, category: str, error: type[Exception]) -> None:
    hubspot.queue.append(Answer(status=207, body={"results": [], "errors": [{"category": category, "message": "no"}]}))
    with pytest.raises(error):
        perform(action, contact(action, "ines@example.com"))


def test_a_refused_token_stops_the_lane_and_is_not_shown(hubspot: FakeHubSpot) -> None:
    action = make_action(HubSpot, {"token": "pat-wrong-s3cr3t", "id": "x", "base_url": hubspot.url})
    with pytest.raises(Halt) as raised:
        perform(action, contact(action, "ines@example.com"))
    close(action)
    assert "s3cr3t" not in str(raised.value)


def test_the_customer_is_not_shown(hubspot: FakeHubSpot, action: Action) -> None:
    said = "12 Elm Street of Ines Okafor (crm-40217) is not valid for crm-id-77"
    hubspot.queue.append(Answer(status=207, body={"errors": [{"category": "VALIDATION_ERROR", "message": said}]}))
    with pytest.raises(Permanent) as raised:
        perform(action, contact(action, "crm-id-77"))
    for hidden in ("Okafor", "crm-40217", "crm-id-77"):
        assert hidden not in str(raised.value)


def test_half_a_character_in_one_contact_spoils_nothing(hubspot: FakeHubSpot, action: Action) -> None:
    outcomes = together(action, [contact(action, "a@x.example", n="\ud83d"), contact(action, "b@x.example", n="é")])
    assert [type(outcome) for outcome in outcomes] == [str, str]
    assert hubspot.contacts["b@x.example"] == {"n": "é"}


def test_a_batch_ends_in_time(hubspot: FakeHubSpot) -> None:
    # Given a HubSpot that takes long for every call, and many updates of one contact
    options = {"token": "pat-s3cr3t", "id": "x", "base_url": hubspot.url}
    action = make_action(HubSpot, options, timeout=1.0)
    answer = Answer(body={"results": [{"id": "1"}]}, drip=0.006)
    hubspot.script = lambda request: answer
    jobs = [contact(action, "ines@example.com") for _ in range(50)]
    # When they are performed together
    outcomes = together(action, jobs)
    close(action)
    # Then some are done, and the rest is left for the next time
    assert 1 <= len(hubspot.requests) < 10
    assert outcomes[0] is None
    assert outcomes[-1] == "left out"


def test_mistakes_are_told_at_the_start() -> None:
    with pytest.raises(marshmallow.ValidationError):
        make_action(HubSpot, {"token": "t", "id": "x", "base_url": "ftp://x"})
    with pytest.raises(marshmallow.ValidationError):
        make_action(HubSpot, {"id": "x"})


def test_it_proves_its_token_by_reading_the_account(hubspot: FakeHubSpot, action: Action) -> None:
    with ActionRunner(action) as runner:
        assert runner.verify() == "the token belongs to account 4242"
    (request,) = hubspot.requests
    assert (request.method, request.path) == ("GET", "/account-info/2026-03/details")


def test_a_token_that_is_refused_is_told_by_verify(hubspot: FakeHubSpot) -> None:
    options = {"token": "pat-wrong-s3cr3t", "id": "x", "base_url": hubspot.url}
    with ActionRunner(make_action(HubSpot, options)) as runner, pytest.raises(Halt) as raised:
        runner.verify()
    assert "s3cr3t" not in str(raised.value)


def test_a_warning_of_hubspot_is_a_note(hubspot: FakeHubSpot, action: Action) -> None:
    result = {"id": "7", "new": False, "warnings": [{"message": "the value was cut"}]}
    hubspot.queue.append(Answer(body={"status": "COMPLETE", "results": [result]}))
    hubspot.queue.append(Answer(body={"status": "COMPLETE", "results": [result | {"objectWriteTraceId": "t"}]}))
    job = contact(action, "ines@example.com")
    assert perform(action, job) is None  # without its trace, a result says nothing of whom it is about
    body = {"status": "COMPLETE", "results": [result | {"objectWriteTraceId": trace_of(hubspot)}]}
    hubspot.queue.clear()
    hubspot.queue.append(Answer(body=body))
    assert str(perform(action, job)) == "contact 7 updated; note: HubSpot warns: the value was cut"


def trace_of(hubspot: FakeHubSpot) -> str:
    """The trace id of the last contact that was sent."""
    return str(hubspot.requests[-1].json["inputs"][-1]["objectWriteTraceId"])


def test_the_version_stands_in_the_path(hubspot: FakeHubSpot) -> None:
    options = {"token": "pat-s3cr3t", "id": "x", "version": "2026-09", "base_url": hubspot.url}
    action = make_action(HubSpot, options)
    perform(action, contact(action, "ines@example.com"))
    close(action)
    assert hubspot.requests[0].path == "/crm/objects/2026-09/contacts/batch/upsert"


def test_a_version_or_address_that_cannot_be_is_refused_at_the_start() -> None:
    for wrong in ({"version": "v3"}, {"version": "2026-03/../x"}, {"base_url": "https://u:p@api.hubapi.com"}):
        with pytest.raises(marshmallow.ValidationError):
            make_action(HubSpot, {"token": "t", "id": "x", **wrong})


@pytest.mark.parametrize("status", [301, 404, 405, 410, 415])
def test_a_wrong_version_or_host_holds_the_lane_and_kills_no_job(
    hubspot: FakeHubSpot, action: Action, status: int
) -> None:
    hubspot.script = lambda _: Answer(status=status)
    outcomes = together(action, [contact(action, f"c{number}@x.example") for number in range(20)])
    assert all(isinstance(outcome, Halt) and outcome.cause == "setting" for outcome in outcomes)
    assert len(hubspot.requests) == 1
