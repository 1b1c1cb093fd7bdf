"""Noticing that the ledger's clock jumped, and moving what is owed after it went back.

All times in the ledger are its own clock's. Where that goes back an hour (a step of NTP, a failover to a machine whose
clock is wrong), what was due is due in an hour, and what a dead worker held stays held for as long.

A clock that goes ahead ends leases early: a job that is being performed can be performed again, under the same key, as
after a lost worker; and retries come early. Nothing is moved then: that a worker sees the ledger ahead may as well mean
that the worker itself stood still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import structlog

if TYPE_CHECKING:
    from .model import Shifted
    from .store import Ledger

log = structlog.get_logger()

#: Seconds of difference that count as a jump. Less only makes work wait for as long.
TOLERANCE_SECONDS = 5.0

#: Seconds after which a reading is compared with no more: clocks that are steered drift apart by 1 in 2,000.
_REMEMBERED_SECONDS = 600.0


class ClockWatch:
    """Compares the ledger's clock with the process's own monotonic one. No threads; feed it from one.

    A reading of the ledger's clock was taken at some moment between request and answer, so it bounds the difference of
    the two clocks. It jumped where two bounds lie apart by more than the tolerance, so a slow answer proves nothing.

    Example:
        >>> watch = ClockWatch()
        >>> watch.observe(1_000_000, sent=10.0, received=10.1)
        >>> watch.observe(1_001_000, sent=11.0, received=11.1)
        >>> round(watch.observe(-2_598_000, sent=12.0, received=12.1))
        -3600
    """

    def __init__(self, tolerance: float = TOLERANCE_SECONDS) -> None:
        self._tolerance = tolerance
        self._bounds: tuple[float, float] | None = None
        self._at = 0.0

    def observe(self, ledger_ms: int, *, sent: float, received: float) -> float | None:
        """Take a reading: the ledger's clock, and `time.monotonic()` before the request and after the answer.

        Returns:
            By how many seconds the ledger's clock jumped since the readings before (negative: back), or None. It is
            said once: the next reading is compared with this one.
        """
        low, high = ledger_ms / 1000 - received, ledger_ms / 1000 - sent
        known = self._bounds
        if known is None:
            self._take(low, high, received)
            return None
        apart = max(low - known[1], known[0] - high)
        if apart > self._tolerance:
            self._take(low, high, received)
            return (low + high) / 2 - (known[0] + known[1]) / 2
        # What both say is narrower than each; but not for ever, and not where steering moved one out of the other.
        both = max(low, known[0]), min(high, known[1])
        if both[0] <= both[1] and received - self._at < _REMEMBERED_SECONDS:
            self._bounds = both
        elif high - low <= self._tolerance:
            self._take(low, high, received)
        return None

    def _take(self, low: float, high: float, at: float) -> None:
        self._bounds, self._at = (low, high), at


@dataclass(frozen=True, slots=True)
class ClockState:
    """What the ledger notes of its clock, for `lanes list` and `check`.

    `behind` is how many seconds it is behind what it showed before, with nothing moved yet; `moved` by how many seconds
    things were moved last and `moved_ms` when (by the clock after its jump); `moving` says that this goes on.
    """

    behind: float
    moved: float
    moved_ms: int | None
    moving: bool


class ClockGuard:
    """Watches the ledger's clock for one process, and has what is owed moved after it went back.

    Call `look` about once a second, from one thread; while it returns `more`, soon again.

    Args:
        ledger: whose clock is watched.
        limits: names of all limits of vendors, whose next starts are moved, too; may be changed later.
        monotonic: the process's own clock, in seconds.
    """

    def __init__(
        self, ledger: Ledger, *, limits: Sequence[str] = (), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self.limits = tuple(limits)
        self._monotonic = monotonic
        self._watch = ClockWatch()
        self._known_ms = 0
        self._back = 0.0

    def look(self) -> Shifted:
        """Compare the clocks, and move one bounded step where there is something to move.

        Raises:
            LedgerError: the ledger fails; what was seen is kept for the next call.
        """
        sent = self._monotonic()
        now_ms = self._ledger.now_ms()
        jump = self._watch.observe(now_ms, sent=sent, received=self._monotonic())
        if jump is not None:
            log.warning("clock.jumped", seconds=round(jump, 1), what=_MOVED if jump < 0 else _EARLY)
            self._back -= jump if jump < 0 else 0.0
        step = self._ledger.shift(self._back, known_ms=self._known_ms, limits=self.limits)
        if step.found:
            log.warning("clock.moving", seconds=round(step.found, 1))
        # While a move goes on, what this process saw is not judged yet.
        if not step.more or step.found:
            self._back, self._known_ms = 0.0, step.total_ms
        return step


_MOVED = "the ledger's clock went back; what is due and held is moved by as much"
_EARLY = "the ledger's clock went ahead; leases end early, and retries come early"


def clock_state(ledger: Ledger) -> ClockState:
    """Read what the ledger notes of its clock.

    Raises:
        LedgerError: it does not answer.
    """
    client = cast(Any, ledger.client)
    now_ms = ledger.now_ms()
    fields = client.hmget(ledger.key("clock_shift"), "seen", "last", "at", "by")
    seen, last, at, by = (None if value is None else int(value) for value in fields)
    behind = ((seen or 0) - now_ms) / 1000
    return ClockState(behind if behind > TOLERANCE_SECONDS else 0.0, (last or 0) / 1000, at, by is not None)
