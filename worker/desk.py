"""One action in this process: the jobs that it holds, the threads that perform them, what awaits settling.

A job outlives the drain that claimed it: drains are short, so that lanes share the pool, while a job may hang
until its time-out. The keeper renews its lease and settles what no drain settles.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import structlog

from tiercast.config.model import ActionSpec, Limit
from tiercast.ledger import Ledger, keys
from tiercast.ledger.model import Claim, HeldJob, Outcome

from .attempts import Verdict, back, perform_many, perform_one
from .pace import Pace
from .threads import Threads

log = structlog.get_logger()

#: The most threads of one action in one process.
THREADS = 16

#: Seconds that a lease must still last for an effect to begin.
_MARGIN = 3.0

#: How many verdicts are worth a round trip of their own, and how many seconds a drain lingers for that many.
_ENOUGH = 100
_LINGER = 0.004

#: The most jobs of one claim: the ledger serves nobody else while it lends them, some 0.1 ms each.
_MOST = 200

#: Seconds between two bells that are passed on since all threads are busy.
_PASS_ON = 1.0

#: Seconds between two notes that a bulk call gets ahead.
_PROGRESS = 0.5


@dataclass(slots=True)
class Running:
    """A job in this process. Times are of the monotonic clock; `progress` is when its thread last got ahead."""

    held: HeldJob
    lease_until: float
    not_before: float
    state: Literal["waiting", "running", "gone"] = "waiting"
    progress: float = field(default_factory=time.monotonic)


class Desk:
    """Performs the jobs of one action. Safe to use from several threads."""

    def __init__(self, spec: ActionSpec, ledger: Ledger) -> None:
        self.spec = spec
        self.lane = keys.jobs_lane(spec.name)
        self._lease = ledger.lease
        self._bulk = spec.cls.is_bulk()
        self._batch = min(spec.batch, spec.cls.max_batch) if self._bulk else 1
        self._threads = min(spec.concurrency or THREADS, THREADS)
        self._pool = Threads(f"perform:{spec.name}")
        self._changed = threading.Condition()
        self._running: dict[str, Running] = {}
        self._verdicts: list[Verdict] = []
        self._settling = 0
        self._busy = 0
        self._pace = Pace(self._batch if self._bulk else None)
        self._action = spec.make()
        self._largest = 1
        self._enough = 1
        self._drains = 0
        self._closing = False
        self._passed_on = float("-inf")

    # --- what a drain asks

    @contextmanager
    def draining(self) -> Iterator[None]:
        """While a drain is at work it settles, and the keeper does not."""
        with self._changed:
            self._drains += 1
        try:
            yield
        finally:
            with self._changed:
                self._drains -= 1

    def is_drained(self) -> bool:
        """Whether a drain is at work."""
        return self._drains > 0

    def claim(self, token: str) -> Claim | None:
        """The claim that this process can take on now; None while all its threads are busy."""
        with self._changed:
            n = 0 if self._closing else min(_MOST, (self._threads - self._busy) * self._pace.portion())
            per_call = self._pace.portion() if self._bulk else 1
        if n <= 0:
            return None
        spec = self.spec
        return Claim(
            token=token,
            n=n,
            cap=spec.concurrency * self._batch if spec.concurrency else None,
            limits=tuple((limit.name, round(self._interval(limit) * 1e6)) for limit in spec.limits),
            per_call=per_call,
        )

    def may_pass_on(self) -> bool:
        """Whether another process is to hear of the lane, since this one's threads are busy: now and then."""
        now = time.monotonic()
        with self._changed:
            if self._closing or now - self._passed_on < _PASS_ON:
                return False
            self._passed_on = now
            return True

    def _interval(self, limit: Limit) -> float:
        """Seconds from one start to the next that keep within a limit, with a twentieth to spare."""
        return limit.seconds / limit.calls / 0.95 * self.spec.cls.calls

    def start(self, lent: Sequence[HeldJob], claimed: float, *, per_call: int = 1) -> None:
        """Begin to perform what was claimed at `claimed` (monotonic), as many to a call as the claim reckoned with."""
        if not lent:
            return
        until = claimed + self._lease
        jobs = [Running(held, until, claimed + held.delay) for held in lent]
        with self._changed:
            for job in jobs:
                self._running[job.held.key] = job
            if self._closing:
                self._hand_back(jobs)
                return
            chunks = self._chunks(jobs, per_call)
            self._busy += len(chunks)
            self._largest = max(len(chunk) for chunk in chunks) if self._bulk else 1
        for chunk in chunks:
            try:
                self._pool.run(partial(self._run_batch if self._bulk else self._run_chunk, chunk))
            except RuntimeError:  # no thread can be started: the task waits for one, the jobs need not
                log.warning("desk.no_thread", action=self.spec.name)
                with self._changed:
                    self._hand_back(list(chunk))

    @contextmanager
    def taking(self) -> Iterator[list[Verdict]]:
        """What is to be settled. Until the block ends this desk is not idle; if it fails, they are kept."""
        with self._changed:
            verdicts, self._verdicts = self._verdicts, []
            self._settling += 1
        try:
            yield verdicts
        except BaseException:
            with self._changed:
                self._verdicts[:0] = verdicts
            raise
        finally:
            with self._changed:
                self._settling -= 1
                if verdicts:
                    self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until something is to be settled; whether it is.

        Once something is, wait a moment longer while more is running: a round trip costs as much for one as for many.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._verdicts or not self._running, timeout)
            if self._verdicts and self._running:
                self._enough = _ENOUGH
                self._changed.wait_for(lambda: len(self._verdicts) >= _ENOUGH or not self._running, _LINGER)
                self._enough = 1
            return bool(self._verdicts)

    def is_quick(self) -> bool:
        """Whether its calls usually end so soon that a drain had better wait for them."""
        return self._pace.is_quick(self._largest)

    def is_idle(self) -> bool:
        """Whether nothing runs, and nothing awaits settling or is being settled."""
        with self._changed:
            return not (self._running or self._verdicts or self._settling)

    def is_settling(self) -> bool:
        """Whether a round trip that settles is under way."""
        return self._settling > 0

    # --- what the keeper asks

    def held(self) -> list[tuple[str, str]]:
        """(job, token) of all whose leases are to be renewed: those that run too long are left to end."""
        now = time.monotonic()
        with self._changed:
            return [(r.held.key, r.held.token) for r in self._running.values() if not self._is_overdue(r, now)]

    def renewed(self, kept: dict[str, bool], at: float) -> None:
        """Note the answer to a renewal that was asked at `at`: a lost one that has not begun is let go."""
        with self._changed:
            for key, ours in kept.items():
                job = self._running.get(key)
                if job is None:
                    continue
                if ours:
                    job.lease_until = at + self._lease
                elif job.state == "waiting":
                    job.state = "gone"
                    del self._running[key]

    def overdue(self) -> list[str]:
        """Jobs that have run past their time-out and grace: their threads cannot be ended, only the process."""
        now = time.monotonic()
        with self._changed:
            return [r.held.key for r in self._running.values() if self._is_overdue(r, now)]

    def running(self) -> int:
        """How many jobs are being performed, those overdue not counted."""
        now = time.monotonic()
        with self._changed:
            return sum(1 for r in self._running.values() if r.state == "running" and not self._is_overdue(r, now))

    def hand_back_waiting(self, *, older: float = 0.0) -> None:
        """Hand back what waits behind a job that has been running for more than `older` seconds."""
        now = time.monotonic()
        with self._changed:
            stuck = self._threads_stuck(now, older)
            if stuck:
                self._hand_back([job for job in self._running.values() if now - job.progress >= older])

    def close(self) -> None:
        """Begin nothing more, and hand back what has not begun."""
        with self._changed:
            self._closing = True
        self.hand_back_waiting()

    def close_action(self) -> None:
        """Let the kind give back its connections."""
        self._action.close()

    # --- inside

    def _threads_stuck(self, now: float, older: float) -> bool:
        return any(r.state == "running" and now - r.progress >= older for r in self._running.values()) or older == 0

    def _hand_back(self, jobs: list[Running]) -> None:
        """With the lock held: hand back those of these that have not begun."""
        for job in jobs:
            if job.state == "waiting":
                self._let_go(job, Verdict(back(job.held)))

    def _chunks(self, jobs: list[Running], per_call: int) -> list[deque[Running]]:
        """Share jobs out to the free threads, in batches of the bulk call or singly in turn.

        Quick jobs go to few threads: more would only wait for one another.
        """
        free = max(1, self._threads - self._busy)
        if self._bulk:
            # Few large calls: that is what a bulk call is for. Under a limit each has a start of its own reserved.
            size = per_call if self.spec.limits else self._pace.portion()
            return [deque(jobs[i : i + size]) for i in range(0, len(jobs), size)]
        count = min(free, len(jobs), self._pace.threads(len(jobs)))
        return [deque(jobs[i::count]) for i in range(count)]

    def _begin(self, job: Running) -> bool:
        """Whether the job may begin: it was not let go meanwhile, and enough of its lease is left."""
        delay = job.not_before - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        now = time.monotonic()
        with self._changed:
            if job.state != "waiting":
                return False
            if job.lease_until - now < min(_MARGIN, self._lease / 3):
                self._let_go(job, Verdict(back(job.held)))
                return False
            job.state, job.progress = "running", now
            return True

    def _run_chunk(self, chunk: deque[Running]) -> None:
        try:
            while chunk:
                job = chunk.popleft()
                if not self._begin(job):
                    continue
                began, busy = time.monotonic(), time.thread_time()
                verdict = perform_one(self.spec, self._action, job.held)
                self._pace.learn(time.monotonic() - began, time.thread_time() - busy, beside=self._busy - 1)
                self._settle(job, verdict)
        finally:
            self._thread_ends()

    def _run_batch(self, chunk: deque[Running]) -> None:
        try:
            jobs = {job.held.key: job for job in chunk if self._begin(job)}
            if not jobs:
                return
            began = noted = time.monotonic()
            count = len(jobs)
            for held, verdict in perform_many(self.spec, self._action, [job.held for job in jobs.values()]):
                self._settle(jobs.pop(held.key), verdict)
                if (now := time.monotonic()) - noted > _PROGRESS:
                    noted = now
                    with self._changed:
                        for left in jobs.values():
                            left.progress = now
            self._pace.learn((time.monotonic() - began) / count)
        finally:
            self._thread_ends()

    def _thread_ends(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def _settle(self, job: Running, verdict: Verdict) -> None:
        _log(self.spec.name, verdict.outcome)
        with self._changed:
            self._let_go(job, verdict)
            if verdict.put_off:
                self._hand_back(list(self._running.values()))

    def _let_go(self, job: Running, verdict: Verdict) -> None:
        """With the lock held: the job leaves this desk with a verdict."""
        job.state = "gone"
        if self._running.get(job.held.key) is job:
            del self._running[job.held.key]
        self._verdicts.append(verdict)
        if len(self._verdicts) >= self._enough or not self._running:
            self._changed.notify_all()

    def _is_overdue(self, job: Running, now: float) -> bool:
        return job.state == "running" and now - job.progress > self.spec.timeout + grace_of(self.spec)


def grace_of(spec: ActionSpec) -> float:
    """Seconds beyond its time-out that an attempt may take before its process is given up."""
    return max(5.0, spec.timeout / 2)


def _log(action: str, outcome: Outcome) -> None:
    fields = {"job": outcome.job, "action": action, "ms": round((outcome.duration or 0) * 1000)}
    match outcome.verdict:
        case "done":
            log.debug("job.done", **fields)
        case "dead" | "uncertain":
            log.warning(f"job.{outcome.verdict}", **fields)
        case verdict:
            log.info(f"job.{verdict}", **fields)
