"""Performs the claimed jobs of one action: async kinds on the event loop, plain functions in threads."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog

from tiercast.actions import Action
from tiercast.config.model import ActionSpec
from tiercast.ledger.model import HeldJob, Outcome
from tiercast.ledger.states import JobState

from ..threads import Threads
from .attempt import perform_many, perform_many_async, perform_one, perform_one_async, release
from .leases import Leased, LeaseTable
from .outbox import Outbox
from .sizing import AHEAD_MAX_JOBS, BatchSizer
from .window import MAX_CALLS, MAX_THREADS, START_THREADS, Window

log = structlog.get_logger()

#: Seconds between two notes that a bulk call gets ahead.
PROGRESS_SECONDS = 0.5

#: Verdicts that an operator has to look at.
_NEED_OPERATOR = frozenset(state for state in JobState if state.needs_operator)


class Executor:
    """Runs jobs as far as the window allows; each outcome goes into the outbox as it comes.

    What is not said to be safe from other threads runs on the loop only.

    Args:
        spec: the action's configuration.
        action: its instance in this process.
        leases: the jobs that this process holds; one begins only while its lease lasts.
        outbox: where outcomes go.
        loop: the process's event loop.
    """

    def __init__(
        self, spec: ActionSpec, action: Action, leases: LeaseTable, outbox: Outbox, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.spec = spec
        self.action = action
        self.leases = leases
        self.outbox = outbox
        self._loop = loop
        self._bulk = spec.cls.is_bulk()
        self._async = spec.cls.is_async()
        most = MAX_CALLS if self._async else MAX_THREADS
        fixed = min(spec.concurrency, most) if spec.concurrency else None
        self.window = (
            Window(most=most, fixed=fixed) if self._async else Window(start=START_THREADS, most=most, fixed=fixed)
        )
        self.batch = min(spec.batch, spec.cls.max_batch) if self._bulk else 1
        self.sizer = BatchSizer(self.batch if self._bulk else None)
        self._threads = Threads(f"perform:{spec.name}")
        self._queue: deque[Leased] = deque()
        self._more = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- safe from other threads

    @property
    def is_async(self) -> bool:
        """Whether its calls run on the event loop."""
        return self._async

    def capacity(self) -> int:
        """How many more jobs can start within about half a second."""
        if self._closing:
            return 0
        calls, portion = self.window.size, self.sizer.portion() if self._bulk else 1
        wanted = calls * portion + min(max(calls * portion, AHEAD_MAX_JOBS), self.sizer.ahead(calls))
        return max(0, wanted - len(self.leases))

    def is_idle(self) -> bool:
        """Whether this process holds no job of the action."""
        return self.leases.is_empty()

    def start(self, claimed: Sequence[HeldJob], at: float, *, more: bool) -> None:
        """Take in jobs whose claim was asked for at `at`; `more` says that further ones will follow soon."""
        jobs = self.leases.add(claimed, at)
        self._loop.call_soon_threadsafe(self._accept, jobs, more)

    def release_waiting(self, *, older: float = 0.0) -> None:
        """Give back the jobs that have not begun, for instance since their lane is on hold."""
        for job in self.leases.waiting(older=older):
            self._put(job, release(job.held))

    def release_stuck(self, older: float) -> None:
        """Give back jobs that have waited for more than `older` seconds while others are under way."""
        if self.leases.running():
            self.release_waiting(older=older)

    def close(self) -> None:
        """Begin nothing more, and give back what has not begun."""
        self._closing = True
        self.release_waiting()

    # --- on the loop

    async def cancel(self) -> None:
        """Cancel the async calls that still run, and wait for their outcomes."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)

    def _accept(self, jobs: Iterable[Leased], more: bool) -> None:
        self._queue.extend(jobs)
        self._more = more
        if self._closing:
            self.release_waiting()
        self._dispatch()

    def _dispatch(self) -> None:
        """Start as many jobs as the window allows and as may start by now."""
        while self._queue and self._free():
            wait = self._queue[0].not_before - time.monotonic()
            if wait > 0:
                self._dispatch_in(wait)
                return
            if self._bulk:
                portion = self._next_portion(self.sizer.portion())
                if portion is None:
                    return
                self._begin_batch(portion)
            elif self._async:
                self._begin_one(self._queue.popleft())
            else:
                self._begin_chunk()

    def _free(self) -> int:
        """How many calls may begin now. Threads of quick plain functions only take turns, so few of them do."""
        if self._async or self._bulk:
            return self.window.free
        return min(self.window.free, max(0, self.sizer.threads(MAX_THREADS) - self.window.in_flight))

    def _dispatch_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _next_portion(self, size: int) -> list[Leased] | None:
        """The next jobs for one bulk call; None where more will come soon to fill it."""
        now = time.monotonic()
        ready = 0
        for job in self._queue:
            if ready >= size or job.not_before > now:
                break
            ready += 1
        if ready < size and ready == len(self._queue) and self._more and self.window.in_flight:
            return None
        return [self._queue.popleft() for _ in range(ready)]

    def _begin_one(self, job: Leased) -> None:
        if not self._has_begun(job):
            return
        self.window.begin()
        task = self._loop.create_task(self._perform_one(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _perform_one(self, job: Leased) -> None:
        began = time.monotonic()
        outcome: Outcome | None = None
        try:
            outcome = await perform_one_async(self.spec, self.action, job.held)
        finally:
            if outcome is None:  # cancelled before the kind was called
                outcome = release(job.held)
            self._call_ended(time.monotonic() - began, [outcome], 1)
            self._put(job, outcome)
            self._dispatch()

    def _begin_batch(self, portion: list[Leased]) -> None:
        jobs = {job.held.key: job for job in portion if self._has_begun(job)}
        if not jobs:
            return
        self.window.begin()
        if self._async:
            task = self._loop.create_task(self._perform_batch(jobs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._in_thread(lambda: self._run_batch(jobs), list(jobs.values()))

    async def _perform_batch(self, jobs: dict[str, Leased]) -> None:
        began, count = time.monotonic(), len(jobs)
        outcomes: list[Outcome] = []
        note = _Progress(self.leases)
        try:
            async for held, outcome in perform_many_async(self.spec, self.action, [job.held for job in jobs.values()]):
                outcomes.append(outcome)
                self._put(jobs.pop(held.key), outcome)
                note(jobs.values())
        finally:
            self._call_ended(time.monotonic() - began, outcomes, count)
            for job in jobs.values():
                self._put(job, release(job.held))
            self._dispatch()

    def _begin_chunk(self) -> None:
        """Hand jobs of a plain kind to a thread: quick ones several at once, since a hand-over costs more than one."""
        now = time.monotonic()
        share = -(-len(self._queue) // self._free())
        size = max(1, min(self.sizer.portion(), share))
        chunk: list[Leased] = []
        while self._queue and len(chunk) < size and self._queue[0].not_before <= now:
            chunk.append(self._queue.popleft())
        self.window.begin()
        self._in_thread(lambda: self._run_chunk(chunk), chunk)

    def _in_thread(self, work: Callable[[], None], jobs: Sequence[Leased]) -> None:
        try:
            self._threads.run(work)
        except RuntimeError:  # no thread can be started: the jobs need not wait here for one
            log.warning("executor.no_thread", action=self.spec.name)
            self.window.end()
            for job in jobs:
                self._put(job, release(job.held))

    def _call_ended(self, seconds: float, outcomes: Sequence[Outcome], jobs: int) -> None:
        """Learn from a call that has ended."""
        self.window.end(seconds, refused=any(_is_refusal(outcome) for outcome in outcomes))
        self.sizer.learn(seconds / jobs)

    def _thread_ended(self, calls: list[_Call]) -> None:
        """Learn from the calls that a thread has made."""
        beside = 0 if self._bulk else self.window.in_flight - 1
        for number, call in enumerate(calls):
            if number:
                self.window.begin()
            self.window.end(call.seconds, refused=call.refused)
            self.sizer.learn(call.seconds / call.jobs, call.busy, beside=beside)
        if not calls:
            self.window.end()
        self._dispatch()

    # --- in threads

    def _run_chunk(self, chunk: list[Leased]) -> None:
        calls: list[_Call] = []
        try:
            for job in chunk:
                if self._has_begun(job):
                    began, busy = time.monotonic(), time.thread_time()
                    outcome = perform_one(self.spec, self.action, job.held, loop=self._loop)
                    busy = time.thread_time() - busy
                    calls.append(_Call(time.monotonic() - began, busy, 1, _is_refusal(outcome)))
                    self._put(job, outcome)
        finally:
            self._report(calls)

    def _run_batch(self, jobs: dict[str, Leased]) -> None:
        began, count = time.monotonic(), len(jobs)
        refused = False
        note = _Progress(self.leases)
        try:
            helds = [job.held for job in jobs.values()]
            for held, outcome in perform_many(self.spec, self.action, helds, loop=self._loop):
                refused = refused or _is_refusal(outcome)
                self._put(jobs.pop(held.key), outcome)
                note(jobs.values())
        finally:
            self._report([_Call(time.monotonic() - began, 0.0, count, refused)])

    def _report(self, calls: list[_Call]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._thread_ended, calls)
        except RuntimeError:  # the loop has been closed: the process ends
            log.debug("executor.loop_closed", action=self.spec.name)

    def _has_begun(self, job: Leased) -> bool:
        """Whether the job may begin: its lease is ours and lasts long enough."""
        verdict = self.leases.begin(job)
        if verdict == "too late":
            self._put(job, release(job.held))
        return verdict == "begun"

    def _put(self, job: Leased, outcome: Outcome) -> None:
        if not self.leases.remove(job):
            return
        log_outcome(self.spec.name, outcome)
        self.outbox.put(outcome)
        if self.leases.left():
            self.outbox.nudge()


class _Call(NamedTuple):
    """A call that a thread has made: how long it took and was busy, in seconds, for how many jobs."""

    seconds: float
    busy: float
    jobs: int
    refused: bool


class _Progress:
    """Notes now and then that a bulk call gets ahead."""

    def __init__(self, leases: LeaseTable) -> None:
        self._leases = leases
        self._noted = time.monotonic()

    def __call__(self, left: Iterable[Leased]) -> None:
        now = time.monotonic()
        if now - self._noted > PROGRESS_SECONDS:
            self._noted = now
            self._leases.note_progress(left)


def _is_refusal(outcome: Outcome) -> bool:
    """Whether an outcome says that fewer calls at once would be better: the vendor is away, or did not answer."""
    return outcome.signal == "outage" or (outcome.verdict in ("later", "uncertain") and outcome.effect_possible is True)


def log_outcome(action: str, outcome: Outcome) -> None:
    """Log what became of a job."""
    fields = {"job": outcome.job, "action": action, "ms": round((outcome.duration or 0) * 1000)}
    match outcome.verdict:
        case "done":
            log.debug("job.done", **fields)
        case verdict if verdict in _NEED_OPERATOR:
            log.warning(f"job.{verdict}", **fields)
        case verdict:
            log.info(f"job.{verdict}", **fields)
