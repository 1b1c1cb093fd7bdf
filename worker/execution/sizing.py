"""How many jobs to claim, and how many of them one call or one thread takes on."""

from __future__ import annotations

#: Seconds of work that is claimed ahead: what waits here could be done elsewhere.
AHEAD_SECONDS = 0.5

#: The most jobs that are claimed ahead of a window that is smaller.
AHEAD_MAX_JOBS = 400

#: The most seconds of work that one bulk call or one thread takes on.
PORTION_SECONDS = 1.0

#: The most jobs that one thread takes on at once where the kind has no bulk call.
PORTION_MAX_JOBS = 50

#: Jobs of the first bulk call, while nothing is known.
FIRST_BATCH_JOBS = 10

#: Below so many seconds a job counts as quick: a drain waits for it.
QUICK_SECONDS = 0.02

#: The weight of the newest duration in the mean. Quick ones count for more: a machine short of processors makes every
#: job look slow for a while.
SLOWER_WEIGHT = 0.1
QUICKER_WEIGHT = 0.5


class BatchSizer:
    """Learns the mean duration of a job, in seconds, and says what follows from it.

    Args:
        batch: the most jobs of one bulk call; None where the kind has none.
    """

    def __init__(self, batch: int | None) -> None:
        self._batch = batch
        self._mean: float | None = None
        self._busy = 0.0

    def learn(self, seconds: float, busy: float = 0.0, *, beside: int = 0) -> None:
        """Take in how long one job took, and for how much of it its thread was busy (CPU seconds).

        `beside` is how many threads performed others meanwhile. Those of one process take turns at the processor, so
        what they were busy for is not counted as part of this job: else many threads would make every job look slow,
        which asks for many threads.
        """
        seconds = max(busy, seconds - beside * busy)
        if self._mean is None:
            self._mean, self._busy = seconds, busy
        else:
            self._mean += _weight(seconds, self._mean) * (seconds - self._mean)
            self._busy += _weight(busy, self._busy) * (busy - self._busy)

    def threads(self, most: int) -> int:
        """How many threads are worth it: twice as many as keep one at the processor while the others wait."""
        if self._mean is None or not self._busy:
            return most
        return max(1, min(most, 2 * int(self._mean / self._busy)))

    def portion(self) -> int:
        """How many jobs one bulk call, or one thread, takes on: what it should get done within about a second."""
        if self._mean is None:
            return 1 if self._batch is None else min(self._batch, FIRST_BATCH_JOBS)
        fits = max(1, int(PORTION_SECONDS / max(self._mean, 1e-6)))
        return min(PORTION_MAX_JOBS if self._batch is None else self._batch, fits)

    def ahead(self, at_once: int) -> int:
        """How many jobs to hold ready beside `at_once` calls: what can start within half a second."""
        if self._mean is None:
            return 0
        return int(AHEAD_SECONDS * at_once / max(self._mean, 1e-6))

    def is_quick(self) -> bool:
        """Whether a job usually ends so soon that it is better to wait for it than to ring again."""
        return self._mean is None or self._mean < QUICK_SECONDS


def _weight(new: float, mean: float) -> float:
    return QUICKER_WEIGHT if new < mean else SLOWER_WEIGHT
