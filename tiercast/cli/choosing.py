"""Choosing deliveries and jobs: the filters that listings and bulk verbs share, and what they find."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

import click

from ..event import Event, Json, customer_ids
from ..ledger import keys
from ..ledger.model import DeliveryInfo, JobInfo
from ..ledger.reading import Filter, Reader
from ..stored import revive
from .times import Moment

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: How many records are looked up in one round trip.
_PAGE = 200

#: How many a listing shows to a person who does not say.
SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDelivery:
    """A delivery; its event where somebody asked for it and there is one."""

    info: DeliveryInfo
    event: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundJob:
    """A job, with the delivery that tells its event."""

    info: JobInfo
    delivery: DeliveryInfo | None
    event: Event | None

    @property
    def customer_id(self) -> str | None:
        """The id of the event's customer."""
        return customer_ids(self.event).id if self.event else None


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
        click.option("--since", type=Moment(), metavar="TIME", help="Arrived since: 15m, 2h, 3d or ISO 8601."),
        click.option("--until", type=Moment(), metavar="TIME", help="Arrived until: the same forms."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many, newest first."),
    ]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_filter(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in ("state", "type", "source", "action", "customer", "campaign")}
            given |= {name: kwargs.pop(name) for name in ("tier", "limit")}
            given |= {f"{name}_ms": kwargs.pop(name) for name in ("since", "until")}
            return command(*args, which=Filter(**given), **kwargs)

        for option in reversed(options):
            with_filter = option(with_filter)
        return with_filter  # type: ignore[return-value]

    return decorate


def is_empty(which: Filter) -> bool:
    """Whether a filter chooses everything; a limit alone is no choice."""
    return all(getattr(which, field.name) is None for field in fields(which) if field.name != "limit")


def find_deliveries(reader: Reader, which: Filter, *, events: bool = False) -> Iterator[FoundDelivery]:
    """Deliveries that match, newest first, with their events where those are asked for or needed to choose."""
    events = events or which.campaign is not None or which.tier is not None
    infos = reader.deliveries(_for_reader(which))
    found = with_events(reader, infos) if events else (FoundDelivery(info=info) for info in infos)
    return islice((each for each in found if _chosen(which, each)), which.limit)


def with_events(reader: Reader, infos: Iterable[DeliveryInfo]) -> Iterator[FoundDelivery]:
    """Make the events of deliveries again from their bodies."""
    for page in _pages(infos):
        for info, body in zip(page, reader.bodies(info.id for info in page), strict=True):
            yield FoundDelivery(info=info, event=event_of(info, body))


def event_of(info: DeliveryInfo, body: bytes | None) -> Event | None:
    """The event that a delivery tells; None where it was not read, or its body is gone."""
    if body is None or info.event_id is None or info.type is None:
        return None
    try:
        return revive(
            body,
            id=info.event_id,
            type=info.type,
            at=info.at or "",
            created_us=info.created_us,
            source=info.source,
            form=info.form or "",
        )
    except (ValueError, RecursionError):
        return None


def find_jobs(reader: Reader, which: Filter) -> Iterator[FoundJob]:
    """Jobs that match, newest first, with their events."""
    found = jobs_with_events(reader, reader.jobs(_for_reader(which)))
    chosen = (job for job in found if _chosen(replace(which, action=None), job))
    return islice(chosen, which.limit)


def jobs_with_events(reader: Reader, jobs: Iterable[JobInfo]) -> Iterator[FoundJob]:
    """Look up the delivery and the event of each job."""
    for page in _pages(jobs):
        ids = dict.fromkeys(job.delivery for job in page)
        found = {each.info.id: each for each in with_events(reader, reader.by_id(ids))}
        for job in page:
            delivery = found.get(job.delivery)
            yield FoundJob(
                info=job,
                delivery=delivery.info if delivery else None,
                event=delivery.event if delivery else None,
            )


def _for_reader(which: Filter) -> Filter:
    """What the ledger's indexes can choose by; the rest is chosen here, so the limit is too."""
    prefix_only = which.type is None or "*" not in which.type[:-1]
    return replace(which, limit=None, type=which.type if prefix_only else None)


def _chosen(which: Filter, found: FoundDelivery | FoundJob) -> bool:
    info = found.info if isinstance(found, FoundDelivery) else found.delivery
    if which.type is not None and not (info and _is_like(info.type, which.type)):
        return False
    if which.action is not None and not (info and which.action in {keys.parts_of(job)[2] for job in info.jobs}):
        return False
    if which.campaign is None and which.tier is None:
        return True
    event = found.event
    if event is None:
        return False
    # After `left` there is no tier, so the one left counts.
    tier = event.tier or event.previous_tier
    return _is_named(event.campaign, which.campaign) and _is_named(tier, which.tier)


def _is_like(text: str | None, pattern: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text or "") is not None


def _is_named(thing: Json | None, name: str | None) -> bool:
    if name is None:
        return True
    names = [(thing or {}).get(key) for key in ("id", "name")]
    return any(isinstance(each, str) and each.casefold() == name.casefold() for each in names)


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while page := list(islice(iterator, _PAGE)):
        yield page
