"""What templates can reach, and what they may cost."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercast.config.sandbox import SIZE, Expression, MetNull, Refused, Template, TemplateFault, view_of
from tiercast.event import Event
from tiercast.samples import sample_data, sample_event


def joined(**changes: Any) -> Event:
    """A joined event: `tier` is "Silver leaf" from 200 to 499 points, `previous_tier` is null."""
    return sample_event(**changes)


def with_metadata(metadata: Any) -> Event:
    data = sample_data()
    data["customer"]["metadata"] = metadata
    return joined(data=data)


def render(text: str, event: Event | None = None, *, html: bool = False) -> str:
    return Template(text, html=html).render(view_of(event or joined()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.tier.points.from }}", "200"),
        ("{{ event.tier.points.to - event.tier.points.from }}", "299"),
        ("{{ event.tier.points.from >= 100 }}", "true"),
        ("{{ event.at[:4] | length }}", "4"),
        ("{{ event.customer.name.upper() }}", "INES OKAFOR"),
        ("{% if event.customer.email.endswith('@example.com') %}ours{% endif %}", "ours"),
        ("{% for k, v in event.data.customer.metadata.items() %}{{ k }}={{ v }}{% endfor %}", "favourite=sencha"),
        ("{% for k, v in event.customer.metadata | items %}{{ k }}{% endfor %}", "favourite"),
        ("{% set tier = event.tier.name %}{{ tier }}", "Silver leaf"),
        ("{{ event['tier']['name'] }}", "Silver leaf"),
        ("{{ [event.tier] | map(attribute='points.from') | list }}", "[200]"),
        ("{{ event.tier.points }}", '{"from": 200, "to": 499}'),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("one\n", "one\n"),
    ],
)  # fmt: skip
def test_values_of_the_event(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ event.previous_tier }}",
        "{{ event.previous_tier.name }}",
        "{{ event.previous_tier.points.from }}",
        "{{ event.customer.metadata.a.b.c }}",
        "{{ event.data.nothing.here[3].at.all }}",
        "{{ event.previous_tier.name | upper }}",
        "{{ event.previous_tier.name.upper() }}",
        "{{ event.previous_tier.name[:3] }}",
        "{{ event.previous_tier.points.to - 5 }}",
        "{{ -event.previous_tier.points.to }}",
        "{{ event.previous_tier.points.to | round }}",
        "{{ none }}",
        "{{ none | title }}",
        "{% for x in event.previous_tier.rewards %}{{ x }}{% endfor %}",
        "{% if event.previous_tier.points.from >= 0 %}y{% endif %}",
        "{% if not event.previous_tier.points.from >= 0 %}y{% endif %}",
    ],
)
def test_null_and_missing_render_as_nothing_all_the_way_down(text: str) -> None:
    assert render(text) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.previous_tier.name or 'none yet' }}", "none yet"),
        ("{{ event.previous_tier.name | default('none yet') }}", "none yet"),
        ("{{ 'Was ' + event.previous_tier.name }}", "Was "),
        ("{{ 'Was ' ~ event.previous_tier.name }}", "Was "),
        ("{{ event.previous_tier is none }}", "true"),
        ("{{ event.previous_tier == none }}", "true"),
        ("{{ event.tier != none }}", "true"),
        ("{{ event.customer.metadata.absent is none }}", "true"),
        ("{{ event.previous_tier is defined }}", "false"),
        ("{{ [1, none, event.previous_tier] | join(',') }}", "1,,"),
        ("{{ event.previous_tier | tojson }}", "null"),
    ],
)
def test_null_can_be_asked_for_and_replaced(text: str, expected: str) -> None:
    assert render(text) == expected


def test_a_null_customer_breaks_no_template() -> None:
    assert render("{{ event.customer.name }}{{ event.customer.address.city }}", joined(customer=False)) == ""


@pytest.mark.parametrize("key", ["items", "keys", "values", "get", "update", "__class__"])
def test_keys_named_like_methods_are_keys(key: str) -> None:
    assert render(f"{{{{ event.customer.metadata.{key} }}}}", with_metadata({key: "mine"})) == "mine"


@pytest.mark.parametrize("key", ["items", "keys", "values", "get", "clear", "__class__", "__init__"])
def test_methods_are_not_reached_as_values(key: str) -> None:
    assert render(f"{{{{ event.customer.metadata.{key} }}}}", with_metadata({})) == ""


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__ }}",
        "{{ event.data.id.__class__ }}",
        "{{ event.data['__class__'] }}",
        "{{ (1).__class__.__bases__ }}",
        "{{ [].__class__ }}",
        "{{ event.data.loyalty_tier.points.from.real }}",
        "{% for x in [1] %}{{ loop.__class__ }}{{ loop._iterator }}{{ loop.__init__.__globals__ }}{% endfor %}",
        "{{ [1] | map(attribute='__class__') | map(attribute='__mro__') | join }}",
        "{{ [1] | groupby('__class__') | map(attribute='grouper') | join }}",
    ],
)
def test_python_is_out_of_reach(text: str) -> None:
    assert render(text) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ cycler.__init__.__globals__ }}", "cycler"),
        ("{{ joiner() }}", "can be called"),
        ("{{ namespace(x=1) }}", "can be called"),
        ("{{ lipsum(1000) }}", "can be called"),
        ("{{ range.__init__ }}", "range"),
        ("{{ self }}", "self"),
        ("{{ self.__init__.__globals__ }}", "self"),
        ("{{ self._TemplateReference__context }}", "self"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "__subclasses__() cannot be called"),
        ("{{ '{0.__class__}'.format(1) }}", "format() cannot be called"),
        ("{{ event.id | attr('__class__') }}", 'filter "attr"'),
        ("{{ 'x' | format(1) }}", 'filter "format"'),
        ("{{ 'x' | center(1000000000) }}", 'filter "center"'),
        ("{{ event.data | pprint }}", 'filter "pprint"'),
        ("{{ [1, 2] | random }}", 'filter "random"'),
        ("{{ event.id | uper }}", 'did you mean "upper"'),
        ("{{ event.id is strng }}", 'did you mean "string"'),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% macro %}"),
        ("{% include '/etc/passwd' %}", "{% include %}"),
        ("{% import 'os' as os %}", "{% import %}"),
        ("{% extends 'x' %}", "{% extends %}"),
        ("{% block x %}{% endblock %}", "{% block %}"),
        ("{% autoescape false %}x{% endautoescape %}", "{% autoescape %}"),
        ("{% for x in [[]] recursive %}{{ loop(x) }}{% endfor %}", "recursive"),
        ("{% set event = 1 %}", "cannot be set"),
        ("{{ event }}", "name a field"),
        ("{{ event[event.type] }}", "name a field"),
        ("{{ event | tojson }}", "name a field"),
        ("{{ evnt.id }}", "did you mean event"),
        ("{{ customer.name }}", 'there is no "customer"'),
        ("{{", "unexpected"),
        ("{% if %}", "xpected"),
        ("{% if event.id %}", "nd"),
        ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "too deeply"),
        ("{% for a in [1] %}" * 30 + "{% endfor %}" * 30, "too deeply"),
        ("x" * (SIZE + 1) + "{{ event.id }}", "longer than"),
    ],
)
def test_what_cannot_be_used_is_refused_at_start(text: str, why: str) -> None:
    with pytest.raises(Refused) as refused:
        Template(text)
    assert why in str(refused.value)


def test_a_refusal_names_its_line() -> None:
    with pytest.raises(Refused) as refused:
        Template("one\ntwo {{ event.custmer }}\n")
    assert refused.value.line == 2


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("custmer.name", "did you mean event.customer?"),
        ("customer.emial", "did you mean event.customer.email?"),
        ("customer.address.citty", "did you mean event.customer.address.city?"),
        ("campaign.nmae", "did you mean event.campaign.name?"),
        ("tier.pionts", "did you mean event.tier.points?"),
        ("tier.points.form", "did you mean event.tier.points.from?"),
        ("previous_tier.nme", "did you mean event.previous_tier.name?"),
        ("loyalty_tier", "did you mean event.tier?"),
        ("customer.shoe_size", "event.data.customer"),
        ("tier.colour", "event.data.loyalty_tier"),
        ("id.value", "has no parts"),
        ("customer.name.first", "has no parts"),
    ],
)
def test_a_field_that_no_event_can_have_is_refused(path: str, why: str) -> None:
    for text in ("{{ event.%s }}", "{%% if event.%s %%}{%% endif %%}", "{{ [event.%s] | join }}"):
        with pytest.raises(Refused) as refused:
            Template(text % path)
        assert why in str(refused.value)
    with pytest.raises(Refused):
        Expression(f"event.{path} == 1")


@pytest.mark.parametrize(
    "path",
    [
        *("id", "type", "at", "source", "customer", "campaign", "tier", "previous_tier", "data"),
        *(
            "data.anything.at.all",
            "data['odd key'][0].x",
            "customer.metadata.own",
            "customer.summary.orders.total_count",
        ),
        *("customer.id", "customer.phone", "customer.address.city", "customer.loyalty.points", "campaign.voucher.type"),
        *("tier.config.points.to", "tier.expiration.expiration_date", "tier.metadata.x", "tier.rewards.rew_1.points"),
    ],
)
def test_documented_fields_are_accepted(path: str) -> None:
    render(f"{{{{ event.{path} }}}}")


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
        "{% for a in range(40000) %}xxxx{% endfor %}",
        "{{ range(10 ** 18) | list }}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 9 * 'x' }}",
        "{{ [0] * 10 ** 9 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ 2 ** 100000 }}",
        "{% set n = 99 %}" + "{% set n = n * n %}" * 40 + "{{ n }}",
        "{% set t = 'aa' %}" + "{% set t = t ~ t %}" * 60 + "{{ t }}",
        "{% set t = 'aa' %}" + "{% set t = t + t %}" * 60 + "{{ t }}",
        "{% set t = [1] %}" + "{% set t = t + t %}" * 60 + "{{ t }}",
        "{% set t = [1] %}" + "{% set t = [t, t] %}" * 60 + "{{ t }}",
        "{% set t = {'a': 1} %}" + "{% set t = {'a': t, 'b': t} %}" * 60 + "{{ t }}",
        "{{ ('a' * 60000) | replace('a', 'b' * 60000) }}",
        "{{ ('a' * 60000) | list | join('b' * 60000) }}",
        "{{ 1.5 | round(1000000000, 'floor') }}",
        "{{ '%999999999d' % 1 }}",
        "{{ range(40000) | map('string') | map('upper') | map('lower') | join }}",
    ],
)
def test_bombs_are_stopped_soon(text: str) -> None:
    template = Template(text)
    began = time.thread_time()
    with pytest.raises(TemplateFault):
        template.render(view_of(joined()))
    assert time.thread_time() - began < 3


def test_markup_of_an_event_is_stripped_in_bounded_time() -> None:
    with pytest.raises(TemplateFault):
        render("{{ event.customer.metadata.x | striptags }}", with_metadata({"x": "<!--" * 50_000}))


def test_output_up_to_the_bound_is_written() -> None:
    assert render("{{ event.customer.metadata.x }}", with_metadata({"x": "y" * SIZE})) == "y" * SIZE
    with pytest.raises(TemplateFault):
        render("{{ event.customer.metadata.x }}", with_metadata({"x": "y" * (SIZE + 1)}))


def test_a_budget_serves_one_evaluation() -> None:
    template = Template("{% for a in range(20000) %}{% endfor %}done")
    assert [template.render(view_of(joined())) for _ in range(5)] == ["done"] * 5


@pytest.mark.parametrize(
    "text",
    ["{{ 'a' + 1 }}", "{{ 1 / 0 }}", "{{ 'a' > 1 }}", "{{ event.customer < 3 }}", "{{ 1 in 2 }}", "{{ -event.id }}",
     "{% for x in 5 %}{% endfor %}", "{{ range('a') }}", "{{ event.id.items() }}", "{{ (-8) ** 0.5 }}"],
)  # fmt: skip
def test_a_fault_tells_types_and_no_value(text: str) -> None:
    event = joined(id="evcus_seeded")
    with pytest.raises(TemplateFault) as fault:
        render(text, event)
    assert "seeded" not in str(fault.value)
    assert "example.com" not in str(fault.value)


def test_an_event_s_own_text_is_never_a_template() -> None:
    event = joined(name="{{ event.customer.email }}{% for x in range(9) %}x{% endfor %}")
    assert render("{{ event.customer.name }}", event) == event.data["customer"]["name"]


def test_html_is_escaped_and_text_is_not() -> None:
    event = joined(name="<b>Ines</b>")
    assert render("<p>{{ event.customer.name }}</p>", event, html=True) == "<p>&lt;b&gt;Ines&lt;/b&gt;</p>"
    assert render("<p>{{ event.customer.name }}</p>", event) == "<p><b>Ines</b></p>"
    assert render("{{ event.customer.name ~ '<i>' | safe }}", event, html=True) == "&lt;b&gt;Ines&lt;/b&gt;<i>"
    assert "<b>" not in render("{{ event.customer }}", event, html=True)
    assert "<b>" not in render("{{ [event.customer.name, '<i>' | safe] | join('<u>') }}", event, html=True)


def test_json_can_be_read_again() -> None:
    import json

    event = with_metadata({"a": [1, 2.5, True, None, 'x"<é\ud800']})
    assert json.loads(render("{{ event.customer.metadata | tojson }}", event)) == event.data["customer"]["metadata"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)

USES = [
    "{{ m }}", "{{ m.x.y }}", "{{ m[0] }}", "{{ m | upper }}", "{{ m | tojson }}", "{{ m | join(',') }}", "{{ m + 1 }}",
    "{{ m ~ m }}", "{{ m * 3 }}", "{{ m | sort | first }}", "{{ m | sum }}", "{{ m | round }}", "{{ m[:2] }}",
    "{% for a in m %}{{ a }}{% endfor %}", "{% for a, b in m %}{{ a }}{% endfor %}", "{{ m > 3 }}", "{{ 3 in m }}",
    "{{ m | dictsort }}", "{{ m | map(attribute='x') | list }}", "{{ m.items() }}", "{{ m | int + 1 }}",
    "{{ m is odd }}",
    "{{ m | groupby('x') | list }}", "{{ m | unique | list }}", "{{ m | urlencode }}", "{{ m | truncate(3) }}",
    "{{ m | replace(m, m) }}", "{{ m | max }}", "{{ m | title }}", "{{ m | default('') | length }}", "{{ -m }}",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(value=JSON, use=st.sampled_from(USES), html=st.booleans())
def test_whatever_the_event_holds_only_a_fault_comes_out(value: Any, use: str, html: bool) -> None:
    event = with_metadata({"m": value})
    text = "{% set m = event.customer.metadata.m %}" + use
    with contextlib.suppress(TemplateFault):
        assert isinstance(Template(text, html=html).render(view_of(event)), str)


@settings(max_examples=150, deadline=None)
@given(value=JSON, other=JSON, sign=st.sampled_from(["==", "!=", "<", ">=", "in", "not in", "and", "or", "+"]))
def test_whatever_a_condition_compares_it_is_decided(value: Any, other: Any, sign: str) -> None:
    event = with_metadata({"a": value, "b": other})
    expression = Expression(f"event.customer.metadata.a {sign} event.customer.metadata.b")
    with contextlib.suppress(MetNull, TemplateFault):
        assert expression.holds(view_of(event)) in (True, False)
