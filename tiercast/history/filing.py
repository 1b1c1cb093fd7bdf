"""Filing: deliveries are written in one transaction, exactly once however often that is repeated.

A row is written only where its round is not older than that of the row there, and the counts of the classes change in
the same transaction by what was really written.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from ..error_pattern import error_pattern
from ..event import iso_from_us
from . import tables
from .address import HistoryAddress
from .bodies import Bodies
from .bulk import add_rows, insert_rows, rows_in
from .engine import WRITES, is_conflict, translated
from .migrating import FILING_LOCK
from .rows import FiledAttempt, FiledDelivery, FiledJob, Named
from .tables import to_bytes
from .terms import DeliveryClass, JobClass, Terms

#: How often a transaction is tried again that met another filer.
_TRIES = 5

#: Attempts on record of a job: the first and so many last ones.
LAST_ATTEMPTS = 20

_CHUNK = 500

#: Forgotten names up to which all are read for each batch: cheaper than asking for those of a batch.
_FEW = 1000

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """What became of a batch. All of it is durable, or was refused for good: the ledger may let go of every delivery.

    `new` counts deliveries that were not there before. `forgotten` are the ids of those that were not written, since
    their customer was forgotten.
    """

    new: int
    forgotten: frozenset[str] = frozenset()


class Filing:
    """Files deliveries. Threads take turns."""

    def __init__(
        self,
        engine: sa.Engine,
        address: HistoryAddress,
        bodies: Bodies,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._address = address
        self._bodies = bodies
        self._clock = clock
        self._terms = Terms(engine)
        self._lock = threading.Lock()

    def file(self, deliveries: Sequence[FiledDelivery]) -> Filed:
        """Write these deliveries with their jobs and attempts. What is returned is durable.

        Raises:
            HistoryUnavailable: nothing was written; it can be repeated at any time.
            HistoryRefused: the database cannot be used.
        """
        filed = Filed(new=0)
        with self._lock, translated(self._address):
            for batch in _without_repeats(deliveries):
                rows = [_Rows(delivery) for delivery in batch]
                self._learn(rows)
                one = self._write(rows)
                filed = Filed(new=filed.new + one.new, forgotten=filed.forgotten | one.forgotten)
        return filed

    def _learn(self, rows: list[_Rows]) -> None:
        self._terms.learn(
            (each.of for each in rows),
            (of for each in rows for of in each.jobs),
            (each.delivery.project or "" for each in rows),
        )

    def _write(self, rows: list[_Rows]) -> Filed:
        for attempt in range(1, _TRIES + 1):
            try:
                with self._engine.connect().execution_options(**WRITES) as connection, connection.begin():
                    return _Transaction(connection, self._terms, self._bodies, self._clock).write(rows)
            except exc.DBAPIError as error:
                if attempt == _TRIES or not is_conflict(error):
                    raise
        raise AssertionError("unreachable")


def _without_repeats(deliveries: Sequence[FiledDelivery]) -> Iterable[list[FiledDelivery]]:
    """Batches in which each delivery stands once, sorted by id: two filers then lock rows in one order."""
    left = list(deliveries)
    while left:
        batch: dict[str, FiledDelivery] = {}
        again = []
        for delivery in left:
            if delivery.id in batch:
                again.append(delivery)
            else:
                batch[delivery.id] = delivery
        yield [batch[id] for id in sorted(batch)]
        left = again


class _Rows:
    """A delivery with the classes that it and its jobs belong to; `jobs` are those of `delivery.jobs`, in order."""

    __slots__ = ("delivery", "id", "jobs", "of")

    def __init__(self, delivery: FiledDelivery) -> None:
        self.delivery = delivery
        self.id = to_bytes(delivery.id)
        source, kind = delivery.source, delivery.type or ""
        campaign, tier = delivery.campaign or _NONE, delivery.tier or _NONE
        event = (source, kind, campaign.id or "", campaign.name or "", tier.id or "", tier.name or "")
        reason = delivery.reason if delivery.state == "quarantined" else None
        self.of = DeliveryClass(
            delivery.state, *event, _actions_of(delivery.names), error_pattern(reason) if reason else ""
        )
        self.jobs = [
            JobClass(job.state, job.action, *event, error_pattern(job.text) if job.text and job.state != "done" else "")
            for job in delivery.jobs
        ]


_NONE = Named()


@lru_cache(maxsize=1024)
def _actions_of(names: tuple[str, ...]) -> str:
    return " ".join(dict.fromkeys(name.partition(":")[0] for name in names))


def again_of(key: str) -> int:
    """1 for a job's first key, 2 for one that ends in `:r2`."""
    last = key.rpartition(":")[2]
    return int(last[1:]) if last[:1] == "r" and last[1:].isdigit() else 1


