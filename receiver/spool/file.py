"""One spool file: an SQLite database that one process owns while it holds the lock beside it.

Beside `<name>.db` lies `<name>.lock`. Whoever holds the lock (`flock`, so it ends with the process, however that
ends) owns the database; the others leave it alone. The lock is taken before the database is made, so a database
whose lock is free belongs to nobody any more.

    deliveries   one row for each delivery that waits, oldest first by `seq`
        seq       order of arrival in this file
        id        delivery id
        source    name of the source
        received  when it arrived, milliseconds since 1970
        body      raw bytes
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tiercast.ids import received_ms

from ..commit import Triple
from .errors import SpoolError, SpoolFull

#: Version of the table above, in the database's `user_version`.
_LAYOUT = 1

_SCHEMA = """
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    received INTEGER NOT NULL,
    body BLOB NOT NULL
)
"""

_OLDEST_SOURCE = "SELECT source FROM deliveries ORDER BY seq LIMIT 1"
_OTHER_SOURCES = "SELECT source FROM deliveries WHERE source NOT IN ({}) ORDER BY seq LIMIT 1"
_OLDEST = """
SELECT seq, id, source, received, body FROM deliveries WHERE source = ? ORDER BY seq LIMIT ?
"""
_APPEND = "INSERT INTO deliveries (id, source, received, body) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM deliveries WHERE seq = ?"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One delivery in a spool file; `received` is milliseconds since 1970."""

    seq: int
    id: str
    source: str
    received: int
    body: bytes = field(repr=False)

    @property
    def triple(self) -> Triple:
        """As the ledger records it."""
        return self.source, self.id, self.body


class SpoolFile:
    """A spool file that this process owns. Safe to use from several threads.

    Every method raises SpoolFull where the disk is full, SpoolError where the file fails otherwise.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Open a file under a lock that is held; use `create` or `adopt`."""
        self.path = path
        self._lock_fd = lock
        self._busy = threading.Lock()
        with _translated():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
            if self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise SpoolError(f"{path.parent} bears no write-ahead log; the spool needs a local disk")
            self._db.execute("PRAGMA synchronous = FULL")
            # What has left the spool is not to be found in its file: bodies hold personal data.
            self._db.execute("PRAGMA secure_delete = ON")
            self._agree_on_layout()
            self.count: int = self._one("SELECT count(*) FROM deliveries")

    @classmethod
    def create(cls, path: Path) -> SpoolFile:
        """Make a new file, readable by its owner only.

        Raises:
            SpoolError: the folder cannot be written.
        """
        try:
            lock = _lock(path)
            # SQLite gives its other files the mode of this one.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise SpoolError(f"cannot make a file in {path.parent}: {error.strerror}") from None
        if lock is None:
            raise SpoolError(f"{path.name} belongs to another process")
        return cls(path, lock)

    @classmethod
    def adopt(cls, path: Path) -> SpoolFile | None:
        """Take over the file of a process that is gone; None where it lives or the file is gone, too."""
        try:
            lock = _lock(path)
        except OSError as error:
            raise SpoolError(f"cannot lock {path.name}: {error.strerror}") from None
        if lock is None:
            return None
        if not path.exists():
            _unlock(path, lock)
            return None
        try:
            return cls(path, lock)
        except SpoolError:
            os.close(lock)
            raise

    def append(self, deliveries: Sequence[Triple]) -> None:
        """Store all of them, synced to the disk, or none."""
        rows = [(delivery, source, received_ms(delivery), body) for source, delivery, body in deliveries]
        with self._transaction():
            self._db.executemany(_APPEND, rows)
            self.count += len(rows)

    def oldest(self, most: int, *, most_bytes: int, without: Collection[str] = ()) -> list[Waiting]:
        """The oldest deliveries of the source whose turn it is: one source, so that a full lane holds up no other.

        Args:
            most: how many at the most.
            most_bytes: of bodies, unless a single one is larger.
            without: sources to pass over.
        """
        found: list[Waiting] = []
        size = 0
        with self._busy, _translated():
            marks = ",".join("?" * len(without))
            query = _OTHER_SOURCES.format(marks) if without else _OLDEST_SOURCE
            source = self._db.execute(query, tuple(without)).fetchone()
            if source is None:
                if not without:
                    # `tiercast forget` deletes rows, too, and they are not counted here.
                    self.count = 0
                return []
            for row in self._db.execute(_OLDEST, (source[0], most)):
                size += len(row[4])
                if found and size > most_bytes:
                    break
                found.append(Waiting(*row))
        return found

    def delete(self, deliveries: Sequence[Waiting]) -> None:
        """Forget deliveries that are stored elsewhere now."""
        with self._transaction():
            self._db.executemany(_DELETE, [(one.seq,) for one in deliveries])
            self.count -= len(deliveries)
        if self.count == 0:
            self._shrink()

    def used(self) -> int:
        """Bytes of the file that hold something."""
        with self._busy, _translated():
            pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
            return pages * self._one("PRAGMA page_size")

    def close(self) -> None:
        """Let go of the file; an empty one is removed."""
        with self._busy, contextlib.suppress(sqlite3.Error):
            self._db.close()
        if self.count == 0:
            for end in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
            _unlock(self.path, self._lock_fd)
        else:
            os.close(self._lock_fd)

    def _agree_on_layout(self) -> None:
        found = self._one("PRAGMA user_version")
        if found == 0:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {_LAYOUT}")
            self._db.execute("COMMIT")
        elif found != _LAYOUT:
            self._db.close()
            raise SpoolError(f"{self.path.name} has layout {found}; run the version of Tiercast that wrote it")

    def _shrink(self) -> None:
        """Give the disk back what an emptied file holds; nothing depends on it."""
        with self._busy, contextlib.suppress(sqlite3.Error):
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._busy, _translated():
            count = self.count
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self.count = count
                # After a full disk SQLite has rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise what SQLite raises as ours, without its text."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name == "SQLITE_FULL":
            raise SpoolFull("the disk of the spool is full (TIERCAST_SPOOL_DIR)") from None
        raise SpoolError(f"the spool fails ({name})") from None


def _lock(path: Path) -> int | None:
    """Lock what lies beside a database; None where another process has it."""
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


def _unlock(path: Path, lock: int) -> None:
    """Remove the lock of a database that is gone, and let go of it."""
    path.with_suffix(".lock").unlink(missing_ok=True)
    os.close(lock)
