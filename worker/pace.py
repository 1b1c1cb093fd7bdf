"""How long an action's jobs take: learnt, so that no more is claimed than can soon begin."""

from __future__ import annotations

#: Seconds of work that one claim may take on for each free thread.
AHEAD = 1.0

#: Seconds that a call may take for a drain to wait for it.
_QUICK = 0.1

#: The most jobs that one thread takes on at once where the kind has no bulk call.
_CHUNK = 50

#: How many jobs the first bulk call takes, while nothing is known.
_FIRST = 10

#: How fast the mean follows: the weight of the newest observation. Quick ones count for more: a machine that is
#: short of processors makes every job look slow for a while, and slow jobs get more threads, which makes it worse.
_SLOWER = 0.1
_QUICKER = 0.5


class Pace:
    """The mean duration of a job, in seconds, and what follows from it.

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
            self._mean += (_QUICKER if seconds < self._mean else _SLOWER) * (seconds - self._mean)
            self._busy += (_QUICKER if busy < self._busy else _SLOWER) * (busy - self._busy)

    def portion(self) -> int:
        """How many jobs one thread takes on: what it should get done within about a second."""
        if self._mean is None:
            return 1 if self._batch is None else min(self._batch, _FIRST)
        fits = max(1, int(AHEAD / max(self._mean, 1e-6)))
        return min(_CHUNK if self._batch is None else self._batch, fits)

    def threads(self, jobs: int) -> int:
        """How many threads so many jobs are worth: twice as many as keep one at the processor while others wait."""
        if self._mean is None or not self._busy:
            return jobs
        return max(1, min(jobs, 2 * int(self._mean / self._busy)))

    def is_quick(self, jobs: int) -> bool:
        """Whether a call of so many jobs usually ends so soon that a drain had better wait for it."""
        return self._mean is None or self._mean * jobs < _QUICK
