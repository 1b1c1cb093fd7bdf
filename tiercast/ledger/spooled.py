"""The spool files of this machine's receivers, as an operator reaches into them.

A receiver keeps what waits in SQLite databases `*.db`, one a process, each with a table `deliveries` (see
receiver/spool/file.py, which owns the format). Rows can be removed beside a running receiver: it moves what is left.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from .identity import About, Finder, Identity

#: Seconds to wait for a receiver that is writing.
_BUSY = 10.0


class SpoolUnreadable(Exception):
    """A spool file cannot be read or changed; the message names it."""


def forget_spooled(folder: Path, identity: Identity, sources: Collection[str]) -> int:
    """Remove a customer's deliveries from all spool files of a folder. Returns how many.

    Raises:
        SpoolUnreadable: one of the files cannot be changed; the others were.
    """
    removed, failed = 0, []
    for path in sorted(folder.glob("*.db")):
        try:
            removed += _forget_in(path, identity, sources)
        except (sqlite3.Error, OSError) as error:
            if not path.exists():
                continue  # its receiver has emptied it, and what was in it is in the ledger
            failed.append(f"{path.name} ({type(error).__name__})")
    if failed:
        raise SpoolUnreadable(f"spool files that could not be changed: {', '.join(failed)}")
    return removed


def find_spooled(folder: Path, identity: Identity, sources: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
    """A customer's deliveries in all spool files of a folder: id, source, arrival (ms since 1970), body.

    Raises:
        SpoolUnreadable: one of the files cannot be read.
    """
    finder = Finder(identity)
    for path in sorted(folder.glob("*.db")):
        try:
            rows = _rows_of(path)
        except (sqlite3.Error, OSError) as error:
            if not path.exists():
                continue  # its receiver has emptied it, and what was in it is in the ledger
            raise SpoolUnreadable(f"spool file that cannot be read: {path.name} ({type(error).__name__})") from error
        for id, source, received, body in rows:
            if source in sources and finder.about(body)[0] is About.THEIRS:
                yield id, source, received, body


def _rows_of(path: Path) -> list[tuple[str, str, int, bytes]]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").fetchone():
            return []
        return db.execute("SELECT id, source, received, body FROM deliveries ORDER BY seq").fetchall()


def _forget_in(path: Path, identity: Identity, sources: Collection[str]) -> int:
    finder = Finder(identity)
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError("no regular file")
    # mode=rw: a file that its receiver has just emptied and removed is not made again.
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY)) as db:
        db.execute("PRAGMA secure_delete = ON")
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").fetchone():
            return 0
        rows = db.execute("SELECT seq, source, body FROM deliveries")
        theirs = [(seq,) for seq, source, body in rows if source in sources and finder.about(body)[0] is About.THEIRS]
        if theirs:
            with db:
                db.executemany("DELETE FROM deliveries WHERE seq = ?", theirs)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return len(theirs)
