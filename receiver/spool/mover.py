"""Moves what waits in the spool to the ledger, oldest first, in a thread of its own.

A delivery leaves the spool only after the ledger confirmed it, and keeps its id: where a crash comes between the
two, it is recorded again, and the ledger knows it. The mover is also what finds out that the ledger is back:
moving is the only trial that proves that it can be written.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from tiercast.errors import LedgerError, LedgerFull
from tiercast.ringer import BellRinger

from ..store import Store
from .errors import SpoolError
from .file import SpoolFile, Waiting
from .folder import SpoolFolder
from .store import Breaker

log = structlog.get_logger()

#: Seconds between two trials while the ledger takes nothing.
TRIAL = 0.5

#: Seconds between two looks for files of processes that are gone.
ADOPT = 5.0

#: Deliveries, and bytes of bodies, of one write.
_MOST = 250
_MOST_BYTES = 2 * 1024 * 1024


class Mover:
    """The thread that empties the spool.

    Args:
        ledger: where deliveries go.
        folder: where they wait.
        breaker: opened and closed as the ledger fails and answers.
        bells: rings the lanes that the ledger names.
    """

    def __init__(self, ledger: Store, folder: SpoolFolder, breaker: Breaker, bells: BellRinger) -> None:
        self._ledger = ledger
        self._folder = folder
        self._breaker = breaker
        self._bells = bells
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        """Begin; deliveries that an earlier process left are moved, too."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread after the write under way."""
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        trials = 0
        per_look = max(1, round(ADOPT / TRIAL))
        while not self._stopping.is_set():
            try:
                if trials % per_look == 0:
                    self._folder.adopt()
                self.round()
                self._folder.let_go()
            except Exception as error:
                # Whatever it is, the deliveries are safe where they are, and the next round tries again.
                log.error("spool.stuck", error=type(error).__name__)
            trials += 1
            self._stopping.wait(TRIAL)

    def round(self) -> None:
        """Move what can be moved; try the ledger where the breaker is open and nothing waits."""
        for file in self._folder.files:
            try:
                if file.count and not self._empty(file):
                    return
            except SpoolError as error:
                # A file that fails holds up no other.
                log.error("spool.stuck", file=file.path.name, count=file.count, reason=str(error))
        if self._breaker.reason is not None:
            try:
                self._ledger.ping()
            except LedgerError:
                return
            self._breaker.close()

    def _empty(self, file: SpoolFile) -> bool:
        """Move a file's deliveries until it is empty or its sources are full; False where the ledger is away."""
        full: set[str] = set()
        moved, most = 0, _MOST
        while not self._stopping.is_set():
            batch = file.oldest(most, most_bytes=_MOST_BYTES, without=full)
            if not batch:
                break
            try:
                self._move(batch)
            except LedgerFull:
                # A batch is refused as a whole, so what room there is takes a smaller one.
                most = len(batch) // 2
                if most == 0:
                    full.add(batch[0].source)
                    most = _MOST
                continue
            except LedgerError as error:
                self._breaker.open(error)
                return False
            # It took them, so requests may ask it again, too.
            self._breaker.close()
            if not file.delete(batch):
                log.warning("spool.not_emptied", file=file.path.name, remedy="the disk of the spool is full")
            moved += len(batch)
            most = min(2 * most, _MOST)
        if moved and file.count == 0:
            log.info("spool.closed", file=file.path.name, moved=moved)
        return True

    def _move(self, batch: Sequence[Waiting]) -> None:
        recorded = self._ledger.record([one.triple for one in batch], due_ms=[one.received for one in batch])
        self._bells.ring(recorded.bells)
        log.info("deliveries.moved", source=batch[0].source, deliveries=[one.id for one in batch])
