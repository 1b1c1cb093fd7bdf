"""The drain of an action's jobs: claim, start, settle, until nothing is due and nothing is under way."""

from __future__ import annotations

import time

import structlog

from tiercast.config.model import ActionSpec, Limit
from tiercast.errors import LedgerError, LedgerUnavailable
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.model import Claim, Exchange, HeldJob

from ..drains import LEDGER, RETRY_SECONDS, Drain, Lanes
from ..threads import Threads
from .executor import Executor
from .outbox import Outbox

log = structlog.get_logger()

#: The most jobs of one claim: the ledger serves nobody else while it hands them out, some 0.01 ms each.
CLAIM_MAX_JOBS = 200

#: Redelivered jobs that a process holds at a time, at first; and by how many more for each that it has settled.
REDELIVERED_JOBS = 16
REDELIVERED_GROWTH = 3

#: Milliseconds within which a drain of quick jobs claims again.
CLAIM_AGAIN_MS = 40

#: Seconds that a drain waits at a time while its jobs are under way.
WAIT_SECONDS = 1.0


class JobsDrain(Drain):
    """Drains one action's lane.

    Dying on any line loses nothing: the lease of a job that was claimed and not settled expires, and the job is
    redelivered.

    Args:
        isolated: claim only members whose lease has expired at least twice.
    """

    def __init__(
        self,
        lane: str,
        ledger: Ledger,
        executor: Executor,
        outbox: Outbox,
        lanes: Lanes,
        threads: Threads,
        *,
        isolated: bool = False,
    ) -> None:
        super().__init__(lane, threads)
        self.executor = executor
        self.outbox = outbox
        self._ledger = ledger
        self._lanes = lanes
        self._isolated = isolated
        self._limits = tuple(
            (limit.name, round(_interval(limit, executor.spec) * 1e6)) for limit in executor.spec.limits
        )
        self._learn = learn_name(executor.spec)
        self._redelivered_claimed = 0
        self._more = False
        self._waits = False

    def wake(self) -> None:
        """End the wait for outcomes."""
        self.outbox.wake()

    def is_idle(self) -> bool:
        """Whether this process holds nothing of the lane, and nothing awaits settling."""
        return self.executor.is_idle() and not len(self.outbox)

    def run(self) -> None:
        """Exchange until nothing is due, held or to be settled."""
        self._more = True
        while True:
            try:
                self._exchange()
            except LedgerUnavailable as error:
                LEDGER.failed(error)
                if not self._waits_for_ledger():
                    return
                continue
            except LedgerError as error:
                log.error("drain.refused", lane=self.lane, error=str(error))
                self._more = False
            if self.is_idle() and (self.closing or not self._more):  # what is due is for others, then
                if not self.has_more_to_do():
                    return
                self._more = True
                continue
            if self._waits or not (self._more and self._room() and not len(self.outbox)):
                self.outbox.wait(self.executor.is_idle, WAIT_SECONDS)

    def _waits_for_ledger(self) -> bool:
        """While the ledger is away: go on as long as there are outcomes to settle; the timer rings for what is due."""
        time.sleep(RETRY_SECONDS)
        self._more = False
        return not self.is_idle() or self.has_more_to_do()

    def _exchange(self) -> None:
        """Settle what is ready and claim what can start."""
        claim = self._claim()
        asked = time.monotonic()
        exchange = self.outbox.exchange(claim)
        if exchange is None:
            return
        LEDGER.answered()
        if exchange.on_hold:
            self.executor.release_waiting()
        self._lanes.due(exchange.bells, draining=self.lane)
        self._waits = False
        if claim is not None:
            self._more = exchange.more and not exchange.on_hold and claim.n > 0
            # What is due is redelivered, and enough of that is held here: its outcomes come first.
            self._waits = self._more and not exchange.claimed
        if exchange.claimed:
            self._note_redelivered(exchange)
            self.count(claimed=len(exchange.claimed))
            self.executor.start(exchange.claimed, asked, more=self._more)

    def settle(self) -> None:
        """Settle what is ready, from another thread than the drain's.

        Raises:
            LedgerError: the ledger fails.
        """
        exchange = self.outbox.exchange(None)
        if exchange is not None:
            self._lanes.due(exchange.bells, draining=self.lane)

    def _claim(self) -> Claim | None:
        heard = self.take_heard()
        n = self._room()
        if n == 0 and not heard:
            return None
        spec = self.executor.spec
        return Claim(
            token=new_token(),
            n=n,
            cap=spec.concurrency * self.executor.batch if spec.concurrency else None,
            redelivered=self._redelivered_room(),
            isolated=self._isolated,
            heard=heard,
            claims_again_ms=CLAIM_AGAIN_MS if self.executor.sizer.is_quick() else 0,
            learn=self._learn,
            limits=self._limits,
            per_call=self.executor.sizer.portion() if spec.cls.is_bulk() else 1,
        )

    def _room(self) -> int:
        """How many jobs may be claimed now."""
        if self.closing:
            return 0
        room = min(CLAIM_MAX_JOBS, self.executor.capacity())
        if self._isolated:
            # What is claimed here may end this process: nothing is added to it.
            return min(REDELIVERED_JOBS, room) if self.executor.is_idle() else 0
        return room

    def _redelivered_room(self) -> int:
        """How many more redelivered jobs to take on: few at first, and more while they do not end this process."""
        held = self.executor.leases.redelivered()
        settled = self._redelivered_claimed - held
        return max(0, REDELIVERED_JOBS + REDELIVERED_GROWTH * settled - held)

    def _note_redelivered(self, exchange: Exchange[HeldJob]) -> None:
        found = sum(1 for job in exchange.claimed if job.expiries == 1)
        self._redelivered_claimed += found
        if not found and not self.executor.leases.redelivered():
            self._redelivered_claimed = 0


def learn_name(spec: ActionSpec) -> str:
    """Under which name a rate is learnt: the action's named limit, or its own."""
    return spec.limit or f"jobs/{spec.name}"


def _interval(limit: Limit, spec: ActionSpec) -> float:
    """Seconds from one start to the next that keep within a limit, with a twentieth to spare."""
    return limit.seconds / limit.calls / 0.95 * spec.cls.calls
