"""Rules: which events lead to which actions."""

from __future__ import annotations

from dataclasses import dataclass

from ..event import Event
from .events import pattern
from .model import Config
from .sandbox import Expression, MetNull, Refused, TemplateFault, View, view_of

__all__ = ["Condition", "ConditionFault", "Decision", "Matched", "match", "pattern"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a condition holds; `note` says for the operator why not, where null or something missing decided."""

    holds: bool
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """The actions that an event leads to, in the order of the rules and each once, and the notes of conditions."""

    actions: tuple[str, ...]
    notes: tuple[str, ...]


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
        try:
            return Decision(self._expression.holds(view))
        except MetNull as met:
            return Decision(False, f"when: {met} is null")
        except TemplateFault as fault:
            return Decision(False, f"when: {fault}")


def match(config: Config, event: Event) -> Matched:
    """The actions that an event leads to."""
    actions: dict[str, None] = {}
    notes: dict[str, None] = {}
    view: View | None = None
    for rule in config.rules:
        if not any(pattern(on).fullmatch(event.type) for on in rule.on):
            continue
        if rule.when is not None:
            view = view_of(event) if view is None else view
            decision = rule.when.decide(view)
            if decision.note:
                notes[decision.note] = None
            if not decision.holds:
                continue
        actions |= dict.fromkeys(rule.actions)
    return Matched(tuple(actions), tuple(notes))
