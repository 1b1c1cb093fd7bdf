"""The filters and tests that templates may use: Jinja's own, less those that are risky, huge or random."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sized
from html import unescape
from typing import Any, cast
from urllib.parse import quote

from jinja2 import filters, pass_environment, tests
from markupsafe import Markup, escape

from ...idempotency import short_key, uuid_key
from . import operations
from .budget import TemplateFault, bounded, charge, charge_size, charge_whole, check_length, counted, current, weighed
from .null import is_null, missing, undecided
from .text import json_of, text_of, word_for

Function = Callable[..., Any]

_JINJA_FILTERS = [
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "groupby",
    "int",
    "items",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "safe",
    "select",
    "selectattr",
    "sort",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
]

_JINJA_TESTS = [
    "boolean",
    "divisibleby",
    "even",
    "false",
    "float",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "number",
    "odd",
    "sequence",
    "string",
    "true",
    "upper",
]

#: Filters of numbers that would fail on null; null stays null.
_NULL_STAYS = frozenset({"abs", "round"})

#: Tests that judge what a value is; null is simply not that. The others are undecided about null.
_OF_TYPE = frozenset({"boolean", "false", "float", "integer", "iterable", "mapping", "number", "sequence", "string"})
_OF_TYPE |= {"true"}

#: Names of the tests that compare, with the operation behind them.
_COMPARING = {
    "eq": "eq",
    "==": "eq",
    "equalto": "eq",
    "ne": "ne",
    "!=": "ne",
    "lt": "lt",
    "<": "lt",
    "lessthan": "lt",
    "le": "lteq",
    "<=": "lteq",
    "gt": "gt",
    ">": "gt",
    "greaterthan": "gt",
    "ge": "gteq",
    ">=": "gteq",
    "in": "in",
}

#: Filters that compare what a list holds: they sort, or look for what is equal or the largest.
_COMPARING_FILTERS = frozenset({"dictsort", "groupby", "max", "min", "sort", "unique"})

#: Filters that do not look into what a list or table holds. The others may write all of it as text.
_SHALLOW = frozenset(
    {"abs", "count", "d", "default", "first", "float", "int", "items", "last", "length", "list", "map", "reject"}
    | {"rejectattr", "reverse", "select", "selectattr"}
)

#: The most places that `round` rounds to, either way.
_PLACES = 20


def _guarded(name: str, function: Function) -> Function:
    """Make a filter of Jinja's pay for what it goes through, bear null, and stay bounded."""
    place = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def guarded(*arguments: Any, **options: Any) -> Any:
        value = arguments[place]
        _charge(name, value, (*arguments[place + 1 :], *options.values()))
        if value is None:
            arguments = (*arguments[:place], missing("a value"), *arguments[place + 1 :])
        if is_null(value):
            if name in {"length", "count"} and current().strict:
                return undecided(arguments[place])
            if name in _NULL_STAYS:
                return arguments[place]
            if name in {"int", "float"}:
                arguments = (*arguments[:place], None, *arguments[place + 1 :])
        return bounded(function(*arguments, **options))

    return guarded


def _charge(name: str, value: Any, arguments: Iterable[Any]) -> None:
    """Take what a filter of Jinja's costs."""
    if name in _COMPARING_FILTERS:
        _charge_sorting(value)
    elif name in _SHALLOW:
        charge_size(value)
    else:
        charge_whole(value)
    if name == "trim" and isinstance(value, str):
        for chars in arguments:
            operations.charge_stripping(value, chars)


def _charge_sorting(value: Any) -> None:
    """Take what it costs to compare each value of a list with some of the others, as sorting does."""
    rounds = max(1, len(value)).bit_length() if isinstance(value, Sized) else 1
    nested = not isinstance(value, str) and any(isinstance(one, list | tuple | dict) for one in _few(value))
    for _ in range(rounds if nested else 1):
        charge_whole(value)


def _few(value: Any) -> Iterable[Any]:
    """What a list or table holds."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _guarded_test(name: str, function: Function) -> Function:
    @functools.wraps(function)
    def guarded(value: Any, *arguments: Any) -> Any:
        charge_whole(value)
        if is_null(value):
            return False if name in _OF_TYPE else undecided(value)
        try:
            return function(value, *arguments)
        except (TypeError, ZeroDivisionError):
            raise TemplateFault(f'asks whether {word_for(value)} is "{name}"') from None

    return guarded


@pass_environment
def _sum(environment: Any, iterable: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    total = start
    for part in counted(() if is_null(iterable) else iterable):
        # Adding pays for what it adds up to, so that lists do not cost the square of their number.
        total = operations.arithmetic("+", total, _attribute(environment, part, attribute))
    return total


def _striptags(value: Any) -> str:
    """Text without tags and comments, blanks in a row as one; in linear time, unlike markupsafe's own."""
    text = text_of(value)
    charge_size(text)
    pieces: list[str] = []
    place, comments_end = 0, text.rfind("-->")
    while True:
        start = text.find("<", place)
        if start < 0:
            break
        is_comment = text.startswith("<!--", start) and start + 4 <= comments_end
        end = text.find("-->" if is_comment else ">", start + (4 if is_comment else 0))
        if end < 0:
            break
        charge()
        pieces.append(text[place:start])
        place = end + (3 if is_comment else 1)
    pieces.append(text[place:])
    found: str = bounded(unescape(" ".join("".join(pieces).split())))
    return found


