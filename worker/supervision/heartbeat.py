"""The heartbeat of a process: renews leases, and ends the process when something in it can no longer be stopped.

An async call that runs too long is cancelled. A plain function cannot be: its process settles all other jobs and
exits, the lease of the stuck job expires, and whoever runs the pool replaces the process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from tiercast.config.model import ActionSpec
from tiercast.errors import LedgerError
from tiercast.ledger import Ledger

from ..drains import LEDGER
from ..execution.attempt import CANCEL_GRACE_SECONDS
from ..execution.drain import JobsDrain
from ..intake.drain import DeliveriesDrain
from ..threads import Threads

log = structlog.get_logger()

#: Seconds between two beats.
BEAT_SECONDS = 0.1

#: Outcomes that wait longer than this (seconds) are settled here: their drain cannot.
FLUSH_SECONDS = 1.0

#: Jobs that wait longer than this (seconds) behind others that take long are given back.
WAITING_SECONDS = 2.0

#: Seconds that the other jobs of a process have to end once one of its jobs is overdue.
LAST_SECONDS = 30.0

#: The exit status of a process that gives up a stuck job.
STUCK_STATUS = 75


def overdue_after(spec: ActionSpec) -> float:
    """Seconds without progress after which an attempt is given up, and its process with it."""
    return spec.timeout + CANCEL_GRACE_SECONDS + max(5.0, spec.timeout / 2)


class Heartbeat:
    """Watches over the drains of a process, from a thread of its own.

    Args:
        leave: ends the process; by default at once, without the clean-up that a hanging thread would block.
    """

    def __init__(
        self,
        ledger: Ledger,
        actions: Sequence[JobsDrain],
        intakes: Sequence[DeliveriesDrain],
        threads: Threads,
        *,
        leave: Callable[[], None] = lambda: os._exit(STUCK_STATUS),
    ) -> None:
        self._ledger = ledger
        self._actions = actions
        self._intakes = intakes
        self._threads = threads
        self._leave = leave
        self._renewed = time.monotonic()
        self._giving_up: float | None = None
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Look after nothing any more but leases, which are renewed until the process ends."""
        self._stop.set()

    def end(self) -> None:
        """Look after nothing any more: nothing is held, and the ledger is closed."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.beat()
            except LedgerError as error:
                LEDGER.failed(error)
                time.sleep(0.5)
            except Exception as error:
                log.exception("heartbeat.fault", error=type(error).__name__)
                time.sleep(0.5)

    def beat(self) -> None:
        """Do once what is to be done."""
        now = time.monotonic()
        if now - self._renewed >= self._ledger.lease / 4:
            self._renewed = now
            self._renew()
        if self._stop.is_set():
            return
        for drain in self._actions:
            if drain.outbox.age > FLUSH_SECONDS and not drain.is_running:
                drain.start(heard=False)
            drain.executor.release_stuck(WAITING_SECONDS)
        self._mind_overdue(now)

    def _renew(self) -> None:
        for drain in self._actions:
            leases = drain.executor.leases
            held = leases.to_renew()
            if held:
                asked = time.monotonic()
                kept = self._ledger.renew(drain.lane, held)
                leases.renewed({key: ours for (key, _), ours in zip(held, kept, strict=True)}, asked)

    def _mind_overdue(self, now: float) -> None:
        overdue = [key for drain in self._actions for key in drain.executor.leases.overdue()]
        overdue += [drain.lane for drain in self._intakes if self._plans_too_long(drain, now)]
        if self._giving_up is None:
            if not overdue:
                return
            # From here on it leaves, also where the stuck job ends after all: its executors are closed for good.
            self._giving_up = now
            log.error("process.stuck", on=overdue, remedy="it settles its other jobs and is replaced")
            for drain in self._actions:
                drain.executor.close()
        running = sum(drain.executor.leases.running() + len(drain.outbox) for drain in self._actions)
        if running == 0 or now - self._giving_up > LAST_SECONDS:
            self._leave()

    def _plans_too_long(self, drain: DeliveriesDrain, now: float) -> bool:
        """Whether one delivery has been planned for longer than its lease lasts."""
        since = drain.planning_since
        return since is not None and now - since > self._ledger.lease
