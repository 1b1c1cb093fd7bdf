"""The Jinja sandbox that templates and conditions run in: what they can see, and how much they can do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jinja2 import ChainableUndefined, Template, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..event import Event

#: What `event` has.
EVENT_FIELDS = ("id", "type", "at", "source", "customer", "campaign", "tier", "previous_tier", "data")

#: The most characters that one option may render to.
MOST_OUTPUT = 64 * 1024

#: The most that `range` counts, a text is repeated, or a number's exponent is.
_MOST = 1000

#: Filters that make much of little, or reach where a template has no business.
_REMOVED_FILTERS = ("attr", "format", "pprint", "xmlattr", "urlize")
_REMOVED_GLOBALS = ("cycler", "joiner", "lipsum", "namespace")
_WIDTH_FILTERS = ("center", "indent", "wordwrap", "batch", "slice")


class TooMuch(SecurityError):
    """A template does or says too much."""


def view(event: Event) -> dict[str, Any]:
    """What a template sees of an event."""
    return {name: getattr(event, name) for name in EVENT_FIELDS}


class Sandbox(ImmutableSandboxedEnvironment):
    """Values of `event` are reached by their names only; null and what is missing render as nothing."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(
            undefined=ChainableUndefined, finalize=lambda value: "" if value is None else value, cache_size=0, **options
        )
        for name in _REMOVED_FILTERS:
            self.filters.pop(name, None)
        for name in _REMOVED_GLOBALS:
            self.globals.pop(name, None)
        for name in _WIDTH_FILTERS:
            self.filters[name] = _narrow(self.filters[name])
        self.globals["range"] = _short_range

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`a.b` of an object of the event is its item of that name, never a method."""
        if isinstance(obj, dict):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if obj is None:
            return self.undefined(name=attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`a["b"]` likewise."""
        if isinstance(obj, dict) and isinstance(argument, str):
            return self.getattr(obj, argument)
        if obj is None:
            return self.undefined(name=str(argument))
        return super().getitem(obj, argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse what makes much of little."""
        if operator == "%" and isinstance(left, str):
            raise TooMuch("text % values is not available in templates")
        sizes = (left, right)
        if operator == "**" and not all(isinstance(x, (int, float)) and abs(x) <= _MOST for x in sizes):
            raise TooMuch("the power is too large")
        if operator == "*" and any(isinstance(x, (str, list, tuple)) for x in sizes):
            times = next((x for x in sizes if isinstance(x, int)), 0)
            if times > _MOST:
                raise TooMuch(f"a text or list may be repeated {_MOST} times at the most")
        return super().call_binop(context, operator, left, right)


def render(template: Template, event: dict[str, Any]) -> str:
    """Render a template, to at most `MOST_OUTPUT` characters.

    Raises:
        TooMuch: it says more.
    """
    parts: list[str] = []
    length = 0
    for part in _generate(template, event):
        length += len(part)
        if length > MOST_OUTPUT:
            raise TooMuch(f"it renders to more than {MOST_OUTPUT} characters")
        parts.append(part)
    return "".join(parts)


def _generate(template: Template, event: dict[str, Any]) -> Iterator[str]:
    return template.generate(event=event)


def check_loops(tree: nodes.Template) -> None:
    """Refuse loops within loops within loops, and what calls itself.

    Raises:
        TooMuch: as it says.
    """
    if any(loop.recursive for loop in tree.find_all(nodes.For)):
        raise TooMuch("recursive loops are not available")
    for kind in (nodes.Macro, nodes.CallBlock, nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
        if any(True for _ in tree.find_all(kind)):
            raise TooMuch(f"{kind.__name__.lower()} is not available")
    for loop in tree.find_all(nodes.For):
        if any(True for inner in loop.find_all(nodes.For) for _ in inner.find_all(nodes.For)):
            raise TooMuch("loops may be nested once, not twice")


def _short_range(*arguments: int) -> range:
    found = range(*arguments)
    if len(found) > _MOST:
        raise TooMuch(f"range may count to {_MOST} at the most")
    return found


def _narrow(filter_: Any) -> Any:
    def narrow(*arguments: Any, **named: Any) -> Any:
        if any(isinstance(x, int) and x > _MOST for x in (*arguments, *named.values())):
            raise TooMuch(f"a width may be {_MOST} at the most")
        return filter_(*arguments, **named)

    for name in ("jinja_pass_arg", "__name__", "__doc__"):
        if hasattr(filter_, name):
            setattr(narrow, name, getattr(filter_, name))
    return narrow
