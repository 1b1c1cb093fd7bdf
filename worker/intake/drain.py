"""The drain of a source's deliveries: claim, plan, settle, in one round trip a batch."""

from __future__ import annotations

import time

import structlog

from tiercast.config.model import Config
from tiercast.errors import LedgerError
from tiercast.ledger import Digests, Ledger, keys, new_token
from tiercast.ledger.model import Claim, Exchange, HeldDelivery, Plan

from ..drains import LEDGER, Drain, Lanes, ask_patiently
from ..threads import Threads
from .planner import Planner

log = structlog.get_logger()

#: The most deliveries claimed at once: the ledger serves nobody else while it hands them out, some 0.15 ms each.
BATCH_DELIVERIES = 100

#: Redelivered deliveries claimed at once.
REDELIVERED_DELIVERIES = 16


class DeliveriesDrain(Drain):
    """Drains one source's lane.

    Dying on any line loses nothing: the lease of a delivery that was claimed and not settled expires, and the delivery
    is redelivered.

    Args:
        isolated: claim only members whose lease has expired at least twice.
    """

    def __init__(
        self,
        lane: str,
        ledger: Ledger,
        config: Config,
        digests: Digests,
        lanes: Lanes,
        threads: Threads,
        *,
        isolated: bool = False,
    ) -> None:
        super().__init__(lane, threads)
        self._source = lane.removeprefix(keys.DELIVERIES)
        self._ledger = ledger
        self._planner = Planner(config, digests, self._source)
        self._lanes = lanes
        self._isolated = isolated
        self.planning_since: float | None = None

    def is_idle(self) -> bool:
        """Whether nothing is claimed."""
        return not self.is_running

    def run(self) -> None:
        """Plan until nothing is due."""
        plans: list[Plan] = []
        while True:
            try:
                exchange = self._exchange(plans)
            except LedgerError as error:
                LEDGER.failed(error)
                exchange = None
            if exchange is None or not exchange.claimed:
                plans = []
                if not self.has_more_to_do():
                    return
                continue
            self.count(claimed=len(exchange.claimed))
            plans = [self._plan(held) for held in exchange.claimed]
            self.planning_since = None

    def _plan(self, held: HeldDelivery) -> Plan:
        self.planning_since = time.monotonic()
        return self._planner.plan(held)

    def _exchange(self, plans: list[Plan]) -> Exchange[HeldDelivery]:
        """Settle plans and claim the next deliveries.

        While the ledger is away it is asked again for half a lease: what is held here would wait for the lease's end.
        """
        claim = Claim(
            token=new_token(),
            n=self._room(),
            redelivered=REDELIVERED_DELIVERIES,
            isolated=self._isolated,
            heard=self.take_heard(),
        )
        patience = self._ledger.lease / 2 if plans else 0.0
        exchange = ask_patiently(lambda: self._ledger.exchange_deliveries(self._source, plans, claim), patience)
        self._note(exchange)
        return exchange

    def _room(self) -> int:
        if self.closing:
            return 0
        return REDELIVERED_DELIVERIES if self._isolated else BATCH_DELIVERIES

    def _note(self, exchange: Exchange[HeldDelivery]) -> None:
        self._lanes.due(exchange.bells)
        for delivery, state, first in exchange.settled:
            self.count(**{state: 1})
            if state == "quarantined":
                log.warning("delivery.quarantined", delivery=delivery)
            elif state == "duplicate":
                log.info("delivery.duplicate", delivery=delivery, first=first)
            else:
                log.debug("delivery.settled", delivery=delivery, state=state)
