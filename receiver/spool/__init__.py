"""The spool: where deliveries wait on this machine's disk while the ledger takes none."""

from .errors import SpoolError, SpoolFull
from .folder import SpoolFolder
from .mover import Mover
from .store import Breaker, SpoolingStore

__all__ = ["Breaker", "Mover", "SpoolError", "SpoolFolder", "SpoolFull", "SpoolingStore"]
