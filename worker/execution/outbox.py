"""Outcomes of one action that await settling; they are settled, and the next jobs claimed, in one exchange."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from tiercast.errors import LedgerError, LedgerFull, LedgerUnavailable
from tiercast.ledger.model import Claim, Exchange, HeldJob, Outcome

log = structlog.get_logger()

#: Outcomes that are settled at once.
ENOUGH_OUTCOMES = 100

#: Seconds that the first outcome waits for others: an exchange costs much the same for one as for many.
LINGER_SECONDS = 0.02

Settle = Callable[[list[Outcome], Claim | None], Exchange[HeldJob]]


class Outbox:
    """Collects outcomes and settles them. Safe to use from several threads; one exchange runs at a time.

    Args:
        settle: settles outcomes and claims, in one round trip (`Ledger.jobs` of one lane).
        on_settled: called for each outcome that was settled.
    """

    def __init__(self, settle: Settle, on_settled: Callable[[Outcome], None] = lambda _outcome: None) -> None:
        self._settle = settle
        self._on_settled = on_settled
        self._changed = threading.Condition()
        self._exchanging = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._since: float | None = None
        self._woken = False
        self._waits_for_first = False

    def __len__(self) -> int:
        return len(self._outcomes)

    @property
    def age(self) -> float:
        """Seconds that the oldest outcome has waited; 0 where there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def put(self, outcome: Outcome) -> None:
        """Add an outcome."""
        with self._changed:
            self._outcomes.append(outcome)
            if self._since is None:
                self._since = time.monotonic()
            if self._waits_for_first or len(self._outcomes) >= ENOUGH_OUTCOMES:
                self._changed.notify_all()

    def nudge(self) -> None:
        """Have a wait look again whether anything is under way."""
        with self._changed:
            self._changed.notify_all()

    def wake(self) -> None:
        """End a wait: there is something else to do than settling."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def wait(self, is_idle: Callable[[], bool], timeout: float) -> None:
        """Wait until enough outcomes are there, or the first has lingered, or nothing more is under way.

        Ends at once when woken, and after `timeout` seconds at the latest. `is_idle` says that nothing is under way.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._woken and not is_idle() and len(self._outcomes) < ENOUGH_OUTCOMES:
                until = deadline if self._since is None else min(deadline, self._since + LINGER_SECONDS)
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._waits_for_first = self._since is None
                self._changed.wait(left)
            self._waits_for_first = self._woken = False

    def exchange(self, claim: Claim | None) -> Exchange[HeldJob] | None:
        """Settle what is there and claim; None where there is neither.

        Raises:
            LedgerUnavailable: no answer came; the outcomes are kept.
            LedgerError: the ledger refused the claim; outcomes that it refuses one by one are dropped.
        """
        with self._exchanging:
            with self._changed:
                outcomes, self._outcomes, self._since = self._outcomes, [], None
            if not outcomes and claim is None:
                return None
            try:
                exchange = self._settle(outcomes, claim)
            except (LedgerUnavailable, LedgerFull):
                self._keep(outcomes)
                raise
            except LedgerError:
                self._settle_singly(outcomes)
                raise
            self._note(outcomes, exchange)
            return exchange

    def _keep(self, outcomes: list[Outcome]) -> None:
        with self._changed:
            self._outcomes[:0] = outcomes
            if outcomes:
                self._since = time.monotonic()

    def _settle_singly(self, outcomes: list[Outcome]) -> None:
        """One outcome may have made the ledger refuse all: settle each by itself, without its text where need be."""
        for at, outcome in enumerate(outcomes):
            try:
                self._settle_one(outcome)
            except (LedgerUnavailable, LedgerFull):
                self._keep(outcomes[at:])
                raise
            except LedgerError as error:
                # Its lease expires, and the job is redelivered.
                log.error("job.not_settled", job=outcome.job, verdict=outcome.verdict, error=type(error).__name__)

    def _settle_one(self, outcome: Outcome) -> None:
        try:
            exchange = self._settle([outcome], None)
        except (LedgerUnavailable, LedgerFull):
            raise
        except LedgerError:
            outcome.text = "the ledger refused to store the text of this outcome"
            outcome.hold = None
            exchange = self._settle([outcome], None)
        self._note([outcome], exchange)

    def _note(self, outcomes: list[Outcome], exchange: Exchange[HeldJob]) -> None:
        settled = {job for job, _, _ in exchange.settled}
        for outcome in outcomes:
            if outcome.job in settled:
                self._on_settled(outcome)
            else:
                log.warning("job.lease_lost", job=outcome.job, verdict=outcome.verdict)