_JobKey = tuple[bytes, int, int]


class _Transaction:
    """Writes one batch, within a transaction."""

    def __init__(self, connection: sa.Connection, terms: Terms, bodies: Bodies, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._terms = terms
        self._bodies = bodies
        self._now_ms = round(clock() * 1000)
        self._deliveries_by: Counter[int] = Counter()
        self._jobs_by: Counter[int] = Counter()

    def write(self, rows: list[_Rows]) -> Filed:
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(FILING_LOCK)))
        forgotten = self._forgotten(rows)
        rows = [each for each in rows if each.delivery.id not in forgotten]
        there = self._deliveries_there(rows)
        known = [each for each in rows if each.id in there]
        changed = [each for each in known if each.delivery.round >= there[each.id][0]]
        fresh = [each for each in rows if each.id not in there]
        self._delete_deliveries(changed, there)
        self._insert_deliveries([*fresh, *changed])
        self._write_jobs(fresh, known)
        self._count(len(fresh))
        return Filed(new=len(fresh), forgotten=forgotten)

    # --- deliveries

    def _forgotten(self, rows: list[_Rows]) -> frozenset[str]:
        table = tables.forgotten
        gone = dict(self._connection.execute(sa.select(table.c.digest, table.c.at_ms).limit(_FEW)).all())
        if len(gone) == _FEW:
            digests = {digest for each in rows for digest in each.delivery.customer}
            gone = dict(rows_in(self._connection, (table.c.digest, table.c.at_ms), table.c.digest, digests))
        return frozenset(each.delivery.id for each in rows if gone and _is_forgotten(each.delivery, gone))

    def _deliveries_there(self, rows: list[_Rows]) -> dict[bytes, tuple[int, int]]:
        """Round and class of those that were filed before; nobody else changes them until we commit."""
        table = tables.delivery
        columns = (table.c.id, table.c.round, table.c["class"])
        found = rows_in(self._connection, columns, table.c.id, (each.id for each in rows), lock=True)
        return {id: (round, of) for id, round, of in found}

    def _delete_deliveries(self, rows: list[_Rows], there: dict[bytes, tuple[int, int]]) -> None:
        self._deliveries_by.subtract(there[each.id][1] for each in rows)
        ids = [each.delivery.id for each in rows]
        for chunk in (ids[i : i + _CHUNK] for i in range(0, len(ids), _CHUNK)):
            self._connection.execute(sa.delete(tables.delivery).where(tables.delivery.c.id.in_(chunk)))

    def _insert_deliveries(self, rows: list[_Rows]) -> None:
        customers = self._customers(rows)
        values = []
        for each in rows:
            of = self._terms.deliveries[each.of]
            self._deliveries_by[of] += 1
            values.append(self._delivery_values(each, of, customers))
        insert_rows(self._connection, tables.delivery, values)

    def _delivery_values(self, each: _Rows, of: int, customers: dict[str, int]) -> tuple[Any, ...]:
        delivery = each.delivery
        names = " ".join(delivery.names)
        at = delivery.at
        return (
            each.id,
            of,
            delivery.round,
            delivery.event_id,
            customers.get(" ".join(delivery.customer)),
            self._terms.projects[delivery.project or ""],
            delivery.settled_ms,
            delivery.created_us,
            at if at and at != iso_from_us(delivery.created_us) else None,
            delivery.form,
            delivery.reason,
            delivery.rules,
            to_bytes(delivery.first) if delivery.first else None,
            names if names != each.of.actions else None,
            delivery.operation,
            None if delivery.body is None else self._bodies.pack(delivery.body),
        )

    def _customers(self, rows: list[_Rows]) -> dict[str, int]:
        wanted = sorted({" ".join(each.delivery.customer) for each in rows if each.delivery.customer})
        ids = self._customer_ids(wanted)
        missing = [names for names in wanted if names not in ids]
        if missing:
            table = tables.customer
            add_rows(self._connection, table, (table.c.names,), [(names,) for names in missing])
            ids |= self._customer_ids(missing)
            links = [
                (digest, ids[names], place == 0)
                for names in missing
                for place, digest in enumerate(dict.fromkeys(names.split(" ")))
            ]
            add_rows(self._connection, tables.customer_name, tuple(tables.customer_name.c), links)
        return ids

    def _customer_ids(self, names: list[str]) -> dict[str, int]:
        table = tables.customer
        return dict(rows_in(self._connection, (table.c.names, table.c.id), table.c.names, names))

    # --- jobs

    def _write_jobs(self, fresh: list[_Rows], known: list[_Rows]) -> None:
        jobs: list[tuple[Any, ...]] = []
        attempts: list[tuple[Any, ...]] = []
        there = self._jobs_there(known)
        filed: dict[_JobKey, FiledJob] = {}
        for each in (*fresh, *known):
            for job, class_of in zip(each.delivery.jobs, each.jobs, strict=True):
                key = (each.id, self._terms.actions[job.action], again_of(job.key))
                of = self._terms.jobs[class_of]
                if key in there:
                    round, class_there = there[key]
                    if job.round < round:
                        continue
                    self._jobs_by[class_there] -= 1
                    filed[key] = job
                else:
                    attempts += _attempt_rows(key, job, job.history)
                self._jobs_by[of] += 1
                jobs.append((*key, of, _place(key[2], job.action, each.delivery.names), *_job_values(job)))
        if filed:
            attempts += self._replace(filed)
        insert_rows(self._connection, tables.job, jobs)
        insert_rows(self._connection, tables.attempt, attempts)

    def _jobs_there(self, known: list[_Rows]) -> dict[_JobKey, tuple[int, int]]:
        table = tables.job
        columns = (table.c.delivery, table.c.action, table.c.again, table.c.round, table.c["class"])
        found = rows_in(self._connection, columns, table.c.delivery, (each.id for each in known))
        return {(delivery, action, again): (round, of) for delivery, action, again, round, of in found}

    def _replace(self, filed: dict[_JobKey, FiledJob]) -> list[tuple[Any, ...]]:
        """Delete these jobs with their attempts; the attempts to write: those that were there and the new ones."""
        jobs, table = tables.job, tables.attempt
        rows: list[tuple[Any, ...]] = []
        on_record: dict[_JobKey, dict[int, FiledAttempt]] = {key: {} for key in filed}
        deliveries = {key[0] for key in filed}
        columns = (jobs.c.delivery, jobs.c.action, jobs.c.again, jobs.c.text)
        texts = {
            (delivery, action, again): text
            for delivery, action, again, text in rows_in(self._connection, columns, jobs.c.delivery, deliveries)
        }
        for delivery, action, again, *values in rows_in(self._connection, tuple(table.c), table.c.delivery, deliveries):
            key = (delivery, action, again)
            if key in on_record:
                attempt = attempt_of(values, texts[key])
                on_record[key][attempt.number] = attempt
        named = [{"d": tables.from_bytes(key[0]), "a": key[1], "r": key[2]} for key in filed]
        for each in (table, jobs):
            self._connection.execute(sa.delete(each).where(*_is_job(each)), named)
        for key, old in on_record.items():
            job = filed[key]
            history = old | {attempt.number: attempt for attempt in job.history}
            rows += _attempt_rows(key, job, [history[number] for number in sorted(history)])
        return rows

    # --- counts

    def _count(self, new: int) -> None:
        """Change the counts. Last, since other filers wait for these rows until we have committed."""
        for table, changes in ((tables.delivery_class, self._deliveries_by), (tables.job_class, self._jobs_by)):
            change_counts(self._connection, table, changes)
        if new:
            change_hour(self._connection, self._now_ms, filed=new)


