"""How large a history is, how quickly it grows, and how far back it reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ..ids import received_ms
from . import tables
from .address import HistoryAddress
from .engine import translated

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryStatus:
    """Sizes are bytes, times milliseconds since 1970.

    `free` bytes of the database's file are used again before it grows; None with PostgreSQL. `filed_day` and
    `removed_day` count deliveries of the last 24 hours. `classes` are distinct combinations that filters choose by.
    """

    place: str
    dialect: str
    revision: str
    id: str
    ledger: str | None
    deliveries: int
    jobs: int
    bytes: int
    free: int | None
    classes: int
    terms: int
    filed_day: int
    removed_day: int
    oldest_ms: int | None
    newest_ms: int | None

    @property
    def bytes_each(self) -> int | None:
        """Bytes of a delivery with its jobs and attempts, indexes included."""
        return round((self.bytes - (self.free or 0)) / self.deliveries) if self.deliveries else None


def read_status(engine: sa.Engine, address: HistoryAddress, clock: Callable[[], float] = time.time) -> HistoryStatus:
    """Look at a history.

    Raises:
        HistoryUnavailable, HistoryRefused: it cannot be looked at.
    """
    delivery, hour = tables.delivery, tables.hour
    with translated(address), engine.connect() as connection:
        own = connection.execute(sa.select(tables.identity.c.id, tables.identity.c.ledger)).one()
        rows = [
            int(connection.scalar(sa.select(sa.func.sum(classes.c.rows))) or 0)
            for classes in (tables.delivery_class, tables.job_class)
        ]
        classes = [
            int(connection.scalar(sa.select(sa.func.count()).select_from(of).where(of.c.rows > 0)) or 0)
            for of in (tables.delivery_class, tables.job_class)
        ]
        since = round(clock() * 1000) - _DAY_MS
        day = connection.execute(
            sa.select(sa.func.sum(hour.c.filed), sa.func.sum(hour.c.removed)).where(hour.c.hour_ms > since)
        ).one()
        ends = [
            connection.scalar(sa.select(delivery.c.id).order_by(order).limit(1))
            for order in (delivery.c.id.asc(), delivery.c.id.desc())
        ]
        size, free = _sqlite_size(connection, address.path) if address.path else (_postgresql_size(connection), None)
        return HistoryStatus(
            place=address.place,
            dialect=address.dialect,
            revision=tables.REVISION,
            id=own.id,
            ledger=own.ledger,
            deliveries=rows[0],
            jobs=rows[1],
            bytes=size,
            free=free,
            classes=sum(classes),
            terms=int(connection.scalar(sa.select(sa.func.count()).select_from(tables.term)) or 0),
            filed_day=int(day[0] or 0),
            removed_day=int(day[1] or 0),
            oldest_ms=received_ms(ends[0]) if ends[0] else None,
            newest_ms=received_ms(ends[1]) if ends[1] else None,
        )


def _sqlite_size(connection: sa.Connection, path: Path) -> tuple[int, int]:
    files = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))
    free = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("freelist_count", "page_size")]
    return sum(file.stat().st_size for file in files if file.exists()), int(free[0]) * int(free[1])


def _postgresql_size(connection: sa.Connection) -> int:
    names = [table.name for table in tables.metadata.sorted_tables]
    sizes = (connection.scalar(sa.select(sa.func.pg_total_relation_size(f'"{name}"'))) for name in names)
    return sum(int(size or 0) for size in sizes)