@pass_environment
def _join(environment: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    parts = [_attribute(environment, part, attribute) for part in counted(() if is_null(value) else value)]
    texts = [text_of(part) for part in parts]
    check_length(sum(map(len, texts)) + len(text_of(d)) * len(texts))
    if environment.autoescape:
        return escape(text_of(d)).join(texts)
    return text_of(d).join(texts)


def _attribute(environment: Any, value: Any, path: str | int | None) -> Any:
    for part in path.split(".") if isinstance(path, str) else [] if path is None else [path]:
        value = environment.getitem(value, part)
    return value


def _replace(value: Any, old: Any, new: Any, count: Any = None) -> str:
    text, old, new = text_of(value), text_of(old), text_of(new)
    charge_size(text)
    times = text.count(old) if count is None else min(text.count(old), int(count))
    check_length(len(text) + times * len(new))
    return text.replace(old, new, times)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    charge()
    if is_null(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TemplateFault(f"rounds {word_for(value)}")
    if not isinstance(precision, int) or abs(precision) > _PLACES:
        raise TemplateFault(f"rounds to more than {_PLACES} places")
    return filters.do_round(value, precision, method)  # type: ignore[arg-type]


def _urlencode(value: Any) -> str:
    """Text as one segment of a path, or one value of a query: a slash is encoded too, and dots alone cannot climb."""
    if isinstance(value, str):
        return "%2E" * len(value) if value in {".", ".."} else quote(value.encode("utf-8", "replace"), safe="")
    return filters.do_urlencode(value)


def _key_filter(make: Callable[[str], str]) -> Function:
    """A filter that makes an idempotency key of text such as `job.key`; null stays null."""

    def filtered(value: Any) -> Any:
        if is_null(value):
            return value
        text = text_of(value)
        charge_size(text)
        return make(text)

    return filtered


def _string(value: Any) -> str:
    charge()
    return text_of(value)


@pass_environment
def _tojson(environment: Any, value: Any) -> str:
    text = json_of(value)
    # Spelled so that it can stand in a page's script; it stays the same JSON (as Jinja's own filter does).
    for sign in "<>&'":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    check_length(len(text))
    return Markup(text) if environment.autoescape else text  # noqa: S704 - escaped above


@pass_environment
def _tilde(environment: Any, values: list[Any]) -> str:
    if environment.autoescape and any(isinstance(value, Markup) for value in values):
        text = Markup("").join(text_of(value) for value in values)
        check_length(len(text))
        return text
    return operations.joined(values)


def _is_none(value: Any) -> bool:
    charge()
    return is_null(value)


def _is_defined(value: Any) -> bool:
    charge()
    return not is_null(value)


def _comparing(operation: str) -> Function:
    def test(value: Any, other: Any) -> Any:
        return operations.compare(value, operation, other)

    return test


#: Filters by the name that a template writes.
FILTERS: dict[str, Function] = {name: _guarded(name, filters.FILTERS[name]) for name in _JINJA_FILTERS} | {
    "urlencode": _guarded("urlencode", _urlencode),
    "join": _join,
    "replace": _replace,
    "round": _round,
    "string": _string,
    "short": _key_filter(short_key),
    "striptags": _striptags,
    "sum": _sum,
    "tojson": _tojson,
    "uuid": _key_filter(uuid_key),
}

#: What `syntax` rewrites operators to. The names hold a space, so that no template can write them.
INTERNAL: dict[str, Function] = {
    "look up": operations.look_up,
    "compare with": operations.compare,
    "opposite of": operations.negate,
    "part of": operations.sliced,
    "call method": operations.method,
    "numbers to": operations.numbers,
    "joined by tilde": _tilde,
    "counted items": lambda items: () if is_null(items) else counted(items),
    "weighed literal": weighed,
}

TESTS: dict[str, Function] = (
    {name: _guarded_test(name, cast(Function, tests.TESTS[name])) for name in _JINJA_TESTS}
    | {name: _comparing(operation) for name, operation in _COMPARING.items()}
    | {"none": _is_none, "undefined": _is_none, "defined": _is_defined}
)