def _is_forgotten(delivery: FiledDelivery, gone: dict[str, int]) -> bool:
    """Whether a delivery is a forgotten customer's, as the ledger decides it.

    It is by its strongest name; by another one if it tells what happened before, since another customer can have that
    email by now.
    """
    return any(
        at_ms is not None and (place == 0 or delivery.created_us <= at_ms * 1000)
        for place, at_ms in enumerate(map(gone.get, delivery.customer))
    )


def change_counts(connection: sa.Connection, table: sa.Table, changes: Counter[int]) -> None:
    """Change the counts of classes, in the order of their ids, so that nobody waits for one another."""
    rows = [{"of": of, "by": by} for of, by in sorted(changes.items()) if by]
    if rows:
        update = sa.update(table).where(table.c.id == sa.bindparam("of"))
        connection.execute(update.values(rows=table.c.rows + sa.bindparam("by")), rows)


def change_hour(connection: sa.Connection, now_ms: int, *, filed: int = 0, removed: int = 0) -> None:
    """Note what was filed and removed in this hour."""
    table = tables.hour
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    insert = make(table).values(hour_ms=now_ms - now_ms % _HOUR_MS, filed=filed, removed=removed)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[table.c.hour_ms],
            set_={"filed": table.c.filed + insert.excluded.filed, "removed": table.c.removed + insert.excluded.removed},
        )
    )


