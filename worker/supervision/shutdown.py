"""The end of a process: release, wait, cancel, settle, close."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence

import structlog

from tiercast.actions import Action
from tiercast.errors import LedgerError
from tiercast.ledger import Ledger
from tiercast.logs import place
from tiercast.ringer import BellRinger

from ..drains import Drain
from ..execution.drain import JobsDrain
from .loop import EventLoop

log = structlog.get_logger()

#: Seconds between two looks, and between two tries to settle while the ledger is away.
LOOK_SECONDS = 0.02
RETRY_SECONDS = 0.2

#: Seconds of the grace that are kept for what async calls have to do once they are cancelled, and for settling.
CANCEL_SECONDS = 1.0

#: Seconds beyond the grace that an exchange under way is waited for.
REPLY_SECONDS = 5.0


def shut_down(
    actions: Sequence[JobsDrain],
    others: Sequence[Drain],
    loop: EventLoop,
    ringer: BellRinger,
    ledger: Ledger,
    *,
    grace: float,
) -> None:
    """Begin nothing more, release what waits, give what runs `grace` seconds, settle all of it, and close."""
    deadline = time.monotonic() + grace
    drains: list[Drain] = [*others, *actions]
    for each in drains:
        each.closing = True
    for other in others:
        other.wake()
    for drain in actions:
        drain.executor.close()
        drain.wake()
    while any(drain.executor.leases.running() for drain in actions) and time.monotonic() < deadline - CANCEL_SECONDS:
        time.sleep(LOOK_SECONDS)
    _cancel(actions, loop)
    for drain in actions:
        _settle(drain, deadline)
    for each in drains:
        each.wait(max(0.0, deadline + REPLY_SECONDS - time.monotonic()) if each.is_running else 0.0)
    for drain in actions:
        _close(drain.executor.action, loop)
    loop.stop()
    ringer.close(1.0)
    ledger.close()


def _cancel(actions: Sequence[JobsDrain], loop: EventLoop) -> None:
    for drain in actions:
        if not drain.executor.is_async or drain.executor.is_idle():
            continue
        try:
            loop.run(drain.executor.cancel(), CANCEL_SECONDS + 1)
        except TimeoutError:
            log.warning("stop.not_cancelled", action=drain.executor.spec.name)


def _settle(drain: JobsDrain, deadline: float) -> None:
    """Settle, at least once; while the ledger is away again and again. What stays unsettled is redelivered."""
    while True:
        try:
            drain.settle()
            return
        except LedgerError as error:
            if time.monotonic() + RETRY_SECONDS > deadline:
                log.warning("stop.not_settled", lane=drain.lane, error=type(error).__name__)
                return
        time.sleep(RETRY_SECONDS)


def _close(action: Action, loop: EventLoop) -> None:
    """Let a kind give back its connections."""
    try:
        closing = action.close()
        if inspect.iscoroutine(closing):
            loop.run(closing, 2.0)
    except Exception as error:
        # Celery would log what a kind raises here with its text, which could quote an event.
        log.warning("action.close_failed", action=action.name, error=place(error))
