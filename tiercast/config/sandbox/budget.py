"""What one evaluation may cost, and what it met on its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any

#: Steps that one evaluation may take: loop rounds, lookups, filters, operations. About a tenth of a second.
STEPS = 50_000

#: Characters that one evaluation may write, and that any text or list it makes may have: 64 KiB.
SIZE = 64 * 1024

#: Characters of a text that one step goes through.
_CHARACTERS = 64

#: Bits of the largest number that an operation may make.
_BITS = 4096


class TemplateFault(Exception):
    """An evaluation that cannot be finished. The message holds no value of the event."""


@dataclass(slots=True)
class Budget:
    """The state of one evaluation.

    `left` counts steps down. `strict` is True for a condition, which comparing or calculating with null ends. `met`
    takes the paths that a condition looks up.
    """

    left: int = STEPS
    strict: bool = False
    met: dict[tuple[Any, ...], None] | None = None


_current: ContextVar[Budget] = ContextVar("tiercast_template_budget")


def begin(*, strict: bool = False, met: dict[tuple[Any, ...], None] | None = None) -> Token[Budget]:
    """Start an evaluation with a fresh budget; `end` takes what this returns.

    A pair of functions, since a context manager made of a generator costs more than many an evaluation.
    """
    return _current.set(Budget(strict=strict, met=met))


def end(token: Token[Budget]) -> None:
    """End the evaluation."""
    _current.reset(token)


def current() -> Budget:
    """The budget of the evaluation under way."""
    return _current.get()


def charge(steps: int = 1) -> None:
    """Take steps from the budget; raises TemplateFault when it is used up."""
    state = _current.get()
    state.left -= steps
    if state.left < 0:
        raise TemplateFault(f"takes more than {STEPS} steps")


def charge_size(value: object) -> None:
    """Take what it costs to go through a value once, not into what it holds."""
    if isinstance(value, str):
        charge(1 + len(value) // _CHARACTERS)
    elif isinstance(value, Sized):
        charge(1 + len(value))
    else:
        charge()


def charge_whole(value: object) -> None:
    """Take what it costs to go through a value and all that it holds, as comparing does."""
    charge_size(value)
    if not isinstance(value, list | tuple | dict):
        return
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        for inner in one.values() if isinstance(one, dict) else one:
            if isinstance(inner, list | tuple | dict):
                charge(1 + len(inner))
                waiting.append(inner)
            elif isinstance(inner, str) and len(inner) >= _CHARACTERS:
                charge(len(inner) // _CHARACTERS)


def counted(items: Any) -> Iterable[Any]:
    """Take a step for each item that a loop goes through."""
    if not isinstance(items, Iterable):
        raise TemplateFault("loops over something that is neither a list nor a table")
    if not isinstance(items, Sized):
        return _counted(iter(items))
    charge(len(items))
    return items


def _counted(items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        charge()
        yield item


def bounded(value: Any) -> Any:
    """Refuse a text, list or number that has become too large; return any other."""
    if isinstance(value, str | list | tuple | dict):
        check_length(len(value))
    elif isinstance(value, int) and value.bit_length() > _BITS:
        raise TemplateFault("makes a number that is too large")
    return value


def check_length(length: int) -> None:
    """Refuse a length before the text or list is made."""
    if length > SIZE:
        raise TemplateFault(f"makes more than {SIZE // 1024} KiB")


def check_bits(bits: int) -> None:
    """Refuse a number before it is computed."""
    if bits > _BITS:
        raise TemplateFault("makes a number that is too large")


def weighed(value: Any) -> Any:
    """Take a step for each value in a list or table that the template itself makes, however deep.

    Lists that hold the same list twice, many times over, are small to hold and endless to write out; this is
    where they end.
    """
    bounded(value)
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list | tuple):
            charge(len(one))
            waiting.extend(one)
        elif isinstance(one, dict):
            charge(len(one))
            waiting.extend(one.values())
    return value
