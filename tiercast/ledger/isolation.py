"""Which process works on the members of a lane that need isolation (see worker/isolation/)."""

from __future__ import annotations

from contextlib import suppress

from ..errors import LedgerFull
from .store import Ledger


def may_isolate(ledger: Ledger, lane: str, seconds: float) -> bool:
    """Whether no other process works on a lane's isolated members; if so, the caller may for that many seconds.

    Raises:
        LedgerError: the ledger fails.
    """
    try:
        return bool(ledger.client.set(ledger.key(f"isolation:{lane}"), 1, nx=True, px=round(seconds * 1000)))
    except LedgerFull:
        return True


def end_isolation(ledger: Ledger, lane: str) -> None:
    """Let the next process work on a lane's isolated members.

    Raises:
        LedgerError: the ledger fails.
    """
    ledger.client.delete(ledger.key(f"isolation:{lane}"))


def renew_isolation(ledger: Ledger, lane: str, seconds: float) -> None:
    """Go on working on a lane's isolated members, for so many seconds more.

    Raises:
        LedgerError: the ledger fails.
    """
    with suppress(LedgerFull):
        ledger.client.set(ledger.key(f"isolation:{lane}"), 1, px=round(seconds * 1000))
