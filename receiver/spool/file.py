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
import errno
import fcntl
import os
import sqlite3
import stat
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

_OLDEST_SOURCE = "SELECT source FROM deliveries {} ORDER BY seq LIMIT 1"
_BUT = "NOT (source = ? AND seq <= ?)"
_OLDEST = """
SELECT seq, id, source, received, body FROM deliveries WHERE source = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_APPEND = "INSERT INTO deliveries (seq, id, source, received, body) VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM deliveries WHERE seq = ?"
_DELETE_MOVED = "DELETE FROM deliveries WHERE source = ? AND seq <= ?"

#: Above every `seq`.
_END = 2**63 - 1

#: What SQLite says where the disk is full; the second of its shared memory, a file too.
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")


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
        #: The last `seq` of each source up to which all was moved, but not deleted: the disk had no room for that.
        self._moved: dict[str, int] = {}
        #: Deliveries that wait.
        self.count = 0
        with _translated():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
            try:
                self._set_up()
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def create(cls, path: Path) -> SpoolFile:
        """Make a new file, readable by its owner only."""
        try:
            lock = _lock(path)
            if lock is None:
                raise SpoolError(f"{path.name} belongs to another process")
            try:
                # SQLite gives its other files the mode of this one.
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                return cls(path, lock)
            except BaseException:
                _remove(path, lock)
                raise
        except OSError as error:
            kind = SpoolFull if is_full(error) else SpoolError
            raise kind(f"cannot make a file in {path.parent}: {error.strerror}") from None

    @classmethod
    def adopt(cls, path: Path) -> SpoolFile | None:
        """Take over the file of a process that is gone; None where it lives or the file is gone, too.

        What is left beside a file that is gone goes as well.
        """
        try:
            lock = _lock(path)
        except OSError as error:
            raise SpoolError(f"cannot lock {path.name}: {error.strerror}") from None
        if lock is None:
            return None
        if not path.exists():
            _remove(path, lock)
            return None
        found = path.lstat()
        if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            os.close(lock)
            raise SpoolError(f"{path.name} is not a file of this process's user")
        try:
            return cls(path, lock)
        except SpoolError:
            os.close(lock)
            raise

    def append(self, deliveries: Sequence[Triple]) -> None:
        """Store all of them, synced to the disk, or none."""
        with self._transaction():
            # Above those that were moved, too, whoever may have deleted the rows.
            first = 1 + max(self._one("SELECT coalesce(max(seq), 0) FROM deliveries"), 0, *self._moved.values())
            rows = [
                (seq, delivery, source, received_ms(delivery), body)
                for seq, (source, delivery, body) in enumerate(deliveries, first)
            ]
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
            source = self._source_in_turn(without)
            if source is None:
                if not without:
                    # `tiercast forget` deletes rows, too, and they are not counted here.
                    self.count = 0
                return []
            for row in self._db.execute(_OLDEST, (source, self._moved.get(source, 0), most)):
                size += len(row[4])
                if found and size > most_bytes:
                    break
                found.append(Waiting(*row))
        return found

    def delete(self, deliveries: Sequence[Waiting]) -> bool:
        """Forget deliveries that are stored elsewhere now. Returns whether their rows are gone.

        Deleting takes room, too. Where there is none they are passed over from now on, and go with the next that can
        be deleted, or with the file (see `is_spent`).
        """
        try:
            with self._transaction():
                self._db.executemany(_DELETE_MOVED, list(self._moved.items()))
                self._db.executemany(_DELETE, [(one.seq,) for one in deliveries])
        except SpoolError:
            # Those of one source leave in their order, so the last tells of all.
            self._moved |= {one.source: one.seq for one in deliveries}
            self.count -= len(deliveries)
            return False
        self._moved.clear()
        self.count -= len(deliveries)
        if self.count == 0:
            self._shrink()
        return True

    @property
    def is_spent(self) -> bool:
        """Whether all that it holds was moved and could not be deleted: letting go of the file makes room."""
        return self.count == 0 and bool(self._moved)

    def try_out(self) -> None:
        """Write, though nothing: raises what an append would raise now."""
        with self._transaction():
            self._db.execute(f"PRAGMA user_version = {_LAYOUT}")

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
            _remove(self.path, self._lock_fd)
        else:
            os.close(self._lock_fd)

    def _set_up(self) -> None:
        if self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise SpoolError(f"{self.path.parent} bears no write-ahead log; the spool needs a local disk")
        self._db.execute("PRAGMA synchronous = FULL")
        # What has left the spool is not to be found in its file: bodies hold personal data.
        self._db.execute("PRAGMA secure_delete = ON")
        self._agree_on_layout()
        self.count = self._one("SELECT count(*) FROM deliveries")

    def _source_in_turn(self, without: Collection[str]) -> str | None:
        """The source of the oldest delivery that waits, but for some sources."""
        passed = self._moved | dict.fromkeys(without, _END)
        where = f"WHERE {' AND '.join([_BUT] * len(passed))}" if passed else ""
        values = [value for pair in passed.items() for value in pair]
        found = self._db.execute(_OLDEST_SOURCE.format(where), values).fetchone()
        return None if found is None else str(found[0])

    def _agree_on_layout(self) -> None:
        found = self._one("PRAGMA user_version")
        if found == 0:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {_LAYOUT}")
            self._db.execute("COMMIT")
        elif found != _LAYOUT:
            raise SpoolError(f"{self.path.name} has layout {found}; run the version of Tiercast that wrote it")

    def _shrink(self) -> None:
        """Give the disk back what an emptied file holds; nothing depends on it."""
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            with self._busy, contextlib.suppress(sqlite3.Error):
                self._db.execute(statement)

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
        if name in _FULL:
            raise SpoolFull("the disk of the spool is full (TIERCAST_SPOOL_DIR)") from None
        raise SpoolError(f"the spool fails ({name})") from None


def _lock(path: Path) -> int | None:
    """Lock what lies beside a database; None where another process has it."""
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


def _remove(path: Path, lock: int) -> None:
    """Remove a database with what lies beside it, and let go of its lock."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)
    os.close(lock)


def is_full(error: OSError) -> bool:
    """Whether it says that the disk, or this user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
