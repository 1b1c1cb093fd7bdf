"""Rules: patterns, conditions, and which actions an event leads to."""

from __future__ import annotations

from typing import Any

import pytest

from tiercast.config.model import Config, Rule
from tiercast.config.rules import Condition, ConditionFault, Decision, Matched, match, pattern
from tiercast.event import TIER_EVENTS, Event
from tiercast.rule_outcomes import RuleOutcome, RuleVerdict, decode, described, encode
from tiercast.samples import sample_event

JOINED, LEFT, UPGRADED = TIER_EVENTS[:3]


def config(*rules: Rule) -> Config:
    return Config(path=None, sources={}, limits={}, actions={}, rules=rules)


def rule(on: str, *actions: str, when: str | None = None, name: str = "") -> Rule:
    return Rule(on=(on,), actions=actions, when=Condition(when) if when else None, name=name)


@pytest.mark.parametrize(
    ("on", "type_", "fits"),
    [
        (JOINED, JOINED, True),
        (JOINED, LEFT, False),
        ("customer.loyalty.tier.*", JOINED, True),
        ("customer.*", JOINED, True),
        ("*", "voucher.published", True),
        ("*.joined", JOINED, True),
        ("customer.*.joined", JOINED, True),
        ("customer.loyalty.tier", JOINED, False),
        ("customerXloyalty.*", JOINED, False),
        ("customer?loyalty.tier.joined", JOINED, False),
        ("customer.loyalty.tier.[jl]*", JOINED, False),
        ("Customer.Loyalty.Tier.Joined", JOINED, False),
        ("customer.loyalty.tier.*", "x.customer.loyalty.tier.joined", False),
    ],
)
def test_patterns(on: str, type_: str, fits: bool) -> None:
    assert (pattern(on).fullmatch(type_) is not None) is fits


def test_actions_come_in_the_order_of_the_rules_and_each_once() -> None:
    rules = config(rule("customer.*", "b", "a"), rule(JOINED, "a", "c"), rule(LEFT, "d"), rule("*", "b"))
    assert match(rules, sample_event(JOINED)) == Matched(("b", "a", "c"), ())
    assert match(rules, sample_event("voucher.published")).actions == ("b",)


def test_no_rule_is_no_action() -> None:
    assert match(config(), sample_event()) == Matched((), ())


def test_each_rule_for_the_event_says_what_became_of_it_where_one_does_not_hold() -> None:
    rules = config(
        rule(JOINED, "a", name="null", when="event.previous_tier.points.from >= 1"),
        rule(JOINED, "b", name="false", when="event.tier.name == 'x' or event.customer.name == event.tier.name"),
        rule(JOINED, "c", name="holds", when="event.tier.points.from >= 200"),
        rule(JOINED, "d", name="always"),
        rule(JOINED, "e", name="fault", when="event.tier.name > 5"),
        rule(LEFT, "f", name="elsewhere"),
    )

    matched = match(rules, sample_event(JOINED))

    assert matched.actions == ("c", "d")
    assert matched.outcomes == (
        RuleOutcome("null", RuleVerdict.NULL, ("event.previous_tier",)),
        RuleOutcome("false", RuleVerdict.FALSE, ("event.tier.name", "event.customer.name")),
        RuleOutcome("holds", RuleVerdict.MATCHED),
        RuleOutcome("always", RuleVerdict.MATCHED),
        RuleOutcome("fault", RuleVerdict.FAULT, fault="compares text with a number"),
    )


def test_where_all_rules_hold_there_is_nothing_to_say() -> None:
    rules = config(rule(JOINED, "a", when="event.tier.points.from >= 200"), rule(LEFT, "b"))
    assert match(rules, sample_event(JOINED)) == Matched(("a",), ())


def test_what_became_of_the_rules_is_stored_compactly_and_says_the_same_again() -> None:
    outcomes = (
        RuleOutcome("vip", RuleVerdict.FALSE, ("event.tier.name", "event.data['a b']")),
        RuleOutcome("rule 2", RuleVerdict.MATCHED),
        RuleOutcome("rule 3", RuleVerdict.NULL, ("event.customer.email",)),
        RuleOutcome("rule 4", RuleVerdict.FAULT, fault="divides by zero"),
    )

    stored = encode(outcomes)

    assert decode(stored) == outcomes
    assert len(stored) < 150
    assert encode(outcomes[1:2]) == encode(()) == ""
    assert decode(None) == decode("") == ()
    assert described("no rule holds", outcomes, ignored=True) == (
        "no rule holds; vip: its when is false (event.tier.name, event.data['a b']); "
        "rule 3: event.customer.email is null; rule 4: its when divides by zero"
    )
    assert described(None, outcomes[:2], ignored=False) is None


def test_what_is_stored_is_bounded_and_can_be_encoded() -> None:
    paths = tuple(f"event.data.{'x' * 500}{n}" for n in range(100))
    stored = encode([RuleOutcome("r", RuleVerdict.FALSE, (*paths[:1], "event.data.\ud83d\n", *paths))])

    assert len(stored.encode()) < 1500
    assert decode(stored)[0].paths[1] == "event.data.\ufffd\ufffd"


