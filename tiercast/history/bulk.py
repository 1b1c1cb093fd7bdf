"""Thousands of rows at once, the quickest way that each database has.

SQLAlchemy's own statements cost more for each value than the database does, so these are written out. Everything else
in this package goes through SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from .tables import DeliveryId, from_bytes

_Values = tuple[Any, ...]

#: Values in one statement of SQLite, which takes 32,766 of them.
_CHUNK = 500


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[_Values]) -> None:
    """Insert rows that are not there yet.

    Args:
        connection: in a transaction.
        table: which.
        rows: values in the order of the table's columns; a delivery's id as its 16 bytes.

    Raises:
        sqlalchemy.exc.IntegrityError: one is there already.
    """
    if not rows:
        return
    if _is_postgresql(connection):
        _copy(connection, table, rows)
    else:
        connection.exec_driver_sql(_insert(table, tuple(table.c)), list(rows))


def add_rows(
    connection: sa.Connection, table: sa.Table, columns: tuple[sa.Column[Any], ...], rows: Sequence[_Values]
) -> None:
    """Insert rows, but for those that are there already. No column is a delivery's id."""
    if not rows:
        return
    if _is_postgresql(connection):
        # In the order of their keys, so that two transactions wait for one another and not each for the other.
        connection.exec_driver_sql(_unnest(table, columns), tuple(map(list, zip(*sorted(rows), strict=True))))
    else:
        connection.exec_driver_sql(f"{_insert(table, columns)} ON CONFLICT DO NOTHING", list(rows))


def rows_in(
    connection: sa.Connection,
    columns: Sequence[sa.Column[Any]],
    column: sa.Column[Any],
    values: Iterable[Any],
    *,
    lock: bool = False,
) -> list[_Values]:
    """Rows whose column has one of these values. Ids of deliveries are given and returned as 16 bytes.

    Args:
        connection: in a transaction.
        columns: of the rows, all of one table.
        column: of the same table.
        values: which.
        lock: nobody else changes these rows until the transaction ends.
    """
    listed = list(values)
    names = ", ".join(f'"{each.name}"' for each in columns)
    select = f'SELECT {names} FROM "{column.table.name}" WHERE "{column.name}"'  # noqa: S608
    if not listed:
        return []
    if not _is_postgresql(connection):
        return [
            tuple(row)
            for chunk in (listed[i : i + _CHUNK] for i in range(0, len(listed), _CHUNK))
            for row in connection.exec_driver_sql(f"{select} IN ({_marks(len(chunk))})", tuple(chunk))
        ]
    if is_id := isinstance(column.type, DeliveryId):
        listed = [from_bytes(value) for value in listed]
    select = f"{select} = ANY(%s::{'uuid' if is_id else 'text'}[])"
    if lock:
        select += f' ORDER BY "{column.name}" FOR UPDATE'
    rows = connection.exec_driver_sql(select, (listed,))
    ids = [i for i, each in enumerate(columns) if isinstance(each.type, DeliveryId)]
    if not ids:
        return [tuple(row) for row in rows]
    return [tuple(value.bytes if i in ids else value for i, value in enumerate(row)) for row in rows]


def _is_postgresql(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


@lru_cache
def _marks(count: int) -> str:
    return ", ".join("?" * count)


@lru_cache
def _insert(table: sa.Table, columns: tuple[sa.Column[Any], ...]) -> str:
    names = ", ".join(f'"{column.name}"' for column in columns)
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({_marks(len(columns))})'  # noqa: S608


@lru_cache
def _unnest(table: sa.Table, columns: tuple[sa.Column[Any], ...]) -> str:
    names = ", ".join(f'"{column.name}"' for column in columns)
    arrays = ", ".join(f"%s::{_type(column)}[]" for column in columns)
    return f'INSERT INTO "{table.name}" ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING'  # noqa: S608


#: Names of PostgreSQL's types. The binary form of COPY carries no types, and 16 bytes are a UUID's form.
_TYPES: tuple[tuple[type[Any], str], ...] = (
    (DeliveryId, "bytea"),
    (sa.LargeBinary, "bytea"),
    (sa.Text, "text"),
    (sa.SmallInteger, "int2"),
    (sa.BigInteger, "int8"),
    (sa.Integer, "int4"),
    (sa.Boolean, "bool"),
)


def _type(column: sa.Column[Any]) -> str:
    return next(name for kind, name in _TYPES if isinstance(column.type, kind))


def _copy(connection: sa.Connection, table: sa.Table, rows: Sequence[_Values]) -> None:
    import psycopg

    names = ", ".join(f'"{column.name}"' for column in table.c)
    statement = f'COPY "{table.name}" ({names}) FROM STDIN (FORMAT BINARY)'
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([_type(column) for column in table.c])
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        # As SQLAlchemy would raise what its own statements meet.
        raise sa.exc.DBAPIError.instance(statement, None, error, psycopg.Error, hide_parameters=True) from error
