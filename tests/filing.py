"""A filer for tests: claims from the lane `history`, writes into a dictionary, and lets go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tiercast.history.rows import FiledDelivery, FiledJob
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.filing import FilingExchange, HeldFiling, exchange_history
from tiercast.ledger.model import Claim


class Shelf:
    """What a history promises, in memory: a row is written unless a newer round of it is there."""

    def __init__(self) -> None:
        self.deliveries: dict[str, FiledDelivery] = {}
        self.jobs: dict[str, FiledJob] = {}

    def file(self, deliveries: Sequence[FiledDelivery]) -> None:
        """Write rows."""
        for row in deliveries:
            there = self.deliveries.get(row.id)
            if there is None or row.round >= there.round:
                self.deliveries[row.id] = row
            for job in row.jobs:
                known = self.jobs.get(job.key)
                if known is None or job.round >= known.round:
                    self.jobs[job.key] = job


def claim_filing(ledger: Ledger, n: int = 500, **more: object) -> list[HeldFiling]:
    """Claim what is due to be filed."""
    return exchange_history(ledger, claim=Claim(token=new_token(), n=n, redelivered=n, **more)).claimed  # type: ignore[arg-type]


def let_go(ledger: Ledger, held: Sequence[HeldFiling]) -> FilingExchange:
    """Say that these are in the history."""
    return exchange_history(ledger, held)


class Files(Protocol):
    """A history, or what stands in for one."""

    def file(self, deliveries: Sequence[FiledDelivery], /) -> object:
        """Write rows."""


def file_all(ledger: Ledger, shelf: Files) -> list[str]:
    """File everything that is due; returns the deliveries."""
    filed: list[str] = []
    while held := claim_filing(ledger):
        shelf.file([each.row for each in held])
        filed += let_go(ledger, held).settled
    return filed
