"""Null: what the event holds as null, what it does not hold, and what a comparison with either gives."""

from __future__ import annotations

from typing import Any

from jinja2 import ChainableUndefined, Undefined

from .budget import current


class Missing(ChainableUndefined):
    """Null or missing, which are the same: the sender's payload designer may drop what is null.

    It renders as empty text, counts as false, and anything looked up in it is missing too.
    """

    __slots__ = ()


class Undecided(Missing):
    """What comparing with null gives: it counts as false, and so does its opposite."""

    __slots__ = ()


def missing(path: str) -> Missing:
    """Null, met at `path`."""
    return Missing(name=path)


class MetNull(Exception):
    """A condition compared or calculated with null; the message is its path."""


def undecided(null: Any) -> Undecided:
    """The outcome of comparing or calculating with `null`.

    Raises:
        MetNull: it happened in a condition.
    """
    path = path_of(null)
    if current().strict:
        raise MetNull(path)
    return Undecided(name=path)


def path_of(null: Any) -> str:
    """Where a null was met."""
    return (isinstance(null, Undefined) and null._undefined_name) or "a value"


def is_null(value: Any) -> bool:
    """Whether a value is null or missing."""
    return value is None or isinstance(value, Undefined)
