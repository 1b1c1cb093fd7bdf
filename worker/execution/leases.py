"""The jobs that this process holds under a lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tiercast.ledger.model import HeldJob

#: Seconds that a lease must still last for an effect to begin; of a short lease a third.
MARGIN_SECONDS = 3.0


@dataclass(slots=True)
class Leased:
    """A job under a lease. Times are seconds of the monotonic clock; `progress` is when it last got ahead."""

    held: HeldJob
    lease_until: float
    not_before: float
    progress: float
    state: Literal["waiting", "running"] = "waiting"


class LeaseTable:
    """What one action holds in this process, and until when. Safe to use from several threads.

    Args:
        lease: seconds that a lease lasts.
        overdue_after: seconds without progress after which a running job is given up.
        clock: monotonic seconds.
    """

    def __init__(self, lease: float, overdue_after: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._overdue_after = overdue_after
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, Leased] = {}
        self._leaving = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, claimed: Iterable[HeldJob], at: float) -> list[Leased]:
        """Take in jobs whose claim was asked for at `at`."""
        until, now = at + self._lease, self._clock()
        added = [Leased(held, until, at + held.delay, now) for held in claimed]
        with self._lock:
            for job in added:
                self._jobs[job.held.key] = job
        return added

    def begin(self, job: Leased) -> Literal["begun", "too late", "lost"]:
        """Mark a job as running, if its lease is still ours and lasts long enough for an effect."""
        now = self._clock()
        with self._lock:
            if self._jobs.get(job.held.key) is not job or job.state != "waiting":
                return "lost"
            if job.lease_until - now < min(MARGIN_SECONDS, self._lease / 3):
                return "too late"
            job.state, job.progress = "running", now
            return "begun"

    def remove(self, job: Leased) -> bool:
        """The job has an outcome; False where its lease was lost meanwhile and it has left the table.

        Call `left` once the outcome is in the outbox.
        """
        with self._lock:
            if self._jobs.get(job.held.key) is not job:
                return False
            del self._jobs[job.held.key]
            self._leaving += 1
            return True

    def left(self) -> bool:
        """The outcome of a removed job is where it will be settled from; whether nothing is held any more."""
        with self._lock:
            self._leaving -= 1
            return not self._jobs and self._leaving == 0

    def is_empty(self) -> bool:
        """Whether nothing is held, and no outcome is on its way to the outbox."""
        with self._lock:
            return not self._jobs and self._leaving == 0

    def note_progress(self, jobs: Iterable[Leased]) -> None:
        """A bulk call got ahead: its other jobs are not stuck."""
        now = self._clock()
        for job in jobs:
            job.progress = now

    def waiting(self, *, older: float = 0.0) -> list[Leased]:
        """The jobs that have not begun within `older` seconds since they were claimed."""
        now = self._clock()
        with self._lock:
            return [job for job in self._jobs.values() if job.state == "waiting" and now - job.progress >= older]

    def running(self) -> int:
        """How many jobs are being performed, those overdue not counted."""
        now = self._clock()
        with self._lock:
            return sum(1 for job in self._jobs.values() if job.state == "running" and not self._is_overdue(job, now))

    def redelivered(self) -> int:
        """How many of the jobs lost their lease once before."""
        with self._lock:
            return sum(1 for job in self._jobs.values() if job.held.expiries == 1)

    def overdue(self) -> list[str]:
        """The keys of jobs that have run past their time-out and grace: nothing but their process can be ended."""
        now = self._clock()
        with self._lock:
            return [job.held.key for job in self._jobs.values() if self._is_overdue(job, now)]

    def to_renew(self) -> list[tuple[str, str]]:
        """(job, token) of all leases to be renewed. Those of overdue jobs are not: they are left to expire."""
        now = self._clock()
        with self._lock:
            return [(job.held.key, job.held.token) for job in self._jobs.values() if not self._is_overdue(job, now)]

    def renewed(self, ours: Mapping[str, bool], at: float) -> None:
        """Take in the answer to a renewal that was asked for at `at`. A job that was lost and has not begun leaves."""
        with self._lock:
            for key, is_ours in ours.items():
                job = self._jobs.get(key)
                if job is None:
                    continue
                if is_ours:
                    job.lease_until = at + self._lease
                elif job.state == "waiting":
                    del self._jobs[key]

    def _is_overdue(self, job: Leased, now: float) -> bool:
        return job.state == "running" and now - job.progress > self._overdue_after
