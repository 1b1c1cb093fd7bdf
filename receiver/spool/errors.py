"""What the spool raises. Both are LedgerErrors to the sender's request: it is stored nowhere."""

from __future__ import annotations

from tiercast.errors import LedgerError


class SpoolError(LedgerError):
    """The spool cannot be written or read."""


class SpoolFull(SpoolError):
    """The spool has reached its limit (TIERCAST_SPOOL_MAX), or its disk is full."""
