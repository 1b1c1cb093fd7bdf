"""Checks the spool of this machine's receivers: whether they can write it, and what waits in it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from .finding import Finding, error, ok, trouble, warning

#: Seconds to wait for a receiver that is writing.
_BUSY = 2.0


def check_spool(folder: Path) -> Iterator[Finding]:
    """Look at the folder that TIERCAST_SPOOL_DIR names, without changing it."""
    if not folder.exists():
        yield warning("spool", f"{folder} does not exist; a receiver makes it when it starts")
        return
    if not folder.is_dir():
        yield error("spool", f"{folder} is no folder: no receiver starts. Set TIERCAST_SPOOL_DIR to one.")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield error("spool", f"{folder} cannot be written by this user; receivers that run as this user do not start.")
        return
    waiting, unreadable = 0, []
    for path in sorted(folder.glob("*.db")):
        try:
            waiting += _count(path)
        except sqlite3.Error as fault:
            if path.exists():  # else its receiver has just emptied and removed it
                unreadable.append(f"{path.name} ({type(fault).__name__})")
    if unreadable:
        yield error("spool", f"files in {folder} that cannot be read: {', '.join(unreadable)}")
    if waiting:
        what = f"{waiting} {'delivery waits' if waiting == 1 else 'deliveries wait'} in {folder}"
        yield trouble("spool", f"{what} until the ledger takes them; is a receiver running, and the ledger writable?")
    elif not unreadable:
        yield ok("spool", f"{folder} is empty")


def _count(path: Path) -> int:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").fetchone():
            return 0
        return int(db.execute("SELECT count(*) FROM deliveries").fetchone()[0])
