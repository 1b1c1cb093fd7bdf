"""The timer: a bootstep of every worker that rings for what time has made due and for bells that were lost.

It never processes. Where bells bring nobody (a consumer that has fallen deaf, a broker that is gone), it has the
lane drained by a separate process of this worker, so nothing that is owed waits for the broker.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.worker import state

from tiercast.bells import lanes_of, publisher, queue_of
from tiercast.config.model import Config
from tiercast.errors import LedgerError
from tiercast.ledger import Ledger, keys, open_ledger
from tiercast.ledger.clock import ClockGuard
from tiercast.ledger.refusal import reason_of
from tiercast.ringer import BellRinger

from .isolation.supervisor import IsolationSupervisor
from .process import load

log = structlog.get_logger()

#: Seconds without any bell, while work is due, after which this worker counts as deaf; longer while the pool is at
#: work on one, and while the worker starts.
DEAF_SECONDS = 2.5
DEAF_AT_WORK_SECONDS = 10.0
STARTING_SECONDS = 5.0

#: Seconds between two ticks after which this process was stopped or starved meanwhile.
FROZEN_SECONDS = 2.0

#: Seconds between two looks for what has outlived its retention, and how much goes in one step.
TRIM_SECONDS = 20.0
TRIM_MAX_DELIVERIES = 200

#: Seconds between two bells for the lane `history` though nothing is to be filed.
FILE_SECONDS = 600.0

#: Seconds between two ticks at the least and at the most.
MIN_TICK_SECONDS = 0.02
MAX_TICK_SECONDS = 1.0

_heard = time.monotonic()


@signals.worker_ready.connect
@signals.task_received.connect
def _hear(**_: Any) -> None:
    global _heard
    _heard = time.monotonic()


def _is_deaf() -> bool:
    return time.monotonic() - _heard > (DEAF_AT_WORK_SECONDS if state.reserved_requests else DEAF_SECONDS)


class Timer(bootsteps.StartStopStep):
    """Rings, once a second at the least, from a thread of the worker's main process."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        """Start the thread."""
        global _heard
        _heard = time.monotonic() + STARTING_SECONDS
        settings, _config = load()
        consumed = frozenset(parent.app.amqp.queues.consume_from)
        ledger = open_ledger(settings, role="worker")
        ticker = Ticker(
            ledger=ledger,
            ringer=BellRinger(publisher(settings, lambda lane: queue_of(load()[1], lane))),
            isolation=IsolationSupervisor(ledger),
            consumed=consumed,
            stop=self._stop,
            files=settings.files,
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
    """What the timer's thread does.

    Args:
        consumed: the Celery queues that this worker consumes.
        config: gives the configuration; another one after a reload.
        files: whether this worker files what is settled.
        is_deaf: whether bells bring nobody here.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        ringer: BellRinger,
        isolation: IsolationSupervisor,
        consumed: frozenset[str],
        stop: threading.Event,
        config: Callable[[], Config] = lambda: load()[1],
        files: bool = False,
        is_deaf: Callable[[], bool] = _is_deaf,
    ) -> None:
        self._ledger = ledger
        self._ringer = ringer
        self._isolation = isolation
        self._consumed = consumed
        self._stop = stop
        self._read = config
        self._files = files
        self._is_deaf = is_deaf
        self._clock = ClockGuard(ledger)
        self._config: Config | None = None
        self._take_in(config())
        self._trim_at = time.monotonic() + random.uniform(1, TRIM_SECONDS)  # noqa: S311 - spread, no secret
        self._file_at = time.monotonic() + random.uniform(1, FILE_SECONDS)  # noqa: S311
        self._ticked = time.monotonic()
        self._away = False

    def _take_in(self, config: Config) -> None:
        """Work by a configuration: after a reload with its lanes and limits."""
        if config is self._config:
            return
        self._config = config
        self._lanes = lanes_of(config) + ([keys.HISTORY] if self._files else [])
        self._own = frozenset(lane for lane in self._lanes if queue_of(config, lane) in self._consumed)
        # The next starts of limits move with the ledger's clock.
        self._clock.limits = tuple(limit.name for spec in config.actions.values() for limit in spec.limits)

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
                    log.warning("timer.ledger_away", error=type(error).__name__, reason=reason_of(error))
                self._away = True
                pause = 0.5
            except Exception as error:
                log.exception("timer.fault", error=type(error).__name__)
                pause = 1.0
        self._ringer.close(1.0)
        self._isolation.end()

    def tick(self) -> float:
        """Ring for what is due; returns the seconds until the next look."""
        if time.monotonic() - self._ticked > FROZEN_SECONDS:
            _hear()  # this process stood still; it may well hear bells now
        self._ticked = time.monotonic()
        self._take_in(self._read())
        moved = self._clock.look()
        self._ringer.ring(moved.bells)
        due = self._ledger.due(self._lanes)
        self._ringer.ring(due.bells)
        if due.waiting and self._is_deaf():
            for lane in due.waiting:
                if lane in self._own:
                    self._isolation.drain(lane)
        for lane in due.isolated:
            if lane in self._own:
                self._isolation.isolate(lane)
        if time.monotonic() >= self._trim_at:
            self._trim()
        if self._files and time.monotonic() >= self._file_at:
            # Also where nothing is settled, what has outlived its retention leaves the history.
            self._file_at = time.monotonic() + FILE_SECONDS
            self._ringer.ring([keys.HISTORY])
        return MIN_TICK_SECONDS if moved.more else min(MAX_TICK_SECONDS, max(MIN_TICK_SECONDS, due.next_in))

    def _trim(self) -> None:
        """Let go of what has outlived its retention, in small steps so that nobody waits."""
        self._trim_at = time.monotonic() + TRIM_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311
        while not self._stop.is_set():
            count, bells = self._ledger.trim(TRIM_MAX_DELIVERIES)
            self._ringer.ring(bells)
            if count < TRIM_MAX_DELIVERIES:
                return
