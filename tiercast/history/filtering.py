"""What a read of the history chooses by, and which classes that means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..error_pattern import error_pattern
from . import tables


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFilter:
    """Which deliveries or jobs; None matches all.

    Args:
        state: of the delivery, or of the job.
        type: event type; `*` stands for anything.
        source, action: names. A delivery matches an action if it has such a job.
        customer: keyed digests; one of the customer's names is among them.
        campaign, tier: id or name, in any case of letters.
        error: part of the error's text. It is compared without ids and numbers, as `error_pattern` has it.
        pattern: the whole error pattern.
        event_id: of the event.
        operation: id of the last operation that touched it.
        since_ms, until_ms: when the delivery arrived, both inclusive, milliseconds since 1970.
    """

    state: str | None = None
    type: str | None = None
    source: str | None = None
    action: str | None = None
    customer: frozenset[str] | None = None
    campaign: str | None = None
    tier: str | None = None
    error: str | None = None
    pattern: str | None = None
    event_id: str | None = None
    operation: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def by_class_alone(self) -> bool:
        """Whether classes say it all, so that counts are kept."""
        rest = (self.customer, self.event_id, self.operation, self.since_ms, self.until_ms)
        return all(each is None for each in rest)


_MATCHED_BY_TEXT = ("type", "source", "action", "campaign", "tier", "error", "pattern")


def names_classes(which: HistoryFilter) -> bool:
    """Whether a filter leaves out any class."""
    return which.state is not None or any(getattr(which, name) is not None for name in _MATCHED_BY_TEXT)


def class_conditions(connection: sa.Connection, table: sa.Table, which: HistoryFilter) -> list[sa.ColumnElement[bool]]:
    """What the classes of a filter fulfil, as conditions on `delivery_class` or `job_class`."""
    conditions: list[sa.ColumnElement[bool]] = [table.c.rows > 0]
    if which.state is not None:
        conditions.append(table.c.state == which.state)
    if which.source is not None:
        conditions.append(_is_term(table.c.source, "source", which.source))
    if which.type is not None:
        conditions.append(_type(connection, table.c.type, which.type))
    if which.action is not None:
        conditions.append(_action(connection, table, which.action))
    for column, name in ((table.c.campaign, which.campaign), (table.c.tier, which.tier)):
        if name is not None:
            wanted = name.casefold()
            terms = _terms(connection, column.name)
            ids = [id for id, *texts in terms if any(text and text.casefold() == wanted for text in texts)]
            conditions.append(column.in_(ids))
    if which.pattern is not None:
        conditions.append(_is_term(table.c.error, "error", which.pattern))
    if which.error is not None:
        part = error_pattern(which.error).casefold()
        conditions.append(
            table.c.error.in_([id for id, code, _ in _terms(connection, "error") if part in code.casefold()])
        )
    return conditions


def id_bounds(which: HistoryFilter) -> tuple[str | None, str | None]:
    """The lowest and the highest id of deliveries that arrived between `since_ms` and `until_ms`."""
    low = None if which.since_ms is None else first_id(which.since_ms)
    high = None if which.until_ms is None else last_id(which.until_ms)
    return low, high


def first_id(ms: int) -> str:
    """The lowest id of a delivery that arrived in this millisecond."""
    return _id(max(0, ms) << 80)


def last_id(ms: int) -> str:
    """The highest id of a delivery that arrived in this millisecond."""
    return _id((max(0, ms) + 1 << 80) - 1)


def _id(number: int) -> str:
    text = f"{min(number, (1 << 128) - 1):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _is_term(column: sa.Column[Any], kind: str, code: str) -> sa.ColumnElement[bool]:
    term = tables.term
    return column.in_(sa.select(term.c.id).where(term.c.kind == kind, term.c.code == code))


def _type(connection: sa.Connection, column: sa.Column[Any], wanted: str) -> sa.ColumnElement[bool]:
    if "*" not in wanted:
        return _is_term(column, "type", wanted)
    pattern = re.compile(".*".join(map(re.escape, wanted.split("*"))))
    ids = [id for id, code, _ in _terms(connection, "type") if pattern.fullmatch(code)]
    # What was not read has no type, which `*` alone matches as it matches any other.
    return column.in_([*ids, tables.NONE] if pattern.fullmatch("") else ids)


def _action(connection: sa.Connection, table: sa.Table, wanted: str) -> sa.ColumnElement[bool]:
    if "action" in table.c:
        return _is_term(table.c.action, "action", wanted)
    return table.c.actions.in_([id for id, code, _ in _terms(connection, "actions") if wanted in code.split(" ")])


def _terms(connection: sa.Connection, kind: str) -> Iterable[tuple[int, str, str]]:
    term = tables.term
    found = connection.execute(sa.select(term.c.id, term.c.code, term.c.name).where(term.c.kind == kind))
    return [(id, code, name) for id, code, name in found]
