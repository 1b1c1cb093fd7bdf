"""Removing from the history: what outlived its retention, in small steps, and everything of a forgotten customer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import tables
from .address import HistoryAddress
from .bodies import Bodies
from .bulk import add_rows, rows_in
from .engine import WRITES, translated
from .filing import change_counts, change_hour
from .filtering import first_id
from .migrating import FILING_LOCK
from .tables import from_bytes, to_bytes

#: Deliveries that one transaction removes: about 20 ms, for which filers wait.
STEP = 100

#: Rows that a search reads at once.
_PAGE = 500

#: Seconds to wait for readers that keep SQLite from emptying its write-ahead log.
_CHECKPOINT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a trim did: how many deliveries went, and whether more are to go."""

    removed: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was removed of a customer. `complete` says that no file of SQLite holds it any more, nor a dead row of
    PostgreSQL's tables; else `why_not` says why it may.
    """

    deliveries: int
    jobs: int
    bodies: int
    complete: bool
    why_not: str | None = None


class Removing:
    """Removes from a history. Threads can share it."""

    def __init__(
        self, engine: sa.Engine, address: HistoryAddress, bodies: Bodies, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._address = address
        self._bodies = bodies
        self._clock = clock
        self._is_postgresql = address.path is None

    # --- retention

    def trim(self, keep_days: float, seconds: float) -> Trimmed:
        """Remove deliveries that were settled longer ago, the oldest first, with their jobs and attempts.

        Args:
            keep_days: how long they stay.
            seconds: the time that it may take. It always takes one step.
        """
        ends = time.monotonic() + seconds
        before_ms = round((self._clock() - keep_days * 86400) * 1000)
        table = tables.delivery
        oldest = (
            sa.select(table.c.id, table.c.settled_ms)
            .where(table.c.id < first_id(before_ms))
            .order_by(table.c.id)
            .limit(STEP)
        )
        removed, after = 0, None
        with translated(self._address):
            while True:
                with self._engine.connect() as connection:
                    found = connection.execute(oldest if after is None else oldest.where(table.c.id > after)).all()
                # One that arrived long ago and was retried lately stays.
                removed += self._remove([id for id, settled_ms in found if settled_ms < before_ms])[0]
                if len(found) < STEP:
                    return Trimmed(removed, more=False)
                if time.monotonic() > ends:
                    return Trimmed(removed, more=True)
                after = found[-1][0]

    # --- forgetting

    def forgotten(self) -> set[str]:
        """Digests of the names of forgotten customers."""
        with translated(self._address), self._engine.connect() as connection:
            return set(connection.scalars(sa.select(tables.forgotten.c.digest)))

    def forget(self, digests: Collection[str], deliveries: Iterable[str] = (), bodies: Iterable[str] = ()) -> Erased:
        """Remove what is theirs. From its first step on nothing of theirs is filed any more. Repeat it at any time.

        Args:
            digests: of the customer's names. Every delivery goes whose strongest name is one of them.
            deliveries: ids of more deliveries of theirs.
            bodies: ids of deliveries of others whose bodies name them: only these bodies go.
        """
        now_ms = round(self._clock() * 1000)
        return self._forget(dict.fromkeys(digests, now_ms), deliveries, bodies)

    def _forget(self, digests: Mapping[str, int], deliveries: Iterable[str], bodies: Iterable[str]) -> Erased:
        with translated(self._address):
            with self._writing() as connection:
                table = tables.forgotten
                add_rows(connection, table, tuple(table.c), sorted(digests.items()))
            removed, jobs = self._remove_all(sorted(set(deliveries)))
            while found := self._named(digests):
                more = self._remove_all(found)
                removed, jobs = removed + more[0], jobs + more[1]
            wiped = self._wipe(sorted(set(bodies)))
        why_not = self.scrub()
        return Erased(deliveries=removed, jobs=jobs, bodies=wiped, complete=why_not is None, why_not=why_not)

    def forget_again(self, digests: Mapping[str, int]) -> Erased | None:
        """Forget those of these digests that the history does not know of, as after a restore of an older backup.

        Args:
            digests: to when each was forgotten, milliseconds since 1970.
        """
        known = self.forgotten()
        missing = {digest: at_ms for digest, at_ms in digests.items() if digest not in known}
        return self._forget(missing, (), ()) if missing else None

    def scrub(self) -> str | None:
        """Have the database's files hold nothing more of what was removed. None when done, else why not."""
        with translated(self._address):
            if self._is_postgresql:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    for table in (*_OF_DELIVERY, tables.customer, tables.customer_name):
                        connection.exec_driver_sql(f'VACUUM "{table.name}"')
                return None
            ends = time.monotonic() + _CHECKPOINT_SECONDS
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                while True:
                    busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
                    if not busy:
                        return None
                    if time.monotonic() > ends:
                        return f"another process kept reading {self._address.place}-wal"
                    time.sleep(0.05)

    # --- searching everything

    def all_bodies(self, after: str | None = None) -> Iterator[tuple[str, str, bytes]]:
        """Id, source and body of every delivery that has one, the oldest first."""
        table, of, source = tables.delivery, tables.delivery_class, tables.term
        select = (
            sa.select(table.c.id, source.c.code, table.c.body)
            .join(of, of.c.id == table.c["class"])
            .join(source, source.c.id == of.c.source)
            .where(table.c.body.is_not(None))
        )
        for id, name, body in self._paged(select, table.c.id, after):
            yield id, name, self._bodies.unpack(bytes(body))

    def all_texts(self) -> Iterator[tuple[str, list[bytes]]]:
        """Every row of the database, as where it stands and all texts in it, for a search that proves an erasure."""
        for table in (tables.term, tables.customer, tables.customer_name, tables.forgotten):
            with translated(self._address), self._engine.connect() as connection:
                rows = connection.execute(sa.select(table)).all()
            yield from ((table.name, _texts(row)) for row in rows)
        for table in _OF_DELIVERY:
            key = table.c.id if table is tables.delivery else table.c.delivery
            for row in self._paged(sa.select(key, *table.c), key, None):
                yield f"{table.name} {row[0]}", _texts(row[1:], self._bodies if table is tables.delivery else None)

    def _paged(self, select: sa.Select[Any], key: sa.ColumnElement[Any], after: str | None) -> Iterator[Sequence[Any]]:
        """Rows by the delivery's id; those of one delivery are never told apart."""
        while True:
            page = select if after is None else select.where(key > after)
            with translated(self._address), self._engine.connect() as connection:
                rows = connection.execute(page.order_by(key).limit(_PAGE)).all()
                if len(rows) == _PAGE and key.name != "id":
                    last = rows[-1][0]
                    rest = connection.execute(select.where(key == last)).all()
                    rows = [row for row in rows if row[0] != last] + list(rest)
            yield from rows
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    # --- inside

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction beside which nothing is filed."""
        with self._engine.connect().execution_options(**WRITES) as connection, connection.begin():
            if self._is_postgresql:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(FILING_LOCK)))
            yield connection

    def _named(self, digests: Collection[str]) -> list[str]:
        """Some deliveries whose strongest name is one of these."""
        name, table = tables.customer_name, tables.delivery
        with self._engine.connect() as connection:
            found = rows_in(connection, (name.c.customer, name.c.strongest), name.c.digest, digests)
            customers = {customer for customer, strongest in found if strongest}
            if not customers:
                return []
            select = sa.select(table.c.id).where(table.c.customer.in_(sorted(customers))).limit(STEP)
            return list(connection.scalars(select))

    def _remove_all(self, deliveries: list[str]) -> tuple[int, int]:
        removed = jobs = 0
        for start in range(0, len(deliveries), STEP):
            one = self._remove(deliveries[start : start + STEP])
            removed, jobs = removed + one[0], jobs + one[1]
        return removed, jobs

    def _remove(self, deliveries: list[str]) -> tuple[int, int]:
        """Remove these deliveries with all that is theirs, in one transaction; how many there were, and their jobs."""
        if not deliveries:
            return 0, 0
        ids = [to_bytes(delivery) for delivery in deliveries]
        table, job = tables.delivery, tables.job
        with self._writing() as connection:
            columns = (table.c.id, table.c["class"], table.c.customer)
            rows = rows_in(connection, columns, table.c.id, ids, lock=True)
            jobs = rows_in(connection, (job.c["class"],), job.c.delivery, ids)
            named = [from_bytes(row[0]) for row in rows]
            for each, key in ((tables.attempt, "delivery"), (job, "delivery"), (table, "id")):
                connection.execute(sa.delete(each).where(each.c[key].in_(named)))
            self._remove_customers(connection, {row[2] for row in rows} - {None})
            change_counts(connection, tables.delivery_class, Counter(dict(_minus(row[1] for row in rows))))
            change_counts(connection, tables.job_class, Counter(dict(_minus(row[0] for row in jobs))))
            if rows:
                change_hour(connection, round(self._clock() * 1000), removed=len(rows))
        return len(rows), len(jobs)

    @staticmethod
    def _remove_customers(connection: sa.Connection, ids: set[Any]) -> None:
        """Remove those of these customers who have no delivery any more."""
        customer, table, name = tables.customer, tables.delivery, tables.customer_name
        if not ids:
            return
        has_one = sa.exists().where(table.c.customer == customer.c.id)
        gone = list(connection.scalars(sa.select(customer.c.id).where(customer.c.id.in_(sorted(ids)), ~has_one)))
        if gone:
            names = connection.scalars(sa.select(customer.c.names).where(customer.c.id.in_(gone)))
            digests = {digest for text in names for digest in text.split(" ")}
            connection.execute(sa.delete(name).where(name.c.digest.in_(digests), name.c.customer.in_(gone)))
            connection.execute(sa.delete(customer).where(customer.c.id.in_(gone)))

    def _wipe(self, deliveries: list[str]) -> int:
        table = tables.delivery
        wiped = 0
        for start in range(0, len(deliveries), STEP):
            part = deliveries[start : start + STEP]
            with self._writing() as connection:
                wipe = sa.update(table).where(table.c.id.in_(part), table.c.body.is_not(None)).values(body=None)
                wiped += connection.execute(wipe).rowcount
        return wiped


#: Tables whose rows belong to a delivery.
_OF_DELIVERY = (tables.delivery, tables.job, tables.attempt)


def _minus(classes: Iterable[int]) -> list[tuple[int, int]]:
    return [(of, -count) for of, count in Counter(classes).items()]


def _texts(row: Iterable[Any], bodies: Bodies | None = None) -> list[bytes]:
    found: list[bytes] = []
    for value in row:
        if isinstance(value, str):
            found.append(value.encode())
        elif isinstance(value, (bytes, memoryview)):
            found.append(bodies.unpack(bytes(value)) if bodies else bytes(value))
    return found
