"""Choosing deliveries and jobs: the filters that listings and bulk verbs share, and what they find."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar

import click

from ..ledger.reading import Filter, FoundJob, Reader
from . import output
from .group import Failure
from .times import Moment

F = TypeVar("F", bound=Callable[..., Any])

#: How many names are listed that a part of a name can mean.
_NAMED = 10

#: The fewest characters that are taken for a part of a name.
_LEAST = 3

_NO_DELIVERY = (
    "There is no delivery {}. Settled ones leave after TIERCAST_KEEP_DAYS; see what there is with "
    "`tiercast deliveries list`."
)
_NO_JOB = "There is no job {}. A key is SOURCE:EVENT:ACTION; see what there is with `tiercast jobs list`."

#: How many a listing shows to a person who does not say.
SHOWN = 50


def filters(states: type[StrEnum]) -> Callable[[F], F]:
    """Give a command the filters; it gets them as `which`."""
    options = [
        click.option("--state", type=click.Choice([str(state) for state in states]), help="In this state."),
        click.option("--type", metavar="NAME", help="Of this event type; * stands for anything."),
        click.option("--source", metavar="NAME", help="From this source."),
        click.option("--action", metavar="NAME", help="Of this action."),
        click.option("--customer", metavar="ID", help="Of this customer: id, source id or email."),
        click.option("--campaign", metavar="NAME", help="Of this campaign: id or name."),
        click.option("--tier", metavar="NAME", help="Entered (or left) this tier: id or name."),
        click.option("--error", metavar="TEXT", help="With this text in its error or reason."),
        click.option("--since", type=Moment(), metavar="TIME", help="Arrived since: 15m, 2h, 3d or ISO 8601."),
        click.option("--until", type=Moment(), metavar="TIME", help="Arrived until: the same forms."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many, newest first."),
    ]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_filter(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in ("state", "type", "source", "action", "customer", "campaign")}
            given |= {name: kwargs.pop(name) for name in ("tier", "error", "limit")}
            given |= {f"{name}_ms": kwargs.pop(name) for name in ("since", "until")}
            return command(*args, which=Filter(**given), **kwargs)

        for option in reversed(options):
            with_filter = option(with_filter)
        return with_filter  # type: ignore[return-value]

    return decorate


def is_empty(which: Filter) -> bool:
    """Whether a filter chooses everything; a limit alone is no choice."""
    return all(getattr(which, field.name) is None for field in fields(which) if field.name != "limit")


def find_jobs(reader: Reader, which: Filter) -> Iterator[FoundJob]:
    """Jobs that match, newest first, with their events."""
    return reader.jobs_with_events(reader.jobs(which))


def one_delivery(reader: Reader, text: str) -> str:
    """The id of the delivery that somebody means: its id, or a part that no other has.

    Raises:
        Failure: there is none, or several; the message lists them.
    """
    return _one(text, reader.delivery(text) is not None, reader.deliveries_like, _NO_DELIVERY)


def one_job(reader: Reader, text: str) -> str:
    """The key of the job that somebody means: its key, the key that its vendor got, or a part that no other has.

    Raises:
        Failure: there is none, or several; the message lists them.
    """
    return _one(text, reader.job(text) is not None, reader.jobs_like, _NO_JOB)


def _one(text: str, exact: bool, like: Callable[[str, int], list[str]], none: str) -> str:
    if exact:
        return text
    found = like(text, _NAMED + 1) if len(text) >= _LEAST else []
    if len(found) == 1:
        return found[0]
    shown = output.plain(text)
    if not found:
        raise Failure(none.format(shown))
    lines = [f"  {output.plain(name)}" for name in sorted(found)[:_NAMED]]
    more = ["  and more"] if len(found) > _NAMED else []
    raise Failure("\n".join([f"{shown} can be any of these; say which:", *lines, *more]))
