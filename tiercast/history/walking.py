"""Walking through deliveries or jobs, newest first, along the index that fits a filter.

Every index begins with what is chosen by (a class, a customer, an operation) and goes on with the delivery's id. So
the newest rows of several classes are found by looking at the newest row of each, and reading on in those that can
hold one of the rows that are asked for. The cost depends on the number of classes and of rows asked for, and not on
the size of the history.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import tables
from .budget import Budget, OverBudget
from .filtering import HistoryFilter, class_conditions, id_bounds, names_classes

#: Rows of one step along a customer, an event or an operation: a page is mostly found in one.
_STEP = 200

#: Values in one statement.
_CHUNK = 500

#: A row that a walk finds. `row[0]` is the delivery's id.
Row = Sequence[Any]


@dataclass(slots=True)
class Walked:
    """What a walk found, newest first.

    `complete` says that there is no more; else `before` is where to go on. `over_budget` says that its time ended it.
    """

    rows: list[Row]
    complete: bool
    before: str | None
    over_budget: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Ids of deliveries: below `before` (exclusive), and from `low` to `high`."""

    before: str | None
    low: str | None
    high: str | None

    def below(self, before: str) -> Range:
        """What is left of it below an id."""
        return Range(before, self.low, self.high)

    def conditions(self, column: sa.ColumnElement[Any]) -> list[sa.ColumnElement[bool]]:
        """The range as conditions on a column."""
        found: list[sa.ColumnElement[bool]] = []
        if self.before is not None and (self.high is None or self.before <= self.high):
            found.append(column < self.before)
        elif self.high is not None:
            found.append(column <= self.high)
        if self.low is not None:
            found.append(column >= self.low)
        return found


#: Rows, and what is left of the range; None where that is nothing.
Step = tuple[list[Row], Range | None]