def test_a_null_that_was_reached_by_a_value_of_the_event_does_not_show_that_value() -> None:
    decision = Condition("event.data.by_email[event.customer.email] > 1").holds(
        sample_event(JOINED, email="mona@example.com", data={"by_email": {}, "customer": {"email": "mona@example.com"}})
    )
    assert decision == Decision(False, RuleVerdict.NULL, ("a value",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.tier.points.from >= 200", True),
        ("event.tier.points.from >= 201", False),
        ("100 <= event.tier.points.from < 300", True),
        ("event.tier.name == 'Silver leaf'", True),
        ("event.tier.name != 'Silver leaf'", False),
        ("event.tier.name in ['Gold leaf', 'Silver leaf']", True),
        ("event.tier.name not in ['Gold leaf']", True),
        ("'sencha' in event.customer.metadata.values()", True),
        ("event.customer.metadata.favourite == 'sencha'", True),
        ("event.customer.email.endswith('@example.com')", True),
        ("event.tier.points.to - event.tier.points.from > 250", True),
        ("event.customer.email", True),
        ("not event.customer.email", False),
        ("event.previous_tier is none", True),
        ("event.previous_tier == none", True),
        ("none == event.previous_tier", True),
        ("none != event.previous_tier", False),
        ("none == event.tier", False),
        ("event.previous_tier is not none", False),
        ("event.tier != none and event.previous_tier is none", True),
        ("event.customer.metadata.absent is not defined", True),
        ("not event.previous_tier", True),
        ("event.previous_tier or event.tier", True),
        ("event.previous_tier.points.from | default(0) < 1", True),
        ("event.previous_tier is not none and event.previous_tier.points.from > 1", False),
        ("event.type == 'customer.loyalty.tier.joined'", True),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    decision = Condition(text).holds(sample_event(JOINED))
    assert (decision.holds, decision.verdict) == (expected, RuleVerdict.MATCHED if expected else RuleVerdict.FALSE)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("event.previous_tier.points.from >= 100", "event.previous_tier"),
        ("not event.previous_tier.points.from >= 100", "event.previous_tier"),
        ("100 <= event.previous_tier.points.from", "event.previous_tier"),
        ("event.previous_tier.name == 'Gold leaf'", "event.previous_tier"),
        ("event.previous_tier.name != 'Gold leaf'", "event.previous_tier"),
        ("event.customer.metadata.level > 3", "event.customer.metadata.level"),
        ("event.customer.metadata.level in [1, 2]", "event.customer.metadata.level"),
        ("event.customer.metadata.level not in [1, 2]", "event.customer.metadata.level"),
        ("'x' in event.customer.metadata.tags", "event.customer.metadata.tags"),
        ("event.customer.metadata.a + 1 > 0", "event.customer.metadata.a"),
        ("-event.customer.metadata.a < 0", "event.customer.metadata.a"),
        ("event.customer.metadata.a is odd", "event.customer.metadata.a"),
        ("event.customer.metadata.a is not odd", "event.customer.metadata.a"),
        ("not event.customer.metadata.a.startswith('x')", "event.customer.metadata.a"),
        ("event.customer.metadata.a", "event.customer.metadata.a"),
        ("event.customer.metadata.a | length > 3", "event.customer.metadata.a"),
        ("event.customer.metadata.a | length < 3", "event.customer.metadata.a"),
        ("not event.customer.metadata.a | count", "event.customer.metadata.a"),
        ("event.tier and event.previous_tier", "event.previous_tier"),
    ],
)
def test_meeting_null_makes_it_false_and_says_where(text: str, path: str) -> None:
    assert Condition(text).holds(sample_event(JOINED)) == Decision(False, RuleVerdict.NULL, (path,))


def test_the_top_tier_has_no_upper_bound() -> None:
    decision = Condition("event.tier.points.to > 1").holds(sample_event(JOINED, top=True))
    assert decision == Decision(False, RuleVerdict.NULL, ("event.tier.points.to",))


@pytest.mark.parametrize("changes", [{"customer": False}, {"email": None, "name": None}])
def test_a_null_customer(changes: dict[str, Any]) -> None:
    decision = Condition("event.customer.email == 'x'").holds(sample_event(**changes))
    assert (decision.holds, decision.verdict) == (False, RuleVerdict.NULL)


@pytest.mark.parametrize(
    "text",
    ["event.tier.name > 5", "event.id + 1 > 0", "1 / 0 == 1", "5 in event.tier.points.from", "event.id * 9**9 == 1"],
)
def test_what_cannot_be_decided_is_false_and_holds_no_value(text: str) -> None:
    decision = Condition(text).holds(sample_event(id="evcus_seeded"))
    assert (decision.holds, decision.verdict) == (False, RuleVerdict.FAULT)
    assert decision.fault
    assert "seeded" not in decision.fault
    assert "leaf" not in decision.fault


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ event.id }}", "without {{ }}"),
        ("{% if event.id %}", "without {{ }}"),
        ("event.id ==", "unexpected"),
        ("event.id == 'a' event.type", "end of the expression"),
        ("event.id }} x", "end of the expression"),
        ("evnt.id", "did you mean event"),
        ("tier.name == 'x'", 'there is no "tier"'),
        ("event.custmer.id", "did you mean event.customer"),
        ("event.tier.point.from > 1", "did you mean event.tier.points"),
        ("event.id | uper", 'did you mean "upper"'),
        ("event.id.__class__() ", "cannot be called"),
        ("event", "name a field"),
        ("event.id = 'x'", "end of the expression"),
        ("", "is empty"),
    ],
)
def test_what_is_no_condition_is_refused_at_start(text: str, why: str) -> None:
    with pytest.raises(ConditionFault) as fault:
        Condition(text)
    assert why in str(fault.value)


def test_a_condition_has_no_effect_on_the_event() -> None:
    event: Event = sample_event()
    before = repr(event.data)
    Condition("event.customer.metadata.items() | list | sort | first").holds(event)
    assert repr(event.data) == before
