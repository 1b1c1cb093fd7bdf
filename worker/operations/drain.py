"""The drain of operations: claim one, take its steps for two seconds, hand it back."""

from __future__ import annotations

import threading
import time

import structlog

from tiercast.errors import HistoryError, LedgerError
from tiercast.ledger import Digests, Ledger, keys, new_token
from tiercast.ledger.filed import OpenFiled
from tiercast.ledger.model import Claim, HeldOperation
from tiercast.ledger.reading import Reader
from tiercast.operations.runner import Runner, Stepped

from ..drains import LEDGER, Drain, Lanes, ask_patiently
from ..threads import Threads

log = structlog.get_logger()

#: Operations that are at work at once, over all workers.
MAX_OPERATIONS = 3

#: Seconds for which one operation is worked on before the next has its turn.
TURN_SECONDS = 2.0

#: Seconds that a process waits for an operation's next step; one that waits longer is handed back.
PATIENCE_SECONDS = 0.5

#: Seconds until an operation goes on that needs a history which cannot be read.
HISTORY_SECONDS = 30.0


class OperationsDrain(Drain):
    """Drains the lane of operations.

    Dying on any line loses and repeats nothing: a step is one script, and the operation is redelivered.

    Args:
        filed: opens the history, where there is one.
        isolated: claim only operations whose lease has expired at least twice.
    """

    def __init__(
        self,
        ledger: Ledger,
        digests: Digests,
        lanes: Lanes,
        threads: Threads,
        *,
        filed: OpenFiled | None = None,
        isolated: bool = False,
    ) -> None:
        super().__init__(keys.OPERATIONS, threads)
        self._ledger = ledger
        self._runner = Runner(ledger, Reader(ledger, digests, filed), filed)
        self._lanes = lanes
        self._isolated = isolated
        self._woken = threading.Event()

    def wake(self) -> None:
        """End a pause: the process ends."""
        if self.closing:
            self._woken.set()

    def is_idle(self) -> bool:
        """Whether nothing is claimed."""
        return not self.is_running

    def run(self) -> None:
        """Work on operations until none is due."""
        while True:
            held = None
            try:
                held = self._claim()
                if held is not None:
                    self.count(claimed=1)
                    self._work(held)
            except LedgerError as error:
                LEDGER.failed(error)
            if held is None and not self.has_more_to_do():
                return

    def _claim(self) -> HeldOperation | None:
        claim = Claim(
            token=new_token(),
            n=0 if self.closing else 1,
            cap=MAX_OPERATIONS,
            isolated=self._isolated,
            heard=self.take_heard(),
        )
        exchange = self._ledger.claim_operations(claim)
        LEDGER.answered()
        self._lanes.due(exchange.bells, draining=self.lane)
        return exchange.claimed[0] if exchange.claimed else None

    def _work(self, held: HeldOperation) -> None:
        began = time.monotonic()
        before = held.fields.get("state")
        while True:
            try:
                stepped = self._step(held)
            except HistoryError as error:
                log.warning("operation.waits", operation=held.id, reason=str(error), again_in=HISTORY_SECONDS)
                stepped = self._runner.hand_back(held, HISTORY_SECONDS)
            self._lanes.due(stepped.bells, draining=self.lane)
            if (state := held.fields.get("state")) != before:
                log.info("operation.state", operation=held.id, state=state)
                before = state
            if stepped.over:
                return
            late = time.monotonic() + stepped.pause > began + TURN_SECONDS or stepped.pause > PATIENCE_SECONDS
            if late or self.closing or self._woken.wait(stepped.pause):
                self._lanes.due(self._runner.hand_back(held, stepped.pause).bells, draining=self.lane)
                return

    def _step(self, held: HeldOperation) -> Stepped:
        """Take a step; while the ledger is away it is asked again for half a lease, which repeats nothing."""
        return ask_patiently(lambda: self._runner.step(held), self._ledger.lease / 2, gives_up=lambda: self.closing)
