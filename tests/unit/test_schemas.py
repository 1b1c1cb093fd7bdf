"""The schemas of the webhook: each typed place refuses another type, and everything else is kept as it is."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from marshmallow import Schema, ValidationError, fields

from tiercast.event import TIER_EVENTS
from worker.intake.schemas import ENVELOPE, data_schema
from worker.intake.schemas.errors import first_fault, shown
from worker.intake.schemas.fields import Moment, Part, Whole, microseconds

FIXTURES = Path(__file__).parents[1] / "fixtures"
DAY = 86_400_000_000

JOINED = "customer.loyalty.tier.joined"
UPGRADED = "customer.loyalty.tier.upgraded"


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return document


def put(document: dict[str, Any], path: str, value: object) -> None:
    *way, last = path.split(".")
    for step in way:
        document = document.setdefault(step, {})
    document[last] = value


def fault(schema: Schema, document: object) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        schema.load(document)  # type: ignore[arg-type]
    return first_fault(caught.value.messages)


TEXT = "a string"
OBJECT = "an object"
NUMBER = "a number"
WHOLE = "a whole number"
ID = "an id"
TIME = "a time in ISO 8601"

TIER = {
    "": OBJECT,
    ".id": ID,
    ".name": TEXT,
    ".campaign_id": TEXT,
    ".metadata": OBJECT,
    ".created_at": TIME,
    ".updated_at": TIME,
    ".earning_rules": OBJECT,
    ".earning_rules.ern_x": OBJECT,
    ".earning_rules.ern_x.type": TEXT,
    ".earning_rules.ern_x.multiplier": NUMBER,
    ".rewards": OBJECT,
    ".rewards.rew_x.points": WHOLE,
    ".points": OBJECT,
    ".points.from": WHOLE,
    ".points.to": WHOLE,
    ".config": OBJECT,
    ".config.points": OBJECT,
    ".config.points.from": WHOLE,
    ".config.points.to": WHOLE,
    ".expiration": OBJECT,
    ".expiration.customer_id": TEXT,
    ".expiration.expiration_date": TEXT,
    ".expiration.created_at": TIME,
    ".object": TEXT,
}
DATA = {
    "customer": OBJECT,
    "customer.id": ID,
    "customer.name": TEXT,
    "customer.email": TEXT,
    "customer.source_id": TEXT,
    "customer.metadata": OBJECT,
    "customer.object": TEXT,
    "campaign": OBJECT,
    "campaign.id": ID,
    "campaign.name": TEXT,
    "campaign.campaign_type": TEXT,
    "campaign.metadata": OBJECT,
    "created_at": TIME,
}
ENVELOPES = {
    "id": TEXT,
    "project_id": TEXT,
    "created_at": TIME,
    "type": TEXT,
    "data": OBJECT,
    "source": OBJECT,
    "source.id": TEXT,
    "source.object": TEXT,
    "source.target_url": TEXT,
    "event": OBJECT,
    "event.id": ID,
    "event.type": ID,
    "event.created_at": TIME,
    "event.entity_id": TEXT,
    "event.group_id": TEXT,
    "event.event_source": OBJECT,
}
ONE_TIER = DATA | {f"loyalty_tier{path}": expected for path, expected in TIER.items()}
TWO_TIERS = DATA | {
    f"{tier}{path}": expected for tier in ("loyalty_tier_from", "loyalty_tier_to") for path, expected in TIER.items()
}

WRONG: dict[str, list[tuple[object, str]]] = {
    TEXT: [(7, "a number"), (True, "a boolean"), ([], "a list"), ({}, "an object")],
    ID: [(7, "a number"), (False, "a boolean"), (["x"], "a list"), ({}, "an object")],
    TIME: [(1710408572501, "a number"), (True, "a boolean"), ([], "a list"), ({}, "an object")],
    OBJECT: [(7, "a number"), (True, "a boolean"), ([], "a list"), ("x", "a string")],
    NUMBER: [("1.5", "a string"), (True, "a boolean"), ([], "a list"), ({}, "an object")],
    WHOLE: [("150", "a string"), (False, "a boolean"), ([], "a list"), ({}, "an object")],
}


@pytest.mark.parametrize(("path", "expected"), ONE_TIER.items())
def test_every_typed_place_of_one_tier_refuses_other_types(path: str, expected: str) -> None:
    check_place(data_schema(JOINED), load("tier.joined.raw"), path, expected)


@pytest.mark.parametrize(("path", "expected"), TWO_TIERS.items())
def test_every_typed_place_of_two_tiers_refuses_other_types(path: str, expected: str) -> None:
    check_place(data_schema(UPGRADED), load("tier.upgraded.raw"), path, expected)


@pytest.mark.parametrize(("path", "expected"), ENVELOPES.items())
def test_every_typed_place_of_the_envelope_refuses_other_types(path: str, expected: str) -> None:
    check_place(ENVELOPE, load("tier.joined.envelope"), path, expected)


def check_place(schema: Schema, good: dict[str, Any], path: str, expected: str) -> None:
    schema.load(good)
    for value, found in WRONG[expected]:
        document = copy.deepcopy(good)
        put(document, path, value)
        assert fault(schema, document) == (path, f"expected {expected}, found {found}")
    # Null and missing are fine everywhere: the payload designer may have dropped it.
    document = copy.deepcopy(good)
    put(document, path, None)
    schema.load(document)


@pytest.mark.parametrize("type", TIER_EVENTS)
def test_each_tier_event_has_its_own_tiers(type: str) -> None:
    two = type.endswith(("upgraded", "downgraded"))
    typed = set(data_schema(type).load_fields)
    tiers = {"loyalty_tier_from", "loyalty_tier_to"} if two else {"loyalty_tier"}
    assert typed == {"customer", "campaign", "created_at"} | tiers


def test_a_schema_is_built_once() -> None:
    assert data_schema(JOINED) is data_schema("customer.loyalty.tier.left")
    assert data_schema("voucher.published") is data_schema("customer.created")


def test_unknown_fields_are_kept_unchecked_at_every_level() -> None:
    document = load("tier.joined.raw")
    for level in (
        "",
        "customer.",
        "campaign.",
        "loyalty_tier.",
        "loyalty_tier.points.",
        "loyalty_tier.config.",
    ):
        put(document, f"{level}later", {"added": [1, "two", None]})
    loaded = data_schema(JOINED).load(document)
    assert loaded["later"] == loaded["customer"]["later"] == {"added": [1, "two", None]}
    assert loaded["loyalty_tier"]["points"]["later"] == {"added": [1, "two", None]}
    assert loaded["loyalty_tier"]["config"]["later"] == {"added": [1, "two", None]}


def test_loading_changes_nothing_but_times() -> None:
    document = load("tier.upgraded.raw")
    before = copy.deepcopy(document)
    loaded = data_schema(UPGRADED).load(document)
    assert document == before
    assert loaded["created_at"] == microseconds(document["created_at"])
    assert loaded["loyalty_tier_from"]["earning_rules"] == document["loyalty_tier_from"]["earning_rules"]
    assert loaded["customer"] == document["customer"]


def test_anything_goes_in_the_data_of_other_events() -> None:
    document = {"customer": 5, "created_at": "next week", "campaign": ["x"]}
    assert data_schema("voucher.published").load(document) == {**document, "created_at": None}
    dated = data_schema("voucher.published").load({"created_at": "1970-01-02"})
    assert dated["created_at"] == DAY


def test_whole_numbers() -> None:
    whole = Whole()
    assert whole.check(0) == 0
    assert whole.check(-3) == -3
    assert whole.check(150.0) == 150
    with pytest.raises(ValidationError, match="found one with a fraction"):
        whole.check(150.5)


@pytest.mark.parametrize(
    "id", ["", " ", "a b", "a\tb", "a\nb", "a\x00b", "a\x7f", "a\x85b", "a\u00a0b", "a\u2028b", "x" * 513]
)
def test_what_is_no_id(id: str) -> None:
    path, text = fault(ENVELOPE, {"event": {"id": id}})
    assert path == "event.id"
    assert text.startswith("expected an id (1 to 512 characters")
    assert not id.strip() or id not in text


@pytest.mark.parametrize("id", ["e", "evcus_115d38459e5318ae94", "x" * 512, "ünïcode-ß", "a:b/c#d", "🛶"])
def test_ids_are_opaque(id: str) -> None:
    assert ENVELOPE.load({"event": {"id": id}})["event"]["id"] == id


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("1970-01-01T00:00:00.001Z", 1000),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01T00:00:00.0000019Z", 1),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T00:01Z", 60_000_000),
        ("1970-01-02", DAY),
        ("1970-01-02T00:00:00", DAY),
        ("1970-01-02 00:00:00,5", DAY + 500_000),
        ("1970-01-02T02:00:00.000+02:00", DAY),
        ("1970-01-01T19:00:00.000-0500", DAY),
        ("2024-03-14T09:29:32.123456Z", 1_710_408_572_123_456),
        ("1969-12-31T23:59:59.999999Z", -1),
    ],
)
def test_times_are_exact_to_the_microsecond(text: str, us: int) -> None:
    assert microseconds(text) == us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1710408572501",
        "2024-02-31",
        "2024-03-14T25:00:00Z",
        "2024-03-14T09:29:32.501Z ",
        "2024-03-14T09:29:32.501Z\n",
        "14.03.2024",
        "20240314",
        "2024-W11-4",
        "2024-03-14T09:29:32+99:99",
        "٢٠٢٤-03-14",
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert microseconds(text) is None
    assert fault(ENVELOPE, {"event": {"created_at": text}}) == (
        "event.created_at",
        "expected a time in ISO 8601, found a string that is none",
    )


@pytest.mark.parametrize("text", ["1969-12-31T23:59:59Z", "2256-01-01", "9999-12-31T23:59:59.999Z", "0001-01-01"])
def test_an_event_happens_between_1970_and_2255(text: str) -> None:
    with pytest.raises(ValidationError, match="between 1970 and 2255"):
        Moment().check(text)


def test_a_tier_may_expire_when_it_likes() -> None:
    document = load("tier.joined.raw")
    put(document, "loyalty_tier.expiration", {"expiration_date": "9999-12-31", "created_at": "1900-01-01"})
    data_schema(JOINED).load(document)


def test_the_first_fault_is_named_and_the_others_counted() -> None:
    document = load("tier.joined.raw")
    put(document, "customer.name", 1)
    put(document, "loyalty_tier.points.from", "2")
    put(document, "created_at", [])
    path, text = fault(data_schema(JOINED), document)
    assert text.endswith("(and 2 more)")
    assert path in {"customer.name", "created_at", "loyalty_tier.points.from"}


def test_keys_that_may_be_personal_are_not_shown() -> None:
    document = load("tier.joined.raw")
    put(document, "loyalty_tier", {"rewards": {"mira@customers.example": {"points": "2"}}})
    path, text = fault(data_schema(JOINED), document)
    assert path == "loyalty_tier.rewards.*.points"
    assert "mira" not in text
    assert shown("loyalty_tier_to") == "loyalty_tier_to"
    assert shown("") == shown("Mira Lindqvist") == shown("x" * 65) == "*"


def test_a_part_holds_checked_fields_only() -> None:
    with pytest.raises(TypeError, match=r"String is no field of worker\.intake\.schemas\.fields"):
        Part(Schema.from_dict({"name": fields.String()})())
