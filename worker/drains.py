"""What all drains of a process have in common: each works on one lane, in a thread of its own while there is work."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import structlog

from tiercast.errors import LedgerError, LedgerUnavailable
from tiercast.ledger.refusal import reason_of
from tiercast.logs import place

from .threads import Threads

log = structlog.get_logger()


class LedgerTrouble:
    """Logs when the ledger begins to fail in this process, and when it answers again: one line each."""

    def __init__(self) -> None:
        self._failing = False

    def failed(self, error: LedgerError) -> None:
        """Note that a call failed."""
        if not self._failing:
            self._failing = True
            log.warning("ledger.away", error=type(error).__name__, reason=reason_of(error))

    def answered(self) -> None:
        """Note that a call was answered."""
        if self._failing:
            self._failing = False
            log.info("ledger.back")


#: Of this process.
LEDGER = LedgerTrouble()

#: Seconds between two tries while the ledger is away.
RETRY_SECONDS = 0.2

T = TypeVar("T")


def ask_patiently(ask: Callable[[], T], seconds: float, *, gives_up: Callable[[], bool] = lambda: False) -> T:
    """Ask the ledger, and ask again while it is away: what a drain holds would wait for its leases' end.

    Args:
        ask: the call, which repeats nothing when it is made twice.
        seconds: how long it is asked again.
        gives_up: whether to ask no more before that.

    Raises:
        LedgerUnavailable: it is still away.
        LedgerError: as `ask` raises it.
    """
    patience = time.monotonic() + seconds
    while True:
        try:
            answer = ask()
        except LedgerUnavailable as error:
            LEDGER.failed(error)
            if time.monotonic() > patience or gives_up():
                raise
            time.sleep(RETRY_SECONDS)
        else:
            LEDGER.answered()
            return answer


class Lanes(Protocol):
    """Whom a drain tells which lanes have become due."""

    def due(self, lanes: Iterable[str], *, draining: str = "") -> None:
        """Have these lanes drained, here or elsewhere; the one that the caller is `draining` is to get help."""


class Drain:
    """Works on one lane: `run` claims and works until nothing is left for this process to do.

    Subclasses implement `run` and `is_idle`. A drain that is started while it runs is woken instead, so one lane has
    at most one thread in a process.
    """

    def __init__(self, lane: str, threads: Threads) -> None:
        self.lane = lane
        self._threads = threads
        self._state = threading.Condition()
        self._running = False
        self._heard = False
        self._counts: Counter[str] = Counter()
        self.closing = False

    def start(self, *, heard: bool) -> None:
        """Begin to work on the lane, or go on; `heard` says that a bell has named it."""
        with self._state:
            if self.closing:
                return
            self._heard = self._heard or heard
            fresh = not self._running
            self._running = True
        if not fresh:
            self.wake()
            return
        try:
            self._threads.run(self._run)
        except RuntimeError:  # no thread can be started; the timer rings again for what is due
            log.warning("drain.no_thread", lane=self.lane)
            with self._state:
                self._running = False
                self._state.notify_all()

    @property
    def is_running(self) -> bool:
        """Whether a thread works on the lane."""
        return self._running

    def wait(self, timeout: float) -> bool:
        """Wait until the drain has ended; whether it has."""
        with self._state:
            return self._state.wait_for(lambda: not self._running, timeout)

    def take_counts(self) -> Counter[str]:
        """What was claimed and how it ended, since this was last asked."""
        with self._state:
            counts, self._counts = self._counts, Counter()
        return counts

    def count(self, **what: int) -> None:
        """Add to the counts."""
        with self._state:
            self._counts.update(what)

    def take_heard(self) -> bool:
        """Whether a bell has named the lane since this was last asked."""
        with self._state:
            heard, self._heard = self._heard, False
        return heard

    def has_more_to_do(self) -> bool:
        """Called by `run` before it ends: False, once and for all, unless the drain was started again meanwhile."""
        with self._state:
            if self._heard and not self.closing:
                return True
            self._running = False
            self._state.notify_all()
            return False

    def wake(self) -> None:
        """End a wait of `run`."""

    def run(self) -> None:
        """Work on the lane until `has_more_to_do` says that this is the end."""
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self.run()
        except Exception as error:
            # No traceback: its last line may quote an event.
            log.error("drain.fault", lane=self.lane, error=place(error))
        finally:
            with self._state:
                self._running = False
                self._state.notify_all()
