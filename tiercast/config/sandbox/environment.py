"""The environment in which templates are compiled and run."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from . import operations
from .budget import charge, charge_whole
from .filters import FILTERS, INTERNAL, TESTS
from .null import Missing, is_null, missing
from .text import text_of

#: What a loop tells of itself.
_LOOP = frozenset(
    [
        "index",
        "index0",
        "revindex",
        "revindex0",
        "first",
        "last",
        "length",
        "previtem",
        "nextitem",
        "depth",
        "depth0",
        "cycle",
        "changed",
    ]
)


# Given the context so that Jinja does not run it while compiling, where there is no budget.
@pass_context
def _finalize(_context: Context, value: Any) -> str:
    return text_of(value)


class Sandbox(ImmutableSandboxedEnvironment):
    """Lookups find items of JSON only; operators, filters and tests are those of this package."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    intercepted_unops = frozenset({"+", "-"})

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(
            autoescape=autoescape,
            undefined=Missing,
            finalize=_finalize,
            optimized=False,
            keep_trailing_newline=True,
            cache_size=0,
        )
        self.globals.clear()
        self.filters.clear()
        self.filters.update(FILTERS | INTERNAL)
        self.tests.clear()
        self.tests.update(TESTS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look up `obj.attribute`: an item, or what a loop tells of itself."""
        if isinstance(obj, LoopContext) and attribute in _LOOP:
            return _changed(obj) if attribute == "changed" else getattr(obj, attribute)
        charge()
        value = operations.item(obj, attribute)
        return missing(attribute) if is_null(value) else value

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look up `obj[argument]`; never an attribute of a Python object."""
        charge()
        value = operations.item(obj, argument)
        # The argument may be a value of the event, such as an email, and what is null is told to operators.
        return missing("a value") if is_null(value) else value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002
        """Compute `left operator right`."""
        return operations.arithmetic(operator, left, right)

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:  # noqa: ARG002
        """Compute `operator arg`."""
        return operations.signed(operator, arg)


def _changed(loop: LoopContext) -> Callable[..., bool]:
    """`loop.changed`, which compares its arguments with those of the round before, and pays for that."""

    def changed(*values: Any) -> bool:
        charge_whole(values)
        return loop.changed(*values)

    return changed


@lru_cache(maxsize=2)
def sandbox(*, html: bool) -> Sandbox:
    """The environment for text, or the one that escapes what it writes into HTML."""
    return Sandbox(autoescape=html)
