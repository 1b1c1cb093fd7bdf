"""Whether deliveries can be stored now: by the fate of the last write and, where nobody posts, by a trial.

One log line tells that trouble begins, one that it is over, with how many deliveries were refused meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from tiercast.errors import LedgerError
from tiercast.ledger.refusal import error_code, reason_of

from .commit import Triple
from .store import Recorded, Spooled, Store

log = structlog.get_logger()

#: Seconds for which the outcome of a trial is remembered.
REMEMBERED_SECONDS = 1.0

#: Seconds for which a write that failed means that nothing can be stored, whatever a trial says; and without another
#: failure, after which trouble is over.
FAILED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether deliveries can be stored; `reason` says why not, or what is amiss all the same."""

    can_store: bool
    reason: str | None = None


@dataclass(slots=True)
class _Trouble:
    """A time in which writes fail. Times are seconds of the clock."""

    last: float
    refused: int = 0
    told: set[tuple[str, str | None]] = field(default_factory=set)


class WatchedStore:
    """A store that knows the fate of its last write.

    Args:
        store: the ledger, with the spool behind it where there is one.
        clock: seconds, monotonic.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        #: Held by the one that tries.
        self._trying = threading.Lock()
        self._tried: tuple[float, Readiness] | None = None
        #: Why the last write failed, and when; None where it did not.
        self._failed: tuple[float, LedgerError] | None = None
        self._trouble: _Trouble | None = None

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Recorded:
        """Store all of (source, delivery id, raw body) durably, or none and raise a LedgerError."""
        try:
            recorded = self._store.record(deliveries, due_ms=due_ms)
        except LedgerError as error:
            self._note_failure(error, len(deliveries), written=True)
            raise
        if self._trouble is not None or self._failed is not None:
            self._note_success(written=True)
        if isinstance(recorded, Spooled):
            # What was found out about the ledger before may be wrong by now.
            self._tried = None
        return recorded

    def readiness(self) -> Readiness:
        """Say whether a delivery could be stored now; a trial is made once a second at the most."""
        failed = self._failed
        if failed is not None and self._clock() - failed[0] < FAILED_SECONDS:
            return Readiness(False, reason_of(failed[1]))
        known = self._remembered()
        if known is not None:
            return known
        # While one tries, the others get what was known last, so that a ledger that hangs holds one thread.
        tried = self._tried
        if not self._trying.acquire(blocking=tried is None):
            assert tried is not None  # noqa: S101 - otherwise it was waited for
            return tried[1]
        try:
            known = self._remembered()
            return known if known is not None else self._try_out()
        finally:
            self._trying.release()

    def _remembered(self) -> Readiness | None:
        tried = self._tried
        if tried is not None and self._clock() - tried[0] < REMEMBERED_SECONDS:
            return tried[1]
        return None

    def _try_out(self) -> Readiness:
        try:
            found = Readiness(True, self._store.ping())
        except LedgerError as error:
            found = Readiness(False, reason_of(error))
            self._note_failure(error, 0, written=False)
        else:
            self._note_success(written=False)
        self._tried = (self._clock(), found)
        return found

    def _note_failure(self, error: LedgerError, count: int, *, written: bool) -> None:
        now, kind = self._clock(), (type(error).__name__, error_code(error))
        with self._lock:
            if written:
                # Without its traceback, which would hold the bodies.
                self._failed = now, error.with_traceback(None)
            if self._trouble is None:
                self._trouble = _Trouble(now)
            self._trouble.last = now
            self._trouble.refused += count
            is_news = kind not in self._trouble.told
            self._trouble.told.add(kind)
        if is_news:
            about = {} if kind[1] is None else {"code": kind[1]}
            log.error("deliveries.unstored", count=count, error=kind[0], **about, reason=reason_of(error))

    def _note_success(self, *, written: bool) -> None:
        now = self._clock()
        with self._lock:
            if written:
                self._failed = None
            trouble = self._trouble
            # One source's lane may be full and another's not: that is one trouble and not many.
            if trouble is None or now - trouble.last < FAILED_SECONDS:
                return
            self._trouble, self._failed = None, None
        log.info("deliveries.stored_again", refused=trouble.refused)
