"""The options of an action: fixed and rendered ones, nulls, and what their kind's schema says of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError, fields, validate

from tiercast.actions import Action, Permanent, Secret, Skip
from tiercast.config.sandbox import Template, TemplateFault
from tiercast.config.templates import Options
from tiercast.event import TIER_EVENTS
from tiercast.samples import sample_event, variants


class Everything(Action.Options):
    """A field of every sort that kinds use."""

    token = Secret()
    to = fields.String(required=True)
    sender = fields.String(data_key="from", load_default="shop@example.com")
    note = fields.String(load_default="a note")
    html = fields.String(load_default="")
    points = fields.Integer(load_default=7)
    mode = fields.String(load_default="fast", validate=validate.OneOf(["fast", "slow"]))
    link = fields.Url(load_default="https://example.com")
    people = fields.List(fields.String())
    numbers = fields.List(fields.Integer())
    properties = fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True), load_default=dict)
    headers = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)
    body = fields.Raw(load_default=None, allow_none=True)


class Listed(Action.Options):
    people = fields.List(fields.String(), required=True)


def options(**found: Any) -> Options:
    return Options(Everything(), {"to": "you", **found})


def faults(**found: Any) -> Any:
    with pytest.raises(ValidationError) as error:
        options(**found)
    return error.value.normalized_messages()  # type: ignore[no-untyped-call]


def test_fixed_options_are_loaded_once_and_templates_for_each_event() -> None:
    made = options(to="{{ event.customer.email }}", points=3)
    assert made.raw.to == "{{ event.customer.email }}"
    assert made.raw.points == 3
    rendered = made.render(sample_event(email="ada@example.com"))
    assert (rendered.to, rendered.points, rendered.note) == ("ada@example.com", 3, "a note")


def test_a_job_s_options_are_its_own() -> None:
    made = options()
    made.render(sample_event())["to"] = "changed"
    assert made.render(sample_event()).to == "you"


def test_options_go_by_the_kind_s_names_and_messages_by_the_file_s() -> None:
    made = options(**{"from": "{{ 'x' * 99999 }}"})
    assert "sender" in made.raw
    with pytest.raises(Permanent, match=r"option from: its template makes more than 64 KiB"):
        made.render(sample_event())


def test_a_required_option_that_renders_empty_skips() -> None:
    for text in ("{{ event.customer.email }}", " {{ event.customer.email }}\n"):
        with pytest.raises(Skip, match=r"^option to is empty for this event$"):
            options(to=text).render(sample_event(email=None))


def test_a_required_list_of_nothing_skips() -> None:
    made = Options(Listed(), {"people": ["{{ event.customer.email }}"]})
    assert made.render(sample_event(email="ada@example.com")).people == ["ada@example.com"]
    with pytest.raises(Skip, match="option people is empty"):
        made.render(sample_event(email=None))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("note", ""), ("points", 7), ("mode", "fast"), ("link", "https://example.com")],
)
def test_an_optional_one_that_renders_empty_is_empty_text_or_its_default(name: str, expected: Any) -> None:
    assert options(**{name: "{{ event.previous_tier.name }}"}).render(sample_event())[name] == expected


def test_what_a_template_renders_is_validated_by_its_field() -> None:
    assert options(points="{{ event.tier.points.from }}").render(sample_event()).points == 200
    with pytest.raises(Permanent, match=r"option points: not a valid integer"):
        options(points="{{ event.tier.name }}").render(sample_event())
    with pytest.raises(Permanent, match="option mode: must be one of"):
        options(mode="{{ event.tier.name }}").render(sample_event())


def test_a_message_holds_nothing_of_the_event() -> None:
    def refuse(value: str) -> None:
        raise ValidationError(f"{value} is no good.")

    class Telling(Action.Options):
        to = fields.String(validate=refuse)

    with pytest.raises(Permanent) as permanent:
        Options(Telling(), {"to": "{{ event.customer.email }}"}).render(sample_event(email="ada@example.com"))
    assert "ada" not in str(permanent.value)
    assert "option to" in str(permanent.value)


def test_a_field_of_a_kind_that_breaks_makes_the_job_permanent() -> None:
    class Breaking(fields.String):
        def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
            raise RuntimeError(value)

    class Broken(Action.Options):
        to = Breaking()

    with pytest.raises(Permanent) as permanent:
        Options(Broken(), {"to": "{{ event.customer.email }}"}).render(sample_event(email="ada@example.com"))
    assert "ada" not in str(permanent.value)


def test_templates_within_tables_and_lists() -> None:
    made = options(
        properties={"tier": "{{ event.tier.name }}", "was": "{{ event.previous_tier.name }}", "kept": 3},
        body={"deep": [{"type": "{{ event.type }}"}, None]},
        people=["{{ event.customer.email }}", "team@example.com"],
        numbers=["{{ event.tier.points.from }}", 2],
    )
    rendered = made.render(sample_event(email="ada@example.com"))
    assert rendered.properties == {"tier": "Silver leaf", "was": "", "kept": 3}
    assert rendered.body == {"deep": [{"type": TIER_EVENTS[0]}, None]}
    assert rendered.people == ["ada@example.com", "team@example.com"]
    assert rendered.numbers == [200, 2]


def test_a_fault_within_a_table_names_its_place() -> None:
    made = options(properties={"tier": "{{ 1 / 0 }}"})
    with pytest.raises(Permanent, match=r"^option properties\.tier: its template divides by zero$"):
        made.render(sample_event())
    assert list(faults(properties={"tier": "{{ event.teir.name }}"})) == ["properties.tier"]


def test_html_is_escaped_by_the_option_s_name() -> None:
    event = sample_event(name="<i>")
    made = options(html="{{ event.customer.name }}", note="{{ event.customer.name }}")
    assert (made.render(event).html, made.render(event).note) == ("&lt;i&gt;", "<i>")
    nested = options(body={"body_html": "{{ event.customer.name }}", "text": "{{ event.customer.name }}"})
    assert nested.render(event).body == {"body_html": "&lt;i&gt;", "text": "<i>"}


@pytest.mark.parametrize(
    ("found", "place"),
    [
        ({"points": "three"}, "points"),
        ({"to": 5}, "to"),
        ({"to": ["{{ event.id }}"]}, "to"),
        ({"note": {"a": "{{ event.id }}"}}, "note"),
        ({"headers": {"X": 5, "Y": "{{ event.id }}"}}, "headers.X"),
        ({"numbers": ["{{ event.id }}", "three"]}, "numbers.1"),
        ({"properties": "{{"}, "properties"),
        ({"nonsense": 1}, "nonsense"),
        ({"nonsense": "{{ event.id }}"}, "nonsense"),
    ],
)
def test_what_is_wrong_whatever_happens_is_found_at_start(found: dict[str, Any], place: str) -> None:
    assert list(faults(**found)) == [place]


def test_a_missing_required_option_is_found_beside_a_broken_template() -> None:
    with pytest.raises(ValidationError) as error:
        Options(Everything(), {"note": "{{ evnt.id }}"})
    assert set(error.value.normalized_messages()) == {"to", "note"}  # type: ignore[no-untyped-call]


def test_a_broken_template_tells_its_line() -> None:
    assert faults(note="one\ntwo\n{{ event.custmer }}")["note"][0].startswith("line 3 of the template: ")


def test_a_secret_is_no_template() -> None:
    made = options(token="{{ 1 + 1 }}")
    assert made.render(sample_event()).token == "{{ 1 + 1 }}"
    assert "1 + 1" not in repr(made.raw)


@pytest.mark.parametrize("type_", [*TIER_EVENTS, "voucher.published"])
def test_every_sample_of_every_type_renders_or_is_skipped(type_: str) -> None:
    made = options(
        to="{{ event.customer.email }}", note="{{ event.tier.points.to - 1 }} {{ event.campaign.name | upper }}"
    )
    for variant in variants(type_):
        email = (variant.data.get("customer") or {}).get("email")
        event = sample_event(type_, data=variant.data)
        if email:
            assert made.render(event).to == email
        else:
            with pytest.raises(Skip):
                made.render(event)


_NAMES = st.sampled_from(["a", "b", "items", "name"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("<b>&'\"")
_DATA = st.dictionaries(_NAMES, st.recursive(_LEAVES, lambda inner: st.dictionaries(_NAMES, inner) | st.lists(inner)))
_PATHS = st.lists(_NAMES.map(lambda name: f".{name}") | st.sampled_from(["[0]", "['a']"]), max_size=3)
_FIELDS = _PATHS.map(lambda path: f"{{{{ event.data{''.join(path)} }}}}") | st.just("{{- event.customer.id -}}")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_FIELDS | st.sampled_from(["Hello ", "\n", "<p>", " \u00e9 ", "{# x #}"]), max_size=4),
    _DATA,
    st.booleans(),
)
def test_the_short_way_renders_what_the_full_evaluation_does(
    parts: list[str], data: dict[str, Any], html: bool
) -> None:
    # Given one template twice, the second of which must go the full way
    short, full = (Template("".join(parts), html=html) for _ in range(2))
    assert short._plain is not None
    full._plain = None
    # When both are rendered
    view = {"customer": {"id": " cust_1"}, "data": data}
    # Then nobody can tell which is which
    assert _outcome(short, view) == _outcome(full, view)


def _outcome(template: Template, view: dict[str, Any]) -> str:
    try:
        return template.render(view)
    except TemplateFault as fault:
        return f"fault: {fault}"
