"""The keeper: a thread of each process that renews leases and settles what its drains left behind.

A job that runs past its time-out and grace cannot be stopped inside a process. Its lease is renewed no longer;
the process settles its other jobs and exits, and whoever runs the pool replaces it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from tiercast.errors import LedgerError, LedgerUnavailable
from tiercast.logs import place

from .desk import Desk
from .performing import settle
from .runtime import Runtime

log = structlog.get_logger()

#: Seconds between two looks.
_TICK = 0.05

#: Seconds after which jobs that wait behind a slow one are handed back.
_STUCK = 2.0

#: Seconds that the other jobs of a process have to end once one of its jobs is overdue.
_LAST = 30.0

#: Seconds between two tries to settle while the ledger is away.
_AGAIN = 0.2

#: Seconds beyond the grace that a round trip under way is waited for when a process ends.
_REPLY = 5.0


class Keeper:
    """Minds all desks of a process.

    Args:
        leave: ends the process; by default at once, without the clean-up that a hanging thread would block.
    """

    def __init__(self, runtime: Runtime, *, leave: Callable[[], None] = lambda: os._exit(75)) -> None:
        self._runtime = runtime
        self._leave = leave
        self._renewed = time.monotonic()
        self._giving_up: float | None = None

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="keeper", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_TICK)
            try:
                self.tick()
            except LedgerError as error:
                log.warning("keeper.ledger", error=type(error).__name__)
                time.sleep(0.5)
            except Exception as error:
                log.exception("keeper.fault", error=type(error).__name__)
                time.sleep(0.5)

    def tick(self) -> None:
        """Do once what is to be done."""
        for desk in self._runtime.desks.values():
            if not desk.is_drained():
                _settle(self._runtime, desk)
            desk.hand_back_waiting(older=_STUCK)
        now = time.monotonic()
        if now - self._renewed >= self._runtime.ledger.lease / 4:
            self._renewed = now
            self._renew()
        self._mind_overdue(now)

    def _renew(self) -> None:
        for desk in self._runtime.desks.values():
            held = desk.held()
            if held:
                asked = time.monotonic()
                kept = self._runtime.ledger.renew(desk.lane, held)
                desk.renewed({key: ours for (key, _), ours in zip(held, kept, strict=True)}, asked)

    def _mind_overdue(self, now: float) -> None:
        desks = self._runtime.desks.values()
        overdue = [key for desk in desks for key in desk.overdue()]
        if not overdue:
            return
        if self._giving_up is None:
            self._giving_up = now
            log.error("job.overdue", jobs=overdue, remedy="this process settles its other jobs and is replaced")
            for desk in desks:
                desk.close()
        if _busy(desks) == 0 or now - self._giving_up > _LAST:
            _settle_all(self._runtime)
            self._leave()


def finish(runtime: Runtime, grace: float) -> None:
    """Before a process ends: hand back what has not begun, and give the rest `grace` seconds."""
    deadline = time.monotonic() + grace
    for desk in runtime.desks.values():
        desk.close()
    while _busy(runtime.desks.values()) and time.monotonic() < deadline:
        time.sleep(0.02)
    _settle_while_there_is_time(runtime, deadline)
    # The keeper may be in the midst of settling: its thread ends with the process.
    while any(desk.is_settling() for desk in runtime.desks.values()) and time.monotonic() < deadline + _REPLY:
        time.sleep(0.01)
    for desk in runtime.desks.values():
        _close_action(desk)
    runtime.ringer.close(1.0)


def _close_action(desk: Desk) -> None:
    try:
        desk.close_action()
    except Exception as error:
        # Celery would log what a kind raises here with its text, which could quote an event.
        log.warning("action.close_failed", action=desk.spec.name, error=place(error))


def _busy(desks: Iterable[Desk]) -> int:
    return sum(desk.running() for desk in desks)


def _settle_all(runtime: Runtime) -> None:
    for desk in runtime.desks.values():
        _settle(runtime, desk)


def _settle_while_there_is_time(runtime: Runtime, deadline: float) -> None:
    """Settle all, at least once; while the ledger is away again and again: what stays unsettled is done again."""
    while True:
        try:
            _settle_all(runtime)
            break
        except LedgerError as error:
            if time.monotonic() + _AGAIN > deadline:
                log.warning("finish.ledger", error=type(error).__name__)
                break
        time.sleep(_AGAIN)


def _settle(runtime: Runtime, desk: Desk) -> None:
    """Settle what one desk has; a lane that the ledger cannot serve does not keep the others waiting."""
    try:
        settle(runtime, desk, None, Counter(), wake=True)
    except LedgerUnavailable:
        raise
    except LedgerError as error:
        log.error("desk.not_settled", lane=desk.lane, error=type(error).__name__)
