"""Whatever a template does within its budget, it ends within a fraction of a second, on whatever an event holds."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.unit.test_patterns import at_most
from tiercast.config.sandbox import STEPS, Expression, Template, TemplateFault
from tiercast.config.sandbox.compiled import View

#: Seconds of the processor that an evaluation may take: some tenths, and room for a slow machine.
MOST = 6.0


def view(**data: Any) -> View:
    parts = dict.fromkeys(["customer", "campaign", "tier", "previous_tier", "holder_loyalty_tier"])
    return {"id": "e", "type": "t", "at": "a", "source": "s", **parts, "data": copied(data)}


def copied(data: dict[str, Any]) -> dict[str, Any]:
    """As it comes from a body: no two values are one object, which would compare as equal at once."""
    found: dict[str, Any] = json.loads(json.dumps(data))
    return found


@contextmanager
def quickly() -> Iterator[None]:
    with at_most(20):
        began = time.process_time()
        yield
        assert time.process_time() - began < MOST


def loop(text: str, rounds: int = 12_000) -> str:
    return "{% for i in range(" + str(rounds) + ") %}" + text + "{% endfor %}"


NUMBERS = [n + 0.5 for n in range(15_000)]
NESTED = [[n, [n, [n]]] for n in range(9_000)]
ROWS = [[0.5] * 300 + [n] for n in range(150)]
LONG = "a" * 250_000


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("{{ event.data.x | sum(start=[]) | length }}", {"x": [[1]] * 49_990}),
        (loop("{% if event.data.x == event.data.y %}{% endif %}"), {"x": NUMBERS, "y": NUMBERS}),
        (loop("{% if event.data.x != event.data.y %}{% endif %}"), {"x": NESTED, "y": NESTED}),
        (loop("{% if event.data.x < event.data.y %}{% endif %}"), {"x": NESTED, "y": NESTED}),
        (loop("{% if event.data.x == event.data.y %}{% endif %}"), {"x": LONG, "y": LONG}),
        (loop("{% if event.data.y in event.data.x %}{% endif %}"), {"x": ROWS, "y": [0.5] * 300 + [-1]}),
        (
            loop("{% if event.data.y in event.data.x %}{% endif %}"),
            {"x": [LONG[1:]] * 4, "y": LONG[2:] + "b"},
        ),
        (loop("{% if event.data.y in event.data.x %}{% endif %}"), {"x": LONG, "y": LONG[:30_000] + "b"}),
        (loop("{% if event.data.y is in event.data.x %}{% endif %}"), {"x": ROWS, "y": [0.5] * 300 + [-1]}),
        (loop("{% if loop.changed(event.data.x) %}{% endif %}"), {"x": NUMBERS}),
        (loop("{% set a = event.data.x | sort %}", 300), {"x": ROWS}),
        (loop("{% set a = event.data.x | max %}"), {"x": ROWS}),
        (loop("{% set a = event.data.x | unique | list %}"), {"x": [LONG[:9_000] + str(n) for n in range(20)]}),
        (loop("{% set a = event.data.x | groupby('a') %}", 900), {"x": [{"a": [0.5] * 300 + [n]} for n in range(90)]}),
        (loop("{% set a = event.data.x | dictsort(by='value') %}"), {"x": {str(n): row for n, row in enumerate(ROWS)}}),
        (loop("{% set a = event.data.x | urlencode %}"), {"x": {str(n): "/ " * 9_000 for n in range(9)}}),
        (loop("{% set a = event.data.x | e %}"), {"x": NESTED}),
        (loop("{% if event.data.x is lower %}{% endif %}"), {"x": NESTED}),
        (loop("{% set a = event.data.x | striptags %}"), {"x": "<!--" * 16_000}),
        (loop("{% set a = event.data.x | striptags %}"), {"x": "<" * 60_000}),
        (loop("{% set a = event.data.x | striptags %}"), {"x": "<a><!-- " * 8_000}),
        (loop("{% set a = event.data.x.split() %}"), {"x": "a " * 30_000}),
        (loop("{% set a = event.data.x.split('a') %}"), {"x": "a" * 60_000}),
        (loop("{% set a = event.data.x.strip(event.data.y) %}"), {"x": LONG, "y": "b" * 99_999 + "a"}),
        (loop("{% set a = event.data.x | trim(event.data.y) %}"), {"x": LONG, "y": "b" * 99_999 + "a"}),
        (loop("{% set a = event.data.x | wordcount %}"), {"x": "a " * 60_000}),
        (loop("{% set a = event.data.x | tojson %}"), {"x": "\u2028" * 9_000}),
        (loop("{% set a = event.data.x ~ event.data.x %}"), {"x": "a" * 30_000}),
        (loop("{% set a = event.data.x + event.data.x %}"), {"x": NESTED[:900]}),
        (loop("{% set a = event.data.x // event.data.y %}"), {"x": 7**1400, "y": 3**1300}),
        (loop("{% set a = event.data.x % event.data.y %}"), {"x": int("9" * 4_000), "y": int("7" * 2_000)}),
        (loop("{% set a = event.data" + ".x" * 5_000 + " %}", 20_000), {"x": 1}),
    ],
    ids=lambda value: value[-60:] if isinstance(value, str) else "",
)
def test_what_it_costs_is_what_it_pays_for(text: str, data: dict[str, Any]) -> None:
    template = Template(text)
    seen = view(**data)
    with quickly(), suppress(TemplateFault):
        template.render(seen)


def test_a_chain_of_comparisons_pays_for_each() -> None:
    numbers = NUMBERS[:2_000]
    text = loop("{% if event.data.x" + " == event.data.y == event.data.x" * 50 + " %}{% endif %}", 20_000)
    with quickly(), pytest.raises(TemplateFault, match=str(STEPS)):
        Template(text).render(view(x=numbers, y=numbers))


def test_a_condition_pays_as_well() -> None:
    text = "[" + ",".join(["event.data.x == event.data.y"] * 2_000) + "] | length > 0"
    with quickly(), pytest.raises(TemplateFault, match=str(STEPS)):
        Expression(text).holds(view(x=NUMBERS, y=NUMBERS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.data.items | sum(attribute='price') }}", "7"),
        ("{{ event.data.numbers | sum }}", "6"),
        ("{{ event.data.numbers | sum(start=10) }}", "16"),
        ("{{ event.data.absent | sum }}", "0"),
        ("{{ event.data.text | striptags }}", "a & b c"),
        ("{{ event.data.tail | striptags }}", "1 < 2"),
        ("{{ event.data.numbers | sort(reverse=true) | join(',') }}", "3,2,1"),
        ("{{ event.data.items | groupby('kind') | map('first') | join(',') }}", "book,tea"),
        ("{{ event.data.items | max(attribute='price') | tojson }}", '{"kind": "book", "price": 5}'),
        ("{{ 'a,b,c'.split(',', 1) | last }}", "b,c"),
        ("{{ ' a  b '.split() | join('+') }}", "a+b"),
        ("{{ 'xxaxx'.strip('x') }}", "a"),
        ("{% for i in event.data.repeated %}{{ i if loop.changed(i) else '-' }}{% endfor %}", "a-b-"),
        ("{{ event.data.numbers == [1, 2, 3] }}", "true"),
        ("{{ [1] in [[1], [2]] }}", "true"),
    ],
)
def test_what_is_meant_well_works_as_ever(text: str, expected: str) -> None:
    data = {
        "items": [{"kind": "tea", "price": 2}, {"kind": "book", "price": 5}],
        "numbers": [1, 2, 3],
        "text": "<p>a &amp; <!-- <b> --> b</p>\n <i>c",
        "tail": "1 < 2",
        "repeated": ["a", "a", "b", "b"],
    }
    assert Template(text).render(view(**copy.deepcopy(data))) == expected
