"""Rules: which events lead to which actions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import TemplateError, meta, nodes

from ..event import Event
from .fields import unknown_fields
from .model import Config
from .sandbox import EVENT_FIELDS, Sandbox


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


class _MetNull(Exception):
    """A condition compared or calculated with null or something missing; the message is its path."""


class Null:
    """Null, or something missing: it is false, and `none`; comparing it with anything else ends the condition."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return ""

    def __hash__(self) -> int:
        return hash(None)

    def __eq__(self, other: object) -> bool:
        if other is not None and not isinstance(other, Null):
            self._met()
        return True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _met(self, *_: object) -> NoReturn:
        raise _MetNull(self.path)

    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __iter__ = __len__ = __call__ = _met
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _met
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __pos__ = __int__ = __float__ = (
        _met
    )


class _View(dict[str, Any]):
    """An object of an event that knows where it stands."""

    __slots__ = ("path",)

    def __init__(self, path: str, items: Mapping[str, Any]) -> None:
        super().__init__(items)
        self.path = path


class _Conditions(Sandbox):
    def __init__(self) -> None:
        super().__init__()
        self.tests["none"] = lambda value: value is None or isinstance(value, Null)
        self.tests["defined"] = lambda value: not isinstance(value, Null)
        self.tests["undefined"] = lambda value: isinstance(value, Null)
        self.filters["default"] = self.filters["d"] = _default

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Null):
            return Null(obj.path)
        if not isinstance(obj, dict):
            return super().getattr(obj, attribute)
        path = f"{getattr(obj, 'path', '')}.{attribute}".lstrip(".")
        value = obj.get(attribute)
        if value is None:
            return Null(path)
        return _View(path, value) if isinstance(value, dict) else value

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Null) or (isinstance(obj, dict) and isinstance(argument, str)):
            return self.getattr(obj, argument)
        found = super().getitem(obj, argument)
        return Null(f"item {argument}") if found is None or self.is_undefined(found) else found

    @staticmethod
    def is_undefined(value: object) -> bool:
        """Whether Jinja found nothing there."""
        return type(value).__name__.endswith("Undefined")


def _default(value: Any, default: Any = "", boolean: bool = False) -> Any:
    return default if isinstance(value, Null) or (boolean and not value) else value


_CONDITIONS = _Conditions()


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
        try:
            tree = _CONDITIONS.parse("{{" + text + "}}")
            if not _is_one_expression(tree):
                raise ConditionFault("expected one expression, without {{ }}")
            faults = unknown_fields(tree)
            unknown = sorted(meta.find_undeclared_variables(tree) - {"event", *_CONDITIONS.globals})
            faults += [f"there is no {name}; conditions see event" for name in unknown]
            if faults:
                raise ConditionFault("; ".join(faults))
            self._evaluate = _CONDITIONS.compile_expression(text, undefined_to_none=False)
        except TemplateError as error:
            raise ConditionFault(f"no valid expression: {error.message or error}") from None

    def holds(self, event: Event) -> Decision:
        """Whether it holds for an event; never raises."""
        seen = _View("event", {name: getattr(event, name) for name in EVENT_FIELDS})
        try:
            value = self._evaluate(event=seen)
            if isinstance(value, Null):
                return Decision(False, f"when: {value.path} is null")
            return Decision(bool(value))
        except _MetNull as met:
            return Decision(False, f"when: {met} is null")
        except Exception as error:
            # The error's text may hold a value of the event.
            return Decision(False, f"when: could not be decided ({type(error).__name__})")


def _is_one_expression(tree: nodes.Template) -> bool:
    return len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) and len(tree.body[0].nodes) == 1


@lru_cache(maxsize=1024)
def pattern(text: str) -> re.Pattern[str]:
    """A name or pattern of `on`: `*` stands for anything."""
    return re.compile(".*".join(re.escape(part) for part in text.split("*")))


def match(config: Config, event: Event) -> Matched:
    """The actions that an event leads to."""
    actions: dict[str, None] = {}
    notes: dict[str, None] = {}
    for rule in config.rules:
        if not any(pattern(on).fullmatch(event.type) for on in rule.on):
            continue
        if rule.when is not None:
            decision = rule.when.holds(event)
            if decision.note:
                notes[decision.note] = None
            if not decision.holds:
                continue
        actions |= dict.fromkeys(rule.actions)
    return Matched(tuple(actions), tuple(notes))
