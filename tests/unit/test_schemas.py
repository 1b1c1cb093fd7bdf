"""The schemas of the webhook: what each typed place takes, what counts as null, and that everything else is kept."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import marshmallow
import pytest
from marshmallow import Schema, ValidationError, fields

from tiercast.event import TIER_EVENTS
from tiercast.schemas import ENVELOPE, data_schema
from tiercast.schemas.base import Tolerant
from tiercast.schemas.errors import first_fault, shown
from tiercast.schemas.fields import Id, Moment, Number, Part, Whole, microseconds

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


def fault(schema: Tolerant, document: object) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        schema.load(document)
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
    "project_id": ID,
    "created_at": TIME,
    "type": TEXT,
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
    OBJECT: [(7, "a number"), (True, "a boolean"), ([], "a list"), ("x", "a string"), ("{}", "a string")],
    NUMBER: [("x", "a string that is none"), (True, "a boolean"), ([], "a list"), ({}, "an object")],
    WHOLE: [("x", "a string that is none"), (False, "a boolean"), ([], "a list"), ({}, "an object")],
}

#: Where a wrong type cannot be passed over; anywhere else it counts as null.
DECIDES = {
    *("customer", "customer.id", "customer.source_id", "campaign", "campaign.id", "created_at"),
    *("loyalty_tier", "loyalty_tier.id", "loyalty_tier_from", "loyalty_tier_from.id"),
    *("loyalty_tier_to", "loyalty_tier_to.id"),
    *("project_id", "source", "event", "event.id", "event.type", "event.created_at"),
}


@pytest.mark.parametrize(("path", "expected"), ONE_TIER.items())
def test_every_typed_place_of_one_tier(path: str, expected: str) -> None:
    check_place(data_schema(JOINED), load("tier.joined.raw"), path, expected)


@pytest.mark.parametrize(("path", "expected"), TWO_TIERS.items())
def test_every_typed_place_of_two_tiers(path: str, expected: str) -> None:
    check_place(data_schema(UPGRADED), load("tier.upgraded.raw"), path, expected)


@pytest.mark.parametrize(("path", "expected"), ENVELOPES.items())
def test_every_typed_place_of_the_envelope(path: str, expected: str) -> None:
    check_place(ENVELOPE, load("tier.joined.envelope"), path, expected)


def check_place(schema: Tolerant, good: dict[str, Any], path: str, expected: str) -> None:
    assert counts_as(schema, good, "", None) == (good, [])
    for value, found in WRONG[expected]:
        if path in DECIDES and not (schema is ENVELOPE and path == "created_at"):  # when it was sent
            assert fault(schema, put_in(good, path, value)) == (path, f"expected {expected}, found {found}")
        else:
            assert counts_as(schema, good, path, value) == (
                put_in(good, path, None),
                [(path, f"expected {expected}, found {found}")],
            )
    # Null and missing are fine everywhere: the payload designer may have dropped it.
    assert counts_as(schema, good, path, None) == (put_in(good, path, None), [])
    if expected in {ID, TIME, NUMBER, WHOLE}:
        # It may have quoted a null.
        assert counts_as(schema, good, path, "") == (put_in(good, path, None), [])


def put_in(good: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(good)
    put(document, path, value)
    return document


def counts_as(schema: Tolerant, good: dict[str, Any], path: str, value: object) -> tuple[Any, list[Any]]:
    """What an object counts as with a value in one place, and the notes."""
    notes: list[tuple[str, str]] = []
    return schema.load(put_in(good, path, value) if path else copy.deepcopy(good), notes=notes), notes


@pytest.mark.parametrize(
    ("quoted", "number"),
    [("151", 151), ("0", 0), ("-3", -3), (" 151 ", 151), ("150.0", 150), (150.0, 150), ("", None)],
)
def test_a_whole_number_in_quotes(quoted: object, number: int | None) -> None:
    assert Whole().check(quoted) == number
    assert type(Whole().check(quoted)) is type(number)


@pytest.mark.parametrize(("quoted", "number"), [("1.5", 1.5), ("2", 2), (" ", None), (3, 3)])
def test_a_number_in_quotes(quoted: object, number: float | None) -> None:
    assert Number().check(quoted) == number


@pytest.mark.parametrize("text", ["1e5", "0x10", "1_000", "+1", "1,5", "\u0661", "9" * 40, "NaN", "true"])
def test_what_is_no_number_in_quotes(text: str) -> None:
    with pytest.raises(ValidationError, match="found a string that is none"):
        Number().check(text)


@pytest.mark.parametrize("value", [150.5, "150.5"])
def test_a_fraction_is_no_whole_number(value: object) -> None:
    with pytest.raises(ValidationError, match="found one with a fraction"):
        Whole().check(value)


def test_an_item_of_a_map_counts_as_null() -> None:
    good = load("tier.joined.raw")
    put(good, "loyalty_tier.rewards", {"rew_1": {"type": "CUSTOM", "points": 3}})

    loaded, notes = counts_as(data_schema(JOINED), good, "loyalty_tier.rewards.rew_2", False)

    assert loaded["loyalty_tier"]["rewards"] == {"rew_1": {"type": "CUSTOM", "points": 3}, "rew_2": None}
    assert notes == [("loyalty_tier.rewards.rew_2", "expected an object, found a boolean")]


@pytest.mark.parametrize("hook", ["pre_load", "post_load", "validates_schema", "pre_dump"])
def test_a_hook_that_would_never_be_called_is_refused_when_the_class_is_made(hook: str) -> None:
    decorator = getattr(marshmallow, hook)
    with pytest.raises(TypeError, match=r"Odd\.tidy would never be called"):
        type("Odd", (Tolerant,), {"tidy": decorator(lambda self, data, **_: data)})


def test_other_ways_round_our_loading_are_refused_as_well() -> None:
    with pytest.raises(TypeError, match=r"Odd\.check would never be called"):
        type("Odd", (Tolerant,), {"id": Id(), "check": marshmallow.validates("id")(lambda self, value, **_: None)})
    with pytest.raises(TypeError, match=r"Odd\.handle_error would never be called"):
        type("Odd", (Tolerant,), {"handle_error": lambda self, error, data, **_: None})
    with pytest.raises(TypeError, match=r"Odd\.Meta\.exclude would never be looked at"):
        type("Odd", (Tolerant,), {"Meta": type("Meta", (Tolerant.Meta,), {"exclude": ("id",)})})


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


def test_loading_changes_nothing_that_is_as_expected() -> None:
    document = load("tier.upgraded.raw")
    before = copy.deepcopy(document)
    assert data_schema(UPGRADED).load(document) is document
    assert document == before


def test_anything_goes_in_the_data_of_other_events() -> None:
    document = {"customer": 5, "created_at": "next week", "campaign": ["x"]}
    assert counts_as(data_schema("voucher.published"), document, "", None) == (document, [])


@pytest.mark.parametrize(
    "id", [" ", "a b", "a\tb", "a\nb", "a\x00b", "a\x7f", "a\x85b", "a\u00a0b", "a\u2028b", "x" * 513]
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
    put(document, "customer.id", 1)
    put(document, "loyalty_tier.id", "a b")
    put(document, "created_at", [])
    path, text = fault(data_schema(JOINED), document)
    assert text.endswith("(and 2 more)")
    assert path in {"customer.id", "created_at", "loyalty_tier.id"}


def test_keys_that_may_be_personal_are_not_shown() -> None:
    document = load("tier.joined.raw")
    put(document, "loyalty_tier", {"rewards": {"mira@customers.example": {"points": "two"}}})
    _, notes = counts_as(data_schema(JOINED), document, "", None)
    assert notes == [("loyalty_tier.rewards.*.points", "expected a whole number, found a string that is none")]
    assert shown("loyalty_tier_to") == "loyalty_tier_to"
    assert shown("") == shown("Mira Lindqvist") == shown("x" * 65) == "*"


def test_a_part_holds_checked_fields_only() -> None:
    with pytest.raises(TypeError, match=r"String is no field of tiercast\.schemas\.fields"):
        Part(Schema.from_dict({"name": fields.String()})())
