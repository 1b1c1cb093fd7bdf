"""The spool's folder: this process's file, those of processes that are gone, and the limit over all of them."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from tiercast.errors import SettingsError
from tiercast.ids import new_delivery_id

from ..commit import Triple
from .errors import SpoolError, SpoolFull
from .file import SpoolFile, is_full

log = structlog.get_logger()

#: Seconds for which the size of the other processes' files is remembered.
_LOOK = 1.0

#: Bytes that a delivery takes beside its body.
_ROW = 200


class SpoolFolder:
    """Where deliveries wait. Safe to use from several threads.

    Args:
        path: the folder; made, for its owner only, if missing.
        max_bytes: the most that the files of all processes hold together.

    Raises:
        SettingsError: the folder cannot be used.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._told: set[str] = set()
        self._others = 0
        self._looked = float("-inf")
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._own: SpoolFile | None = None
        self._adopted: list[SpoolFile] = []
        #: Why the last append failed, if it did, and how many bytes the disk had left then.
        self._refused: tuple[SpoolError, int] | None = None
        prepare_folder(path)
        try:
            with self._writing:
                self._ours()
        except SpoolFull as error:
            # What fills it may be what an earlier process left, which we shall move; and the ledger may be there.
            log.warning("spool.disk_full", reason=str(error))
            self._refused = error, self._left()
        except SpoolError as error:
            raise SettingsError(f"TIERCAST_SPOOL_DIR cannot be used: {error}.") from None

    def append(self, deliveries: Sequence[Triple]) -> None:
        """Store all of them, synced to the disk, or none.

        Raises:
            SpoolFull: the limit is reached, or the disk is full.
            SpoolError: the file fails otherwise.
        """
        with self._writing:
            self.check(sum(len(body) + _ROW for _, _, body in deliveries))
            try:
                self._ours().append(deliveries)
            except SpoolError as error:
                self._refused = error.with_traceback(None), self._left()
                raise
            self._refused = None

    def check(self, more: int = 0) -> None:
        """Raise SpoolFull unless there is room for so many bytes more within the limit."""
        own = self._own
        if (own.used() if own else 0) + self._size_of_others() + more > self._max_bytes:
            raise SpoolFull("the spool is full (TIERCAST_SPOOL_MAX)")

    def ping(self) -> None:
        """Raise a SpoolError unless it could store now."""
        with self._writing:
            self.check()
            if self._refused is not None:
                error, left = self._refused
                # A small write may find room in what a refused one has taken, so that it works says little.
                if isinstance(error, SpoolFull) and self._left() <= left:
                    raise SpoolFull(str(error))
                self._ours().try_out()

    @property
    def files(self) -> list[SpoolFile]:
        """What this process owns: what it adopted, oldest first, then the file that it appends to, if it has one."""
        with self._lock:
            return [*self._adopted, *([self._own] if self._own else [])]

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in the file that this process appends to."""
        return self._own is None or self._own.count == 0

    @property
    def count(self) -> int:
        """Deliveries that wait in the files that this process owns."""
        return sum(file.count for file in self.files)

    def adopt(self) -> None:
        """Take over the files of processes that are gone."""
        self.let_go()
        known = {file.path.name for file in self.files}
        found = {path.with_suffix(".db") for end in ("db", "lock") for path in self.path.glob(f"*.{end}")}
        for path in sorted(found):
            if path.name not in known:
                self._adopt(path)

    def let_go(self) -> None:
        """Let go of files that hold nothing that waits; of the one to append to only where it cannot be emptied."""
        with self._lock:
            done = [file for file in self._adopted if file.count == 0]
            self._adopted = [file for file in self._adopted if file not in done]
        with self._writing:
            if self._own is not None and self._own.is_spent:
                # A new one is made when there is something to append.
                done.append(self._own)
                self._own = None
        for file in done:
            file.close()

    def close(self) -> None:
        """Let go of all files; the next process adopts those that are not empty."""
        for file in self.files:
            file.close()

    def _ours(self) -> SpoolFile:
        """The file to append to, made where there is none; to be called while `_writing` is held."""
        if self._own is None:
            self._own = SpoolFile.create(self.path / f"{new_delivery_id()}.db")
        return self._own

    def _adopt(self, path: Path) -> None:
        try:
            file = SpoolFile.adopt(path)
        except SpoolError as error:
            # Left where it lies, for somebody to look at, and tried again, for a disk that was full; told once.
            if path.name not in self._told:
                self._told.add(path.name)
                log.error("spool.unreadable", file=path.name, error=str(error))
            return
        if file is not None:
            log.info("spool.adopted", file=path.name, count=file.count)
            with self._lock:
                self._adopted.append(file)

    def _left(self) -> int:
        """Bytes that the disk has left."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def _size_of_others(self) -> int:
        now = time.monotonic()
        if now - self._looked > _LOOK:
            total = 0
            for path in self.path.glob("*.db"):
                if self._own is None or path != self._own.path:
                    with contextlib.suppress(OSError):
                        total += path.stat().st_size
            self._others, self._looked = total, now
        return self._others


def prepare_folder(path: Path) -> None:
    """Make the folder if it is missing, keep others out of it, and try to write there, unless its disk is full.

    A folder that others could write to is refused, for what lies in it may be theirs.

    Raises:
        SettingsError: it cannot be used; the message names TIERCAST_SPOOL_DIR.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(path)
        probe = path / f"{new_delivery_id()}.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        if is_full(error) and path.is_dir():
            return
        raise SettingsError(
            f"TIERCAST_SPOOL_DIR is {path}, which cannot be used: {error.strerror}. "
            "Name a folder that this process's user owns and can write, on a local disk."
        ) from None


def _make_private(path: Path) -> None:
    """Refuse a folder of somebody else, or one that others may have filled; keep others from reading ours."""
    # By a descriptor, so that what was looked at is what is changed.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(folder)
        if found.st_uid != os.geteuid():
            raise SettingsError(
                f"TIERCAST_SPOOL_DIR is {path}, which belongs to user {found.st_uid} while this process runs as user "
                f"{os.geteuid()}. Name a folder that this process's user owns."
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SettingsError(
                f"TIERCAST_SPOOL_DIR is {path}, which others can write to (mode {stat.S_IMODE(found.st_mode):04o}), so "
                "what lies there may not be Tiercast's. Look through it, then: chmod 700, or name another folder."
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(folder, 0o700)
    finally:
        os.close(folder)
