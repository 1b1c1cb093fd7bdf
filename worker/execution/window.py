"""How many calls of an action one process makes at once: found from how the vendor answers.

The idea is TCP's congestion control. The window doubles while calls take no longer for it, stands still when they
begin to, and shrinks when they take much longer, time out or are refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Calls at once while nothing is known, and the most.
START_CALLS = 16
MAX_CALLS = 1024

#: The same for plain functions, each of which takes a thread.
START_THREADS = 16
MAX_THREADS = 64

#: A call may take so many times as long as at a small window: up to the first the window grows, above the second it
#: shrinks.
GROWS_BELOW = 1.25
SHRINKS_ABOVE = 1.6

#: The fewest calls that a decision is made from, and the seconds that they span at the least.
EPOCH_CALLS = 16
EPOCH_SECONDS = 0.05

#: Seconds after which the window is halved for a moment, to measure anew how long a call takes at less load.
PROBE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Before:
    """The window before it was made smaller, and the mean duration then; `restore`: it was a measurement only."""

    size: int
    mean: float
    restore: bool


class Window:
    """Counts the calls in flight and says how many there may be. Used by one thread; durations are seconds.

    >>> window = Window(start=2)
    >>> window.begin(); window.free
    1

    Args:
        start: calls at once while nothing is known.
        most: the most calls at once.
        fixed: this many, whatever is seen.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        start: int = START_CALLS,
        most: int = MAX_CALLS,
        fixed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = fixed if fixed is not None else start
        self.in_flight = 0
        self._fixed = fixed is not None
        self._most = most
        self._clock = clock
        self._growing_fast = True
        self._base: float | None = None
        self._base_at = clock()
        self._before: _Before | None = None
        self._ignored = 0
        self._refused_at = -math.inf
        self._begin_epoch()

    @property
    def free(self) -> int:
        """How many more calls may begin now."""
        return max(0, self.size - self.in_flight)

    def begin(self) -> None:
        """Note that a call begins."""
        self.in_flight += 1
        if self.in_flight >= self.size:
            self._was_full = True

    def end(self, seconds: float | None = None, *, refused: bool = False) -> None:
        """Note that a call has ended.

        Args:
            seconds: how long it took; None where that says nothing of the vendor.
            refused: it timed out, or the vendor could not take it.
        """
        self.in_flight -= 1
        if self._fixed or seconds is None:
            return
        if refused:
            self._refuse(seconds)
            return
        if self._ignored:  # it began under a larger window
            self._ignored -= 1
            if not self._ignored:
                self._begin_epoch()
            return
        self._count += 1
        self._sum += seconds
        self._squares += seconds * seconds
        if self._count >= max(self.size, EPOCH_CALLS) and self._clock() - self._began >= EPOCH_SECONDS:
            self._decide()

    def _begin_epoch(self) -> None:
        self._began = self._clock()
        self._count = 0
        self._sum = self._squares = 0.0
        self._was_full = self.in_flight >= self.size

    def _refuse(self, seconds: float) -> None:
        """Halve the window, at most once for the calls that were in flight together."""
        now = self._clock()
        if now - self._refused_at < max(EPOCH_SECONDS, min(seconds, 1.0)):
            return
        self._refused_at = now
        self._growing_fast = False
        self._before, self._ignored = None, 0
        self.size = max(1, self.size // 2)
        self._begin_epoch()

    def _decide(self) -> None:
        mean = self._sum / self._count
        spread = math.sqrt(max(0.0, self._squares / self._count - mean * mean) / self._count)
        was_full = self._was_full
        if self._before is not None:
            self._judge_smaller(self._before, mean, spread)
        else:
            if self._base is None or mean + spread < self._base:
                self._base, self._base_at = mean + spread, self._clock()
            if was_full:
                self._resize(mean, spread)
        self._begin_epoch()

    def _resize(self, mean: float, spread: float) -> None:
        """Follow the mean duration, as far as it is certain: within twice its standard error."""
        assert self._base is not None  # noqa: S101
        surely = (mean - 2 * spread) / self._base
        if surely > SHRINKS_ABOVE and self.size > 1:
            self._shrink(int(self.size * max(0.5, GROWS_BELOW / surely)), mean, restore=False)
        elif surely > GROWS_BELOW:
            self._growing_fast = False
        elif self._clock() - self._base_at > PROBE_SECONDS and self.size > 1:
            self._shrink(self.size // 2, mean, restore=True)
        else:
            self.size = min(self._most, self.size * 2 if self._growing_fast else self.size + max(1, self.size // 8))

    def _shrink(self, size: int, mean: float, *, restore: bool) -> None:
        """Make the window smaller. What was in flight before has to end before that can be judged."""
        self._before = _Before(self.size, mean, restore)
        self._ignored = self.in_flight
        self._growing_fast = self._growing_fast and restore
        self.size = max(1, size)

    def _judge_smaller(self, before: _Before, mean: float, spread: float) -> None:
        """Compare a smaller window with the one before: did calls take longer because there were too many?

        Where they did, their duration falls with the window. Where it does not, the vendor is as slow as that by
        itself, which becomes the measure, and the window is what it was.
        """
        self._before = None
        expected = before.mean * self.size / before.size
        was_queueing = mean + spread < (before.mean + expected) / 2
        self._base, self._base_at = mean + spread, self._clock()
        if before.restore or not was_queueing:
            self.size = before.size
