"""The ledger, checked before its first use: the receiver may start while the ledger is away."""

from __future__ import annotations

from collections.abc import Sequence

from tiercast.errors import LedgerUnsuited
from tiercast.ledger import Ledger, prepare
from tiercast.ledger.opening import durability_faults
from tiercast.settings import Settings

from .commit import Triple
from .store import Recorded


class CheckedLedger:
    """The ledger as the receiver's store."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._checked = False

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Recorded:
        """Store all of (source, delivery id, raw body) durably, or raise a LedgerError."""
        self._check()
        return self._ledger.record(deliveries, due_ms=due_ms)

    def ping(self) -> None:
        """Return soon if the ledger could store now, as durably as is asked for; else raise a LedgerError."""
        self._check()
        self._ledger.ping()
        if faults := durability_faults(self._ledger, self._settings):
            raise LedgerUnsuited(" ".join(faults))

    def _check(self) -> None:
        if not self._checked:
            prepare(self._ledger, self._settings)
            self._checked = True
