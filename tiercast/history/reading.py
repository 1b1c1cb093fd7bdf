"""Reading the history: pages newest first, counts, error groups, one delivery or job, all of a customer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from ..event import iso_from_us
from ..ids import received_ms
from . import tables
from .address import HistoryAddress
from .bodies import Bodies
from .budget import Budget
from .engine import translated
from .filing import attempt_of
from .filtering import HistoryFilter, class_conditions, id_bounds
from .rows import FiledAttempt, FiledDelivery, FiledJob, Named
from .walking import Range, Walk, Walked, customers_of

T = TypeVar("T")

#: Seconds that a page may take; then it shows what it has.
PAGE_BUDGET_SECONDS = 0.2

#: Rows that are counted one by one, where no count is kept.
COUNTED = 10_000

_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A page of a listing, newest first.

    `before` is where the next page goes on; None where there is no more. `looked_back_ms` is set where the time was
    over before the page was full: all that arrived since then was looked at, and `before` looks further.
    """

    rows: list[T]
    before: str | None = None
    looked_back_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFound:
    """A job, and its delivery without jobs."""

    job: FiledJob
    delivery: FiledDelivery


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are; `exact` is False where there are more than that."""

    number: int
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """Jobs of one action (or quarantined deliveries of one source) with one error pattern.

    `first_ms` and `last_ms` say when the oldest and the newest of their deliveries arrived. `example` is the newest
    job's key, or the newest delivery's id.
    """

    state: str
    action: str | None
    source: str | None
    pattern: str
    count: int
    first_ms: int
    last_ms: int
    example: str


class Reading:
    """Reads a history. Threads can share it."""

    def __init__(self, engine: sa.Engine, address: HistoryAddress, bodies: Bodies) -> None:
        self._engine = engine
        # So a statement that is stopped for its time takes no other along.
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT") if address.path is None else engine
        self._address = address
        self._bodies = bodies

    # --- pages

    def deliveries(
        self,
        which: HistoryFilter,
        *,
        limit: int = 51,
        before: str | None = None,
        seconds: float | None = PAGE_BUDGET_SECONDS,
        bodies: bool = True,
    ) -> Page[FiledDelivery]:
        """A page of deliveries, without their jobs.

        Args:
            which: the filter.
            limit: at most so many.
            before: `before` of the page before this one.
            seconds: the time that looking may take; None for no limit.
            bodies: False leaves the bodies out.
        """
        table = tables.delivery
        columns = (table.c.id, table.c["class"])
        with self._reading(seconds) as (connection, budget):
            walked = Walk(connection, budget, table, columns, which, before).rows(limit)
            with budget.suspended():
                rows = self._by_id(connection, [row[0] for row in walked.rows], bodies=bodies)
        return _page(rows, walked)

    def jobs(
        self,
        which: HistoryFilter,
        *,
        limit: int = 51,
        before: str | None = None,
        seconds: float | None = PAGE_BUDGET_SECONDS,
        bodies: bool = True,
    ) -> Page[JobFound]:
        """A page of jobs without their attempts, those of the newest delivery first.

        A page ends with the last matching job of a delivery, so it can have a few more than `limit`. `bodies` are those
        of the deliveries.
        """
        table = tables.job
        columns = (table.c.delivery, table.c["class"], table.c.action, table.c.again)
        with self._reading(seconds) as (connection, budget):
            walked = Walk(connection, budget, table, columns, which, before).rows(limit)
            with budget.suspended():
                rows = self._jobs_found(connection, walked.rows, bodies=bodies)
        return _page(rows, walked)

    def _jobs_found(self, connection: sa.Connection, rows: Sequence[Sequence[Any]], *, bodies: bool) -> list[JobFound]:
        ids = list(dict.fromkeys(row[0] for row in rows))
        deliveries = {each.id: each for each in self._by_id(connection, ids, bodies=bodies)}
        wanted = {(row[0], row[2], row[3]) for row in rows}
        jobs = self._jobs_of(connection, deliveries, wanted=wanted)
        return [JobFound(job=job, delivery=deliveries[id]) for id in ids if id in deliveries for job in jobs[id]]

    # --- one

    def delivery(self, delivery: str) -> FiledDelivery | None:
        """One delivery with its jobs, their attempts and its body; None where there is none of that id."""
        with self._reading(None) as (connection, _):
            found = {each.id: each for each in self._by_id(connection, [delivery], bodies=True)}
            for each in found.values():
                each.jobs = tuple(self._jobs_of(connection, found, attempts=True)[each.id])
            return found.get(delivery)

    def by_id(self, deliveries: Iterable[str], *, bodies: bool = True, jobs: bool = False) -> list[FiledDelivery]:
        """These deliveries, in their order; those that are not there are left out. `jobs` come without attempts."""
        with self._reading(None) as (connection, _):
            found = self._by_id(connection, list(deliveries), bodies=bodies)
            if jobs:
                of = self._jobs_of(connection, {each.id: each for each in found})
                for each in found:
                    each.jobs = tuple(of[each.id])
            return found

    def job(self, key: str) -> JobFound | None:
        """One job with its attempts, and its delivery with its body; None where there is none of that key.

        An event that was told again after its mark was gone has several jobs of one key: the newest.
        """
        return next(iter(self.jobs_by_key([key], attempts=True)), None)

    def jobs_by_key(self, keys: Iterable[str], *, attempts: bool = False) -> list[JobFound]:
        """These jobs, in their order; those that are not there are left out."""
        found = []
        with self._reading(None) as (connection, _):
            for key in keys:
                source, _, rest = key.partition(":")
                event = rest.rpartition(":")[0]
                # An event's id can hold colons, and `:r2` can be its end as well as a round.
                for event_id in {event, event.rpartition(":")[0]} - {""}:
                    one = self._job(connection, key, source, event_id, attempts=attempts)
                    if one:
                        found.append(one)
                        break
        return found

    def _job(
        self, connection: sa.Connection, key: str, source: str, event_id: str, *, attempts: bool
    ) -> JobFound | None:
        table = tables.delivery
        ids = connection.scalars(
            sa.select(table.c.id).where(table.c.event_id == event_id).order_by(table.c.id.desc())
        ).all()
        deliveries = {each.id: each for each in self._by_id(connection, ids, bodies=True) if each.source == source}
        jobs = self._jobs_of(connection, deliveries, attempts=attempts)
        found = (JobFound(job=job, delivery=each) for id, each in deliveries.items() for job in jobs[id])
        return next((each for each in found if each.job.key == key), None)

    def events(self, event_id: str) -> list[str]:
        """Ids of the deliveries that tell this event, newest first."""
        return [each.id for each in self.deliveries(HistoryFilter(event_id=event_id), limit=1000, bodies=False).rows]

    def deliveries_like(self, part: str, most: int) -> list[str]:
        """Up to so many ids that begin with a part of an id."""
        digits = part.replace("-", "").lower()
        if not digits or len(digits) > 32 or set(digits) - set("0123456789abcdef"):
            return []
        low, high = (_dashed(digits.ljust(32, digit)) for digit in "0f")
        table = tables.delivery
        with self._reading(None) as (connection, _):
            select = sa.select(table.c.id).where(table.c.id.between(low, high)).order_by(table.c.id).limit(most)
            return list(connection.scalars(select))

    def jobs_like(self, event: str, most: int) -> list[str]:
        """Up to so many keys of jobs whose event's id begins with this part."""
        table = tables.delivery
        with self._reading(None) as (connection, _):
            ids = connection.scalars(
                sa.select(table.c.id)
                .where(table.c.event_id >= event, table.c.event_id < event + "\U0010ffff")
                .order_by(table.c.event_id)
                .limit(most)
            ).all()
            deliveries = {each.id: each for each in self._by_id(connection, ids, bodies=False)}
            jobs = self._jobs_of(connection, deliveries)
        return [job.key for id in deliveries for job in jobs[id]][:most]

    # --- counts

    def count_deliveries(self, which: HistoryFilter, *, seconds: float | None = PAGE_BUDGET_SECONDS) -> Count:
        """How many deliveries match: the kept counts, else counted up to 10,000 or as far as the time lasts."""
        table = tables.delivery
        return self._count(which, table, (table.c.id, table.c["class"]), seconds)

    def count_jobs(self, which: HistoryFilter, *, seconds: float | None = PAGE_BUDGET_SECONDS) -> Count:
        """How many jobs match: the kept counts, else counted up to 10,000 or as far as the time lasts."""
        table = tables.job
        return self._count(which, table, (table.c.delivery, table.c["class"]), seconds)

    def _count(
        self, which: HistoryFilter, table: sa.Table, columns: Sequence[sa.ColumnElement[Any]], seconds: float | None
    ) -> Count:
        classes = tables.delivery_class if table is tables.delivery else tables.job_class
        with self._reading(seconds) as (connection, budget):
            if which.by_class_alone:
                conditions = class_conditions(connection, classes, which)
                return Count(int(connection.scalar(sa.select(sa.func.sum(classes.c.rows)).where(*conditions)) or 0))
            number, before = 0, None
            while number < COUNTED:
                walked = Walk(connection, budget, table, columns, which, before).rows(COUNTED - number)
                number += len(walked.rows)
                if walked.complete:
                    return Count(number)
                if walked.over_budget:
                    break
                before = walked.before
        return Count(number, exact=False)

    def counts_by_state(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many deliveries, and how many jobs, there are in each state."""
        with self._reading(None) as (connection, _):
            found = []
            for classes in (tables.delivery_class, tables.job_class):
                select = sa.select(classes.c.state, sa.func.sum(classes.c.rows)).group_by(classes.c.state)
                found.append({state: int(rows) for state, rows in connection.execute(select) if rows})
            return found[0], found[1]

    # --- errors

    def error_groups(
        self, which: HistoryFilter, *, limit: int = 100, seconds: float | None = PAGE_BUDGET_SECONDS
    ) -> list[ErrorGroup]:
        """Jobs that match, by action and error pattern, the largest groups first.

        Only the filters of classes and the times count: state (by default dead), type, source, action, campaign, tier,
        error, pattern, since and until. The deliveries of groups with `state = "quarantined"` are grouped by source.

        Raises:
            ValueError: it names a customer, an event or an operation.
        """
        if which.customer is not None or which.event_id is not None or which.operation is not None:
            raise ValueError("errors are grouped over all customers, events and operations")
        quarantined = which.state == "quarantined"
        classes, table = (tables.delivery_class, tables.delivery) if quarantined else (tables.job_class, tables.job)
        here = Range(None, *id_bounds(which))
        with self._reading(seconds) as (connection, budget), budget.suspended():
            by_class = self._error_classes(connection, classes, table, which, here)
            groups = sorted(_grouped(by_class), key=lambda group: (-group.count, group.pattern))[:limit]
            newest = {group.newest: group for group in groups}
            examples = self._examples(connection, newest, quarantined=quarantined)
        return [group.shown(examples.get(group.newest, group.newest)) for group in groups]

    def _error_classes(
        self, connection: sa.Connection, classes: sa.Table, table: sa.Table, which: HistoryFilter, here: Range
    ) -> list[_ClassOfErrors]:
        id = table.c.id if table is tables.delivery else table.c.delivery
        term, error = tables.term, tables.term.alias()
        by = classes.c.source if table is tables.delivery else classes.c.action
        within = (table.c["class"] == classes.c.id, *here.conditions(id))

        def end(order: Any) -> Any:
            return sa.select(id).where(*within).order_by(order).limit(1).correlate(classes).scalar_subquery()

        counted: sa.ColumnElement[int] = classes.c.rows
        if here.low is not None or here.high is not None:
            counted = sa.select(sa.func.count()).select_from(table).where(*within).correlate(classes).scalar_subquery()
        conditions = class_conditions(connection, classes, which)
        if which.state is None:
            conditions.append(classes.c.state == "dead")
        select = (
            sa.select(classes.c.id, classes.c.state, term.c.code, error.c.code, counted, end(id.asc()), end(id.desc()))
            .join(term, term.c.id == by)
            .join(error, error.c.id == classes.c.error)
            .where(*conditions)
        )
        rows = connection.execute(select)
        return [_ClassOfErrors(*row) for row in rows if row[6] is not None]

    def _examples(
        self, connection: sa.Connection, newest: dict[tuple[str, int], _Group], *, quarantined: bool
    ) -> dict[tuple[str, int], str]:
        """Of the newest row of each group, by delivery and class: its name."""
        if quarantined:
            return {key: key[0] for key in newest}
        table = tables.job
        found: dict[tuple[str, int], str] = {}
        deliveries = {each.id: each for each in self._by_id(connection, [id for id, _ in newest], bodies=False)}
        select = sa.select(table.c.delivery, table.c["class"], table.c.action, table.c.again)
        rows = [
            row
            for part in _chunks(list(deliveries))
            for row in connection.execute(select.where(table.c.delivery.in_(part)))
            if (row[0], row[1]) in newest
        ]
        jobs = self._jobs_of(connection, deliveries)
        actions = _codes(connection, {row[2] for row in rows})
        for id, of, action, again in rows:
            for job in jobs[id]:
                if job.action == actions[action] and job.key == _key(deliveries[id], job.action, again):
                    found[id, of] = job.key
        return found

    # --- all of a customer

    def of_customer(self, digests: Collection[str]) -> Iterator[FiledDelivery]:
        """Everything of a customer, newest first: deliveries with bodies, jobs and attempts."""
        which = HistoryFilter(customer=frozenset(digests))
        before: str | None = None
        while True:
            page = self.deliveries(which, limit=_CHUNK, before=before, seconds=None)
            with self._reading(None) as (connection, _):
                jobs = self._jobs_of(connection, {each.id: each for each in page.rows}, attempts=True)
            for each in page.rows:
                each.jobs = tuple(jobs[each.id])
                yield each
            before = page.before
            if before is None:
                return

    def customers_like(self, digests: Collection[str]) -> set[str]:
        """All digests that stand with one of these on record."""
        table = tables.customer
        with self._reading(None) as (connection, _):
            ids = customers_of(connection, frozenset(digests))
            names = connection.scalars(sa.select(table.c.names).where(table.c.id.in_(ids)))
            return {digest for text in names for digest in text.split(" ")}

    # --- inside

    @contextmanager
    def _reading(self, seconds: float | None) -> Iterator[tuple[sa.Connection, Budget]]:
        with translated(self._address), self._reads.connect() as connection, Budget(connection, seconds) as budget:
            yield connection, budget

    def _by_id(self, connection: sa.Connection, ids: Sequence[str], *, bodies: bool) -> list[FiledDelivery]:
        found: dict[str, FiledDelivery] = {}
        select = _DELIVERY if bodies else _DELIVERY_WITHOUT_BODY
        for part in _chunks(ids):
            for row in connection.execute(select.where(tables.delivery.c.id.in_(part))):
                found[row.id] = self._delivery(row)
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def _delivery(self, row: Any) -> FiledDelivery:
        body = row.body
        actions = row.actions
        names = actions if row.names is None else row.names
        return FiledDelivery(
            id=row.id,
            round=row.round,
            source=row.source,
            state=row.state,
            settled_ms=row.settled_ms,
            body=None if body is None else self._bodies.unpack(bytes(body)),
            event_id=row.event_id,
            type=row.type or None,
            at=row.happened or (iso_from_us(row.created_us) if row.event_id is not None else None),
            created_us=row.created_us,
            form=row.form,
            project=row.project or None,
            reason=row.reason,
            rules=row.rules,
            first=row.first,
            customer=tuple(row.customer_names.split(" ")) if row.customer_names else (),
            campaign=_named(row.campaign, row.campaign_name),
            tier=_named(row.tier, row.tier_name),
            names=tuple(names.split(" ")) if names else (),
            operation=row.operation,
        )

    def _jobs_of(
        self,
        connection: sa.Connection,
        deliveries: dict[str, FiledDelivery],
        *,
        wanted: Collection[tuple[str, int, int]] | None = None,
        attempts: bool = False,
    ) -> dict[str, list[FiledJob]]:
        """The jobs of deliveries, in the order of their rules; with `wanted` only those."""
        found: dict[str, list[FiledJob]] = defaultdict(list)
        for part in _chunks(list(deliveries)):
            rows = connection.execute(
                _JOB.where(tables.job.c.delivery.in_(part)).order_by(tables.job.c.delivery, tables.job.c.place)
            ).all()
            rows = [row for row in rows if wanted is None or (row.delivery, row.action_id, row.again) in wanted]
            on_record = self._attempts(connection, part, rows) if attempts else {}
            for row in rows:
                history = on_record.get((row.delivery, row.action_id, row.again), ())
                found[row.delivery].append(_job(row, deliveries[row.delivery], tuple(history)))
        return found

    @staticmethod
    def _attempts(
        connection: sa.Connection, deliveries: Sequence[str], jobs: Sequence[Any]
    ) -> dict[tuple[str, int, int], list[FiledAttempt]]:
        table = tables.attempt
        texts = {(row.delivery, row.action_id, row.again): row.text for row in jobs}
        found: dict[tuple[str, int, int], list[FiledAttempt]] = defaultdict(list)
        rows = connection.execute(sa.select(table).where(table.c.delivery.in_(deliveries)).order_by(table.c.number))
        for row in rows:
            key = (row.delivery, row.action, row.again)
            if key in texts:
                found[key].append(attempt_of(row[3:], texts[key]))
        return found


@dataclass(frozen=True, slots=True)
class _ClassOfErrors:
    of: int
    state: str
    by: str
    pattern: str
    count: int
    first: str
    last: str


@dataclass(slots=True)
class _Group:
    """An error group in the making; `newest` is the delivery and the class of its newest row."""

    state: str
    by: str
    pattern: str
    quarantined: bool
    count: int
    first: str
    newest: tuple[str, int]

    def shown(self, example: Any) -> ErrorGroup:
        return ErrorGroup(
            state=self.state,
            action=None if self.quarantined else self.by,
            source=self.by if self.quarantined else None,
            pattern=self.pattern,
            count=self.count,
            first_ms=received_ms(self.first),
            last_ms=received_ms(self.newest[0]),
            example=example if isinstance(example, str) else example[0],
        )


def _grouped(classes: Iterable[_ClassOfErrors]) -> list[_Group]:
    groups: dict[tuple[str, str, str], _Group] = {}
    for each in classes:
        key = (each.state, each.by, each.pattern)
        newest = (each.last, each.of)
        group = groups.get(key)
        if group is None:
            quarantined = each.state == "quarantined"
            groups[key] = _Group(*key, quarantined, int(each.count), each.first, newest)
            continue
        group.count += int(each.count)
        group.first = min(group.first, each.first)
        group.newest = max(group.newest, newest)
    return list(groups.values())


def _page(rows: list[T], walked: Walked) -> Page[T]:
    looked_back = received_ms(walked.before) if walked.over_budget and walked.before else None
    return Page(rows=rows, before=walked.before, looked_back_ms=looked_back)


def _delivery_select(*, body: bool) -> sa.Select[Any]:
    d, c, customer = tables.delivery, tables.delivery_class, tables.customer
    of = {name: tables.term.alias(name) for name in ("source", "type", "campaign", "tier", "actions")}
    project = tables.term.alias("project")
    columns = [column for column in d.c if column.name not in {"class", "customer", "project", "body"}]
    select = sa.select(
        *columns,
        (d.c.body if body else sa.null()).label("body"),
        c.c.state,
        project.c.code.label("project"),
        customer.c.names.label("customer_names"),
        *(term.c.code.label(name) for name, term in of.items()),
        of["campaign"].c.name.label("campaign_name"),
        of["tier"].c.name.label("tier_name"),
    ).join(c, c.c.id == d.c["class"])
    for name, term in of.items():
        select = select.join(term, term.c.id == c.c[name])
    return select.join(project, project.c.id == d.c.project).outerjoin(customer, customer.c.id == d.c.customer)


_DELIVERY = _delivery_select(body=True)
_DELIVERY_WITHOUT_BODY = _delivery_select(body=False)

_ACTION = tables.term.alias("action")
_JOB = (
    sa.select(
        *(column for column in tables.job.c if column.name != "action"),
        tables.job.c.action.label("action_id"),
        _ACTION.c.code.label("action"),
        tables.job_class.c.state,
    )
    .join(tables.job_class, tables.job_class.c.id == tables.job.c["class"])
    .join(_ACTION, _ACTION.c.id == tables.job.c.action)
)


def _job(row: Any, delivery: FiledDelivery, history: tuple[FiledAttempt, ...]) -> FiledJob:
    return FiledJob(
        key=_key(delivery, row.action, row.again),
        action=row.action,
        round=row.round,
        state=row.state,
        changed_ms=row.changed_ms,
        attempts=row.attempts,
        before=row.before,
        text=row.text,
        maybe_ms=row.maybe_ms,
        unordered=row.unordered,
        order=row.order_group,
        once=row.once_group,
        place=row.group_place,
        planned=row.planned,
        failing_ms=row.failing_ms,
        operation=row.operation,
        history=history,
    )


def _key(delivery: FiledDelivery, action: str, again: int) -> str:
    key = f"{delivery.source}:{delivery.event_id}:{action}"
    return f"{key}:r{again}" if again > 1 else key


def _named(code: str, name: str) -> Named | None:
    return Named(code or None, name or None) if code or name else None


def _codes(connection: sa.Connection, ids: Collection[int]) -> dict[int, str]:
    term = tables.term
    return dict(connection.execute(sa.select(term.c.id, term.c.code).where(term.c.id.in_(ids))).all())


def _dashed(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
