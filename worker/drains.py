"""What a bell starts: the drain of the lane that it names."""

from __future__ import annotations

import structlog

from tiercast.errors import LedgerError
from tiercast.ledger import keys
from tiercast.logs import place

from .performing import perform
from .processing import process
from .runtime import runtime

log = structlog.get_logger()


class DrainFault(Exception):
    """A fault of ours in a drain: what was raised and where, without its text."""


def drain(lane: str) -> dict[str, int]:
    """Drain a lane for about two seconds at the most. Returns counts by outcome, for monitors."""
    try:
        current = runtime()
        if not current.knows(lane):
            log.warning("drain.unknown_lane", lane=lane, remedy="its source or action left this configuration")
            return {"unknown": 1}
        if lane.startswith(keys.DELIVERIES):
            return process(current, lane)
        return perform(current, lane)
    except LedgerError as error:
        log.warning("drain.ledger", lane=lane, error=type(error).__name__)
        return {"ledger_away": 1}
    except Exception as error:
        # Celery logs and sends about what a task raises, and that could quote an event.
        raise DrainFault(place(error)) from None
