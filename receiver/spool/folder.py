"""The spool's folder: this process's file, those of processes that are gone, and the limit over all of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from tiercast.errors import SettingsError
from tiercast.ids import new_delivery_id

from ..commit import Triple
from .errors import SpoolError, SpoolFull
from .file import SpoolFile

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
        self._broken: set[str] = set()
        self._others = 0
        self._looked = float("-inf")
        self._lock = threading.Lock()
        prepare_folder(path)
        try:
            self.own = SpoolFile.create(path / f"{new_delivery_id()}.db")
        except SpoolError as error:
            raise SettingsError(f"TIERCAST_SPOOL_DIR cannot be used: {error}.") from None
        self._adopted: list[SpoolFile] = []

    def append(self, deliveries: Sequence[Triple]) -> None:
        """Store all of them, synced to the disk, or none.

        Raises:
            SpoolFull: the limit is reached, or the disk is full.
            SpoolError: the file fails otherwise.
        """
        self.check(sum(len(body) + _ROW for _, _, body in deliveries))
        self.own.append(deliveries)

    def check(self, more: int = 0) -> None:
        """Raise SpoolFull unless there is room for so many bytes more."""
        if self.own.used() + self._size_of_others() + more > self._max_bytes:
            raise SpoolFull("the spool is full (TIERCAST_SPOOL_MAX)")

    @property
    def files(self) -> list[SpoolFile]:
        """What this process owns: what it adopted, oldest first, then its own file."""
        with self._lock:
            return [*self._adopted, self.own]

    @property
    def count(self) -> int:
        """Deliveries that wait in the files that this process owns."""
        return sum(file.count for file in self.files)

    def adopt(self) -> None:
        """Take over the files of processes that are gone, and let go of those that are empty."""
        for file in self.files[:-1]:
            if file.count == 0:
                with self._lock:
                    self._adopted.remove(file)
                file.close()
        known = {file.path.name for file in self.files} | self._broken
        for path in sorted(self.path.glob("*.db")):
            if path.name not in known:
                self._adopt(path)

    def close(self) -> None:
        """Let go of all files; the next process adopts those that are not empty."""
        for file in self.files:
            file.close()

    def _adopt(self, path: Path) -> None:
        try:
            file = SpoolFile.adopt(path)
        except SpoolError as error:
            # Left where it lies, for somebody to look at; it holds up no other.
            self._broken.add(path.name)
            log.error("spool.unreadable", file=path.name, error=str(error))
            return
        if file is not None:
            log.info("spool.adopted", file=path.name, count=file.count)
            with self._lock:
                self._adopted.append(file)

    def _size_of_others(self) -> int:
        now = time.monotonic()
        if now - self._looked > _LOOK:
            total = 0
            for path in self.path.glob("*.db"):
                if path != self.own.path:
                    with contextlib.suppress(OSError):
                        total += path.stat().st_size
            self._others, self._looked = total, now
        return self._others


def prepare_folder(path: Path) -> None:
    """Make the folder if it is missing, keep others out of it, and try to write there.

    Raises:
        SettingsError: it cannot be used; the message names TIERCAST_SPOOL_DIR.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        probe = path / f"{new_delivery_id()}.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"TIERCAST_SPOOL_DIR is {path}, which cannot be used: {error.strerror}. "
            "Name a folder that this process's user owns and can write, on a local disk."
        ) from None
