"""The drain of a source's deliveries: claim, plan, settle, in one round trip a batch."""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

import structlog

from tiercast.errors import LedgerUnavailable
from tiercast.ledger import keys, new_token
from tiercast.ledger.model import Claim, HeldDelivery, Plan, Turn

from .aside import see_to_suspects
from .intake.planner import Planner
from .runtime import Runtime

log = structlog.get_logger()

#: The most deliveries claimed at once: the ledger serves nobody else while it lends them, some 0.15 ms each.
BATCH = 100

#: Seconds after which a drain returns, so that lanes share the pool.
LONGEST = 2.0


class Looked(NamedTuple):
    """What came of looking for a suspect: whether there was one to take, and whether more are due."""

    taken: bool
    more: bool


def process(runtime: Runtime, lane: str) -> dict[str, int]:
    """Plan what is due in a source's lane. Returns how many were claimed, and how many ended in which state.

    Dying on any line loses nothing: what was claimed and not settled is due again when its lease ends.
    """
    source = lane.removeprefix(keys.DELIVERIES)
    planner = Planner(runtime.config, runtime.digests, source)
    counts: Counter[str] = Counter(claimed=0)
    deadline = time.monotonic() + LONGEST
    turn = runtime.ledger.deliveries(source, claim=Claim(token=new_token(), n=BATCH))
    while True:
        _told(runtime, turn, counts)
        if turn.suspect:
            see_to_suspects(runtime.ledger, lane)
        if not turn.lent:
            return dict(counts)
        counts["claimed"] += len(turn.lent)
        plans = [planner.plan(held) for held in turn.lent]
        left = BATCH if time.monotonic() < deadline else 0
        turn = _settle(runtime, source, plans, Claim(token=new_token(), n=left))


def _settle(runtime: Runtime, source: str, plans: list[Plan], claim: Claim | None = None) -> Turn[HeldDelivery]:
    """Settle, and be patient while the ledger is away: what is held here would wait for the end of its lease."""
    patience = time.monotonic() + runtime.ledger.lease / 2
    while True:
        try:
            return runtime.ledger.deliveries(source, plans, claim)
        except LedgerUnavailable:
            if time.monotonic() > patience:
                raise
            time.sleep(0.2)


def process_suspect(runtime: Runtime, lane: str) -> Looked:
    """Plan one delivery whose lease has ended before, alone."""
    source = lane.removeprefix(keys.DELIVERIES)
    turn = runtime.ledger.deliveries(source, claim=Claim(token=new_token(), n=1, suspects=True))
    if turn.lent:
        planner = Planner(runtime.config, runtime.digests, source)
        _told(runtime, _settle(runtime, source, [planner.plan(held) for held in turn.lent]), Counter())
    return Looked(bool(turn.lent), turn.suspect)


def _told(runtime: Runtime, turn: Turn[HeldDelivery], counts: Counter[str]) -> None:
    runtime.ring(turn.bells)
    for delivery, state, first in turn.settled:
        counts[state] += 1
        if state == "quarantined":
            log.warning("delivery.quarantined", delivery=delivery)
        elif state == "duplicate":
            log.info("delivery.duplicate", delivery=delivery, first=first)
        else:
            log.debug("delivery.settled", delivery=delivery, state=state)
