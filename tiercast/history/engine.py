"""Connections to the database of the history: pragmas and permissions of SQLite, pool and time-outs of PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from ..errors import HistoryError, HistoryRefused, HistoryUnavailable
from .address import HistoryAddress

#: Seconds that a statement of SQLite waits for another writer, and that PostgreSQL may take to connect.
LOCK_TIMEOUT_SECONDS = 10
CONNECT_TIMEOUT_SECONDS = 5

#: Connections that one process keeps to PostgreSQL: a filer, a trimmer and a reader.
POOL_CONNECTIONS = 3

#: Pages of the write-ahead log after which SQLite copies it into the file: 16 MB, so that a page that several batches
#: change is copied once.
CHECKPOINT_PAGES = 4000

#: Bytes of the file that one connection to SQLite keeps in memory.
CACHE_BYTES = 32 * 2**20

#: Execution option of a transaction that writes: SQLite then takes its lock at once.
WRITES = {"tiercast_writes": True}


def make_engine(address: HistoryAddress) -> sa.Engine:
    """Make the engine of an address. It connects when it is first used."""
    return _sqlite(address.path) if address.path else _postgresql(address)


def _postgresql(address: HistoryAddress) -> sa.Engine:
    url = sa.make_url(address.url)
    options: dict[str, Any] = {"application_name": "tiercast"}
    if "connect_timeout" not in url.query:
        options["connect_timeout"] = CONNECT_TIMEOUT_SECONDS
    return sa.create_engine(
        url,
        hide_parameters=True,
        pool_size=POOL_CONNECTIONS,
        max_overflow=POOL_CONNECTIONS,
        pool_pre_ping=True,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        connect_args=options,
    )


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        hide_parameters=True,
        connect_args={"timeout": LOCK_TIMEOUT_SECONDS},
    )

    @sa.event.listens_for(engine, "do_connect")
    def keep_to_ourselves(*_: Any) -> None:
        _private_file(path)

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # The driver would begin transactions by itself, and not before DDL and reads.
        connection.isolation_level = None
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"cache_size = -{CACHE_BYTES // 1024}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("tiercast_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _private_file(path: Path) -> None:
    """Make the file where there is none, and keep it from others: SQLite gives its side files the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        found = os.fstat(fd)
        if stat.S_IMODE(found.st_mode) & 0o077 and found.st_uid == os.geteuid():
            os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


#: SQLSTATE classes of PostgreSQL that pass by themselves, or with an operator's help and without ours: connection,
#: resources, operator intervention, system error.
_AWAY = {"08", "53", "57", "58"}

_SQLITE_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}


@contextlib.contextmanager
def translated(address: HistoryAddress) -> Iterator[None]:
    """Raise the database's errors as ours. No message repeats a value: it may be personal data.

    Raises:
        HistoryUnavailable: it is away, busy or full.
        HistoryRefused: it answers, and cannot be used as it is.
    """
    try:
        yield
    except exc.TimeoutError:
        raise HistoryUnavailable(_away(address, "all connections of this process are in use")) from None
    except exc.DBAPIError as error:
        raise _translate(address, error) from error
    except OSError as error:
        raise HistoryUnavailable(_away(address, error.strerror or type(error).__name__)) from error


def is_conflict(error: exc.DBAPIError) -> bool:
    """Whether another process wrote the same at the same time, so that the transaction can be tried again."""
    state = getattr(error.orig, "sqlstate", None)
    # unique_violation, serialization_failure, deadlock_detected
    return state in {"23505", "40001", "40P01"}


def is_interrupted(error: exc.DBAPIError) -> bool:
    """Whether a statement was stopped because its time was over."""
    if getattr(error.orig, "sqlstate", None) == "57014":
        return True
    return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _translate(address: HistoryAddress, error: exc.DBAPIError) -> HistoryError:
    state = getattr(error.orig, "sqlstate", None)
    if state is None and address.dialect == "postgresql":
        # Not connected: the driver's own text names host, port and user, never the password.
        return HistoryUnavailable(_away(address, _first_line(str(error.orig))))
    if state is not None:
        text = getattr(getattr(error.orig, "diag", None), "message_primary", None) or type(error.orig).__name__
        is_away = state[:2] in _AWAY
    else:
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        text = _first_line(str(error.orig))
        is_away = code & 0xFF in _SQLITE_AWAY
    if is_away or error.connection_invalidated:
        return HistoryUnavailable(_away(address, text))
    return HistoryRefused(
        f"The history at {address.place} cannot be used: {text}. See `tiercast history status`; tables that are "
        "missing or older are made by `tiercast history migrate`."
    )


def _away(address: HistoryAddress, text: str) -> str:
    return f"The history at {address.place} does not answer: {text}. Say where it is with TIERCAST_HISTORY_URL."


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].rstrip(".")
