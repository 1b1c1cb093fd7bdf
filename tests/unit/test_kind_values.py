"""Values as a vendor wants them, and keys that vendors recognise a repeat by."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import marshmallow
import pytest

from tiercast.actions import Action, BaseUrl, Done, Fixed, Permanent, Properties
from tiercast.config.templates import Options
from tiercast.outbound import (
    ValueForm,
    check_clear,
    short_key,
    ulid_key,
    ulid_of,
    unix_milliseconds,
    unix_seconds,
    uuid_key,
)
from tiercast.samples import sample_event
from tiercast.testing import make_action, make_job

JSON = ValueForm()
TEXT = ValueForm(cleared="", as_text=True, lists=False)


def test_5_nothing_is_left_out_and_only_clear_empties() -> None:
    values = {"tier": None, "since": "", "note": "  ", "name": "Ada"}
    assert JSON.shape(values) == {"name": "Ada"}
    assert JSON.shape(values, clear=["tier", "name"]) == {"tier": None, "name": "Ada"}
    assert TEXT.shape(values, clear=["tier"]) == {"tier": "", "name": "Ada"}


def test_6_zero_and_false_are_values() -> None:
    values: dict[str, Any] = {"points": 0, "vip": False, "rate": 0.0}
    assert JSON.shape(values) == values
    assert TEXT.shape(values) == {"points": "0", "vip": "false", "rate": "0.0"}


@pytest.mark.parametrize("text", ["+491701234567", "007", "1e5", "true", "2026-11-27", "NaN"])
def test_4_and_7_text_stays_text(text: str) -> None:
    assert JSON.shape({"x": text}) == {"x": text}
    assert TEXT.shape({"x": text}) == {"x": text}


def test_4_a_number_is_text_where_the_vendor_wants_text() -> None:
    assert TEXT.shape({"id": 40217}) == {"id": "40217"}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", "100", 100),
        ("number", " -1.5 ", -1.5),
        ("number", "0", 0),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("date", "2026-11-27", "2026-11-27"),
        ("date", "2026-11-27T23:30:00-05:00", "2026-11-27"),
        ("datetime", "2026-11-27T23:30:00-05:00", "2026-11-28T04:30:00Z"),
        ("datetime", "2026-11-27T23:30:00.250Z", "2026-11-27T23:30:00.250Z"),
    ],
)
def test_what_the_configuration_calls_a_number_or_a_date_is_one(kind: str, text: str, value: object) -> None:
    shaped = JSON.shape({"x": {kind: text}})["x"]
    assert (shaped, type(shaped)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("number", "+49 170"),
        ("number", "ten"),
        ("number", "NaN"),
        ("number", "Infinity"),
        ("number", "0x10"),
        ("number", "1_000"),
        ("number", "١٢"),
        ("boolean", "yes"),
        ("date", "27.11.2026"),
        ("date", "2026-13-01"),
        ("datetime", "soon"),
    ],
)
def test_7_what_is_none_makes_the_job_dead_and_names_the_property(kind: str, text: str) -> None:
    with pytest.raises(Permanent, match=f"property joined is no {kind} for this event") as raised:
        JSON.shape({"joined": {kind: text}})
    assert text not in str(raised.value)
    assert raised.value.code is None  # one customer's bad value says nothing of the others


def test_a_typed_value_that_renders_empty_is_left_out() -> None:
    assert JSON.shape({"points": {"number": ""}, "day": {"date": None}}) == {}
    assert JSON.shape({"points": {"number": ""}}, clear=["points"]) == {"points": None}


def test_19_an_empty_list_is_left_out() -> None:
    assert JSON.shape({"tags": [], "more": ["", None]}) == {}
    assert JSON.shape({"tags": ["a", "", 0]}) == {"tags": ["a", 0]}
    assert TEXT.shape({"tags": ["a", "b"]}) == {"tags": "a;b"}


def test_dates_are_written_as_the_vendor_wants_them() -> None:
    noon = datetime(2026, 11, 27, 12, 0, tzinfo=timezone(timedelta(hours=1)))
    assert ValueForm(time=unix_seconds).shape({"at": noon}) == {"at": 1795777200}
    assert ValueForm(time=unix_milliseconds).shape({"at": noon}) == {"at": 1795777200000}
    assert ValueForm(day=lambda day: f"{day:%d/%m/%Y}").shape({"on": date(2026, 11, 27)}) == {"on": "27/11/2026"}
    assert JSON.shape({"at": datetime(2026, 1, 2, tzinfo=UTC)}) == {"at": "2026-01-02T00:00:00Z"}


def test_the_properties_of_an_action_are_not_changed() -> None:
    values = {"points": {"number": "1"}, "tags": ["a"]}
    TEXT.shape(values, clear=["points"])
    assert values == {"points": {"number": "1"}, "tags": ["a"]}


def test_clear_names_each_property_once() -> None:
    with pytest.raises(ValueError, match="more than once"):
        check_clear({"tier": ""}, ["tier", "tier"])


# --- options


class _Placed(Action):
    """Send a value to an account of a region."""

    kind = "placed"

    class Options(Action.Options):
        region = Fixed(pattern=r"(eu|us)-[0-9]{2}", example="eu-01", required=True)
        base_url = BaseUrl(load_default="https://api.acme.example")
        properties = Properties()

    def perform(self, job: Any) -> str:
        return str(job.options.properties)


@pytest.mark.parametrize("name", ["region", "base_url"])
def test_an_event_cannot_choose_who_gets_the_credential(name: str) -> None:
    found = {"region": "eu-01", name: "{{ event.customer.metadata.region }}"}
    with pytest.raises(marshmallow.ValidationError) as raised:
        Options(_Placed.Options(), found)
    assert raised.value.messages == {name: ["takes no template: an event could choose who gets the credential"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": "eu-01.evil.example/"},
        {"region": "eu-01\n"},
        {"region": ""},
        {"base_url": "https://ada:pw@api.acme.example"},
        {"base_url": "https://api.acme.example/?x=1"},
        {"base_url": "file:///etc/passwd"},
        {"properties": {"points": {"numbr": "1"}}},
        {"properties": {"points": {"number": "1", "date": "2"}}},
        {"properties": {"": "x"}},
    ],
)
def test_what_is_off_the_pattern_is_refused_at_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(marshmallow.ValidationError):
        make_action(_Placed, {"region": "eu-01", **wrong})


def test_typed_templates_are_rendered_for_each_event() -> None:
    found = {"region": "eu-01", "properties": {"points": {"number": "{{ event.tier.points.from }}"}, "vip": True}}
    made = Options(_Placed.Options(), found)
    rendered = made.render(sample_event())
    assert rendered.properties == {"points": {"number": "200"}, "vip": True}
    assert JSON.shape(rendered.properties) == {"points": 200, "vip": True}


# --- keys


def test_a_key_is_the_same_for_every_attempt_and_another_for_another_job() -> None:
    action = make_action(_Placed, {"region": "eu-01"})
    event = sample_event()
    jobs = [make_job(action, event, attempt=1), make_job(action, event, attempt=2), make_job(action)]
    for form in (lambda job: uuid_key(job.key), ulid_of, lambda job: short_key(job.key)):
        first, again, other = map(form, jobs)
        assert first == again != other


def test_a_uuid_is_one_of_version_5() -> None:
    made = uuid.UUID(uuid_key("voucherify:ev_1:welcome"))
    assert (made.version, made.variant) == (5, uuid.RFC_4122)


def test_23_a_ulid_begins_with_the_events_time_and_ends_with_the_key() -> None:
    job = make_job(make_action(_Placed, {"region": "eu-01"}))
    made = ulid_of(job)
    assert len(made) == 26
    assert set(made) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    assert made[:10] == ulid_key("another", job.event.created_us // 1000)[:10]
    assert made[10:] != ulid_key("another", job.event.created_us // 1000)[10:]
    assert ulid_key("x", 1795777200000) < ulid_key("x", 1795777200001)
    assert len(ulid_key("x", 2**60)) == len(ulid_key("x", -5)) == 26


@pytest.mark.parametrize("key", ["x" * 500, "a/b c", "é" * 10, "line\nbreak", "\ud83d"])
def test_a_short_key_is_plain_and_tells_keys_apart(key: str) -> None:
    made = short_key(key)
    assert len(made) <= 100
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made
    assert made != short_key(key + "x")
    assert len(short_key(key, 32)) <= 32
    assert uuid_key(key)


def test_a_key_that_fits_stays_readable() -> None:
    assert short_key("voucherify:ev_1:welcome:r2") == "voucherify:ev_1:welcome:r2"


# --- done, with a note


def test_a_note_goes_on_record_behind_the_text() -> None:
    assert str(Done("profile updated", "phone left out: it is no E.164 number")) == (
        "profile updated; note: phone left out: it is no E.164 number"
    )
    assert str(Done(None, "accepted, and queued at the vendor")) == "note: accepted, and queued at the vendor"
