"""Reading the rules of the configuration file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .document import Document, check_keys, nearest
from .events import event_fault
from .model import ActionSpec, Rule
from .rules import Condition, ConditionFault

#: The longest name of a rule, in characters: it is kept with every delivery whose `when` did not hold.
MAX_RULE_NAME = 64


def read_rules(document: Document, actions: Mapping[str, ActionSpec | None]) -> Iterable[Rule]:
    """Read the rules; a rule with a fault, which is noted, is yielded as far as it could be read."""
    section = document.data.get("rules", [])
    if not isinstance(section, list) or not all(isinstance(rule, dict) for rule in section):
        document.fault("rules", "expected a list of tables, [[rules]]")
        return
    names: set[str] = {f"rule {i + 1}" for i, value in enumerate(section) if "name" not in value}
    for i, value in enumerate(section):
        key = f"rules[{i}]"
        check_keys(document, key, value, ("name", "on", "when", "do"))
        name = _name(document, f"{key}.name", value.get("name"), i, names)
        on = _on(document, f"{key}.on", value.get("on"))
        named = f" (The rule on {on[0]}.)" if on else ""
        do = _do(document, f"{key}.do", value.get("do"), actions, named)
        when = value.get("when")
        condition = None
        if when is not None:
            try:
                condition = Condition(when) if isinstance(when, str) else None
            except ConditionFault as fault:
                document.fault(f"{key}.when", str(fault))
            if not isinstance(when, str):
                document.fault(f"{key}.when", "expected an expression as text")
        yield Rule(on=on, actions=do, when=condition, name=name)


def _name(document: Document, key: str, value: Any, place: int, taken: set[str]) -> str:
    """What the rule is called; `taken` are the names of those before it, and the names that others have by default."""
    if value is None:
        return f"rule {place + 1}"
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_RULE_NAME or not value.isprintable():
        document.fault(key, f"expected a name of 1 to {MAX_RULE_NAME} characters, in one line")
        return ""
    if value in taken:
        document.fault(key, f"another rule is called {value}; give each a name of its own")
    taken.add(value)
    return value


def _on(document: Document, key: str, value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        document.fault(key, "expected an event's name, a pattern such as customer.loyalty.tier.*, or a list of them")
        return ()
    for name in names:
        fault = event_fault(name)
        if fault:
            document.fault(key, fault)
    return tuple(names)


def _do(document: Document, key: str, value: Any, actions: Mapping[str, object], named: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        document.fault(key, "expected a list of actions' names")
        return ()
    for name in value:
        if name not in actions:
            document.fault(key, f"there is no action {name}.{nearest(name, actions)}{named}")
    return tuple(value)
