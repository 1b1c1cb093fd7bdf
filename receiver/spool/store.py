"""The ledger with the spool behind it: what the one does not take, the other does."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from tiercast.errors import LedgerError, LedgerFull
from tiercast.ledger.refusal import error_code, reason_of

from ..commit import Triple
from ..store import Recorded, Spooled, Store
from .folder import SpoolFolder

log = structlog.get_logger()


class Breaker:
    """Whether the ledger is to be left alone: open after a failure, closed again by whoever saw it answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why it is open, or None."""
        return self._reason

    def open(self, error: LedgerError) -> None:
        """Leave the ledger alone from now on."""
        with self._lock:
            news = self._reason is None
            self._reason = reason_of(error)
        if news:
            code = error_code(error)
            about = {} if code is None else {"code": code}
            log.warning("ledger.away", error=type(error).__name__, **about, reason=self._reason)

    def close(self) -> None:
        """Use the ledger again."""
        with self._lock:
            news = self._reason is not None
            self._reason = None
        if news:
            log.info("ledger.back")


class SpoolingStore:
    """Stores in the ledger and, while that takes nothing, in the spool.

    After a failure nobody waits for the ledger again until the mover has seen it take something (see mover.py). A
    ledger that is full answers at once, so it is asked each time.
    """

    def __init__(self, ledger: Store, folder: SpoolFolder, breaker: Breaker) -> None:
        self._ledger = ledger
        self._folder = folder
        self._breaker = breaker

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Recorded:
        """Store all of (source, delivery id, raw body), or none and raise a LedgerError."""
        reason = self._breaker.reason
        if reason is None:
            try:
                return self._ledger.record(deliveries, due_ms=due_ms)
            except LedgerError as error:
                # It may hold them all the same, if only its answer was lost: the ids tell, when they are moved.
                if not isinstance(error, LedgerFull):
                    self._breaker.open(error)
                reason = reason_of(error)
        empty = self._folder.is_empty
        self._folder.append(deliveries)
        if empty:
            log.warning("spool.opened", reason=reason)
        return Spooled(reason)

    def ping(self) -> str | None:
        """Return soon if either could store now, with a word on what is amiss; else raise a LedgerError."""
        reason = self._breaker.reason
        if reason is None:
            try:
                return self._ledger.ping()
            except LedgerError as error:
                reason = reason_of(error)
        self._folder.ping()
        return f"{reason}; {self._folder.count} deliveries wait in the spool"
