"""Operations that the compiled templates call in place of Python's own: lookups, comparisons, arithmetic, methods."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from .budget import (
    TemplateFault,
    bounded,
    charge,
    charge_size,
    charge_whole,
    check_bits,
    check_length,
    current,
    weighed,
)
from .null import Undecided, is_null, missing, undecided
from .text import text_of, word_for

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}

_BLANKS = re.compile(r"\s+")

#: Characters of two texts that one step compares: that is a matter of memory.
_COMPARED_CHARACTERS = 1024

#: Methods that templates may call: harmless, and none makes a text longer.
TEXT_METHODS = frozenset(
    [
        "lower",
        "upper",
        "title",
        "capitalize",
        "strip",
        "lstrip",
        "rstrip",
        "startswith",
        "endswith",
        "removeprefix",
        "removesuffix",
        "split",
    ]
)
TABLE_METHODS = frozenset({"items", "keys", "values", "get"})


def item(value: Any, key: Any) -> Any:
    """What a JSON value holds under a name or a number; None where it holds nothing such. Never an attribute."""
    if isinstance(value, dict):
        return value.get(key) if isinstance(key, str) else None
    if isinstance(value, list | tuple | str) and isinstance(key, int) and not isinstance(key, bool):
        return value[key] if -len(value) <= key < len(value) else None
    if isinstance(value, tuple) and key in (names := getattr(value, "_fields", ())):
        return value[names.index(key)]  # What `groupby` gives.
    return None


def look_up(value: Any, *parts: Any) -> Any:
    """Follow `parts` from the event on; the first null on the way is what is found, and knows its path."""
    charge(1 + len(parts) // 8)
    met = current().met
    if met is not None:
        met[parts] = None
    for index, part in enumerate(parts):
        value = item(value, part)
        if is_null(value):
            return missing(".".join(["event", *map(str, parts[: index + 1])]))
    return value


def compare(left: Any, *rest: Any) -> Any:
    """Compare a chain of values: `rest` is operator, value, operator, value. With null it is undecided."""
    for name, right in zip(rest[::2], rest[1::2], strict=True):
        charge()
        if is_null(left) or is_null(right):
            return undecided(left if is_null(left) else right)
        _charge_comparison(name, left, right)
        try:
            holds = _COMPARE[name](left, right)
        except TypeError:
            if name in {"in", "notin"}:
                raise TemplateFault(f"looks for {word_for(left)} in {word_for(right)}") from None
            raise TemplateFault(f"compares {word_for(left)} with {word_for(right)}") from None
        if not holds:
            return False
        left = right
    return True


def _charge_comparison(name: str, left: Any, right: Any) -> None:
    """Take what comparing costs: it goes through both values as far as they are equal."""
    if name not in {"in", "notin"}:
        if isinstance(left, str) and isinstance(right, str):
            charge(min(len(left), len(right)) // _COMPARED_CHARACTERS)
        elif isinstance(left, list | tuple | dict) and isinstance(right, list | tuple | dict):
            charge_whole(left)
    elif isinstance(right, str):
        charge_size(right)
    elif isinstance(right, dict):
        charge()
    elif isinstance(left, list | tuple | dict):
        charge_whole(right)
    else:
        charge_size(right)
        if isinstance(left, str):
            charge(len(right) * (len(left) // _COMPARED_CHARACTERS))


def negate(value: Any) -> Any:
    """`not`: the opposite of an undecided comparison is undecided."""
    return value if isinstance(value, Undecided) else not value


def arithmetic(sign: str, left: Any, right: Any) -> Any:
    """A binary operation. With null it gives null, but null added to text is empty text."""
    charge()
    if is_null(left) or is_null(right):
        if sign == "+" and (isinstance(left, str) or isinstance(right, str)):
            return right if is_null(left) else left
        return undecided(left if is_null(left) else right)
    _check(sign, left, right)
    charge_size(left)
    charge_size(right)
    try:
        result = _ARITHMETIC[sign](left, right)
    except TypeError:
        hint = "; join them with ~" if sign == "+" else ""
        raise TemplateFault(f"uses {sign} on {word_for(left)} and {word_for(right)}{hint}") from None
    except ZeroDivisionError:
        raise TemplateFault("divides by zero") from None
    except OverflowError:
        raise TemplateFault("makes a number that is too large") from None
    if isinstance(result, list | tuple):
        return weighed(result)
    if isinstance(result, complex):
        raise TemplateFault("makes a number that is not real")
    return bounded(result)


def _check(sign: str, left: Any, right: Any) -> None:
    """Refuse before computing what would be huge, and text formatting."""
    for number in (left, right):
        if isinstance(number, int):
            check_bits(number.bit_length())
    if sign == "%" and isinstance(left, str):
        raise TemplateFault("uses % on text")
    if sign == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, str | list | tuple) and isinstance(times, int):
                check_length(len(sequence) * max(times, 0))
        if isinstance(left, int) and isinstance(right, int):
            check_bits(left.bit_length() + right.bit_length())
    if sign == "**" and isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() * abs(right))


def signed(sign: str, value: Any) -> Any:
    """`-x` and `+x`; null stays null."""
    charge()
    if is_null(value):
        return undecided(value)
    if not isinstance(value, int | float):
        raise TemplateFault(f"uses {sign} on {word_for(value)}")
    return -value if sign == "-" else +value


def sliced(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """`value[start:stop:step]`; null stays null."""
    charge_size(value)
    if is_null(value):
        return value
    if not isinstance(value, str | list | tuple):
        raise TemplateFault(f"takes a part of {word_for(value)}")
    bounds = [None if is_null(bound) else bound for bound in (start, stop, step)]
    if any(bound is not None and not isinstance(bound, int) for bound in bounds) or bounds[2] == 0:
        raise TemplateFault("takes a part by something other than whole numbers")
    return value[slice(*bounds)]


def method(value: Any, name: str, *arguments: Any) -> Any:
    """Call one of the methods that are allowed, on text or a table; on null it gives null."""
    charge_size(value)
    if is_null(value):
        if name == "get":
            return arguments[1] if len(arguments) > 1 else value
        if name in TABLE_METHODS:
            return []
        return undecided(value) if name.endswith("swith") else value
    arguments = tuple(None if is_null(argument) else argument for argument in arguments)
    try:
        if isinstance(value, str) and name in TEXT_METHODS:
            return _text_method(value, name, arguments)
        if isinstance(value, dict) and name in TABLE_METHODS:
            found = getattr(value, name)(*arguments)
            return found if name == "get" else list(found)
    except (TypeError, ValueError):
        raise TemplateFault(f"calls .{name}() with something that it does not take") from None
    raise TemplateFault(f"calls .{name}() on {word_for(value)}")


def _text_method(value: str, name: str, arguments: tuple[Any, ...]) -> Any:
    """Call a method of text; the parts of `split` are paid for before they are made."""
    if name == "split":
        separator = arguments[0] if arguments else None
        parts = _parts_between_blanks(value) if separator is None else value.count(separator) + 1
        if len(arguments) > 1 and isinstance(arguments[1], int) and arguments[1] >= 0:
            parts = min(parts, arguments[1] + 1)
        check_length(parts)
        charge(parts)
    elif name.endswith("strip"):
        for chars in arguments:
            charge_stripping(value, chars)
    return getattr(value, name)(*arguments)


def charge_stripping(value: str, chars: Any) -> None:
    """Take what it costs to look for each character of a text among others."""
    if isinstance(chars, str):
        charge(len(value) * len(chars) // _COMPARED_CHARACTERS)


def _parts_between_blanks(text: str) -> int:
    return 1 + sum(1 for _ in _BLANKS.finditer(text)) if len(text) > 1 else 1


def joined(values: list[Any]) -> str:
    """`a ~ b ~ c`."""
    texts = [text_of(value) for value in values]
    size = sum(map(len, texts))
    charge(len(texts) + size // 64)
    check_length(size)
    return "".join(texts)


def numbers(*bounds: Any) -> range:
    """`range(...)`, each number of which costs a step."""
    if not bounds or any(isinstance(bound, bool) or not isinstance(bound, int) for bound in bounds):
        if any(is_null(bound) for bound in bounds):
            return range(0)
        raise TemplateFault("calls range() with something other than whole numbers")
    try:
        made = range(*bounds)
        charge(len(made))
    except (TypeError, ValueError, OverflowError):
        raise TemplateFault("calls range() with bounds that it does not take") from None
    return made
