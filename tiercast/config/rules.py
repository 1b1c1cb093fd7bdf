"""Rules: which events lead to which actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..event import Event
from ..rule_outcomes import RuleOutcome, RuleVerdict
from .events import pattern
from .model import Config
from .sandbox import Expression, MetNull, Refused, TemplateFault, View, view_of

__all__ = ["Condition", "ConditionFault", "Decision", "Matched", "match", "pattern"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a condition holds, and why not: see `RuleOutcome`."""

    holds: bool
    verdict: RuleVerdict = RuleVerdict.MATCHED
    paths: tuple[str, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Matched:
    """The actions that an event leads to, in the order of the rules and each once.

    `outcomes` say what became of each rule that is for the event's type; there are none where all of those hold.
    """

    actions: tuple[str, ...]
    outcomes: tuple[RuleOutcome, ...]


class ConditionFault(ValueError):
    """A condition cannot be used; the message says why."""


class Condition:
    """A compiled `when`.

    Args:
        text: a Jinja expression over `event`.
    """

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            ConditionFault: it is no expression, or names what no event can have.
        """
        self.text = text
        if not text.strip():
            raise ConditionFault("is empty; give an expression, or leave it out for every such event")
        if text.lstrip().startswith(("{{", "{%")):
            raise ConditionFault("expected an expression, without {{ }}")
        try:
            self._expression = Expression(text)
        except Refused as refused:
            raise ConditionFault(str(refused)) from None

    def __repr__(self) -> str:
        """Show the text, as the file has it."""
        return f"Condition({self.text!r})"

    def holds(self, event: Event) -> Decision:
        """Whether it holds for an event; never raises."""
        return self.decide(view_of(event))

    def decide(self, view: View) -> Decision:
        """As `holds`, of an event's view that was made before."""
        met: dict[tuple[Any, ...], None] = {}
        try:
            if self._expression.holds(view, met):
                return _HOLDS
        except MetNull as null:
            return Decision(False, RuleVerdict.NULL, (str(null),))
        except TemplateFault as fault:
            return Decision(False, RuleVerdict.FAULT, fault=str(fault))
        return Decision(False, RuleVerdict.FALSE, tuple(".".join(["event", *map(str, path)]) for path in met))


_HOLDS = Decision(True)


def match(config: Config, event: Event) -> Matched:
    """The actions that an event leads to."""
    actions: dict[str, None] = {}
    decided: list[tuple[str, Decision]] = []
    all_hold = True
    view: View | None = None
    for rule in config.rules:
        if not any(pattern(on).fullmatch(event.type) for on in rule.on):
            continue
        decision = _HOLDS
        if rule.when is not None:
            view = view_of(event) if view is None else view
            decision = rule.when.decide(view)
        if decision.holds:
            actions |= dict.fromkeys(rule.actions)
        else:
            all_hold = False
        decided.append((rule.name, decision))
    if all_hold:
        return Matched(tuple(actions), ())
    outcomes = (RuleOutcome(name, one.verdict, one.paths, one.fault) for name, one in decided)
    return Matched(tuple(actions), tuple(outcomes))
