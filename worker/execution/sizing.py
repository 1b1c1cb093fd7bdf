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

    def learn(self, seconds: float) -> None:
        """Take in how long one job took."""
        if self._mean is None:
            self._mean = seconds
        else:
            weight = QUICKER_WEIGHT if seconds < self._mean else SLOWER_WEIGHT
            self._mean += weight * (seconds - self._mean)

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