class Walk:
    """A walk through one table for one filter.

    Args:
        connection: to read on.
        budget: of the read.
        table: `delivery` or `job`.
        columns: of a row; the first is the delivery's id, the second the class, the third the operation.
        which: the filter.
        before: the id to go on below.
    """

    def __init__(
        self,
        connection: sa.Connection,
        budget: Budget,
        table: sa.Table,
        columns: Sequence[sa.ColumnElement[Any]],
        which: HistoryFilter,
        before: str | None,
    ) -> None:
        self._connection = connection
        self._budget = budget
        self._table = table
        self._classes = tables.delivery_class if table is tables.delivery else tables.job_class
        self._columns = columns
        self._id = columns[0]
        self._which = which
        self._range = Range(before, *id_bounds(which))
        self._step = _STEP

    def rows(self, limit: int) -> Walked:
        """The next rows: at least `limit` where there are so many, all matching ones of the last delivery included."""
        found: list[Row] = []
        here: Range | None = self._range
        try:
            step = self._way(limit)
            while here is not None and len(found) < limit:
                if here.before != self._range.before and self._budget.is_over:
                    raise OverBudget
                rows, here = step(here)
                found += rows
        except OverBudget:
            found, here = self._stopped(found, here or self._range)
            if here is not None and len(found) < limit:
                return Walked(found, complete=False, before=here.before, over_budget=True)
        if len(found) < limit:
            return Walked(found, complete=True, before=None)
        return self._cut(found, limit, here)

    def _stopped(self, found: list[Row], here: Range) -> Step:
        """What there is when the time is over. A walk that found no way to begin takes the plainest one for a step."""
        if here.before != self._range.before:
            return found, here
        self._step = _STEP
        with self._budget.suspended():
            wanted = set(self._class_ids())
            rows, after = self._newest(here)
        return [row for row in rows if row[1] in wanted], after

    @staticmethod
    def _cut(found: list[Row], limit: int, rest: Range | None) -> Walked:
        """Cut behind the last row of the delivery that the limit falls into."""
        end = limit
        while end < len(found) and found[end][0] == found[limit - 1][0]:
            end += 1
        complete = end == len(found) and rest is None
        return Walked(found[:end], complete=complete, before=None if complete else found[end - 1][0])

    def _way(self, limit: int) -> Callable[[Range], Step]:
        which = self._which
        narrow = which.event_id is not None or which.customer is not None or which.operation is not None
        if not narrow:
            # Every row that is found matches, so there is no need to read further than asked.
            self._step = limit
        if not narrow and not names_classes(which):
            return self._newest
        if not narrow:
            of = class_conditions(self._connection, self._classes, which)
            return lambda here: self._merged(self._table.c["class"], of, here)
        # A step along one of these indexes ends soon, whatever the budget, so that looking further always gets on.
        with self._budget.suspended():
            wanted = frozenset(self._class_ids()) if names_classes(which) else None
            way = self._narrow_way()

        def step(here: Range) -> Step:
            with self._budget.suspended():
                rows, after = way(here)
            return [row for row in rows if wanted is None or row[1] in wanted], after

        return step

    def _narrow_way(self) -> Callable[[Range], Step]:
        which = self._which
        if which.event_id is None and which.customer is None:
            return lambda here: self._newest(here, self._table.c.operation == which.operation)
        delivery = tables.delivery
        customers = None if which.customer is None else customers_of(self._connection, which.customer)
        walk = Walk(self._connection, self._budget, delivery, _OF_DELIVERY, HistoryFilter(), None)
        if which.event_id is None:
            theirs = [tables.customer.c.id.in_(customers or [])]
            return lambda here: self._of_deliveries(*walk._merged(delivery.c.customer, theirs, here))
        conditions: list[sa.ColumnElement[bool]] = [delivery.c.event_id == which.event_id]
        if customers is not None:
            conditions.append(delivery.c.customer.in_(customers))
        return lambda here: self._of_deliveries(*walk._newest(here, *conditions))

    def _class_ids(self) -> list[int]:
        conditions = class_conditions(self._connection, self._classes, self._which)
        with self._budget.statement():
            return list(self._connection.scalars(sa.select(self._classes.c.id).where(*conditions)))

    # --- one step: rows, all of the last delivery included, and where to go on

    def _newest(self, here: Range, *conditions: sa.ColumnElement[bool]) -> Step:
        select = sa.select(*self._columns).where(*here.conditions(self._id), *conditions)
        rows = self._fetch(select.order_by(self._id.desc()).limit(self._step))
        if len(rows) < self._step:
            return rows, None
        return self._whole(rows, *conditions), here.below(rows[-1][0])

    def _whole(self, rows: list[Row], *conditions: sa.ColumnElement[bool]) -> list[Row]:
        """Read the delivery again that a limit fell into, where it can have several rows."""
        if self._table is tables.delivery:
            return rows
        last = rows[-1][0]
        rest = self._fetch(sa.select(*self._columns).where(self._id == last, *conditions))
        return [row for row in rows if row[0] != last] + rest

    def _of_deliveries(self, found: list[Row], after: Range | None) -> Step:
        """The rows of some deliveries, sorted as these are."""
        rows: list[Row] = []
        for start in range(0, len(found), _CHUNK):
            part = [row[0] for row in found[start : start + _CHUNK]]
            select = sa.select(*self._columns).where(self._id.in_(part)).order_by(self._id.desc())
            if self._which.operation is not None:
                select = select.where(self._table.c.operation == self._which.operation)
            rows += self._fetch(select)
        return rows, after

    def _merged(self, column: sa.ColumnElement[Any], of: Sequence[sa.ColumnElement[bool]], here: Range) -> Step:
        """The newest rows whose column names one of these classes (or customers)."""
        select = (
            sa.select(*self._columns)
            .where(column == sa.bindparam("value"), *here.conditions(self._id))
            .order_by(self._id.desc())
            .limit(self._step)
        )
        # Once the step is full, only newer rows than its oldest one are of interest.
        newer = select.where(self._id >= sa.bindparam("low"))
        found: list[Row] = []
        newest: list[str] = []  # a heap of the ids of the newest rows: the oldest of them is the first
        for head, value in self._heads(column, of, here):
            if len(newest) < self._step:
                rows = self._fetch(select, value=value)
            elif head >= newest[0]:
                rows = self._fetch(newer, value=value, low=newest[0])
            else:
                break
            for row in rows:
                if len(newest) < self._step:
                    heapq.heappush(newest, row[0])
                elif row[0] >= newest[0]:
                    heapq.heapreplace(newest, row[0])
                found.append(row)
        found.sort(key=lambda row: row[0], reverse=True)
        if len(newest) < self._step:
            return found, None
        last = newest[0]
        rows = [row for row in found if row[0] >= last]
        if self._table is not tables.delivery:
            is_wanted = column.in_(sa.select(self._classes.c.id).where(*of))
            rest = self._fetch(sa.select(*self._columns).where(self._id == last, is_wanted))
            rows = [row for row in rows if row[0] != last] + rest
        return rows, here.below(last)

    def _heads(
        self, column: sa.ColumnElement[Any], of: Sequence[sa.ColumnElement[bool]], here: Range
    ) -> list[tuple[str, int]]:
        """The newest id of each class (or customer) that has one, newest first: as many as a step can need.

        A row of the step is of a class whose newest row is in the step, too, but for rows of the step's last delivery.
        """
        by = self._classes if column.name == "class" else tables.customer
        newest = (
            sa.select(self._id)
            .where(column == by.c.id, *here.conditions(self._id))
            .order_by(self._id.desc())
            .limit(1)
            .correlate(by)
            .scalar_subquery()
        )
        heads = sa.select(newest.label("head"), by.c.id).where(*of).order_by(sa.desc("head").nulls_last())
        return [(head, value) for head, value in self._fetch(heads.limit(self._step)) if head is not None]

    def _fetch(self, select: sa.Select[Any], **values: Any) -> list[Row]:
        with self._budget.statement():
            return list(self._connection.execute(select, values))


_OF_DELIVERY = (tables.delivery.c.id, tables.delivery.c["class"])


def customers_of(connection: sa.Connection, digests: frozenset[str]) -> list[int]:
    """The customers who have one of these names: also as told without it, by the strongest name that they have."""
    named, again, first = tables.customer_name, tables.customer_name.alias(), tables.customer_name.alias()
    strongest = (
        sa.select(first.c.digest)
        .join(named, named.c.customer == first.c.customer)
        .where(named.c.digest.in_(sorted(digests)), first.c.strongest)
    )
    found = connection.scalars(
        sa.select(again.c.customer).where(again.c.strongest, again.c.digest.in_(strongest)).distinct()
    )
    return list(found)
