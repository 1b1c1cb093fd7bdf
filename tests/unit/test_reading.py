"""From raw bytes to an event: every documented form and deviation of Voucherify's webhook as a case."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import structlog

import worker.intake.reader
from tiercast.event import TIER_EVENTS, CustomerRefs, Event, customer_ids, iso_from_us
from tiercast.stored import StoredEvent, revive
from tiercast.views import Campaign, Customer, Tier
from worker.intake.reader import Preview, Read, Unreadable, read

FIXTURES = Path(__file__).parents[1] / "fixtures"
JOINED = "customer.loyalty.tier.joined"
UPGRADED = "customer.loyalty.tier.upgraded"
RECEIVED_US = 1_767_225_600_000_123  # 2026-01-01T00:00:00.000123Z

#: Values of the fixtures that no reason may show.
PERSONAL = ("Mira", "mira@", "Juno", "crm-7712", "Harbour", "HC-00417")


def raw(name: str) -> bytes:
    return (FIXTURES / f"{name}.json").read_bytes()


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(raw(name))
    return document


def outcome(body: bytes | dict[str, Any], event: str | None = None) -> Read | Unreadable | Preview:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(text, source="voucherify", bare_event=event, delivery_id="d-1", received_us=RECEIVED_US)


def good(body: bytes | dict[str, Any], event: str | None = None) -> Read:
    """Read it, and check what must hold for all that is read."""
    reading = outcome(body, event)
    assert isinstance(reading, Read), reading
    told = reading.event
    again = revive(body if isinstance(body, bytes) else json.dumps(body).encode(), **told.head())
    assert again == told
    assert json.dumps(again.data) == json.dumps(told.data)  # the order of keys as well
    return reading


def bad(body: bytes | dict[str, Any], event: str | None = None) -> tuple[str, str]:
    reading = outcome(body, event)
    assert isinstance(reading, Unreadable), reading
    assert not [word for word in PERSONAL if word in str(reading)]
    return reading.path, reading.reason


# The five tier events


@pytest.mark.parametrize("form", ["envelope", "raw"])
@pytest.mark.parametrize(
    ("what", "customer", "tier", "previous"),
    [
        ("joined", "cust_test0001", "ltr_bridge02", None),
        ("left", "cust_test0002", None, "ltr_deck01"),
        ("prolonged", "cust_test0002", "ltr_bridge02", None),
        ("upgraded", "cust_test0001", "ltr_captain03", "ltr_bridge02"),
        ("downgraded", "cust_test0001", "ltr_deck01", "ltr_captain03"),
    ],
)
def test_tier_events(form: str, what: str, customer: str, tier: str | None, previous: str | None) -> None:
    type = f"customer.loyalty.tier.{what}"
    reading = good(raw(f"tier.{what}.{form}"), type if form == "raw" else None)
    event = reading.event
    assert reading.form == form
    assert reading.notes == ()
    assert event.type == type
    assert event.source == "voucherify"
    assert (event.customer or Customer())["id"] == customer
    assert (event.campaign or Campaign())["id"] == "camp_HarbourClub1"
    assert (event.tier or Tier()).id == tier
    assert (event.previous_tier or Tier()).id == previous


def test_the_event_has_the_senders_own_id_and_time() -> None:
    event = good(raw("tier.joined.envelope")).event
    document = load("tier.joined.envelope")
    assert event.id == document["event"]["id"]
    assert event.key == f"voucherify:{event.id}"
    assert event.at == "2026-03-02T10:00:04.251Z"
    assert event.created_us == 1_772_445_604_251_000
    assert event.data == document["data"]


def test_the_top_tier_has_no_upper_end() -> None:
    tier = good(raw("top_tier.envelope")).event.tier
    assert tier is not None
    assert tier["points"] == {"from": 2000}


def test_null_customer() -> None:
    event = good(raw("null_customer.envelope")).event
    assert event.customer is None
    assert event.tier is not None
    assert customer_ids(event) == CustomerRefs()


def test_null_campaign() -> None:
    assert good(raw("null_campaign.envelope")).event.campaign is None


def test_null_tiers() -> None:
    event = good(raw("null_tier.envelope")).event
    assert event.tier is None
    assert event.previous_tier is None


def test_keys_that_the_payload_designer_dropped_count_as_null() -> None:
    event = good(raw("dropped_keys.envelope")).event
    assert event.campaign is None
    assert event.tier is None
    assert event.data["greeting"] == "Ahoy"
    assert customer_ids(event) == CustomerRefs(email="mira@customers.example")


def test_what_decides_must_be_of_its_type() -> None:
    document = load("tier.joined.envelope")
    document["data"]["customer"] = 5
    assert bad(document) == ("data.customer", "expected an object, found a number")
    bare = load("tier.joined.raw")
    bare["loyalty_tier"]["id"] = True
    assert bad(bare, JOINED) == ("loyalty_tier.id", "expected an id, found a boolean")


def test_unknown_fields_longer_ids_and_any_order_of_keys() -> None:
    document = load("tier.joined.envelope")
    document["event"]["id"] = "evcus_" + "f" * 400
    document["event"]["later"] = document["data"]["customer"]["later"] = {"x": [1, 2, {"y": None}]}
    document = dict(reversed(document.items()))
    event = good(document).event
    assert event.id == document["event"]["id"]
    assert (event.customer or Customer())["later"] == {"x": [1, 2, {"y": None}]}


# Type


@pytest.mark.parametrize("typed", ["", "Say ahoy!", "customer.loyalty.tier.left"])
def test_a_distributions_type_is_free_text(typed: str) -> None:
    document = load("tier.joined.envelope") | {"type": typed}
    assert good(document).event.type == JOINED


def test_a_project_webhook() -> None:
    event = good(raw("project_webhook")).event
    assert event.type == "voucher.published"
    assert event.tier is None
    assert customer_ids(event) == CustomerRefs(
        id="cust_test0001", source_id="crm-77120", email="mira@customers.example"
    )


@pytest.mark.parametrize("event", [None, {}, {"id": "evvou_1"}])
def test_a_project_webhooks_type_stands_in_for_a_missing_event_type(event: object) -> None:
    document = load("project_webhook") | {"event": event}
    assert good(document).event.type == "voucher.published"
    del document["event"]
    assert good(document).event.type == "voucher.published"


def test_a_distributions_free_text_never_stands_in() -> None:
    document = load("tier.joined.envelope") | {"type": JOINED}
    del document["event"]["type"]
    assert bad(document) == (
        "event.type",
        "expected the event's name (a distribution's `type` is free text), found none",
    )
    del document["event"]
    assert bad(document)[0] == "event.type"


@pytest.mark.parametrize(("type", "path"), [("", "event.type"), (None, "event.type"), ("two words", "type")])
def test_no_type_at_all(type: str | None, path: str) -> None:
    document = load("project_webhook") | {"type": type, "event": None}
    assert bad(document)[0] == path


def test_an_event_type_that_we_do_not_know() -> None:
    document = load("tier.joined.envelope")
    document["event"]["type"] = "customer.loyalty.tier.expiration.changed"
    document["data"]["customer"] = "in another shape"
    event = good(document).event
    assert event.type == "customer.loyalty.tier.expiration.changed"
    assert event.customer is event.tier is None


# Identity


def test_two_distributions_tell_the_same_event() -> None:
    first = load("tier.joined.envelope")
    second = load("tier.joined.envelope") | {"id": "whs_other", "created_at": "2026-03-03T10:00:05.900Z"}
    second["source"]["id"] = "distr_other"
    assert good(first).event.key == good(second).event.key


def test_a_bare_event_is_told_by_its_parts() -> None:
    document = load("tier.joined.raw")
    event = good(document, JOINED).event
    assert event.id.startswith("raw-")
    assert len(event.id) == 4 + 32
    # Given the same fact from another design of the payload
    other = dict(reversed(document.items())) | {"greeting": "Ahoy"}
    other["customer"] = {"id": document["customer"]["id"]}
    other["created_at"] = "2026-03-02T11:00:04.250000+01:00"
    assert good(other, JOINED).event.id == event.id
    assert good(other, JOINED).notes == ()


@pytest.mark.parametrize("part", ["type", "customer", "campaign", "tier", "created_at"])
def test_each_part_tells_events_apart(part: str) -> None:
    document = load("tier.joined.raw")
    other, type = copy.deepcopy(document), JOINED
    if part == "type":
        type = "customer.loyalty.tier.prolonged"
    elif part == "created_at":
        other["created_at"] = "2026-03-02T10:00:04.250001Z"
    else:
        other["loyalty_tier" if part == "tier" else part]["id"] = "another"
    assert good(other, type).event.id != good(document, JOINED).event.id


def test_a_source_id_or_email_stands_in_for_the_customers_id() -> None:
    document = load("tier.joined.raw")
    ids = []
    for customer in ({"id": "7"}, {"source_id": "7"}, {"email": "7"}):
        document["customer"] = customer
        reading = good(document, JOINED)
        assert reading.notes == ()
        ids.append(reading.event.id)
    assert len(set(ids)) == 3


@pytest.mark.parametrize("gone", ["customer", "created_at", "campaign+loyalty_tier"])
def test_a_bare_event_with_too_few_parts_is_told_by_its_body(gone: str) -> None:
    document = {key: value for key, value in load("tier.joined.raw").items() if key not in gone.split("+")}
    compact = json.dumps(document, separators=(",", ":")).encode()
    reading = good(compact, JOINED)
    assert any("told by its body" in note for note in reading.notes)
    # When Voucherify sends the same text with other whitespace, it is the same event
    assert good(json.dumps(document, indent=4).encode(), JOINED).event.id == reading.event.id
    assert good(document | {"x": 1}, JOINED).event.id != reading.event.id


def test_other_bare_events_are_told_by_their_body() -> None:
    # Given two vouchers of one campaign, redeemed in one request and so in one millisecond
    data = {"customer": {"id": "c"}, "campaign": {"id": "k"}, "created_at": "2026-03-02T10:00:04.250Z"}
    one = good(data | {"voucher": {"id": "v_1"}}, "customer.redemption.succeeded").event
    two = good(data | {"voucher": {"id": "v_2"}}, "customer.redemption.succeeded").event
    assert one.id != two.id
    assert one.at == "2026-03-02T10:00:04.250Z"


def test_an_envelope_without_an_event_id_is_told_like_a_bare_event() -> None:
    document = load("tier.joined.envelope")
    del document["event"]["id"]
    assert good(document).event.id == good(raw("tier.joined.raw"), JOINED).event.id


@pytest.mark.parametrize("id", ["a b", "nul\x00", "x" * 513])
@pytest.mark.parametrize("path", ["event.id", "data.customer.id", "data.campaign.id", "data.loyalty_tier.id"])
def test_ids_that_could_not_stand_in_a_key(path: str, id: str) -> None:
    document = load("tier.joined.envelope")
    place = document
    *way, last = path.split(".")
    for step in way:
        place = place[step]
    place[last] = id
    assert bad(document)[0] == path


# Time


@pytest.mark.parametrize(
    ("text", "at", "us"),
    [
        ("2026-03-02T10:00:04.251Z", "2026-03-02T10:00:04.251Z", 1_772_445_604_251_000),
        ("2026-03-02T10:00:04.251999Z", "2026-03-02T10:00:04.251Z", 1_772_445_604_251_999),
        ("2026-03-02", "2026-03-02T00:00:00.000Z", 1_772_409_600_000_000),
        ("2026-03-02T12:00:04.251+02:00", "2026-03-02T10:00:04.251Z", 1_772_445_604_251_000),
    ],
)
def test_forms_of_time(text: str, at: str, us: int) -> None:
    document = load("tier.joined.envelope")
    document["event"]["created_at"] = text
    event = good(document).event
    assert (event.at, event.created_us) == (at, us)
    bare = load("tier.joined.raw") | {"created_at": text}
    event = good(bare, JOINED).event
    assert (event.at, event.created_us) == (at, us)


def test_never_the_envelopes_time() -> None:
    document = load("tier.joined.envelope") | {"created_at": "2020-01-01T00:00:00.000Z"}
    document["event"]["created_at"] = None
    reading = good(document)
    assert reading.event.at == "2026-03-02T10:00:04.250Z"
    assert reading.notes == ("the event's own time is missing: data.created_at stands in for it",)
    del document["data"]["created_at"]
    reading = good(document)
    assert reading.event.created_us == RECEIVED_US
    assert reading.event.at == "2026-01-01T00:00:00.000Z"
    assert "the event names no time: it counts as having happened when it arrived" in reading.notes


def test_a_time_that_is_none() -> None:
    assert bad(load("tier.joined.raw") | {"created_at": "yesterday"}, JOINED)[0] == "created_at"
    document = load("tier.joined.envelope")
    document["event"]["created_at"] = "9999-12-31"
    assert bad(document) == ("event.created_at", "expected a time between 1970 and 2255, found another one")


def test_iso_from_us_cuts_off() -> None:
    assert iso_from_us(0) == "1970-01-01T00:00:00.000Z"
    assert iso_from_us(1_999) == "1970-01-01T00:00:00.001Z"
    assert iso_from_us(999_999) == "1970-01-01T00:00:00.999Z"


# Forms


def test_a_bare_object_whose_meaning_nobody_said() -> None:
    assert bad(raw("tier.joined.raw")) == (
        "",
        "a Raw payload: say what it means with sources.<name>.event",
    )


def test_a_designed_payload_of_another_shape() -> None:
    event = good(raw("designed.raw"), JOINED).event
    assert event.customer is event.campaign is event.tier is None
    assert event.data["subject"] == "Welcome aboard"


@pytest.mark.parametrize(
    "designed",
    [
        {"id": "7", "type": "gold", "customer": {"id": "c"}},
        {"event": "Ahoy", "data": {"points": 5}},
        {"data": {"points": 5}},
        {"type": "gold", "data": {"points": 5}},
        {"event": {"name": "Ahoy"}, "greeting": "x"},
    ],
)
def test_a_designed_payload_may_use_the_envelopes_words(designed: dict[str, Any]) -> None:
    reading = good(designed, JOINED)
    assert reading.form == "raw"
    assert reading.event.data == designed


def test_an_empty_object_tells_nothing() -> None:
    assert bad(b"{}", JOINED) == ("", "expected an object that tells something, found an empty one")


@pytest.mark.parametrize(("data", "found"), [(None, "null"), ([], "a list"), ("x", "a string"), (1, "a number")])
def test_an_envelope_whose_data_is_no_object(data: object, found: str) -> None:
    assert bad(load("tier.joined.envelope") | {"data": data}) == (
        "data",
        f"expected an object, found {found}",
    )


def test_an_envelope_without_data() -> None:
    document = load("tier.joined.envelope")
    del document["data"]
    assert bad(document, JOINED) == ("data", "expected an object, found nothing")


def test_an_envelope_whose_event_is_no_object() -> None:
    assert bad(load("tier.joined.envelope") | {"event": "evcus_1"}, JOINED) == (
        "event",
        "expected an object, found a string",
    )


def test_the_retired_format() -> None:
    path, reason = bad(raw("retired_2018"), JOINED)
    assert path == "object"
    assert "retired webhook format" in reason
    document = load("retired_2018")
    del document["webhook_id"]
    assert bad(document)[0] == "object"


def test_the_dashboards_preview() -> None:
    assert isinstance(outcome(raw("preview")), Preview)
    document = load("preview")
    document["event"]["id"] = "evcus_1"
    assert isinstance(outcome(document), Preview)
    document["id"] = "whs_1"
    assert isinstance(outcome(document), Read)
    document = load("preview") | {"data": {"customer": 5}}
    assert isinstance(outcome(document), Preview)


# Bytes that are no event

DEEP = 100_000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "expected a JSON object, found an empty body"),
        (b" \r\n\t", "expected a JSON object, found an empty body"),
        (b"null", "expected a JSON object, found null"),
        (b"true", "expected a JSON object, found a boolean"),
        (b"12", "expected a JSON object, found a number"),
        (b'"Mira"', "expected a JSON object, found a string"),
        (b"[]", "expected a JSON object, found a list"),
        (b"hello Mira", "expected JSON, found something else at line 1, column 1"),
        (b'{"a": 1,\n "b": Mira}', "expected JSON, found something else at line 2, column 7"),
        (b'{"a": 1} {"b": 2}', "expected JSON, found something else at line 1, column 10"),
        (b'{"a": "tab\there"}', "expected JSON, found something else at line 1, column 11"),
        (b'{"a": "\\x41"}', "expected JSON, found something else at line 1, column 8"),
        (b'{"name": "Mir\xe4"}', "expected JSON in UTF-8, found byte 14 to be none"),
        ('{"a": 1}'.encode("utf-16"), "expected JSON in UTF-8, found byte 1 to be none"),
        (b'{"a": "\xed\xa0\x80"}', "expected JSON in UTF-8, found byte 8 to be none"),
        (b'{"a": NaN}', "expected JSON, found NaN, which JSON does not have"),
        (b'{"a": [Infinity]}', "expected JSON, found Infinity, which JSON does not have"),
        (b'{"a": -Infinity}', "expected JSON, found -Infinity, which JSON does not have"),
        (b'{"a": 1e999}', "expected numbers up to 1.8e308, found a larger one"),
        (b'{"a": -1e999}', "expected numbers up to 1.8e308, found a larger one"),
        (
            b'{"a": ' + b"9" * 5000 + b"}",
            "expected numbers of a sensible length, found one of thousands of digits",
        ),
        (b'{"id": 1, "id": 2}', "expected each key once, found `id` twice in one object"),
        (b'{"a": {"x": {}, "y": 1, "x": {}}}', "expected each key once, found `x` twice in one object"),
        (b'{"Mira L": 1, "Mira L": 1}', "expected each key once, found `*` twice in one object"),
        (b'{"\\u0061": 1, "a": 1}', "expected each key once, found `a` twice in one object"),
        (b"[" * DEEP, "expected at most 64 levels of objects and lists, found more"),
        (b"[" * DEEP + b"]" * DEEP, "expected at most 64 levels of objects and lists, found more"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "expected at most 64 levels of objects and lists, found more"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "expected at most 64 levels of objects and lists, found more"),
        (
            b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
            "expected at most 64 levels of objects and lists, found more",
        ),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
def test_no_event_in_it(body: bytes, reason: str) -> None:
    assert bad(body, JOINED) == ("", reason)


@pytest.mark.parametrize(
    ("text", "path", "read_as"),
    [
        (r'{"customer": {"name": "Ada \ud83d"}}', "customer.name", {"customer": {"name": "Ada \ufffd"}}),
        (r'{"customer": {"email": "x\uDFFFy"}}', "customer.email", {"customer": {"email": "x\ufffdy"}}),
        (r'{"items": [{"a": 1}, {"a": "\ud83d\ud83d\ude00"}]}', "items.*.a", {"items": [{"a": 1}, {"a": "\ufffd😀"}]}),
        (r'{"customer": {"\ud800": 1, "b": 2}}', "customer", {"customer": {"\ufffd": 1, "b": 2}}),
    ],
)
def test_half_a_surrogate_pair_is_the_replacement_character_with_a_note(
    text: str, path: str, read_as: dict[str, Any]
) -> None:
    reading = good(text.encode(), JOINED)

    assert reading.event.data == read_as
    assert f"{path}: half of a surrogate pair, which no encoding can hold, is read as U+FFFD" in reading.notes
    json.dumps(reading.event.data, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "path", ["event.id", "event.type", "project_id", "data.customer.id", "data.customer.source_id"]
)
def test_half_a_surrogate_pair_in_an_id_would_make_two_of_them_one(path: str) -> None:
    document = load("tier.joined.envelope")
    place = document
    *way, last = path.split(".")
    for step in way:
        place = place[step]
    place[last] += "\ud83d"
    assert bad(document) == (
        path,
        "expected an id, found one with half of a surrogate pair, which no encoding can hold",
    )


@pytest.mark.parametrize("text", [r'{"a": "\ud83d\ude00"}', r'{"a": "\\ud800"}', '{"a": "😀"}', r'{"a": "\u0000"}'])
def test_text_that_looks_odd_and_is_fine(text: str) -> None:
    event = good(text.encode(), JOINED).event
    json.dumps(event.data, ensure_ascii=False).encode()


def test_nesting_up_to_the_limit_and_width_without_one() -> None:
    good(b'{"a":' * 64 + b"1" + b"}" * 64, JOINED)
    good(b'{"a":[' + b",".join([b'{"b":[]}'] * 5000) + b"]}", JOINED)


def test_a_byte_order_mark_is_passed_over() -> None:
    body = b"\xef\xbb\xbf" + raw("tier.joined.envelope")
    assert good(body).event == good(raw("tier.joined.envelope")).event


def test_ten_megabytes_are_read_or_refused() -> None:
    good(b'{"a":"' + b"x" * 10_000_000 + b'"}', JOINED)
    assert bad(b"x" * 10_000_000)[0] == ""


# What must never leave


def test_no_reading_shows_personal_data() -> None:
    reading = good(raw("tier.joined.envelope"))
    shown = f"{reading!r} {reading.event!r} {customer_ids(reading.event)!r}"
    assert not [word for word in PERSONAL if word in shown]
    assert "cust_test0001" in shown


def test_a_fault_of_our_own_is_quarantined_and_logged_without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(document: object, **_: object) -> bool:
        raise KeyError("Mira")

    monkeypatch.setattr(worker.intake.reader, "is_envelope", broken)
    with structlog.testing.capture_logs() as logs:
        path, reason = bad(raw("tier.joined.envelope"))
    assert (path, "KeyError" in reason) == ("", True)
    assert logs == [
        {
            "event": "reading.fault",
            "log_level": "error",
            "delivery": "d-1",
            "source": "voucherify",
            "error": "KeyError",
        }
    ]


def test_a_time_limit_is_not_the_bodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class TimeLimit(Exception):
        pass

    def late(document: object, **_: object) -> bool:
        raise TimeLimit

    monkeypatch.setattr(worker.intake.reader, "is_envelope", late)
    with pytest.raises(TimeLimit):
        outcome(raw("tier.joined.envelope"))


# Making it again, and finding the customer


@pytest.mark.parametrize("body", [b"[]", b"x", b'{"event": {}, "data": 1}', b"\xff"])
def test_revive_refuses_what_was_never_read(body: bytes) -> None:
    head = good(raw("tier.joined.envelope")).event.head()
    with pytest.raises(ValueError):  # noqa: PT011 - several messages
        revive(body, **head)
    with pytest.raises(ValueError):  # noqa: PT011
        _ = StoredEvent(body, **head).data


def test_a_stored_event_tells_what_it_told() -> None:
    body = raw("tier.joined.envelope")
    event = good(body).event
    stored = StoredEvent(body, **event.head())
    assert stored == event
    assert event == stored
    assert (stored.customer, stored.tier, stored.key) == (event.customer, event.tier, event.key)
    assert stored.data is stored.data
    assert stored != StoredEvent(body, **(event.head() | {"id": "another"}))
    assert "Okafor" not in repr(stored)


@pytest.mark.parametrize(
    ("data", "refs"),
    [
        (
            {"customer": {"id": "c", "source_id": "s", "email": "e"}},
            CustomerRefs(id="c", source_id="s", email="e"),
        ),
        ({"customer": {"id": "c"}, "holder": {"id": "h"}}, CustomerRefs(id="c")),
        ({"customer": None, "holder": {"id": "h", "email": None}}, CustomerRefs(id="h")),
        ({"customer": "c", "holder": {"id": "h"}}, CustomerRefs(id="h")),
        ({"object": "customer", "id": "c", "email": "e"}, CustomerRefs(id="c", email="e")),
        ({"object": "voucher", "id": "v"}, CustomerRefs()),
        ({"customer": {"id": 7, "source_id": "", "email": ["e"]}}, CustomerRefs()),
        ({"customer": {"source_id": "x" * 513}}, CustomerRefs()),
        ({"id": "c"}, CustomerRefs()),
    ],
)
def test_customer_ids(data: dict[str, Any], refs: CustomerRefs) -> None:
    event = Event(id="e", type="voucher.published", at="", created_us=0, source="s", data=data)
    assert customer_ids(event) == refs


def test_every_tier_event_has_fixtures() -> None:
    for type in TIER_EVENTS:
        what = type.rpartition(".")[2]
        assert load(f"tier.{what}.envelope")["data"] == load(f"tier.{what}.raw")
