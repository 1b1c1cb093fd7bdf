"""The timer: a bootstep of every worker that rings for what time has made due and for bells that were lost.

It never processes. Where bells bring nobody (a consumer that has fallen deaf, a broker that is gone), it has the
lane drained by a process of this worker's own, so nothing that is owed waits for the broker.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.worker import state

from tiercast.bells import publisher, queue_of
from tiercast.errors import LedgerError
from tiercast.ledger import Ledger, open_ledger
from tiercast.ledger.suspects import may_see_to_suspects
from tiercast.ringer import BellRinger

log = structlog.get_logger()

#: Seconds without any bell, while work is due, after which this worker counts as deaf; longer while the pool is at
#: work on one, and while the worker starts.
_DEAF = 2.5
_DEAF_AT_WORK = 10.0
_STARTING = 5.0

#: Seconds between two looks for what has outlived its retention.
_TRIM = 20.0

_heard = time.monotonic()


@signals.worker_ready.connect
@signals.task_received.connect
def _hear(**_: Any) -> None:
    global _heard
    _heard = time.monotonic()


def _is_deaf() -> bool:
    return time.monotonic() - _heard > (_DEAF_AT_WORK if state.reserved_requests else _DEAF)


class Timer(bootsteps.StartStopStep):
    """Rings, once a second at the least, from a thread of the worker's main process."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        """Start the thread."""
        from .runtime import known_lanes, load

        global _heard
        _heard = time.monotonic() + _STARTING
        settings, config = load()
        consumed = set(parent.app.amqp.queues.consume_from)
        lanes = known_lanes(config)
        ticker = Ticker(
            ledger=open_ledger(settings, role="worker"),
            ringer=BellRinger(publisher(settings, lambda lane: queue_of(config, lane))),
            lanes=lanes,
            own=[lane for lane in lanes if queue_of(config, lane) in consumed],
            stop=self._stop,
        )
        self._thread = threading.Thread(target=ticker.run, name="timer", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - the bootstep's interface
        """Stop the thread; nothing is rung for any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(12)

    terminate = stop


class Ticker:
    """What the timer's thread does."""

    def __init__(
        self, *, ledger: Ledger, ringer: BellRinger, lanes: list[str], own: list[str], stop: threading.Event
    ) -> None:
        self._ledger = ledger
        self._ringer = ringer
        self._lanes = lanes
        self._own = own
        self._stop = stop
        self._aside: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self._trim_at = time.monotonic() + random.uniform(1, _TRIM)  # noqa: S311 - spread, no secret
        self._away = False

    def run(self) -> None:
        """Tick until told to stop."""
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                pause = self.tick()
                if self._away:
                    log.info("timer.ledger_back")
                self._away = False
            except LedgerError as error:
                if not self._away:
                    log.warning("timer.ledger_away", error=type(error).__name__)
                self._away = True
                pause = 0.5
            except Exception as error:
                log.exception("timer.fault", error=type(error).__name__)
                pause = 1.0
        from .aside import end

        self._ringer.close(1.0)
        end(self._aside.values())

    def tick(self) -> float:
        """Ring for what is due; returns the seconds until the next look."""
        self._aside = {which: process for which, process in self._aside.items() if process.poll() is None}
        due = self._ledger.due(self._lanes)
        self._ringer.ring(due.bells)
        if due.waiting and _is_deaf():
            self._drain_aside([lane for lane in due.waiting if lane in self._own])
        for lane in due.lapsing:
            self._expect_suspects(lane)
        if time.monotonic() >= self._trim_at:
            self._trim()
        return min(1.0, max(0.02, due.next_in))

    def _drain_aside(self, lanes: list[str]) -> None:
        for lane in lanes:
            if ("drain", lane) in self._aside:
                continue
            log.warning("timer.no_bell_heard", lane=lane, remedy="it is drained aside; look at the broker")
            self._start_aside("drain", lane)

    def _expect_suspects(self, lane: str) -> None:
        """Have a process ready when a lease ends that nobody renews: its start takes the better part of a second."""
        if lane not in self._own or ("suspects", lane) in self._aside:
            return
        if may_see_to_suspects(self._ledger, lane, self._ledger.soon):
            log.info("suspects.expected", lane=lane)
            self._start_aside("suspects", lane)

    def _start_aside(self, what: str, lane: str) -> None:
        from .aside import start

        self._aside[what, lane] = start(what, lane)

    def _trim(self) -> None:
        """Let go of what has outlived its retention, in small steps so that nobody waits."""
        self._trim_at = time.monotonic() + _TRIM * random.uniform(0.8, 1.2)  # noqa: S311
        while not self._stop.is_set():
            count, bells = self._ledger.trim(200)
            self._ringer.ring(bells)
            if count < 200:
                return