def attempt_of(values: Sequence[Any], text: str | None) -> FiledAttempt:
    """An attempt from the columns of its row behind its job's key; `text` is that of its job."""
    number, started_ms, duration_ms, outcome, error = values
    if error is not None and error.startswith("="):
        error = text if error == "=" else error[1:]
    return FiledAttempt(number=number, started_ms=started_ms, duration_ms=duration_ms, outcome=outcome, error=error)


def _is_job(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    names = {"delivery": "d", "action": "a", "again": "r"}
    return tuple(table.c[column] == sa.bindparam(name) for column, name in names.items())


def _place(again: int, action: str, names: tuple[str, ...]) -> int:
    """Where a job stands in the order of the rules; one that is not named there comes last."""
    name = f"{action}:r{again}" if again > 1 else action
    return names.index(name) if name in names else len(names)


def _job_values(job: FiledJob) -> tuple[Any, ...]:
    return (
        job.round,
        job.changed_ms,
        job.attempts,
        job.before,
        job.planned,
        job.unordered,
        job.maybe_ms,
        job.failing_ms,
        job.text,
        job.order,
        job.once,
        job.place,
        job.operation,
    )


def _attempt_rows(key: _JobKey, job: FiledJob, history: Sequence[FiledAttempt]) -> list[tuple[Any, ...]]:
    if len(history) > LAST_ATTEMPTS + 1:
        history = [history[0], *history[-LAST_ATTEMPTS:]]
    return [(*key, one.number, one.started_ms, one.duration_ms, one.outcome, _error(one, job)) for one in history]


def _error(attempt: FiledAttempt, job: FiledJob) -> str | None:
    """The last attempt says what its job says, so that is stored once; `=` stands for it."""
    error = attempt.error
    if error is None:
        return None
    if error == job.text:
        return "="
    return f"={error}" if error.startswith("=") else error
