"""The drain of the lane `history`: claim what is settled, write it to the history, let go of it, in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from tiercast.errors import HistoryError, HistoryRefused, HistoryUnavailable, LedgerError
from tiercast.history.rows import FiledDelivery
from tiercast.ledger import Ledger, keys, new_token
from tiercast.ledger.filing import FilingExchange, FilingHold, HeldFiling, Released, exchange_history
from tiercast.ledger.model import Claim
from tiercast.logs import place

from ..drains import LEDGER, Drain, Lanes, ask_patiently
from ..threads import Threads
from .facts import complete

log = structlog.get_logger()

#: The most deliveries written in one transaction: more save little, and the ledger serves nobody else while it hands
#: them out.
BATCH_DELIVERIES = 500

#: Deliveries whose lease has expired twice that are claimed at once.
ISOLATED_DELIVERIES = 16

#: Seconds until a delivery that the database refuses, for what it holds, is tried again.
REFUSED_SECONDS = 600.0

#: Deliveries that the database refuses one after the other, none before them taken, after which it is the fault itself.
MAX_REFUSED = 3

#: Seconds that nothing is filed where the database is not the history that belongs to this ledger.
UNSUITED_SECONDS = 60.0


#: Seconds between two looks of one process for what has outlived its retention in the history, and the most that one
#: look may take.
TRIM_SECONDS = 600.0
TRIM_MAX_SECONDS = 0.5


class Trimmed(Protocol):
    """What a trim did."""

    @property
    def more(self) -> bool:
        """Whether it goes on next time."""


class Files(Protocol):
    """Where deliveries are filed."""

    def file(self, deliveries: Sequence[FiledDelivery]) -> object:
        """Write them in one transaction; durable on return. Repeating it changes nothing, and an older round neither.

        Raises:
            HistoryUnavailable: the database is away, busy or full.
            HistoryRefused: it is not the history that belongs here.
        """

    def trim(self, keep_days: float, seconds: float) -> Trimmed:
        """Remove what was settled longer ago, in small steps, within so many seconds. Raises as `file` does."""


class FilingDrain(Drain):
    """Drains the lane `history`.

    Dying on any line loses nothing: what was claimed and not let go of is redelivered and written once more, which
    changes nothing in the history.

    Args:
        archive: where to file; opened by its first use, since it may be away while the worker starts.
        keep_days: how long the history keeps what is filed.
        late_first: lanes whose late work goes before filing.
        isolated: claim only members whose lease has expired at least twice.
    """

    def __init__(
        self,
        ledger: Ledger,
        archive: Callable[[], Files],
        lanes: Lanes,
        threads: Threads,
        *,
        keep_days: float,
        late_first: Sequence[str],
        isolated: bool = False,
    ) -> None:
        super().__init__(keys.HISTORY, threads)
        self._ledger = ledger
        self._archive = archive
        self._lanes = lanes
        self._late_first = tuple(late_first)
        self._isolated = isolated
        self._is_away = False
        self._keep_days = keep_days
        self._trim_at = time.monotonic()

    def is_idle(self) -> bool:
        """Whether nothing is claimed."""
        return not self.is_running

    def run(self) -> None:
        """File until nothing is due, or nothing can be filed."""
        filed: list[HeldFiling] = []
        while True:
            try:
                exchange = self._exchange(filed)
            except LedgerError as error:
                LEDGER.failed(error)
                exchange = None
            filed = []
            if exchange is None or not exchange.claimed:
                if exchange is not None and not exchange.on_hold:
                    self._trim()
                if not self.has_more_to_do():
                    return
                continue
            self.count(claimed=len(exchange.claimed))
            filed = self._file(exchange.claimed)

    def _exchange(self, filed: Sequence[HeldFiling]) -> FilingExchange:
        """Let go of what is filed, and claim the next.

        While the ledger is away it is asked again for half a lease: what is held here would wait for the lease's end.
        """
        claim = Claim(
            token=new_token(),
            n=self._room(),
            redelivered=BATCH_DELIVERIES,
            isolated=self._isolated,
            heard=self.take_heard(),
        )
        patience = self._ledger.lease / 2 if filed else 0.0
        exchange = ask_patiently(lambda: exchange_history(self._ledger, filed, claim, lanes=self._late_first), patience)
        self._lanes.due(exchange.bells)
        if exchange.settled:
            self.count(filed=len(exchange.settled))
            log.debug("history.filed", deliveries=len(exchange.settled))
        return exchange

    def _trim(self) -> None:
        """Remove from the history what has outlived its retention, now and then."""
        if self.closing or time.monotonic() < self._trim_at:
            return
        self._trim_at = time.monotonic() + TRIM_SECONDS
        try:
            if self._archive().trim(self._keep_days, TRIM_MAX_SECONDS).more:
                self._trim_at = time.monotonic()
        except (HistoryError, LedgerError) as error:
            log.warning("history.not_trimmed", reason=_said(error))

    def _room(self) -> int:
        if self.closing:
            return 0
        return ISOLATED_DELIVERIES if self._isolated else BATCH_DELIVERIES

    def _file(self, claimed: list[HeldFiling]) -> list[HeldFiling]:
        """Write deliveries to the history; returns those that are in it. The others are handed back."""
        for held in claimed:
            complete(held.row)
        try:
            archive = self._archive()
        except HistoryRefused as error:
            log.error("history.refused", reason=str(error))
            self._exchange_released(_handed_back(claimed), hold=_unsuited(error))
            return []
        except HistoryUnavailable as error:
            self._note_away(error)
            self._exchange_released(_handed_back(claimed), outage=str(error))
            return []
        except LedgerError as error:
            LEDGER.failed(error)
            return []
        try:
            archive.file([held.row for held in claimed])
        except HistoryUnavailable as error:
            self._note_away(error)
            self._exchange_released(_handed_back(claimed), outage=str(error))
            return []
        except Exception as error:
            # No traceback: its last line may quote an event.
            log.error("history.fault", deliveries=len(claimed), error=_said(error))
            return self._file_each(archive, claimed)
        self._note_back()
        return claimed

    def _file_each(self, archive: Files, claimed: Sequence[HeldFiling]) -> list[HeldFiling]:
        """Write one by one, since what they hold may be the fault of a few: those are tried again later.

        Where none of the first is taken, the database is the fault, and nothing more is tried for a while.
        """
        filed: list[HeldFiling] = []
        failed: list[Released] = []
        for held in claimed:
            try:
                archive.file([held.row])
                filed.append(held)
            except HistoryUnavailable as error:
                rest = claimed[len(filed) + len(failed) :]
                self._exchange_released([*failed, *_handed_back(rest)], outage=str(error))
                return filed
            except Exception as error:
                log.error("history.not_filed", delivery=held.id, error=_said(error), again_in=REFUSED_SECONDS)
                failed.append(Released(id=held.id, token=held.token, wait=REFUSED_SECONDS))
                if not filed and len(failed) >= MAX_REFUSED:
                    rest = claimed[len(failed) :]
                    self._exchange_released([*failed, *_handed_back(rest)], hold=_unsuited(error))
                    return []
        self._exchange_released(failed)
        return filed

    def _exchange_released(
        self, released: Sequence[Released], *, outage: str | None = None, hold: FilingHold | None = None
    ) -> None:
        try:
            exchange_history(self._ledger, released=released, outage=outage, hold=hold)
        except LedgerError as error:
            LEDGER.failed(error)

    def _note_away(self, error: HistoryUnavailable) -> None:
        if not self._is_away:
            self._is_away = True
            log.warning(
                "history.away", reason=str(error), remedy="what is settled waits in the ledger until it is back"
            )

    def _note_back(self) -> None:
        if self._is_away:
            self._is_away = False
            log.info("history.back")


def _handed_back(claimed: Sequence[HeldFiling]) -> list[Released]:
    return [Released(id=held.id, token=held.token) for held in claimed]


def _unsuited(error: Exception) -> FilingHold:
    return FilingHold(seconds=UNSUITED_SECONDS, cause="setting", reason=_said(error))


def _said(error: Exception) -> str:
    """An error in words that quote no event: our own say what to do, of others the place is all that may be told."""
    return str(error) if isinstance(error, HistoryError) else place(error)
