"""Shapes that no example of Voucherify's shows but that life sends: each is read, with the right value and note."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.test_reading import JOINED, UPGRADED, bad, good, load
from tiercast.config.rules import Condition
from tiercast.event import Event, customer_ids
from tiercast.stored import StoredEvent
from worker.intake.reader import Read


def designed(place: str, value: object, *, name: str = "tier.joined.envelope") -> dict[str, Any]:
    """An envelope as the payload designer may make it: one value of another type."""
    document = load(name)
    at = document["data"]
    *way, last = place.split(".")
    for step in way:
        at = at.setdefault(step, {})
    at[last] = value
    return document


def at(event: Event, place: str) -> Any:
    found: Any = event.data
    for step in place.split("."):
        found = found[step]
    return found


def told(document: dict[str, Any], event: str | None = None) -> Read:
    """Read it, and check that it is the same when it is made again from the stored body."""
    reading = good(document, event)
    stored = StoredEvent(json.dumps(document).encode(), **reading.event.head())
    assert stored.data == reading.event.data
    return reading


# What the designer's quotes do


@pytest.mark.parametrize(
    ("place", "value", "counts_as"),
    [
        ("loyalty_tier.points.from", "151", 151),
        ("loyalty_tier.points.to", "", None),
        ("loyalty_tier.config.points.from", "0", 0),
        ("loyalty_tier.updated_at", "", None),
        ("loyalty_tier.created_at", "", None),
        ("customer.id", "", None),
        ("customer.source_id", "", None),
        ("campaign.id", "", None),
        ("loyalty_tier.id", "", None),
        ("created_at", "", None),
        ("loyalty_tier.earning_rules.ern_1.multiplier", "1.5", 1.5),
    ],
)
def test_what_the_designer_quotes_counts_as_what_it_was_without_a_note(
    place: str, value: object, counts_as: object
) -> None:
    reading = told(designed(place, value))

    assert at(reading.event, place) == counts_as
    assert type(at(reading.event, place)) is type(counts_as)
    assert reading.notes == ()


@pytest.mark.parametrize(
    ("place", "value", "note"),
    [
        ("loyalty_tier.metadata", "", "data.loyalty_tier.metadata: expected an object, found a string"),
        ("customer.metadata", "{}", "data.customer.metadata: expected an object, found a string"),
        ("customer.name", 7, "data.customer.name: expected a string, found a number"),
        ("customer.email", ["a@b.example"], "data.customer.email: expected a string, found a list"),
        ("campaign.name", {}, "data.campaign.name: expected a string, found an object"),
        ("loyalty_tier.points", "151", "data.loyalty_tier.points: expected an object, found a string"),
        (
            "loyalty_tier.points.from",
            "many",
            "data.loyalty_tier.points.from: expected a whole number, found a string that is none",
        ),
        (
            "loyalty_tier.points.from",
            150.5,
            "data.loyalty_tier.points.from: expected a whole number, found one with a fraction",
        ),
        ("loyalty_tier.rewards", [], "data.loyalty_tier.rewards: expected an object, found a list"),
        ("loyalty_tier.rewards.rewa_1", False, "data.loyalty_tier.rewards.rewa_1: expected an object, found a boolean"),
        (
            "loyalty_tier.updated_at",
            "soon",
            "data.loyalty_tier.updated_at: expected a time in ISO 8601, found a string that is none",
        ),
        ("loyalty_tier.expiration", "2027-01-01", "data.loyalty_tier.expiration: expected an object, found a string"),
    ],
)
def test_a_wrong_type_on_which_nothing_depends_counts_as_null_with_a_note(place: str, value: object, note: str) -> None:
    reading = told(designed(place, value))

    assert at(reading.event, place) is None
    assert reading.notes == (f"{note}; it counts as null",)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("customer", "Mira", "expected an object, found a string"),
        ("campaign", [], "expected an object, found a list"),
        ("loyalty_tier", "ltr_1", "expected an object, found a string"),
        ("customer.id", 7, "expected an id, found a number"),
        ("customer.source_id", 77120, "expected a string, found a number"),
        ("loyalty_tier.id", {}, "expected an id, found an object"),
        ("created_at", 1710408572501, "expected a time in ISO 8601, found a number"),
        ("created_at", "yesterday", "expected a time in ISO 8601, found a string that is none"),
    ],
)
def test_what_decides_stays_strict(place: str, value: object, reason: str) -> None:
    assert bad(designed(place, value)) == (f"data.{place}", reason)


def test_a_whole_feed_of_an_odd_design_is_read() -> None:
    document = designed("loyalty_tier.points", {"from": "500", "to": ""})
    document["data"]["customer"] |= {"metadata": "", "name": None, "email": ""}
    document["data"]["loyalty_tier"] |= {"updated_at": "", "rewards": [], "earning_rules": ""}
    document["source"]["target_url"] = None
    document["event"]["group_id"] = 7

    reading = told(document)

    assert reading.event.tier is not None
    assert reading.event.tier.points == {"from": 500, "to": None}
    assert len(reading.notes) == 4


def test_more_notes_than_anybody_reads_are_counted() -> None:
    reading = told(designed("loyalty_tier.rewards", {f"rew_{n}": n for n in range(1, 200)}))
    assert len(reading.notes) == 6
    assert reading.notes[-1] == "and 194 more values that are not as expected"


def test_conditions_and_templates_see_the_values_as_they_count() -> None:
    document = designed("loyalty_tier.points.from", "151")
    event = told(document).event
    stored = StoredEvent(json.dumps(document).encode(), **event.head())

    for one in (event, stored):
        assert Condition("event.tier.points.from > 99.5").holds(one).holds
        assert one.tier is not None
        assert one.tier["points"]["from"] == 151


# Half of a pair, in the midst of an emoji


def test_a_name_that_was_cut_in_the_midst_of_an_emoji() -> None:
    body = json.dumps(designed("customer.name", "Mira \ud83d")).encode()
    assert rb"\ud83d" in body
    reading = good(body)
    stored = StoredEvent(body, **reading.event.head())

    for one in (reading.event, stored):
        assert one.customer is not None
        assert one.customer.name == "Mira \ufffd"
    assert reading.notes == (
        "data.customer.name: half of a surrogate pair, which no encoding can hold, is read as U+FFFD",
    )


def test_a_whole_emoji_is_no_half() -> None:
    reading = told(designed("customer.name", "Mira 😀"))
    assert reading.event.customer is not None
    assert (reading.event.customer.name, reading.notes) == ("Mira 😀", ())


# Bare bodies


@pytest.mark.parametrize("data", [{"customer": {"id": "c"}}, {}, None, "x"])
def test_a_bare_body_may_have_id_type_and_data_of_its_own(data: object) -> None:
    document = {"id": "7", "type": "gold", "data": data, "customer": {"id": "cust_1"}}
    reading = told(document, JOINED)

    assert (reading.form, reading.event.type, reading.event.data) == ("raw", JOINED, document)
    assert customer_ids(reading.event).id == "cust_1"


@pytest.mark.parametrize("key", ["event", "project_id"])
def test_with_event_or_project_it_is_an_envelope_at_such_a_source_too(key: str) -> None:
    document = load("project_webhook")
    envelope = {name: document[name] for name in ("id", "type", "data", key)}
    reading = told(envelope, JOINED)
    assert (reading.form, reading.event.type) == ("envelope", "voucher.published")


def test_without_a_meaning_id_type_and_data_are_an_envelope() -> None:
    document = {name: load("project_webhook")[name] for name in ("id", "type", "data")}
    reading = told(document)
    assert (reading.form, reading.event.type) == ("envelope", "voucher.published")


# The project


@pytest.mark.parametrize(("project", "read_as"), [("proj_1", "proj_1"), ("", None), (None, None)])
def test_the_project(project: object, read_as: str | None) -> None:
    assert told(load("tier.joined.envelope") | {"project_id": project}).project == read_as


@pytest.mark.parametrize("project", [7, "two words", ["proj_1"]])
def test_a_project_that_is_none(project: object) -> None:
    assert bad(load("tier.joined.envelope") | {"project_id": project})[0] == "project_id"


def test_a_bare_body_names_no_project() -> None:
    assert told(load("tier.joined.raw"), JOINED).project is None


# Customers in other places


def test_the_holder_stands_in_for_the_customer() -> None:
    document = load("project_webhook")
    data = document["data"]
    data["holder"], data["customer"] = {"id": "cust_h", "email": "h@customers.example"}, None
    event = told(document).event

    assert event.customer is not None
    assert (event.customer.id, event.customer["email"]) == ("cust_h", "h@customers.example")
    assert Condition("event.customer.email == 'h@customers.example'").holds(event).holds


def test_a_customer_may_be_the_data_itself() -> None:
    document = load("project_webhook")
    document["data"] = {"object": "customer", "id": "cust_1", "name": "Mira"}
    event = told(document).event
    assert event.customer is not None
    assert event.customer.id == "cust_1"


def test_a_card_tells_its_holders_tier() -> None:
    document = load("project_webhook")
    document["event"]["type"] = document["type"] = "voucher.loyalty_card.transaction.created"
    document["data"] |= {"holder_loyalty_tier": {"id": "ltr_1", "name": "Bridge"}, "loyalty_tier": None}
    event = told(document).event

    assert event.holder_loyalty_tier is not None
    assert event.holder_loyalty_tier.name == "Bridge"
    assert event.tier == event.holder_loyalty_tier
    assert Condition("event.holder_loyalty_tier.name == 'Bridge'").holds(event).holds


@pytest.mark.parametrize("value", [None, "x", 7])
def test_a_holders_tier_that_is_none(value: object) -> None:
    document = load("project_webhook")
    document["data"]["holder_loyalty_tier"] = value
    assert told(document).event.holder_loyalty_tier is None


def test_the_other_spelling_of_a_type() -> None:
    document = load("project_webhook")
    document["event"]["type"] = "loyalty_card.pending_points.updated"
    assert told(document).event.type == "customer.voucher.loyalty_card.pending_points.updated"


@pytest.mark.parametrize("value", [{"id": " cust_test0001 "}, {"id": "cust_test0001\n"}])
def test_blanks_around_an_id_do_no_harm(value: dict[str, str]) -> None:
    document = load("tier.joined.raw")
    event = good(document, JOINED).event
    other = good(document | {"customer": value}, JOINED).event
    assert other.id == event.id
    assert (other.customer or {}) == value


def test_templates_of_an_upgrade_see_both_tiers() -> None:
    document = load("tier.upgraded.raw")
    document["loyalty_tier_from"]["points"]["from"] = "7"
    event = told(document, UPGRADED).event
    assert event.previous_tier is not None
    assert event.previous_tier["points"]["from"] == 7
